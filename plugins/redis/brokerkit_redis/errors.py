"""One table: an error of Redis or redis-py → ours.

Redis begins an error's text with a code in capitals; redis-py takes the codes that it knows off the text and keeps them
in `status_code`. Before Redis 7 the code of an error within a script stands in the middle of another text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from redis import exceptions
from redis._parsers.base import BaseParser

from brokerkit.errors import (
    AccessDenied,
    BrokerkitError,
    ConnectionLost,
    ErrorTable,
    InvalidURL,
    NotConnected,
    Rule,
    StorageBroken,
    StorageFull,
    Throttled,
)

__all__ = ["ERRORS", "Late", "Silence", "Unreachable", "Untrusted", "answer_of", "code_of", "is_topology"]


class Unreachable(exceptions.ConnectionError):
    """A connection could not be made: nothing was sent."""


class Late(Unreachable):
    """The time of the call was over before anything was sent; it says nothing about the server."""


class Untrusted(exceptions.AuthenticationError):
    """The server's certificate was not accepted."""


class Silence(exceptions.TimeoutError):
    """The server did not answer, or took nothing, for some seconds after something was sent."""

    def __init__(self, text: str, seconds: float) -> None:
        super().__init__(text)
        self.seconds = seconds

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (*self.args, self.seconds)


_CODE: Final = re.compile(r"[A-Z]{2,}(?![A-Za-z])")
_IN_SCRIPT: Final = re.compile(r"(?<![A-Za-z])-?(OOM|READONLY|MISCONF|NOREPLICAS|NOPERM|WRONGTYPE|MASTERDOWN)(?= )")
_TOPOLOGY: Final = {
    "CLUSTERDOWN",
    "LOADING",
    "MASTERDOWN",
    "NOREPLICAS",
    "READONLY",
    "UNBLOCKED",
}


def answer_of(text: str) -> Exception:
    """Return redis-py's error for what Redis said."""
    error: Exception = BaseParser.parse_error(text)
    error.status_code = text.partition(" ")[0]  # type: ignore[attr-defined] # the elder ones of redis-py drop it
    return error


def code_of(error: BaseException) -> str:
    """Return the code that Redis gave an error: "OOM", "ERR" where it has no better one, "" if it is none of Redis's."""
    if not isinstance(error, exceptions.RedisError):
        return ""
    code = getattr(error, "status_code", None)
    if code and code != "ERR":
        return str(code)
    text = str(error)
    if found := _CODE.match(text):
        return found[0]
    inner = _IN_SCRIPT.search(text) if "script" in text.lower() else None
    return inner[1] if inner else str(code or "")


def is_topology(error: BaseException) -> bool:
    """Tell whether an error says that this is not, or no longer, the server to talk to."""
    return isinstance(error, exceptions.AuthenticationError) or code_of(error) in _TOPOLOGY


def _code(*codes: str) -> Callable[[Any], bool]:
    return lambda error: code_of(error) in codes


def _says(*texts: str) -> Callable[[Any], bool]:
    return lambda error: any(text in str(error).lower() for text in texts)


def _of(raises: type[BrokerkitError], when: Callable[[Any], bool] | None, hint: str) -> Rule:
    return Rule(exceptions.RedisError, raises, when, hint)


ERRORS: Final = ErrorTable(
    Rule(
        Untrusted, AccessDenied, None, "is ssl_ca_certs the file of those who signed it, and the host the one it names?"
    ),
    Rule(exceptions.MaxConnectionsError, Throttled, None, "max_connections allows more"),
    _of(
        Throttled, _says("max number of clients reached"), "the server's setting maxclients allows no more connections"
    ),
    Rule(exceptions.AuthenticationError, AccessDenied, None, "look at the user and password in the URL"),
    Rule(exceptions.AuthorizationError, AccessDenied, None, "look at the user's rights"),
    _of(AccessDenied, _code("NOAUTH", "WRONGPASS", "DENIED"), "look at the user and password in the URL"),
    _of(
        AccessDenied,
        _code("NOPERM"),
        "look at the user's rights: ACL LIST; keys begin with key_prefix, and waiting for a result needs the channel "
        "__redis__:invalidate",
    ),
    _of(AccessDenied, _says("user executing the script can't"), "look at the user's rights: ACL LIST, ACL LOG"),
    _of(StorageFull, _code("OOM"), "the server's maxmemory leaves no room; consume, or allow more"),
    _of(StorageBroken, _code("MISCONF"), "the server cannot write to its disk and refuses writes; look at its log"),
    _of(StorageBroken, _code("WRONGTYPE"), "something else wrote under our key; use a key_prefix of your own"),
    _of(Throttled, _code("LOADING"), "the server reads its files and will be there soon"),
    _of(Throttled, _code("BUSY"), "a script runs for too long; SCRIPT KILL ends one that has written nothing"),
    _of(Throttled, _code("NOREPLICAS"), "the master has fewer replicas than min-replicas-to-write and refuses writes"),
    _of(Throttled, _code("CLUSTERDOWN", "TRYAGAIN", "MOVED", "ASK"), "the cluster changes, or nodes of it are down"),
    _of(NotConnected, _code("READONLY"), "this is a replica now; the next call looks for the master"),
    _of(NotConnected, _code("MASTERDOWN"), "this replica has lost its master; the next call looks for one"),
    _of(Throttled, _code("UNBLOCKED"), "the server changed its role while we waited"),
    _of(
        InvalidURL, _says("db index is out of range"), "the server has not so many databases; see its setting databases"
    ),
    Rule(Unreachable, NotConnected),
    Rule(exceptions.ConnectionError, ConnectionLost),
    Rule(exceptions.TimeoutError, ConnectionLost, None, "no answer came in time"),
    Rule(
        exceptions.InvalidResponse, ConnectionLost, None, "what came was no answer of Redis; the connection is given up"
    ),
    Rule(OSError, ConnectionLost),
)
"""An error that is in no row becomes a `TransportError`, which is not retried."""
