"""TLS for the networked engine: an option that asks for it, and the doors of a server, right ones and wrong ones."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brokerkit.memory import MemoryOptions
from brokerkit.options import setting
from brokerkit.servers.certificates import Certificates
from brokerkit_conformance.harness import SecureServer

__all__ = ["SecureOptions", "doors", "trusting"]


@dataclass(frozen=True, kw_only=True, repr=False)
class SecureOptions(MemoryOptions):
    """Options of the networked engine: those of memory, and whom to trust."""

    tls_ca: str | None = setting(None, "Speak TLS, and trust the authority whose certificate is in this file.")


def trusting(options: Any) -> ssl.SSLContext | None:
    """Return what a client checks a server's certificate by; None if it does not speak TLS."""
    authority = getattr(options, "tls_ca", None)
    return None if authority is None else ssl.create_default_context(cafile=authority)


def doors(folder: Path, plain: int, door: Callable[[ssl.SSLContext], int], who: str) -> SecureServer:
    """Open doors with TLS to an engine, one with a good certificate and one whose certificate has expired.

    Args:
        folder: empty, for the certificates.
        plain: port of a door without TLS.
        door: opens one more, and returns its port.
        who: user and password, as they stand in a URL.
    """
    other = folder / "other"
    other.mkdir()
    ours, theirs = Certificates.make(folder), Certificates.make(other)
    good, expired = (door(_showing(cert, ours.key)) for cert in (ours.cert, ours.expired()))

    def url(port: int, *, host: str = "127.0.0.1", authority: Path = ours.ca) -> str:
        return f"memory://{who}@{host}:{port}/one?tls_ca={authority}"

    untrusted = {
        "wrong authority": url(good, authority=theirs.ca),
        "wrong host": url(good, host="127.1"),  # the same machine by another name
        "expired": url(expired),
    }
    return SecureServer(url(good), untrusted, plain=url(plain))


def _showing(cert: Path, key: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    return context
