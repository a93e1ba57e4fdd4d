"""Options of `memory://`, and what its URL says."""

from __future__ import annotations

from dataclasses import dataclass

from brokerkit.errors import InvalidURL
from brokerkit.options import FanoutOptions
from brokerkit.url import URL

__all__ = ["MemoryOptions", "server_name"]


@dataclass(frozen=True, kw_only=True, repr=False)
class MemoryOptions(FanoutOptions):
    """Options of the memory transport: those of every transport with topics."""


def server_name(url: URL) -> str:
    """Return the name of the server in `memory://name/virtual-host`; empty if it has none.

    Raises:
        InvalidURL: there is a driver, a port or a second host. (A user and password are fine, and mean nothing here.)
    """
    if url.driver or len(url.hosts) > 1 or any(port is not None for _, port in url.hosts):
        raise InvalidURL(f"{url}: write memory://name/virtual-host; there is no driver, no port and one name")
    return url.hosts[0][0] if url.hosts else ""
