"""Options of the memcached result backend. Names that other plugins have keep them, and their meaning."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from brokerkit.errors import InvalidOption
from brokerkit.options import Options, setting

__all__ = ["MemcachedResultOptions"]

_PREFIX: Final = re.compile(r"[!-~]{1,100}")
_MIB: Final = 1024 * 1024


@dataclass(frozen=True, kw_only=True, repr=False)
class MemcachedResultOptions(Options):
    """Options of the memcached result backend."""

    key_prefix: str = setting(
        "bk:", "Begins every key; two prefixes on one server know nothing of each other. ASCII without blanks."
    )
    item_size_max: int = setting(
        _MIB,
        "Bytes of one item that the servers take, as their owner set it with -I. Larger results are refused before they are "
        "sent; so are those beyond what a server says of itself, where that is less.",
        min=1024,
        max=1024 * _MIB,
    )
    evictions: bool = setting(
        True,
        "Whether the servers drop results when their memory is full. With false, for servers that were started with -M, each "
        "is asked, and one that evicts is warned of.",
    )
    remember_expired: float = setting(
        600.0,
        "Seconds for which an expired record still reads as expired; it takes its memory for so much longer. With 0 nobody "
        "but who knew it can tell that it ever was.",
        min=0,
        max=315_360_000,
    )
    socket_timeout: float = setting(
        5.0,
        "Seconds to wait for an answer before the connection counts as broken: how late a frozen server is noticed. Below "
        "the server's longest pause, calls fail that would have succeeded.",
        above=0,
        max=3600,
    )
    socket_connect_timeout: float = setting(5.0, "Seconds to wait for a connection to one server.", above=0, max=3600)
    socket_keepalive: bool = setting(True, "Let the system probe silent connections, so that dead ones are noticed.")
    health_check_interval: float = setting(
        25.0, "A connection that was idle for so many seconds is tried before it is used; 0 for never.", min=0
    )
    max_connections: int = setting(
        50, "Connections to each server for calls of one process; further calls wait.", min=1
    )
    ssl: bool = setting(False, "Speak TLS.")
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

    def __post_init__(self) -> None:
        if not _PREFIX.fullmatch(self.key_prefix):
            raise InvalidOption(
                f"option 'key_prefix' is {self.key_prefix!r}; it must be 1 to 100 characters of ASCII without blanks, for "
                "example 'bk:'"
            )
        if self.ssl_keyfile and not self.ssl_certfile:
            raise InvalidOption("option 'ssl_keyfile' is given without 'ssl_certfile'; give both")
        if not self.ssl and (name := self._any_of_tls):
            raise InvalidOption(f"option {name!r} is about TLS, and this connection has none; add ssl=true")

    @property
    def _any_of_tls(self) -> str:
        """The name of an option that makes sense only with TLS, or an empty text."""
        names = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_password")
        given = next((name for name in names if getattr(self, name) is not None), "")
        switches = {"tls_verify": self.tls_verify, "ssl_check_hostname": self.ssl_check_hostname}
        return given or next((name for name, value in switches.items() if not value), "")
