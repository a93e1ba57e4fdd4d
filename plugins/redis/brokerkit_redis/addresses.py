"""Where a URL and its options point to: found out, and refused where it makes no sense, before any I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from brokerkit.errors import InvalidOption, InvalidURL
from brokerkit.url import URL
from brokerkit_redis.options import RedisOptions

__all__ = ["Address", "Host", "address_of"]

Host: TypeAlias = tuple[str, int]
_Kind: TypeAlias = Literal["hosts", "unix", "sentinel", "cluster"]

_PORT: Final = 6379
_SENTINEL_PORT: Final = 26379
_LOCAL: Final = "localhost"
_SOCKET_DRIVERS: Final = ("socket", "unix")
_SOCKET_PATH: Final = 107
"""Bytes that the system has room for in a socket's path."""
_DATABASES: Final = 2**31
_INSTEAD: Final = {"ssl": "rediss", "tls": "rediss", "sentinel": "sentinel", "cluster": "cluster"}
_EXAMPLE: Final = "redis+socket:///run/redis.sock?virtual_host=2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where Redis is.

    Attributes:
        kind: "hosts", of which the first master that answers is taken; "unix"; "sentinel"; "cluster".
        hosts: (host, port) pairs: of Redis, of the sentinels, or of some nodes of the cluster. Empty for "unix".
        path: of the unix socket, or empty.
        database: its number.
        username: or None for the default user.
        password: or None for none at all.
        tls: speak TLS with Redis. What holds for the sentinels is in `sentinel_kwargs`.
    """

    kind: _Kind
    hosts: tuple[Host, ...] = ()
    path: str = ""
    database: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False


def address_of(url: URL, options: RedisOptions) -> Address:
    """Return where a URL points to.

    Raises:
        InvalidURL: a part of it makes no sense for Redis.
        InvalidOption: an option does not go with it.
    """
    kind = _kind(url, options)
    _check_options(kind, url, options)
    address = _socket(url, options) if kind == "unix" else _network(kind, url, options)
    if address.tls and kind == "unix":
        raise InvalidOption("option 'ssl' is true for a unix socket, which has no TLS; leave it out")
    if not address.tls and (name := options.any_of_tls):
        raise InvalidOption(f"option {name!r} is about TLS, and this connection has none; write rediss://, or ssl=true")
    return address


def _kind(url: URL, options: RedisOptions) -> _Kind:
    scheme, driver = url.scheme, url.driver
    if driver and (scheme != "redis" or driver not in _SOCKET_DRIVERS):
        meant = f"{_INSTEAD[driver]}://" if driver in _INSTEAD else f"a unix socket {_EXAMPLE}"
        raise InvalidURL(f"there is no {url.full_scheme}://; write {meant}")
    if scheme not in ("redis", "rediss", "sentinel", "cluster"):
        raise InvalidURL(f"{scheme}:// is no scheme of Redis; write redis://, rediss://, sentinel:// or cluster://")
    if options.cluster and (driver or scheme == "sentinel"):
        raise InvalidOption(f"option 'cluster' is true, which does not go with {url.full_scheme}://; write cluster://")
    if driver:
        return "unix"
    if scheme == "sentinel":
        return "sentinel"
    return "cluster" if scheme == "cluster" or options.cluster else "hosts"


def _check_options(kind: _Kind, url: URL, options: RedisOptions) -> None:
    if kind == "sentinel" and not options.master_name:
        raise InvalidOption("option 'master_name' is missing; sentinel:// needs the name that the sentinels watch")
    if kind != "sentinel" and options.master_name is not None:
        raise InvalidOption(
            f"option 'master_name' is {options.master_name!r}, which is for sentinel:// and not for {url.full_scheme}://"
        )
    if kind != "sentinel" and options.sentinel_kwargs != type(options).sentinel_kwargs:
        raise InvalidOption(f"option 'sentinel_kwargs' is for sentinel:// and not for {url.full_scheme}://")
    if options.credential_provider is not None and (url.username or url.password):
        raise InvalidOption("option 'credential_provider' is given beside a user or password in the URL; give one")


def _socket(url: URL, options: RedisOptions) -> Address:
    if url.hosts:
        raise InvalidURL(f"{url.full_scheme}:// has a host; the path of a socket begins with a third slash: {_EXAMPLE}")
    if url.path in ("", "/"):
        raise InvalidURL(f"{url.full_scheme}:// has no path; write the socket's: {_EXAMPLE}")
    if len(url.path.encode()) > _SOCKET_PATH:
        raise InvalidURL(f"the path {url.path!r} is longer than {_SOCKET_PATH} bytes, which no socket's can be")
    return Address(
        kind="unix",
        path=url.path,
        database=_virtual_host(options) or 0,
        username=url.username,
        password=url.password,
        tls=options.ssl,
    )


def _network(kind: _Kind, url: URL, options: RedisOptions) -> Address:
    port = _SENTINEL_PORT if kind == "sentinel" else _PORT
    hosts = tuple((host or _LOCAL, port if given is None else given) for host, given in url.hosts)
    if any(number == 0 for _, number in hosts):
        raise InvalidURL("port 0 is no port; Redis has 6379 by custom, a sentinel 26379")
    database = _database(url, options)
    if kind == "cluster" and database:
        raise InvalidURL(f"database {database}: a cluster has database 0 only; use key_prefix to keep programs apart")
    return Address(
        kind=kind,
        hosts=tuple(dict.fromkeys(hosts)) or ((_LOCAL, port),),
        database=database,
        username=url.username,
        password=url.password,
        tls=options.ssl or url.scheme == "rediss",
    )


def _database(url: URL, options: RedisOptions) -> int:
    named = _virtual_host(options)
    if url.virtual_host.strip("/") == "":
        return named or 0
    number = _number(url.virtual_host)
    if number is None:
        raise InvalidURL(f"path {url.path!r} is no database; write its number, as in redis://localhost:6379/2")
    if named not in (None, number):
        raise InvalidOption(f"option 'virtual_host' is {named}, but the URL's path says {number}; give one")
    return number


def _virtual_host(options: RedisOptions) -> int | None:
    given = options.virtual_host
    if given is None or given == "":
        return None
    number = _number(str(given).removeprefix("/"))
    if number is None:
        raise InvalidOption(f"option 'virtual_host' is {given!r}; it must be a database's number, such as 2")
    return number


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and int(text) < _DATABASES else None
