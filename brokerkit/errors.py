"""Every error that brokerkit raises, and the table by which plugins translate their client's errors.

    BrokerkitError
    ├── ConfigurationError        found before any I/O
    │   ├── InvalidURL
    │   ├── InvalidOption         names the option, the value (secrets masked) and the nearest known name
    │   ├── InvalidName           of a queue, a topic or a result
    │   ├── InvalidMessage        a header, delay or priority out of range
    │   ├── UnknownScheme
    │   │   └── PluginNotInstalled
    │   ├── DuplicateScheme       two distributions claim one scheme
    │   ├── PluginBroken          the plugin is installed but cannot be imported
    │   └── Unsupported           this engine does not have that power
    ├── TransportError            the server said so, or went away
    │   ├── ConnectionLost        retryable: it broke, so what was under way has an unknown outcome
    │   │   └── NotConnected      retryable: it could not be made, so nothing was sent
    │   ├── Throttled             retryable: busy, rate limited, locked
    │   ├── OperationTimeout      retryable: the deadline passed
    │   ├── StorageFull           the server has no room
    │   ├── StorageBroken         read-only, corrupt, wrong type: a person is needed
    │   ├── AccessDenied
    │   ├── QueueNotFound
    │   ├── QueueFull             retryable: max_length reached
    │   ├── MessageTooLarge       found before any I/O
    │   ├── InconsistencyError    state that we rely on has gone, or two parties disagree
    │   ├── OutcomeUnknown        retryable: the message may or may not have been stored
    │   └── SendFailed            an exception group: one error a message
    ├── DeliveryError
    │   ├── AlreadySettled
    │   ├── LeaseLost
    │   └── FanoutGap             a bounded subscriber queue dropped copies
    ├── ResultError
    │   ├── ResultTimeout
    │   ├── ResultLost            reserved, and gone
    │   ├── ResultTooLarge        found before any I/O
    │   ├── AlreadyFinal          a final result is there, and is kept
    │   ├── MalformedResult
    │   ├── NotRequester          only the process that asked for it can read it
    │   └── RemoteFailure         the remote handler failed
    ├── SerializationError
    │   ├── EncodeError
    │   └── DecodeError
    └── Closed                    used after close()

`EvictionRisk` is a warning: the server may drop what we store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

from brokerkit._secrets import cleanse
from brokerkit._text import message_of, nearest, shorten

__all__ = [
    "AccessDenied",
    "AlreadyFinal",
    "AlreadySettled",
    "BrokerkitError",
    "Closed",
    "ConfigurationError",
    "ConnectionLost",
    "DecodeError",
    "DeliveryError",
    "DuplicateScheme",
    "EncodeError",
    "ErrorTable",
    "EvictionRisk",
    "FanoutGap",
    "InconsistencyError",
    "InvalidMessage",
    "InvalidName",
    "InvalidOption",
    "InvalidURL",
    "LeaseLost",
    "MalformedResult",
    "MessageTooLarge",
    "NotConnected",
    "NotRequester",
    "OperationTimeout",
    "OutcomeUnknown",
    "PluginBroken",
    "PluginNotInstalled",
    "QueueFull",
    "QueueNotFound",
    "RemoteFailure",
    "ResultError",
    "ResultLost",
    "ResultTimeout",
    "ResultTooLarge",
    "Rule",
    "SendFailed",
    "SerializationError",
    "StorageBroken",
    "StorageFull",
    "Throttled",
    "TransportError",
    "UnknownScheme",
    "Unsupported",
    "nearest",
]


class BrokerkitError(Exception):
    """Root of all errors of brokerkit. `retryable` says whether the same call may succeed later."""

    retryable: bool = False


class ConfigurationError(BrokerkitError):
    """A mistake in what the caller asked for, found before any I/O."""


class InvalidURL(ConfigurationError):
    """The URL cannot be read. The text never shows a secret."""


class InvalidOption(ConfigurationError):
    """An option is unknown, misspelt, given twice, or has a value of the wrong type or range."""


class InvalidName(ConfigurationError):
    """A queue, topic or result name that this engine cannot hold."""


class InvalidMessage(ConfigurationError):
    """A message that no engine would take: a header that is no text, a negative delay, a priority out of range."""


class UnknownScheme(ConfigurationError):
    """No installed plugin serves the URL's scheme."""


