"""Delayed messages: makes the queues that a delay needs, and publishes there."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final, final

from amqp import exceptions

from brokerkit.errors import InconsistencyError, QueueNotFound
from brokerkit.models import Message, Outcome
from brokerkit_rabbitmq.answers import EXCHANGE_BIND_OK, EXCHANGE_DECLARE_OK, QUEUE_BIND_OK, QUEUE_DECLARE_OK
from brokerkit_rabbitmq.delays import END, STRAY, STRAY_ARGUMENTS, Hop, Way, exchange_name, header_of, way_of
from brokerkit_rabbitmq.errors import Unrouted, is_missing
from brokerkit_rabbitmq.layout import encode
from brokerkit_rabbitmq.methods import exchange_bind, exchange_declare, queue_bind, queue_declare
from brokerkit_rabbitmq.server import Server
from brokerkit_rabbitmq.window import Item

__all__ = ["Parked", "Parking"]

_TRIES: Final = 2


@final
class Parked:
    """One message that is to wait.

    Attributes:
        message: it.
        seconds: how long.
        claims: how often it was delivered before.
        expires: when its time to live ends, in ms since the epoch.
    """

    __slots__ = ("claims", "expires", "message", "seconds")

    def __init__(self, message: Message, seconds: float, *, claims: int = 0, expires: int | None = None) -> None:
        self.message = message
        self.seconds = seconds
        self.claims = claims
        self.expires = expires


@final
class Parking:
    """Where delayed messages wait. Thread-safe.

    Args:
        server: the server.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._lock = threading.Lock()
        self._made: set[Hop | int] = set()

    def send(self, queue: str, parked: Sequence[Parked], *, deadline: float) -> list[Outcome]:
        """Let messages wait before they come to a queue; returns the outcome of each.

        Raises:
            QueueNotFound: there is no such queue; nothing was stored.
        """
        outcomes: list[Outcome] = [None] * len(parked)
        left = list(range(len(parked)))
        self._lead_to(queue, deadline)
        for _ in range(_TRIES):
            for place, outcome in self._send(queue, parked, left, deadline):
                outcomes[place] = outcome
            left = [place for place in left if isinstance(outcomes[place], exceptions.NotFound | Unrouted)]
            if not left:
                return outcomes
            with self._lock:  # what somebody deleted is made anew; what came back is certainly not stored
                self._made.clear()
        for place in left:
            outcomes[place] = InconsistencyError(
                "the queues in which delayed messages wait are deleted again and again"
            )
        return outcomes

    def _send(
        self, queue: str, parked: Sequence[Parked], places: Sequence[int], deadline: float
    ) -> Iterator[tuple[int, Outcome]]:
        divided: dict[str, list[tuple[int, Item]]] = {}
        for place in places:
            each = parked[place]
            way = way_of(each.seconds)
            self._make(way, deadline)
            properties = encode(each.message, claims=each.claims, expires=each.expires, hops=way.headers)
            divided.setdefault(way.exchange, []).append((place, (queue, properties, each.message.body)))
        for exchange, numbered in divided.items():
            outcomes = self._server.publish(exchange, [item for _, item in numbered], deadline=deadline)
            yield from ((place, outcome) for (place, _), outcome in zip(numbered, outcomes, strict=True))

    def _lead_to(self, queue: str, deadline: float) -> None:
        """Bind a queue to the end of all ways; each time, as it may be another one of that name.

        Raises:
            QueueNotFound: there is no such queue.
        """
        for _ in range(_TRIES):
            try:
                self._server.ask(lambda n: queue_bind(n, queue, END, queue), QUEUE_BIND_OK, deadline=deadline)
            except exceptions.NotFound as error:
                if not is_missing(error):
                    raise
                if not error.reply_text.startswith("NOT_FOUND - no exchange"):
                    raise QueueNotFound(queue) from None
                self._make_end(deadline)
            else:
                return
        raise InconsistencyError(f"the exchange {END!r} is deleted again and again")

    def _make_end(self, deadline: float) -> None:
        """Make the end of all ways, and before it the way out for what has no target."""
        ask = self._server.ask
        ask(lambda n: exchange_declare(n, STRAY, "fanout"), EXCHANGE_DECLARE_OK, deadline=deadline)
        ask(lambda n: queue_declare(n, STRAY, arguments=STRAY_ARGUMENTS), QUEUE_DECLARE_OK, deadline=deadline)
        ask(lambda n: queue_bind(n, STRAY, STRAY, ""), QUEUE_BIND_OK, deadline=deadline)
        way_out = {"alternate-exchange": STRAY}
        ask(lambda n: exchange_declare(n, END, "direct", arguments=way_out), EXCHANGE_DECLARE_OK, deadline=deadline)

    def _make(self, way: Way, deadline: float) -> None:
        """Make what a way needs, from its end on, so that nothing can go astray."""
        needed: list[Hop | int] = [*way.levels, *way.hops]
        if self._made.issuperset(needed):
            return
        levels = way.levels
        for level in levels:
            self._make_exchange(exchange_name(level), deadline)
        for lower, upper in pairwise(levels):
            self._jump(exchange_name(upper), exchange_name(lower), header_of(upper), deadline)
        new = [self._server.look(hop.queue, deadline=deadline) is None for hop in way.hops]
        for hop in reversed(way.hops):
            self._make_queue(hop, deadline)
        if any(new):
            self._server.secure(deadline=deadline)
        with self._lock:
            self._made.update(needed)

    def _make_exchange(self, name: str, deadline: float) -> None:
        self._server.ask(lambda n: exchange_declare(n, name, "headers"), EXCHANGE_DECLARE_OK, deadline=deadline)

    def _make_queue(self, hop: Hop, deadline: float) -> None:
        arguments = hop.arguments
        self._server.ask(
            lambda n: queue_declare(n, hop.queue, arguments=arguments), QUEUE_DECLARE_OK, deadline=deadline
        )
        match = {"x-match": "all", header_of(hop.level): hop.sign}
        exchange = exchange_name(hop.level)
        self._server.ask(lambda n: queue_bind(n, hop.queue, exchange, "", match), QUEUE_BIND_OK, deadline=deadline)

    def _jump(self, source: str, destination: str, header: str, deadline: float) -> None:
        """Let messages whose digit of a level is 0 go on to the next exchange at once."""
        arguments = {"x-match": "all", header: "0"}
        self._server.ask(
            lambda n: exchange_bind(n, destination, source, "", arguments), EXCHANGE_BIND_OK, deadline=deadline
        )
