"""brokerkit as a contender: the public API, used as its documentation shows it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import final

from brokerkit.bench.contract import Threads
from brokerkit.broker import Broker, connect
from brokerkit.consumer import Consumer

__all__ = ["BROKERKIT", "Ours"]

BROKERKIT = "brokerkit"
_QUEUE = "bench"


@final
class Ours:
    """brokerkit on the engine of a URL: at-least-once, each message acked by `with delivery`.

    Args:
        url: gives the URL for a folder.
    """

    name = BROKERKIT
    threads: Threads = "shared"
    note = ""

    def __init__(self, url: Callable[[Path], str]) -> None:
        self._url = url
        self._broker: Broker
        self._consumer: Consumer | None = None

    def open(self, folder: Path) -> None:
        """See `Contender.open`."""
        self._broker = connect(self._url(folder))
        self._broker.declare(_QUEUE)

    def send(self, body: bytes) -> None:
        """See `Contender.send`."""
        self._broker.send(_QUEUE, body)

    def send_many(self, bodies: Sequence[bytes]) -> None:
        """See `Contender.send_many`."""
        self._broker.send_many(_QUEUE, bodies)

    def consume(self, count: int, *, prefetch: int) -> tuple[int, int]:
        """See `Contender.consume`."""
        came = size = 0
        with self._broker.consumer(_QUEUE, prefetch=prefetch) as consumer:
            for delivery in consumer:
                with delivery:
                    came += 1
                    size += len(delivery.payload)
                if came >= count:
                    break
        return came, size

    def receive(self, timeout: float) -> bytes | None:
        """See `Contender.receive`."""
        if self._consumer is None:
            self._consumer = self._broker.consumer(_QUEUE)
        delivery = self._consumer.receive(timeout)
        if delivery is None:
            return None
        delivery.ack()
        return delivery.body

    def depth(self) -> int:
        """See `Contender.depth`."""
        counts = self._broker.depth(_QUEUE)
        return (counts.ready or 0) + (counts.in_flight or 0) + (counts.delayed or 0)

    def purge(self) -> None:
        """See `Contender.purge`."""
        self._broker.purge(_QUEUE)

    def close(self) -> None:
        """See `Contender.close`."""
        self._broker.close()
