"""Where a URL points to: found out, and refused where it makes no sense, before any I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from brokerkit.errors import InvalidOption, InvalidURL
from brokerkit.url import URL
from brokerkit_memcached.options import MemcachedResultOptions

__all__ = ["Address", "Server", "address_of"]

_PORT: Final = 11211
_LOCAL: Final = "localhost"
_SOCKET_DRIVERS: Final = ("socket", "unix")
_SOCKET_PATH: Final = 107
"""Bytes that the system has room for in a socket's path."""
_EXAMPLE: Final = "memcached:///run/memcached.sock"


class Server(NamedTuple):
    """One memcached: a host and its port, or the path of a unix socket, whose port is 0."""

    host: str
    port: int

    @property
    def is_socket(self) -> bool:
        """Whether it is a unix socket's path."""
        return not self.port

    def __str__(self) -> str:
        return f"{self.host}:{self.port}" if self.port else self.host


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where the results are.

    Attributes:
        servers: each holds a part of the keys.
        username: for servers that ask for one, or None.
        password: or None.
    """

    servers: tuple[Server, ...]
    username: str | None = None
    password: str | None = field(default=None, repr=False)


def address_of(url: URL, options: MemcachedResultOptions) -> Address:
    """Return where a URL points to.

    Raises:
        InvalidURL: a part of it makes no sense for memcached.
        InvalidOption: an option does not go with it.
    """
    servers = (_socket(url),) if _is_socket(url) else _network(url)
    if options.ssl and any(server.is_socket for server in servers):
        raise InvalidOption("option 'ssl' is true for a unix socket, where memcached speaks no TLS; leave it out")
    if (url.username is None) is not (url.password is None):
        raise InvalidURL("memcached's login is a user and a password; write both, or neither")
    if any(" " in part for part in (url.username or "", url.password or "")):
        raise InvalidURL("memcached's login takes no blanks, neither in the user's name nor in the password")
    return Address(servers=servers, username=url.username, password=url.password)


def _is_socket(url: URL) -> bool:
    driver = "" if url.scheme == "cache" else url.driver  # Celery's `cache+memcached`
    if driver and driver not in _SOCKET_DRIVERS:
        raise InvalidURL(f"{url.full_scheme}:// is not known; write memcached://host:11211, or {_EXAMPLE}")
    return bool(driver) or (not url.hosts and url.virtual_host != "")


def _socket(url: URL) -> Server:
    if url.hosts:
        raise InvalidURL(f"{url.full_scheme}:// has a host; the path of a socket begins with a third slash: {_EXAMPLE}")
    if url.virtual_host == "":
        raise InvalidURL(f"{url.full_scheme}:// has no path; write the socket's: {_EXAMPLE}")
    return _checked_socket(url.path)


def _network(url: URL) -> tuple[Server, ...]:
    if url.virtual_host:
        raise InvalidURL(
            f"path {url.path!r}: memcached has no virtual hosts; keep programs apart by the option key_prefix"
        )
    servers = tuple(_server(host, port) for host, port in url.hosts)
    return tuple(dict.fromkeys(servers)) or (Server(_LOCAL, _PORT),)


def _server(host: str, port: int | None) -> Server:
    if "/" in host:
        if port is not None:
            raise InvalidURL(f"{host!r} is a socket's path, which has no port")
        return _checked_socket(host)
    if port == 0:
        raise InvalidURL(f"port 0 is no port; memcached has {_PORT} by custom")
    return Server(host or _LOCAL, _PORT if port is None else port)


def _checked_socket(path: str) -> Server:
    if len(path.encode()) > _SOCKET_PATH:
        raise InvalidURL(f"the path {path!r} is longer than {_SOCKET_PATH} bytes, which no socket's can be")
    return Server(path, 0)
