"""Binding and publishing: the topics of one transport.

A topic is an exchange of RabbitMQ, within the virtual host of the URL. Publishers make it, too: one that publishes to an
exchange that is not there would lose its channel, and what others have under way on it. It is kept for good, but its
last queue takes it along when that is deleted by the one who bound it.

Whether others use a topic with another scope is told by marker exchanges to which each bound queue is bound as well; the
server deletes them with their last binding, so that nothing is left of a mistake that was mended.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, final

from amqp import exceptions

from brokerkit.errors import InconsistencyError, InvalidMessage, QueueNotFound
from brokerkit.models import Message, Outcome, topic_matches
from brokerkit.options import FanoutOptions
from brokerkit_rabbitmq.answers import EXCHANGE_DECLARE_OK, EXCHANGE_DELETE_OK, QUEUE_BIND_OK, QUEUE_UNBIND_OK
from brokerkit_rabbitmq.errors import Unrouted
from brokerkit_rabbitmq.layout import encode, expiry_of, short
from brokerkit_rabbitmq.methods import exchange_declare, exchange_delete, queue_bind, queue_unbind
from brokerkit_rabbitmq.server import Server
from brokerkit_rabbitmq.window import Item

__all__ = ["Exchange", "Scope"]

_KINDS: Final = {"vhost": "true", "server": "false", "name": "a name"}
_LONGEST: Final = 255
_MOST_KNOWN: Final = 10_000
_LOOK_AGAIN: Final = 0.1  # seconds for which a topic that nobody hears is not looked at again


class Scope(NamedTuple):
    """Where the topics of a transport live.

    Attributes:
        kind: "vhost", "server" or "name".
        name: of the prefix, if it has one.
        patterns: whether patterns are matched.
    """

    kind: str
    name: str
    patterns: bool

    @classmethod
    def of(cls, options: FanoutOptions) -> Scope:
        """Return the scope that options ask for."""
        prefix = options.fanout_prefix
        if isinstance(prefix, str):
            return cls("name", prefix, options.fanout_patterns)
        return cls("vhost" if prefix else "server", "", options.fanout_patterns)

    @property
    def text(self) -> str:
        """Return it as a part of a name; no other scope has the same."""
        return f"name:{len(self.name)}:{self.name}" if self.kind == "name" else self.kind

    def topic(self, topic: str) -> str:
        """Return the name of a topic's exchange."""
        return short(f"bk.topic.{self.text}{'' if self.patterns else '/flat'}.{topic}")

    def markers(self, topic: str) -> list[str]:
        """Return the names of the exchanges that tell of a bound queue."""
        return [self._marker(self.kind, topic), self._marker(f"{self.text}/{_how(patterns=self.patterns)}", topic)]

    def opposed(self, topic: str) -> dict[str, str]:
        """Return the names of the markers that must not be there, and what each would tell."""
        found = {
            self._marker(kind, topic): f"with fanout_prefix {text}"
            for kind, text in _KINDS.items()
            if kind != self.kind
        }
        other = f"{self.text}/{_how(patterns=not self.patterns)}"
        found[self._marker(other, topic)] = f"with fanout_patterns={str(not self.patterns).lower()}"
        return found

    def _marker(self, what: str, topic: str) -> str:
        return short(f"bk.bound.{what}.{topic}")


