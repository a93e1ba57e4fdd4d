"""Certificates for TLS tests: a small authority, and a server's certificate for 127.0.0.1 that it signed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from brokerkit.servers._programs import call, find_binary
from brokerkit.servers.errors import ServerFailed, ServerMissing

__all__ = ["Certificates"]

# An authority that strict verification (Python 3.13) accepts: key identifiers, key usage, critical constraints.
_SETTINGS: Final = """
[req]
distinguished_name = name
prompt = no
[name]
CN = {name}
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = IP:127.0.0.1, IP:127.0.0.3, DNS:localhost
"""
_DAYS: Final = "365"
_CA_KEY: Final = "ca.key"
_REQUEST: Final = "request.pem"
_LEAF: Final = "leaf.cnf"


@dataclass(frozen=True)
class Certificates:
    """Files in PEM form. The private keys protect nothing but a test.

    Attributes:
        ca: the authority's certificate, which a client has to trust.
        cert, key: the server's certificate, valid for 127.0.0.1 and localhost, and for 127.0.0.3, where a proxy may stand
            before the server; and its private key.
    """

    ca: Path
    cert: Path
    key: Path

    @classmethod
    def make(cls, folder: Path) -> Self:
        """Make an authority and a certificate in an existing folder, by the program openssl (some 50 ms).

        Raises:
            ServerMissing: there is no openssl.
            ServerFailed: it failed; the text says how.
        """
        made = cls(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
        ca_key, request = folder / _CA_KEY, folder / _REQUEST
        settings, leaf_settings = folder / "ca.cnf", folder / _LEAF
        settings.write_text(_SETTINGS.format(name="brokerkit test authority"))
        leaf_settings.write_text(_SETTINGS.format(name="127.0.0.1"))
        for key in (ca_key, made.key):
            _openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
        issue = ("-days", _DAYS, "-sha256", "-out")
        _openssl(
            "req", "-x509", "-new", "-key", ca_key, "-config", settings, "-extensions", "authority", *issue, made.ca
        )
        _openssl("req", "-new", "-key", made.key, "-config", leaf_settings, "-out", request)
        made._sign("1", _DAYS, made.cert)
        return made

    def expired(self) -> Path:
        """Make a certificate for the same key, by the same authority, that has expired; return its file.

        Raises:
            ServerFailed: openssl failed, or these files are none that `make` made.
        """
        path = self.cert.with_name("expired.pem")
        self._sign("2", "-1", path)
        return path

    def other(self) -> Path:
        """Make the certificate of another authority, which has signed nothing here; return its file."""
        folder = self.ca.parent / "other"
        folder.mkdir(exist_ok=True)
        return type(self).make(folder).ca

    def _sign(self, serial: str, days: str, path: Path) -> None:
        folder = self.ca.parent
        signed_by = ("-CA", self.ca, "-CAkey", folder / _CA_KEY, "-set_serial", serial)
        extensions = ("-extfile", folder / _LEAF, "-extensions", "leaf")
        issue = ("-days", days, "-sha256", "-out", path)
        _openssl("x509", "-req", "-in", folder / _REQUEST, *signed_by, *extensions, *issue)


def _openssl(*words: str | Path) -> None:
    program = find_binary("openssl")
    if program is None:
        raise ServerMissing("openssl", "no such program on PATH", "Type: sudo apt-get install -y openssl")
    ran = call([program, *words])
    if ran.returncode != 0:
        raise ServerFailed(f"openssl {words[0]} failed: {ran.stderr.strip()}")
