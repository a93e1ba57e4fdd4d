"""Delivery: one message in a handler's hands."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol, Self, final

from brokerkit.errors import AlreadySettled, LeaseLost
from brokerkit.models import Message, Received

__all__ = ["Delivery", "Settler"]


class Settler(Protocol):
    """What a delivery needs of its consumer."""

    def ack(self, delivery: Delivery, *, wait: bool) -> None:
        """Settle for good, now (`wait`) or with the next batch."""
        ...

    def release(self, delivery: Delivery, *, delay: float) -> None:
        """Give back."""
        ...

    def extend(self, delivery: Delivery, *, visibility_timeout: float | None) -> None:
        """Prolong the lease."""
        ...

    def dead_letter(self, delivery: Delivery, *, reason: str, detail: str) -> None:
        """Move to the dead queue."""
        ...

    def failed(self, delivery: Delivery, error: Exception) -> None:
        """Release or dead-letter after a handler raised."""
        ...


@final
class Delivery:
    """One handing-over of a message. Settle it once: ack, release or dead_letter.

    As a context manager it acks on success. On an `Exception` it releases the message, to be tried again after a pause, or
    dead-letters it after `max_attempts`; the exception is logged and does not leave the `with` block, so that one bad
    message does not end a worker. Anything else (KeyboardInterrupt, SystemExit) releases it at once and passes on.

    Thread-safe: it may be settled in another thread than the one that received it.

    Attributes:
        payload: the decoded payload.
        message: what was sent, with body, headers, id, priority.
        queue: the queue it came from.
        attempt: 1 for the first delivery; None where the server does not count.
        settled: whether it was settled.
        lease_lost: whether the lease is known to be lost; then somebody else has the message, or will.
    """

    __slots__ = ("_settler", "lease_lost", "payload", "received", "settled")

    def __init__(self, settler: Settler, received: Received, payload: Any) -> None:
        self._settler = settler
        self.received = received
        self.payload = payload
        self.settled = False
        self.lease_lost = False

    @property
    def message(self) -> Message:
        """The message as it was sent."""
        return self.received.message

    @property
    def id(self) -> str:
        """The message's id, the same on every delivery of it."""
        return self.received.message.id

    @property
    def body(self) -> bytes:
        """The encoded payload."""
        return self.received.message.body

    @property
    def headers(self) -> Mapping[str, str]:
        """The message's headers."""
        return self.received.message.headers

    @property
    def queue(self) -> str:
        """The queue it came from."""
        return self.received.queue

    @property
    def attempt(self) -> int | None:
        """1 for the first delivery; None where the server does not count."""
        return self.received.attempt

    @property
    def deadline(self) -> float:
        """The end of the lease by the monotonic clock; it moves while the core prolongs it."""
        return self.received.deadline

    def ack(self, *, wait: bool = False) -> None:
        """Settle for good.

        Acks travel in batches: by default this returns at once, and an ack that comes too late shows as an event and as
        `lease_lost`.

        Args:
            wait: return when the server has it, and raise if it came too late.

        Raises:
            AlreadySettled: it was settled before.
            LeaseLost: the lease is lost.
        """
        self._begin()
        self._settler.ack(self, wait=wait)

    def release(self, delay: float = 0.0) -> None:
        """Give back for another attempt, at once or after `delay` seconds.

        Raises:
            AlreadySettled: it was settled before.
            LeaseLost: the lease is lost.
            Unsupported: the engine cannot delay that long.
        """
        self._begin()
        self._settler.release(self, delay=delay)

    def dead_letter(self, reason: str = "rejected", detail: str = "") -> None:
        """Move to the dead queue, with a reason of one word and a detail for people.

        Raises:
            AlreadySettled: it was settled before.
            LeaseLost: the lease is lost.
        """
        self._begin()
        self._settler.dead_letter(self, reason=reason, detail=detail)

    def extend(self, visibility_timeout: float | None = None) -> None:
        """Prolong the lease to `visibility_timeout` seconds from now. The core does this by itself while you work.

        Raises:
            AlreadySettled: it was settled before.
            LeaseLost: the lease is lost.
        """
        self._begin()
        self._settler.extend(self, visibility_timeout=visibility_timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if isinstance(error, Exception):
            self._settler.failed(self, error)
            return True
        if not self.settled and not self.lease_lost:
            try:
                if error is None:
                    self._settler.ack(self, wait=False)
                else:
                    self._settler.release(self, delay=0.0)
            except LeaseLost:
                pass  # told by an event; there is nothing left to settle
        return False

    def __repr__(self) -> str:
        state = "settled" if self.settled else "lease lost" if self.lease_lost else "held"
        return f"<Delivery {self.id} of {self.queue!r}, attempt {self.attempt}, {state}>"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError(
            "a Delivery can be settled by its own consumer only, and is not pickled; send its body and headers"
        )

    def _begin(self) -> None:
        if self.settled:
            raise AlreadySettled(f"message {self.id} of queue {self.queue!r} was settled before; the first one counts")
        if self.lease_lost:
            raise LeaseLost(f"message {self.id} of queue {self.queue!r}: the lease is lost")
