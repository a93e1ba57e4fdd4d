"""One table: an error of memcached or pymemcache → ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from pymemcache.exceptions import (
    MemcacheClientError,
    MemcacheError,
    MemcacheServerError,
    MemcacheUnexpectedCloseError,
    MemcacheUnknownCommandError,
    MemcacheUnknownError,
)

from brokerkit.errors import (
    AccessDenied,
    ConnectionLost,
    ErrorTable,
    NotConnected,
    OperationTimeout,
    ResultTooLarge,
    Rule,
    StorageFull,
    Throttled,
)

__all__ = ["ERRORS", "Crowded", "Denied", "Halfway", "Late", "Silence", "TimeUp", "Unreachable", "answer_of"]


class _Trouble(MemcacheError):  # type: ignore[misc] # pymemcache is not typed
    """What pymemcache has no word for."""


class Unreachable(_Trouble):
    """A connection could not be made: nothing was sent."""


class Late(Unreachable):
    """The time of the call was over before anything was sent; it says nothing about the server."""


class Crowded(Late):
    """All connections that we allow ourselves are taken."""


class Denied(_Trouble):
    """The server does not let us in, or is not the one whom we trust."""


class Silence(_Trouble):
    """The server did not answer, or took nothing, for some seconds after something was sent."""

    def __init__(self, text: str, seconds: float) -> None:
        super().__init__(text)
        self.seconds = seconds

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (*self.args, self.seconds)


class TimeUp(Silence):
    """The same; and it was the call that had no more time, which says little about the server."""


class Halfway(MemcacheServerError):  # type: ignore[misc]
    """The server failed when a part of a batch may have been stored."""


def answer_of(line: bytes) -> MemcacheError | None:
    """Return pymemcache's error for a line that is one, or None."""
    kind, _, text = line.decode("utf-8", "replace").partition(" ")
    found = _KINDS.get(kind)
    return None if found is None else found(text or kind)


_KINDS: Final[dict[str, type[MemcacheError]]] = {
    "ERROR": MemcacheUnknownCommandError,
    "CLIENT_ERROR": MemcacheClientError,
    "SERVER_ERROR": MemcacheServerError,
}


def _says(*texts: str) -> Callable[[Any], bool]:
    return lambda error: any(text in str(error).lower() for text in texts)


ERRORS: Final = ErrorTable(
    Rule(Denied, AccessDenied),
    Rule(
        MemcacheClientError,
        AccessDenied,
        _says("unauthenticated", "authentication failure"),
        "look at the user and password in the URL",
    ),
    Rule(Crowded, Throttled, None, "max_connections allows more"),
    Rule(
        MemcacheError,
        Throttled,
        _says("too many open connections"),
        "the server's setting -c allows no more connections",
    ),
    Rule(MemcacheUnexpectedCloseError, ConnectionLost),
    Rule(MemcacheServerError, ResultTooLarge, _says("too large"), "the server's setting -I allows more"),
    Rule(
        MemcacheServerError,
        StorageFull,
        _says("out of memory"),
        "the server evicts nothing, or has no room for items of this size; give it more memory with -m",
    ),
    Rule(Late, OperationTimeout),
    Rule(TimeUp, OperationTimeout),
    Rule(Unreachable, NotConnected),
    Rule(Silence, ConnectionLost, None, "no answer came in time"),
    Rule(
        MemcacheUnknownError, ConnectionLost, None, "what came was no answer of memcached; the connection is given up"
    ),
    Rule(
        MemcacheUnknownCommandError,
        ConnectionLost,
        None,
        "the server did not understand what we sent; the connection is given up",
    ),
    Rule(OSError, ConnectionLost),
)
"""An error that is in no row becomes a `TransportError`, which is not retried."""
