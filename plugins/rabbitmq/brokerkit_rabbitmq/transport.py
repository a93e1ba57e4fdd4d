"""The RabbitMQ transport: queues, sending and topics. Claiming and settling are in `receiver`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final, Self, final

from brokerkit.abc import Clock, Receiver, SupportsDepth, SupportsFanout, Transport
from brokerkit.capabilities import Capabilities
from brokerkit.errors import ErrorTable, InvalidMessage, QueueFull, QueueNotFound
from brokerkit.models import Depth, Message, Outcome, Queue
from brokerkit.options import Options
from brokerkit.url import URL
from brokerkit_rabbitmq.addresses import address_of
from brokerkit_rabbitmq.connecting import Connector
from brokerkit_rabbitmq.errors import ERRORS, Refused, Unrouted
from brokerkit_rabbitmq.exchange import Exchange, Scope
from brokerkit_rabbitmq.layout import check_name, encode, expiry_of, oversized
from brokerkit_rabbitmq.options import RabbitMQOptions
from brokerkit_rabbitmq.parking import Parked, Parking
from brokerkit_rabbitmq.promises import max_hold, transport_capabilities
from brokerkit_rabbitmq.queues import Queues
from brokerkit_rabbitmq.receiver import RabbitMQReceiver
from brokerkit_rabbitmq.server import Server
from brokerkit_rabbitmq.tender import Tender

__all__ = ["RabbitMQTransport"]

_HEARTBEAT: Final = 2
"""Seconds, of the connection that publishes: what is under way when the server falls silent is unknown for twice as long."""


@final
class RabbitMQTransport(Transport, SupportsFanout, SupportsDepth):
    """`amqp://user:password@host:port/vhost` and its kin: queues in RabbitMQ. Thread-safe."""

    options_type: ClassVar[type[Options]] = RabbitMQOptions
    errors: ClassVar[ErrorTable] = ERRORS
    capabilities: Capabilities = transport_capabilities(queue_type="quorum", consumer_timeout=1800.0)

    def __init__(self, connector: Connector, tender: Tender, options: RabbitMQOptions, *, clock: Clock) -> None:
        self.capabilities = transport_capabilities(
            queue_type=options.queue_type, consumer_timeout=options.consumer_timeout, heartbeat=options.heartbeat
        )
        self._clock = clock
        self._options = options
        self._tender = tender
        self._server = Server(connector, clock, tender, heartbeat=options.heartbeat or _HEARTBEAT)
        self._queues = Queues(self._server, options.queue_type)
        self._parking = Parking(self._server)
        self._exchange = Exchange(self._server, Scope.of(options), self._queues.vanishes)

    @classmethod
    def from_url(cls, url: URL, options: RabbitMQOptions, *, clock: Clock) -> Self:
        """Build from a URL; see `Transport.from_url`."""
        tender = Tender(clock)
        return cls(Connector(address_of(url, options), options, clock, tender), tender, options, clock=clock)

    # -- queues ----------------------------------------------------------------------------------------------------

    def declare(self, queue: Queue, *, timeout: float) -> None:
        """See `Transport.declare`."""
        self._queues.declare(queue, deadline=self._end(timeout))

    def delete(self, name: str, *, timeout: float) -> None:
        """See `Transport.delete`."""
        end = self._end(timeout)
        self._queues.delete(name, deadline=end)
        self._exchange.forget(name, deadline=end)

    def purge(self, name: str, *, timeout: float) -> int:
        """See `Transport.purge`."""
        return self._queues.purge(name, deadline=self._end(timeout))

    def depth(self, name: str, *, timeout: float) -> Depth:
        """See `SupportsDepth.depth`."""
        return self._queues.depth(name, deadline=self._end(timeout))

    # -- sending ---------------------------------------------------------------------------------------------------

    def send(self, name: str, messages: Sequence[Message], *, timeout: float) -> Sequence[Outcome]:
        """See `Transport.send`."""
        end = self._end(timeout)
        outcomes = [self._check(name, message) for message in messages]
        direct = [i for i, message in enumerate(messages) if outcomes[i] is None and message.delay <= 0]
        later = [i for i, message in enumerate(messages) if outcomes[i] is None and message.delay > 0]
        if direct:
            with self._queues.room(name, deadline=end) as room:
                self._send_now(name, messages, direct[:room], outcomes, end)
            for i in direct[len(direct[:room]) :]:
                outcomes[i] = _full(name)
        if later:
            self._send_later(name, messages, later, outcomes, end)
        return outcomes

    def _send_now(
        self, name: str, messages: Sequence[Message], places: Sequence[int], outcomes: list[Outcome], end: float
    ) -> None:
        if not places:
            return
        now = self._clock.time()
        items = [(name, encode(messages[i], expires=expiry_of(messages[i], now)), messages[i].body) for i in places]
        for i, outcome in zip(places, self._server.publish("", items, deadline=end), strict=True):
            outcomes[i] = self._told(name, outcome)
        if all(isinstance(outcomes[i], QueueNotFound) for i in places):
            raise QueueNotFound(name)

    def _send_later(
        self, name: str, messages: Sequence[Message], places: Sequence[int], outcomes: list[Outcome], end: float
    ) -> None:
        now = self._clock.time()
        parked = [Parked(messages[i], messages[i].delay, expires=expiry_of(messages[i], now)) for i in places]
        for i, outcome in zip(places, self._parking.send(name, parked, deadline=end), strict=True):
            outcomes[i] = outcome

    def _check(self, name: str, message: Message) -> Outcome:
        check_name(name)
        too_large = oversized(message)
        if too_large is not None:
            return too_large
        known = self._queues.known(name)
        if known is not None and message.priority > known.max_priority:
            return InvalidMessage(f"priority {message.priority}: queue {name!r} does not take so high a one")
        return None

    def _told(self, name: str, outcome: Outcome) -> Outcome:
        """Return what the server's refusal of a message means."""
        if isinstance(outcome, Unrouted):
            return QueueNotFound(name)
        known = self._queues.known(name)
        if isinstance(outcome, Refused) and known is not None and known.max_length is not None:
            return _full(name)
        return outcome

    # -- topics ----------------------------------------------------------------------------------------------------

    def bind(self, name: str, topic: str, pattern: str, *, timeout: float) -> None:
        """See `SupportsFanout.bind`."""
        self._exchange.bind(name, topic, pattern, deadline=self._end(timeout))

    def unbind(self, name: str, topic: str, pattern: str, *, timeout: float) -> None:
        """See `SupportsFanout.unbind`."""
        self._exchange.unbind(name, topic, pattern, deadline=self._end(timeout))

    def publish(self, topic: str, messages: Sequence[Message], *, timeout: float) -> Sequence[Outcome]:
        """See `SupportsFanout.publish`."""
        return self._exchange.publish(topic, messages, deadline=self._end(timeout))

    # -- receiving, and the end ------------------------------------------------------------------------------------

    def open_receiver(self, names: Sequence[str], *, prefetch: int, visibility_timeout: float) -> Receiver:  # noqa: ARG002 - `limit` bounds each claim
        """See `Transport.open_receiver`."""
        return RabbitMQReceiver(
            self._server,
            self._parking,
            names,
            visibility_timeout=visibility_timeout,
            most_held=max_hold(self._options.consumer_timeout),
            counts=self._options.queue_type == "quorum",
            vanishes=self._queues.vanishes,
            heartbeat=self._options.heartbeat,
        )

    def close(self, *, timeout: float) -> None:
        """See `Transport.close`."""
        self._server.close(timeout=timeout)
        self._tender.close()

    def _end(self, timeout: float) -> float:
        return self._clock.monotonic() + timeout


def _full(name: str) -> QueueFull:
    return QueueFull(f"queue {name!r} holds its max_length of messages")