class PluginNotInstalled(UnknownScheme):
    """The scheme is one of ours, and the text names the package that brings it."""


class DuplicateScheme(ConfigurationError):
    """Two distributions claim one scheme; the text names both."""


class PluginBroken(ConfigurationError):
    """The plugin that serves the scheme cannot be imported; the cause says why."""


class Unsupported(ConfigurationError):
    """The engine does not have the power that was asked for. Refused before any I/O, never ignored."""


class TransportError(BrokerkitError):
    """The broker server refused, failed or went away."""


class ConnectionLost(TransportError):
    """The connection broke. What was under way may or may not have happened."""

    retryable = True


class NotConnected(ConnectionLost):
    """The connection could not be made: nothing was sent."""


class Throttled(TransportError):
    """The server is busy, locked or limits our rate."""

    retryable = True


class OperationTimeout(TransportError):
    """The deadline of the call passed."""

    retryable = True


class StorageFull(TransportError):
    """The server has no memory or disk left. What was stored before stays readable."""


class StorageBroken(TransportError):
    """The storage is read-only, corrupt or not ours; a person has to look."""


class AccessDenied(TransportError):
    """Wrong credentials, or not allowed. Never retried."""


class QueueNotFound(TransportError):
    """A queue does not exist: never declared, deleted, or expired because nobody consumed it."""

    def __init__(self, name: str, *others: str) -> None:
        super().__init__(name, *others)
        self.names = (name, *others)

    def __str__(self) -> str:
        listed = ", ".join(map(repr, self.names))
        return f"queue {listed} does not exist; declare it first: broker.declare({self.names[0]!r})"


class QueueFull(TransportError):
    """The queue holds `max_length` messages; it was not stored."""

    retryable = True


class MessageTooLarge(TransportError):
    """The message exceeds the engine's limit, which the text names. Found before any I/O."""


class InconsistencyError(TransportError):
    """State in the server that we rely on has gone, or two parties disagree about it. The text says what."""


class OutcomeUnknown(TransportError):
    """The connection broke before the answer came: the message may have been stored, and may still arrive."""

    retryable = True


class SendFailed(TransportError, ExceptionGroup[Exception]):
    """Some messages or results of a batch were not stored, or may not have been: an exception group of the errors.

    Attributes:
        outcomes: for each of the batch, in order, its id and None (stored) or the error.
    """

    outcomes: tuple[tuple[str, Exception | None], ...]

    def __new__(cls, outcomes: Sequence[tuple[str, Exception | None]]) -> Self:
        """Build the group from the failed ones among `outcomes`, of which there must be one."""
        errors = [error for _, error in outcomes if error is not None]
        unknown = sum(isinstance(error, OutcomeUnknown) for error in errors)
        doubt = f", {unknown} may or may not have been" if unknown else ""
        text = f"{len(errors) - unknown} of {len(outcomes)} were not stored{doubt}"
        group = super().__new__(cls, text, errors)
        group.outcomes = tuple(outcomes)
        return group

    def __init__(self, outcomes: Sequence[tuple[str, Exception | None]]) -> None:
        """`__new__` has done it; this keeps the group's own `args`."""

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.outcomes,), self.__dict__

    def derive(self, excs: Sequence[Exception], /) -> ExceptionGroup[Exception]:  # type: ignore[override]
        """Let `except*` split the group into plain exception groups."""
        return ExceptionGroup(self.message, excs)


class DeliveryError(BrokerkitError):
    """A delivery cannot do what was asked."""


class AlreadySettled(DeliveryError):
    """The delivery was already acked, released or dead-lettered; the first settlement counts."""


class LeaseLost(DeliveryError):
    """The lease ended or was taken away: the message belongs to somebody else now."""


class FanoutGap(DeliveryError):
    """A bounded subscriber queue dropped copies before this consumer could read them; `dropped` says how many."""

    def __init__(self, queue: str, dropped: int) -> None:
        super().__init__(queue, dropped)
        self.queue = queue
        self.dropped = dropped

    def __str__(self) -> str:
        return f"queue {self.queue!r} was over its max_length: {self.dropped} copies were dropped, oldest first"


