"""Claims for a command: straight from the transport, since a tool that looks must not dead-letter what it cannot read."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Final, Self, final

from brokerkit.broker import Broker
from brokerkit.errors import LeaseLost
from brokerkit.models import Received

__all__ = ["Claims"]

_BATCH: Final = 100
_GRACE: Final = 60.0
_MAX_BLOCK: Final = 1.0


@final
class Claims:
    """Up to `limit` messages of one queue, claimed within `timeout` seconds in all.

    A context manager: what is still held at its end goes back at once, uncounted.
    """

    def __init__(self, broker: Broker, queue: str, *, limit: int, timeout: float) -> None:
        self._broker = broker
        self._queue = queue
        self._limit = limit
        self._deadline = broker.clock.monotonic() + timeout
        self._held: list[Received] = []
        self._receiver = broker.transport.open_receiver(
            [queue],
            prefetch=min(limit, _BATCH),
            visibility_timeout=min(timeout + _GRACE, broker.capabilities.lease.max),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if self._held:
                self._broker.caller.call(
                    f"release to {self._queue!r}", lambda _: self._receiver.release(self._held, counted=False)
                )
        finally:
            self._receiver.close(timeout=self._broker.options.timeout)

    def __iter__(self) -> Iterator[list[Received]]:
        """Yield batches, until the limit or the end of the time; each is held until `ack` or the end."""
        taken = 0
        while taken < self._limit:
            left = self._deadline - self._broker.clock.monotonic()
            batch = self._receive(min(self._limit - taken, _BATCH, self._broker.capabilities.max_batch), left)
            if batch:
                taken += len(batch)
                yield batch
            elif left <= 0:
                return

    def ack(self) -> None:
        """Settle all that is held.

        Raises:
            LeaseLost: some acks came too late: these messages will be delivered again.
        """
        held, self._held = self._held, []
        lost = self._broker.caller.call(f"ack to {self._queue!r}", lambda _: self._receiver.ack(held)) if held else []
        if lost:
            raise LeaseLost(f"{len(lost)} acks came too late; these messages will be delivered again")

    def _receive(self, limit: int, left: float) -> list[Received]:
        seconds = max(min(left, _MAX_BLOCK), 0.0)
        claimed, _ = self._broker.caller.call(
            f"receive from {self._queue!r}", lambda _: self._receiver.receive(limit=limit, timeout=seconds)
        )
        self._held += claimed
        return list(claimed)
