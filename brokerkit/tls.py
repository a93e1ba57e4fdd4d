"""TLS for plugins whose client takes a socket or a context of the standard library: the same options, read the same way."""

from __future__ import annotations

from dataclasses import dataclass
from ssl import CERT_NONE, SSLContext, create_default_context

from brokerkit.errors import InvalidOption
from brokerkit.options import Options, setting

__all__ = ["TLSOptions", "context_of"]


@dataclass(frozen=True, kw_only=True, repr=False)
class TLSOptions(Options):
    """How a server is reached over TLS. Certificates are verified unless told otherwise by name."""

    ssl: bool = setting(False, "Speak TLS, also where the URL's scheme does not say so.")
    tls_verify: bool = setting(
        True, "Verify the server's certificate. false lets anyone between read and change everything, and warns."
    )
    ssl_ca_certs: str | None = setting(None, "File of the certificates to trust, PEM; None for the system's.")
    ssl_certfile: str | None = setting(None, "File of our own certificate, where the server asks for one.")
    ssl_keyfile: str | None = setting(None, "File of the key of our certificate, unless it is in the same file.")
    ssl_password: str | None = setting(None, "Password of the key.")
    ssl_check_hostname: bool = setting(
        True, "The certificate must be for the host that was dialled; false where servers are reached by address."
    )
    ssl_cert_reqs: str = setting(
        "required", "Only 'required', as Celery's clients have it; the opt-out is tls_verify=false."
    )

    def __post_init__(self) -> None:
        if self.ssl_cert_reqs.lower().removeprefix("cert_") != "required":
            raise InvalidOption(
                f"option 'ssl_cert_reqs' is {self.ssl_cert_reqs!r}; leave it out, or write tls_verify=false to accept any "
                "certificate"
            )
        if self.ssl_keyfile and not self.ssl_certfile:
            raise InvalidOption("option 'ssl_keyfile' is given without 'ssl_certfile'; give both")

    @property
    def any_of_tls(self) -> str:
        """The name of an option that makes sense only with TLS, or an empty text."""
        names = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_password")
        given = next((name for name in names if getattr(self, name) is not None), "")
        switches = {"tls_verify": self.tls_verify, "ssl_check_hostname": self.ssl_check_hostname}
        return given or next((name for name, value in switches.items() if not value), "")


def context_of(options: TLSOptions) -> SSLContext:
    """Return the context that the options describe. Reads the files that they name.

    Raises:
        InvalidOption: a file cannot be read, or holds no certificate.
    """
    try:
        context = create_default_context(cafile=options.ssl_ca_certs)
        if options.ssl_certfile:
            context.load_cert_chain(options.ssl_certfile, options.ssl_keyfile, options.ssl_password)
    except OSError as error:
        files = ", ".join(filter(None, (options.ssl_ca_certs, options.ssl_certfile, options.ssl_keyfile)))
        raise InvalidOption(f"the certificates cannot be read ({files}): {error}") from error
    context.check_hostname = options.ssl_check_hostname and options.tls_verify
    if not options.tls_verify:
        context.verify_mode = CERT_NONE
    return context
