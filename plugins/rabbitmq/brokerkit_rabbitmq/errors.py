"""One table: an error of RabbitMQ, of py-amqp or of a socket → ours.

RabbitMQ closes the channel or the connection for every mistake and says why by a code and a text; both become py-amqp's
exceptions here as well, wherever they were read.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from amqp import exceptions

from brokerkit.errors import (
    AccessDenied,
    BrokerkitError,
    ConnectionLost,
    ErrorTable,
    InconsistencyError,
    MessageTooLarge,
    NotConnected,
    Rule,
    StorageFull,
    Throttled,
)

__all__ = [
    "ERRORS",
    "Lost",
    "Malformed",
    "Refused",
    "Silence",
    "Unreachable",
    "Unrouted",
    "Untrusted",
    "fresh",
    "is_missing",
]


class Lost(ConnectionError):
    """The connection broke: the server hung up, or the network did."""


class Silence(Lost):
    """Nothing came from the server for two heartbeats: it is frozen, or the network is cut."""


class Malformed(Lost):
    """What came is no AMQP."""


class Unreachable(Lost):
    """No connection could be made: nothing was sent."""


class Untrusted(Unreachable):
    """The server's certificate was not accepted."""


class Refused(Exception):
    """The server took a message and could not store it: it is certainly not there."""


class Unrouted(Exception):
    """No queue wanted a message, which is certainly not there.

    Attributes:
        code: 312, as a rule.
        text: the server's.
        exchange: where it was sent to; empty for the default exchange.
        key: its routing key; of the default exchange, the queue's name.
    """

    def __init__(self, code: int, text: str, exchange: str, key: str) -> None:
        super().__init__(code, text, exchange, key)
        self.code = code
        self.text = text
        self.exchange = exchange
        self.key = key

    def __str__(self) -> str:
        return f"{self.text} ({self.code}): exchange {self.exchange!r}, routing key {self.key!r}"


_AWAY: Final = re.compile(r"NOT_FOUND - (home node |failed to |queue '.*' in vhost '.*' (is|has|process) )")
"""What the server says of a classic queue whose node has stopped: it is not found, and comes back with its messages."""


def is_missing(error: Exception | None) -> bool:
    """Tell whether an error says that there is no such queue, rather than that its node is away."""
    return isinstance(error, exceptions.NotFound) and _AWAY.match(error.reply_text or "") is None


def fresh(error: Exception) -> Exception:
    """Return a copy of an error to raise: one that is raised by many threads collects all their tracebacks."""
    kind = type(error)
    copied = kind.__new__(kind, *error.args)
    copied.args = error.args
    copied.__dict__.update(error.__dict__)
    copied.__cause__ = error.__cause__
    return copied


def _says(words: str, *codes: int) -> Callable[[Any], bool]:
    """A test on the server's text, by a pattern, and on its code, if there is one."""
    find = re.compile(words, re.IGNORECASE).search
    return lambda error: (not codes or error.reply_code in codes) and find(str(error)) is not None


def _of(raises: type[BrokerkitError], when: Callable[[Any], bool], hint: str = "") -> Rule:
    return Rule(exceptions.AMQPError, raises, when, hint)


ERRORS: Final = ErrorTable(
    Rule(
        Untrusted, AccessDenied, None, "is ssl_ca_certs the file of those who signed it, and the host the one it names?"
    ),
    _of(
        AccessDenied,
        _says("login was refused", 403),
        "look at the user and password in the URL, and at login_method",
    ),
    _of(AccessDenied, _says("appropriate auth mechanism"), "the server offers no such login_method"),
    _of(
        Throttled,
        _says("limit .*reached|reached the maximum"),
        "look at the limits of the virtual host, of the user and of the node",
    ),
    _of(
        AccessDenied,
        _says("vhost .* not found", 530),
        "the path of the URL names the virtual host; rabbitmqctl add_vhost makes one",
    ),
    _of(Throttled, _says("' is down|home node"), "the virtual host or the queue's node has failed; look at the log"),
    _of(
        AccessDenied,
        _says("refused for user", 403, 530),
        "rabbitmqctl set_permissions gives a user rights in a virtual host",
    ),
    _of(MessageTooLarge, _says("larger than", 406), "the server's setting max_message_size allows no more"),
    _of(ConnectionLost, _says("timed out", 406), "the server's consumer_timeout is shorter than the lease"),
    Rule(exceptions.AccessRefused, AccessDenied, None, "rabbitmqctl set_permissions gives rights"),
    Rule(exceptions.NotFound, InconsistencyError, None, "somebody deleted it"),
    Rule(exceptions.ResourceLocked, InconsistencyError, None, "another connection has it for itself"),
    Rule(exceptions.PreconditionFailed, InconsistencyError, None, "it exists with other settings"),
    Rule(exceptions.ContentTooLarge, MessageTooLarge),
    Rule(exceptions.ResourceError, Throttled, None, "the server is short of something; look at its log"),
    Rule(exceptions.ConnectionForced, ConnectionLost, None, "the server closed the connection, or shuts down"),
    Rule(exceptions.InternalError, ConnectionLost, None, "the server failed; look at its log"),
    _of(ConnectionLost, _says("", 501, 502, 503, 504, 505), "the server did not understand us, and hung up"),
    Rule(exceptions.RecoverableConnectionError, ConnectionLost),
    Rule(Unreachable, NotConnected),
    Rule(Malformed, ConnectionLost, None, "what came was no AMQP; the connection is given up"),
    Rule(Silence, ConnectionLost, None, "no heartbeat came in time"),
    Rule(Refused, StorageFull, None, "the queue is full, and a limit of its own or of a policy rejects more; consume"),
    Rule(Unrouted, InconsistencyError, None, "somebody deleted the queue or its binding"),
    Rule(OSError, ConnectionLost),
)
"""An error that is in no row becomes a `TransportError`, which is not retried."""
