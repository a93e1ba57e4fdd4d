"""One consumer's claim on queues. How it takes is in `claiming`, how it settles in `leases`, where from in `connection`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import final

from brokerkit.abc import SETTLE_TIMEOUT, Clock, Receiver
from brokerkit.errors import Closed, OperationTimeout, QueueNotFound
from brokerkit.models import Received
from brokerkit_rabbitmq.claiming import AGAIN, Claiming
from brokerkit_rabbitmq.connection import Connection
from brokerkit_rabbitmq.leases import Leases
from brokerkit_rabbitmq.parking import Parked, Parking
from brokerkit_rabbitmq.promises import heartbeat_for
from brokerkit_rabbitmq.server import Server

__all__ = ["RabbitMQReceiver"]


@final
class RabbitMQReceiver(Receiver):
    """One consumer's claim on one or many queues. Thread-safe.

    Args:
        server: the server.
        parking: where messages wait that are released with a delay.
        names: the queues.
        visibility_timeout: of each claim, in seconds.
        most_held: seconds that a delivery may be held, or None.
        counts: whether the queues count deliveries.
        vanishes: tells of a queue whether it goes when nobody consumes it.
        heartbeat: of the connection, or None for what goes with the visibility timeout.
    """

    def __init__(
        self,
        server: Server,
        parking: Parking,
        names: Sequence[str],
        *,
        visibility_timeout: float,
        most_held: float | None,
        counts: bool,
        vanishes: Callable[[str], bool],
        heartbeat: int | None,
    ) -> None:
        lease = visibility_timeout if most_held is None else min(visibility_timeout, most_held)
        self._server = server
        self._parking = parking
        self._clock: Clock = server.clock
        self._turn = threading.Lock()
        self._leases = Leases(self._clock, lease, most_held)
        self._connection = Connection(
            server,
            names,
            self._leases,
            counts=counts,
            vanishes=vanishes,
            heartbeat=heartbeat or heartbeat_for(visibility_timeout),
        )
        self._claiming = Claiming(self._connection, self._clock, lease, most_held)
        server.tender.register(self._leases.tend)

    def receive(
        self, *, limit: int, timeout: float, acks: Sequence[Received] = ()
    ) -> tuple[Sequence[Received], Sequence[Received]]:
        """See `Receiver.receive`."""
        end = self._clock.monotonic() + timeout
        if acks and self._connection.losses.any:
            return [], self.ack(acks)  # alone, so that one of the next calls has none, and can raise
        if not self._turn.acquire(timeout=timeout):
            return [], self.ack(acks) if acks else []  # another thread receives, and got what there was
        try:
            with self._leases.receiving(keep=timeout >= AGAIN):
                return self._receive(limit, end, acks)
        finally:
            self._turn.release()

    def _receive(
        self, limit: int, end: float, acks: Sequence[Received]
    ) -> tuple[Sequence[Received], Sequence[Received]]:
        connection = self._connection
        connection.losses.tell()
        if connection.closed:
            raise Closed("this receiver is closed")
        try:
            link = connection.ready(end)
        except Closed:  # while it connected; nothing is held without a connection
            return [], list(acks)
        lost = self._leases.ack(acks) if acks else []
        claimed = self._claiming.claim(link, limit, end)
        connection.note_missing()
        if not claimed and not acks:
            connection.losses.tell()
        return claimed, lost

    def ack(self, deliveries: Sequence[Received], *, timeout: float = SETTLE_TIMEOUT) -> Sequence[Received]:
        """See `Receiver.ack`."""
        return self._leases.ack(deliveries, self._clock.monotonic() + timeout)

    def extend(
        self, deliveries: Sequence[Received], *, visibility_timeout: float, timeout: float = SETTLE_TIMEOUT
    ) -> Sequence[Received]:
        """See `Receiver.extend`."""
        return self._leases.extend(deliveries, visibility_timeout, self._clock.monotonic() + timeout)

    def release(
        self,
        deliveries: Sequence[Received],
        *,
        delay: float = 0.0,
        counted: bool = True,
        timeout: float = SETTLE_TIMEOUT,
    ) -> Sequence[Received]:
        """See `Receiver.release`."""
        deadline = self._clock.monotonic() + timeout
        if delay <= 0:
            return self._leases.release(deliveries, deadline, counted=counted)
        return self._release_later(deliveries, delay, deadline)

    def _release_later(self, deliveries: Sequence[Received], delay: float, deadline: float) -> list[Received]:
        """Store copies that wait, then ack: a crash in between repeats, and never loses."""
        held, lost = self._leases.divide(deliveries, keep_until=deadline)
        failed: Exception | None = None
        for queue in dict.fromkeys(received.queue for received in held):
            ours = [received for received in held if received.queue == queue]
            parked = [
                Parked(each.message, delay, claims=each.attempt or 0, expires=each.receipt.expires) for each in ours
            ]
            try:
                outcomes = self._parking.send(queue, parked, deadline=deadline)
            except QueueNotFound:  # and all that was held of it
                lost += ours
                continue
            lost += self._leases.ack([each for each, outcome in zip(ours, outcomes, strict=True) if outcome is None])
            failed = next(filter(None, outcomes), failed)
        if failed is not None:
            raise failed
        return lost

    def close(self, *, timeout: float) -> None:
        """See `Receiver.close`."""
        end = self._clock.monotonic() + timeout
        self._connection.end_waiting()
        if not self._turn.acquire(timeout=timeout):
            raise OperationTimeout("a receive that waits could not be ended")
        try:
            self._server.tender.unregister(self._leases.tend)
            self._connection.close(end)
        finally:
            self._turn.release()