class ResultError(BrokerkitError):
    """A result cannot be had."""


class ResultTimeout(ResultError, TimeoutError):
    """The result did not become final in time; it may still do so."""


class ResultLost(ResultError):
    """A record is gone before its end was read; `reason`: expired, forgotten, evicted, requester gone or unknown."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(key, reason)
        self.key = key
        self.reason = reason

    def __str__(self) -> str:
        return f"the record of {self.key!r} is gone (reason: {self.reason}); its result will never come"


class ResultTooLarge(ResultError):
    """The encoded result exceeds the store's limit, which the text names. Found before any I/O."""


class AlreadyFinal(ResultError):
    """A final record is there already, and is kept."""


class MalformedResult(ResultError):
    """Something else wrote under our key."""


class NotRequester(ResultError):
    """The result goes to the process that asked for it, and nobody else can read it: here it would never come."""


class RemoteFailure(ResultError):
    """The remote handler failed: `type`, its exception's full name; `remote_traceback`, text or None; `exceptions` of a group."""

    def __init__(self, type: str, message: str, remote_traceback: str | None = None) -> None:  # noqa: A002 - a field's name
        super().__init__(type, message, remote_traceback)
        self.type, self.message, self.remote_traceback = type, message, remote_traceback
        self.exceptions: tuple[Exception, ...] = ()

    def __str__(self) -> str:
        return f"{self.type}: {self.message}"


class SerializationError(BrokerkitError):
    """A payload cannot be turned into bytes or back."""


class EncodeError(SerializationError):
    """The payload cannot be encoded by the chosen serializer."""


class DecodeError(SerializationError):
    """The bytes cannot be decoded, or their content type is not in `accept`."""


class Closed(BrokerkitError):
    """The object was closed, or belongs to the parent of this forked process."""


class EvictionRisk(UserWarning):
    """The server's configuration allows it to drop what we store."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of an `ErrorTable`: a client error, and which of ours it is.

    Attributes:
        catches: the client's exception class.
        raises: our class; its constructor takes one text, so it is none that names a queue, a result or a batch.
        when: a finer test on the client's error, such as on its code; None catches all of the class.
        hint: what the reader can do about it.
    """

    catches: type[Exception]
    raises: type[BrokerkitError]
    when: Callable[[Any], bool] | None = None
    hint: str = ""

    def __post_init__(self) -> None:
        if self.raises in (QueueNotFound, SendFailed, FanoutGap, ResultLost, RemoteFailure):
            raise TypeError(f"{self.raises.__name__} takes more than a text; raise it in the plugin instead of a rule")


class ErrorTable:
    """A plugin's table: client error → ours. The first rule that fits wins, so the finer ones stand first. Thread-safe.

    One of ours passes through. One that no rule knows becomes a `TransportError`: better a loud stop than a blind repeat.
    """

    def __init__(self, *rules: Rule) -> None:
        self._rules = rules

    def __iter__(self) -> Iterator[Rule]:
        return iter(self._rules)

    def translate(self, error: Exception, *, doing: str, mask: Callable[[str], str] = str) -> BrokerkitError:
        """Return our error for a client's `error`, with the client's, cleansed of secrets, as its cause.

        Raise it outside the `except` block: inside, Python would hang the original on it as the context.

        Args:
            error: what the client raised. Its texts are masked in place, and those of its causes and contexts.
            doing: what was being done, for the text: "send to 'mail'".
            mask: takes the secrets out of a text.
        """
        fits = (r for r in self._rules if isinstance(error, r.catches) and (r.when is None or r.when(error)))
        rule = next(fits, None)
        cause = cleanse(error, mask)
        if isinstance(cause, BrokerkitError):
            return cause
        hint = f" ({rule.hint})" if rule and rule.hint else ""
        text = shorten(mask(message_of(cause)), 1000) or type(error).__name__
        mapped = (rule.raises if rule else TransportError)(f"{doing}: {text}{hint}")
        mapped.__cause__ = cause
        return mapped
