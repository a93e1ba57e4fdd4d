"""kombu as a contender, on any engine that it has a transport for.

kombu is measured here, not used: it is imported when a contender opens, so that the core stays free of it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, final

from brokerkit.bench.contract import Threads

__all__ = ["KOMBU", "Kombu"]

KOMBU: Final = "kombu"
_QUEUE: Final = "bench"
_LONGEST: Final = 60.0


@final
class Kombu:
    """kombu on the broker of a URL, used as its documentation shows it: no batches, and each message acked.

    Args:
        url: gives kombu's URL for a folder.
        name: shown, and what goals refer to; a second kombu needs a name of its own.
        note: what it does less than the others.
        exchange: whether it publishes to a direct exchange of its own, or to the unnamed one.
        transport_options: of kombu's connection.
        queue_arguments: of the queue's declaration.
        depth: counts what waits or is held, given a channel; without it, a passive declaration tells.
    """

    threads: Threads = "no"

    def __init__(
        self,
        url: Callable[[Path], str],
        *,
        name: str = KOMBU,
        note: str = "",
        exchange: bool = False,
        transport_options: Mapping[str, Any] | None = None,
        queue_arguments: Mapping[str, Any] | None = None,
        depth: Callable[[Any], int] | None = None,
    ) -> None:
        self.name = name
        self.note = note
        self._url = url
        self._own_exchange = exchange
        self._transport_options = dict(transport_options or {})
        self._queue_arguments = dict(queue_arguments or {})
        self._depth = depth
        self._received: list[bytes] = []
        self._consuming = False

    def open(self, folder: Path) -> None:
        """See `Contender.open`."""
        kombu = importlib.import_module("kombu")
        self._connection: Any = kombu.Connection(self._url(folder), transport_options=self._transport_options)
        self._channel: Any = self._connection.channel()
        exchange = kombu.Exchange(_QUEUE, type="direct") if self._own_exchange else kombu.Exchange()
        queue = kombu.Queue(_QUEUE, exchange, routing_key=_QUEUE, queue_arguments=self._queue_arguments or None)
        self._queue: Any = queue.bind(self._channel)
        self._queue.declare()
        self._published: Mapping[str, Any] = {"exchange": exchange, "declare": [queue]} if self._own_exchange else {}
        self._producer: Any = kombu.Producer(self._channel)
        self._consumer: Any = kombu.Consumer(self._channel, [queue], callbacks=[self._on_message], accept=None)

    def send(self, body: bytes) -> None:
        """See `Contender.send`."""
        self._producer.publish(
            body,
            routing_key=_QUEUE,
            content_type="application/octet-stream",
            content_encoding="binary",
            **self._published,
        )

    def send_many(self, bodies: Sequence[bytes]) -> None:
        """See `Contender.send_many`; it has no batches."""
        for body in bodies:
            self.send(body)

    def consume(self, count: int, *, prefetch: int) -> tuple[int, int]:
        """See `Contender.consume`."""
        self._received.clear()
        self._consumer.qos(prefetch_count=prefetch)
        with self._consumer:
            while len(self._received) < count:
                self._connection.drain_events(timeout=_LONGEST)
        return len(self._received), sum(map(len, self._received))

    def receive(self, timeout: float) -> bytes | None:
        """See `Contender.receive`."""
        if not self._consuming:
            self._consumer.consume()
            self._consuming = True
        self._received.clear()
        try:
            while not self._received:  # what a server says about a channel is an event, too
                self._connection.drain_events(timeout=timeout)
        except TimeoutError:
            return None
        return self._received[0]

    def depth(self) -> int:
        """See `Contender.depth`."""
        if self._depth is not None:
            return self._depth(self._channel)
        return int(self._queue.queue_declare(passive=True).message_count)

    def purge(self) -> None:
        """See `Contender.purge`."""
        self._queue.purge()

    def close(self) -> None:
        """See `Contender.close`."""
        self._connection.release()

    def _on_message(self, body: bytes, message: Any) -> None:
        message.ack()
        self._received.append(body)
