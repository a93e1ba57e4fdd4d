"""Sending: one outcome per message, repeats of what may be repeated, and honest words about what is unknown."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final, final

from brokerkit._batching import Combiner
from brokerkit._retry import Caller, fail
from brokerkit.abc import SupportsFanout, Transport
from brokerkit.errors import (
    BrokerkitError,
    ConnectionLost,
    NotConnected,
    OperationTimeout,
    OutcomeUnknown,
    SendFailed,
    Unsupported,
)
from brokerkit.models import Message, Outcome

__all__ = ["Sender"]

_MAX_COMBINERS: Final = 1000

Store = Callable[[Sequence[Message], float], Sequence[Outcome]]


@final
class Sender:
    """Sends and publishes for one broker. Thread-safe."""

    def __init__(self, transport: Callable[[], Transport], caller: Caller) -> None:
        self._transport = transport
        self._caller = caller
        self._combiners: dict[str, Combiner] = {}
        self._lock = threading.Lock()

    def send_one(self, queue: str, message: Message, timeout: float | None) -> None:
        """Store one message.

        Raises:
            BrokerkitError: its own outcome.
        """
        transport = self._transport()
        if transport.capabilities.group_commit:
            combiner = self._combiner(queue)

            def store(messages: Sequence[Message], left: float) -> Sequence[Outcome]:
                return [combiner.send(messages[0], left)]

        else:

            def store(messages: Sequence[Message], left: float) -> Sequence[Outcome]:
                return self._transport().send(queue, messages, timeout=left)

        (error,) = self._outcomes(f"send to {queue!r}", [message], store, timeout)
        if error is not None:
            fail(error)

    def send_many(self, queue: str, messages: Sequence[Message], timeout: float | None) -> None:
        """Store many messages.

        Raises:
            SendFailed: some were not stored.
            BrokerkitError: the whole call failed before anything was stored.
        """

        def store(batch: Sequence[Message], left: float) -> Sequence[Outcome]:
            return self._transport().send(queue, batch, timeout=left)

        self._all(f"send to {queue!r}", messages, store, timeout)

    def publish(self, topic: str, messages: Sequence[Message], timeout: float | None) -> None:
        """Publish many messages; errors as by `send_many`."""

        def store(batch: Sequence[Message], left: float) -> Sequence[Outcome]:
            transport = self._transport()
            if not isinstance(transport, SupportsFanout):
                raise Unsupported(f"topic {topic!r}: {transport.capabilities.product} has no topics")
            return transport.publish(topic, batch, timeout=left)

        self._all(f"publish to {topic!r}", messages, store, timeout)

    def _all(self, doing: str, messages: Sequence[Message], store: Store, timeout: float | None) -> None:
        size = self._transport().capabilities.max_batch
        errors: list[BrokerkitError | None] = []
        for start in range(0, len(messages), size):
            errors += self._outcomes(doing, messages[start : start + size], store, timeout)
        if any(errors):
            if len(messages) == 1 and errors[0] is not None:
                fail(errors[0])
            raise SendFailed([(message.id, error) for message, error in zip(messages, errors, strict=True)])

    def _outcomes(
        self, doing: str, messages: Sequence[Message], store: Store, timeout: float | None
    ) -> list[BrokerkitError | None]:
        """Store one batch, repeating those that may succeed, and return an error or None for each message."""
        errors: list[BrokerkitError | None] = [None] * len(messages)
        left = list(range(len(messages)))
        maybe: set[int] = set()  # those that an earlier try may have stored
        pauses = None
        while True:
            batch = messages if len(left) == len(messages) else [messages[i] for i in left]
            pauses = pauses or self._caller.pauses(timeout)
            for i, outcome in zip(left, self._try(doing, batch, store, max(pauses.left(), 0.001)), strict=True):
                errors[i] = outcome
                if isinstance(outcome, OutcomeUnknown):
                    maybe.add(i)
            left = [i for i in left if (error := errors[i]) is not None and error.retryable]
            if not left:
                break
            first = errors[left[0]]
            if not pauses.pause():
                break
            self._caller.tell_retry(doing, first or OutcomeUnknown(doing))
        for i in maybe:
            error = errors[i]
            if error is not None and not isinstance(error, OutcomeUnknown):
                errors[i] = _unknown(doing, error)
        return errors

    def _try(
        self, doing: str, batch: Sequence[Message], store: Store, timeout: float
    ) -> Sequence[BrokerkitError | None]:
        try:
            outcomes = store(batch, timeout)
        except Exception as error:  # noqa: BLE001 - the table decides what it is
            translated = self._caller.translate(error, doing)
            if isinstance(translated, ConnectionLost | OperationTimeout) and not isinstance(translated, NotConnected):
                translated = _unknown(doing, translated)
            return [translated] * len(batch)
        return [None if outcome is None else self._caller.translate(outcome, doing) for outcome in outcomes]

    def _combiner(self, queue: str) -> Combiner:
        combiner = self._combiners.get(queue)
        if combiner is None:
            with self._lock:
                if len(self._combiners) >= _MAX_COMBINERS:
                    self._combiners.clear()  # callers inside one of them go on with it

                def store(messages: Sequence[Message], left: float) -> Sequence[Outcome]:
                    return self._transport().send(queue, messages, timeout=left)

                max_batch = self._transport().capabilities.max_batch
                combiner = self._combiners.setdefault(queue, Combiner(store, max_batch))
        return combiner


def _unknown(doing: str, error: BrokerkitError) -> OutcomeUnknown:
    unknown = OutcomeUnknown(
        f"{doing}: the answer never came, so it may have been stored, and may still arrive ({error})"
    )
    unknown.__cause__ = error
    return unknown
