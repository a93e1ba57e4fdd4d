"""Options of the memcached result backend. Names that other plugins have keep them, and their meaning."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from brokerkit.errors import InvalidOption
from brokerkit.options import setting
from brokerkit.tls import TLSOptions

__all__ = ["MemcachedResultOptions"]

_PREFIX: Final = re.compile(r"[!-~]{1,100}")
_MIB: Final = 1024 * 1024


@dataclass(frozen=True, kw_only=True, repr=False)
class MemcachedResultOptions(TLSOptions):
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

    def __post_init__(self) -> None:
        super().__post_init__()
        if not _PREFIX.fullmatch(self.key_prefix):
            raise InvalidOption(
                f"option 'key_prefix' is {self.key_prefix!r}; it must be 1 to 100 characters of ASCII without blanks, for "
                "example 'bk:'"
            )
        if not self.ssl and (name := self.any_of_tls):
            raise InvalidOption(f"option {name!r} is about TLS, and this connection has none; add ssl=true")