@final
class Exchange:
    """Binds queues to topics, and publishes. Thread-safe.

    Args:
        server: the server.
        scope: where the topics live.
        vanishes: tells of a queue whether it may go by itself.
    """

    def __init__(self, server: Server, scope: Scope, vanishes: Callable[[str], bool]) -> None:
        self._server = server
        self._vanishes = vanishes
        self._scope = scope
        self._lock = threading.Lock()
        self._made: set[str] = set()
        self._looked: dict[str, float] = {}
        self._bound: dict[str, set[tuple[str, str]]] = {}

    def bind(self, name: str, topic: str, pattern: str, *, deadline: float) -> None:
        """Bind a queue to a topic."""
        _check_key(pattern, "pattern")
        if self._server.look(name, deadline=deadline) is None:
            raise QueueNotFound(name)
        self._check_agreement(topic, deadline)
        with self._lock:  # remembered first: a delete that comes between takes the exchange along
            self._bound.setdefault(name, set()).add((topic, pattern))
        self._bind_all(name, topic, pattern, deadline)
        try:
            self._check_agreement(topic, deadline)  # somebody may have bound at the same time
        except InconsistencyError:
            self.unbind(name, topic, pattern, deadline=deadline)
            raise

    def unbind(self, name: str, topic: str, pattern: str, *, deadline: float) -> None:
        """Undo one `bind`; nothing happens if there is none."""
        with self._lock:
            self._bound.get(name, set()).discard((topic, pattern))
        for exchange in (self._scope.topic(topic), *self._scope.markers(topic)):
            try:
                self._server.ask(
                    lambda n, x=exchange: queue_unbind(n, name, x, pattern),  # type: ignore[misc]
                    QUEUE_UNBIND_OK,
                    deadline=deadline,
                )
            except exceptions.NotFound:
                continue

    def forget(self, name: str, *, deadline: float) -> None:
        """Delete the topics that a deleted queue was the last to hear, of those that were bound here."""
        with self._lock:
            topics = {topic for topic, _ in self._bound.pop(name, set())}
        for topic in topics:
            exchange = self._scope.topic(topic)
            try:
                self._server.ask(
                    lambda n, x=exchange: exchange_delete(n, x, if_unused=True),  # type: ignore[misc]
                    EXCHANGE_DELETE_OK,
                    deadline=deadline,
                )
            except exceptions.PreconditionFailed:
                continue  # others hear it
            with self._lock:
                self._made.discard(topic)

    def publish(self, topic: str, messages: Sequence[Message], *, deadline: float) -> Sequence[Outcome]:
        """Copy messages to all queues that hear them."""
        now = self._server.clock.time()
        items = []
        for message in messages:
            _check_key(message.routing_key, "routing key")
            properties = encode(message, expires=expiry_of(message, now))
            items.append((message.routing_key, properties, message.body))
        outcomes = self._publish(topic, items, deadline)
        if gone := [place for place, outcome in enumerate(outcomes) if isinstance(outcome, exceptions.NotFound)]:
            self._tell_if_heard(topic, deadline)  # else its last queue took it along
            again = self._publish(topic, [items[place] for place in gone], deadline)
            for place, outcome in zip(gone, again, strict=True):
                outcomes[place] = outcome
        unheard = {
            message.routing_key for message, out in zip(messages, outcomes, strict=True) if isinstance(out, Unrouted)
        }
        if unheard:
            self._look_for_lost(topic, unheard, deadline)
            self._look_for_others(topic, deadline)
        return [None if isinstance(outcome, Unrouted) else outcome for outcome in outcomes]

    # -- parts -----------------------------------------------------------------------------------------------------

    def _publish(self, topic: str, items: Sequence[Item], deadline: float) -> list[Outcome]:
        if topic not in self._made:
            self._make(topic, deadline)
        return list(self._server.publish(self._scope.topic(topic), items, deadline=deadline))

    def _make(self, topic: str, deadline: float) -> None:
        kind = "topic" if self._scope.patterns else "fanout"
        name = self._scope.topic(topic)
        self._server.ask(lambda n: exchange_declare(n, name, kind), EXCHANGE_DECLARE_OK, deadline=deadline)
        with self._lock:
            if len(self._made) >= _MOST_KNOWN:
                self._made.clear()
            self._made.add(topic)

    def _marked(self, name: str, marker: str, pattern: str, deadline: float) -> None:
        """Bind a queue to a marker, which may vanish between its making and that."""
        while True:
            self._server.ask(
                lambda n: exchange_declare(n, marker, "direct", auto_delete=True),
                EXCHANGE_DECLARE_OK,
                deadline=deadline,
            )
            try:
                self._bind(name, marker, pattern, deadline)
            except InconsistencyError:
                continue
            return

    def _bind(self, name: str, exchange: str, pattern: str, deadline: float) -> None:
        try:
            self._server.ask(lambda n: queue_bind(n, name, exchange, pattern), QUEUE_BIND_OK, deadline=deadline)
        except exceptions.NotFound as error:
            if "no queue" in str(error.reply_text):
                raise QueueNotFound(name) from None
            raise InconsistencyError(f"queue {name!r} was not bound: {error.reply_text}") from error

    def _check_agreement(self, topic: str, deadline: float) -> None:
        for marker, text in self._scope.opposed(topic).items():
            if self._is_there(marker, deadline):
                raise InconsistencyError(
                    f"topic {topic!r}: others have bound queues to it {text}, and here it is fanout_prefix "
                    f"{_KINDS[self._scope.kind]} and fanout_patterns={str(self._scope.patterns).lower()}; they would not "
                    "hear each other"
                )

    def _is_there(self, marker: str, deadline: float) -> bool:
        try:
            self._server.ask(
                lambda n: exchange_declare(n, marker, "direct", passive=True), EXCHANGE_DECLARE_OK, deadline=deadline
            )
        except exceptions.NotFound:
            return False
        return True

    def _look_for_others(self, topic: str, deadline: float) -> None:
        """See, when nobody has heard a message, whether somebody would who has another scope."""
        now = self._server.clock.monotonic()
        if now < self._looked.get(topic, now):
            return
        self._check_agreement(topic, deadline)
        with self._lock:
            if len(self._looked) >= _MOST_KNOWN:
                self._looked.clear()
            self._looked[topic] = now + _LOOK_AGAIN

    def _bind_all(self, name: str, topic: str, pattern: str, deadline: float) -> None:
        """Bind a queue to a topic and to what tells of it."""
        for marker in self._scope.markers(topic):
            self._marked(name, marker, pattern, deadline)
        self._make(topic, deadline)
        self._bind(name, self._scope.topic(topic), pattern, deadline)

    def _look_for_lost(self, topic: str, keys: set[str], deadline: float) -> None:
        """See, when nobody has heard a message, whether a queue should that was bound here.

        Raises:
            InconsistencyError: queues or their bindings are gone; bindings are made anew.
        """
        gone, unbound = [], []
        for name, pattern in self._hearers(topic):
            if not any(topic_matches(pattern, key) or not self._scope.patterns for key in keys):
                continue
            if self._server.look(name, deadline=deadline) is not None:
                self._bind_all(name, topic, pattern, deadline)
                unbound.append(name)
            else:
                with self._lock:
                    self._bound.pop(name, None)
                if not self._vanishes(name):
                    gone.append(name)
        if gone or unbound:
            told = [f"bound queues are gone: {', '.join(map(repr, gone))}; declare and bind them anew"] if gone else []
            told += [f"bindings were gone, and are there anew: {', '.join(map(repr, unbound))}"] if unbound else []
            raise InconsistencyError(f"topic {topic!r}: {'; '.join(told)}. Nobody has heard what was published now")

    def _tell_if_heard(self, topic: str, deadline: float) -> None:
        """Tell that a topic is gone, if a queue was bound to it: here, or by others, of which a marker tells.

        Raises:
            InconsistencyError: queues were bound to it; those of ours are bound anew.
        """
        with self._lock:
            self._made.discard(topic)
        heard = self._is_there(self._scope.markers(topic)[1], deadline)
        for name, pattern in self._hearers(topic):
            if self._server.look(name, deadline=deadline) is not None:
                self._bind_all(name, topic, pattern, deadline)
                heard = True
        if not heard:
            return
        raise InconsistencyError(
            f"topic {topic!r}: its exchange was gone from the server with all its bindings, though nobody deleted it; nobody "
            "has heard what was published now. Queues that were bound here are bound anew; others have to be"
        )

    def _hearers(self, topic: str) -> list[tuple[str, str]]:
        """Return which queues were bound to a topic here, and by which pattern."""
        with self._lock:
            return [(name, pattern) for name, bound in self._bound.items() for each, pattern in bound if each == topic]


def _how(*, patterns: bool) -> str:
    return "match" if patterns else "flat"


def _check_key(key: str, what: str) -> None:
    if len(key.encode()) > _LONGEST:
        raise InvalidMessage(f"{what} {key[:40]!r}… has {len(key.encode())} bytes; AMQP takes {_LONGEST}")
