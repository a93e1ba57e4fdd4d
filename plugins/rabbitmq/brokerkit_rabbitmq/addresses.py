"""Where a URL and its options point to: found out, and refused where it makes no sense, before any I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, TypeAlias

from brokerkit.errors import InvalidOption, InvalidURL
from brokerkit.url import URL
from brokerkit_rabbitmq.options import RabbitMQOptions

__all__ = ["Address", "Host", "address_of"]

Host: TypeAlias = tuple[str, int]

_SCHEMES: Final = ("amqp", "amqps", "pyamqp")
_PORT: Final = 5672
_TLS_PORT: Final = 5671
_LOCAL: Final = "localhost"
_GUEST: Final = "guest"
_LONGEST: Final = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where RabbitMQ is.

    Attributes:
        hosts: (host, port) pairs, of one cluster or of mirrors of one another; never empty.
        virtual_host: its name.
        username: who we are.
        password: of the user.
        tls: speak TLS.
    """

    hosts: tuple[Host, ...]
    virtual_host: str
    username: str
    password: str = field(repr=False)
    tls: bool


def address_of(url: URL, options: RabbitMQOptions) -> Address:
    """Return where a URL points to.

    A path that is empty or "/" is the virtual host "/", as in kombu; any other is its name with a slash in front.

    Raises:
        InvalidURL: a part of it makes no sense for RabbitMQ.
        InvalidOption: an option does not go with it.
    """
    if url.scheme not in _SCHEMES or url.driver:
        raise InvalidURL(f"{url.full_scheme}:// is no scheme of RabbitMQ; write amqp:// or amqps://")
    tls = options.ssl or url.scheme == "amqps"
    if not tls and (name := options.any_of_tls):
        raise InvalidOption(f"option {name!r} is about TLS, and this connection has none; write amqps://, or ssl=true")
    virtual_host = url.virtual_host or "/"
    if len(virtual_host.encode()) > _LONGEST:
        raise InvalidURL(f"the virtual host has more than {_LONGEST} bytes, which no name of RabbitMQ's can have")
    anonymous = url.username is None and url.password is None
    return Address(
        hosts=_hosts(url, _TLS_PORT if tls else _PORT),
        virtual_host=virtual_host,
        username=_GUEST if anonymous else url.username or "",
        password=_GUEST if anonymous else url.password or "",
        tls=tls,
    )


def _hosts(url: URL, port: int) -> tuple[Host, ...]:
    hosts = tuple((host or _LOCAL, port if given is None else given) for host, given in url.hosts)
    if any("/" in host for host, _ in hosts):
        raise InvalidURL("a host has a '/' in it; RabbitMQ listens on no unix sockets")
    if any(number == 0 for _, number in hosts):
        raise InvalidURL(f"port 0 is no port; RabbitMQ has {_PORT} by custom, and {_TLS_PORT} for TLS")
    return tuple(dict.fromkeys(hosts)) or ((_LOCAL, port),)
