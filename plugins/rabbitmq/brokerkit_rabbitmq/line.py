"""One queue of a receiver: a channel of its own, so that the loss of a queue concerns no other, and what it delivered."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple, final

from amqp import exceptions

from brokerkit.abc import Clock
from brokerkit.models import Received
from brokerkit_rabbitmq import answers, methods
from brokerkit_rabbitmq.channel import Channel
from brokerkit_rabbitmq.errors import is_missing
from brokerkit_rabbitmq.frames import Method
from brokerkit_rabbitmq.layout import stored
from brokerkit_rabbitmq.link import Link

__all__ = ["Line", "Receipt"]


class Receipt(NamedTuple):
    """What a delivery is known by.

    Attributes:
        line: whose it is; another line has no such deliveries, whatever their tags.
        tag: the server's, within the line's channel.
        arrived: when it came, by the clock.
        expires: when the message's time to live ends, in ms since the epoch.
    """

    line: Line
    tag: int
    arrived: float
    expires: int | None


@final
class Line:
    """One queue of a receiver, on one connection. All methods but `connect` and `close` need the link's lock.

    Attributes:
        name: the queue.
        keeps: it vanishes without a consumer, so it has one for as long as this lasts, also while nobody receives.
        gone: the queue was deleted, or its node lost it.
        ready: how many messages the server said to have ready.
        warm: it may have more than the one message that an open consumer would bring.
        held: what was handed over and is not settled, by tag.
        full: how often in a row it had as much as was asked for.
        streaming: its consumer is kept open between two receives.
        streamed: what has come and was not handed over was asked for by a consumer that was kept open.
    """

    def __init__(self, name: str, link: Link, clock: Clock, *, counts: bool, keeps: bool) -> None:
        self.name = name
        self.keeps = keeps
        self.gone = False
        self.ready = 0
        self.warm = True
        self.full = 0
        self.streaming = False
        self.streamed = False
        self.held: dict[int, Received] = {}
        self._link = link
        self._clock = clock
        self._counts = counts
        self._unsettled: dict[int, None] = {}
        self._arrived: deque[tuple[int, Method, float]] = deque()
        self._tags = 0
        self._consumer: str | None = None
        self._window = 0
        self._pushed: set[int] = set()
        self._ending: set[str] = set()
        self._asked = self._answered = 0
        self._looks = self._seen = 0
        self._returning: set[int] = set()
        self._channel: Channel | None = None

    def connect(self, deadline: float) -> None:
        """Open its channel; without the lock."""
        self._asked = self._answered = 0
        self._looks = self._seen = 0
        self._channel = self._link.open_channel(self._take, deadline=deadline)

    @property
    def waiting(self) -> int:
        """How many deliveries have come and were not handed over."""
        return len(self._arrived)

    @property
    def consuming(self) -> bool:
        """Whether there is a consumer, whose window may be exhausted."""
        return self._consumer is not None

    @property
    def open(self) -> bool:
        """Whether the server may push something."""
        return self._consumer is not None and len(self._pushed) < self._window

    @property
    def exhausted(self) -> bool:
        """Whether the consumer has brought as much as it may."""
        return self._consumer is not None and len(self._pushed) >= self._window

    @property
    def fenced(self) -> bool:
        """Whether the server has read all that was sent."""
        return self._answered >= self._asked or self.lost

    @property
    def looked(self) -> bool:
        """Whether `ready` is what the last `look` brought; or there is nothing to look at."""
        return self._seen >= self._looks or self.lost

    @property
    def connected(self) -> bool:
        """Whether it has a channel; see `drop`."""
        return self._channel is not None

    @property
    def settled_down(self) -> bool:
        """Whether the server has answered every end of a consumer: nothing more comes then."""
        return not self._ending or self.lost

    @property
    def lost(self) -> bool:
        """Whether its queue or its channel is gone."""
        return self.gone or self.broken is not None

    @property
    def broken(self) -> Exception | None:
        """Why its channel was closed."""
        return None if self._channel is None else self._channel.broken

    @property
    def timed_out(self) -> bool:
        """Whether the server took back what was held for longer than its consumer_timeout."""
        return isinstance(self.broken, exceptions.PreconditionFailed) and "timed out" in str(self.broken)

    @property
    def missing(self) -> bool:
        """Whether there is no such queue."""
        return self.gone or is_missing(self.broken)

    # -- consuming -------------------------------------------------------------------------------------------------

    def look(self) -> bytes:
        """Return the frame that asks how much is ready; see `looked`."""
        self._looks += 1
        return methods.queue_declare(self._number, self.name, passive=True)

    def consume(self, window: int, *, stream: bool = False) -> list[bytes]:
        """Return the frames that let the server push up to so many messages, in place of what it might push before.

        Args:
            window: how many.
            stream: the consumer is to be kept open.
        """
        frames = self.cancel()
        self._tags += 1
        self._consumer = f"{self._tags}"
        self._window = window
        self.streaming = self.streamed = stream
        # without an answer: RabbitMQ fails if the end of a consumer is there before it has answered its beginning
        begin = methods.basic_consume(self._number, self.name, self._consumer, nowait=True)
        return [*frames, self._qos(window), begin]

    def fence(self) -> bytes:
        """Return a frame whose answer says that the server has read all before it; see `fenced`."""
        return self._qos(1)

    def cancel(self) -> list[bytes]:
        """Return the frames that end the consumer, if there is one; what is on its way still comes."""
        if self._consumer is None:
            return []
        tag, self._consumer = self._consumer, None
        self._pushed.clear()
        self.streaming = False
        self._ending.add(tag)
        return [methods.basic_cancel(self._number, tag)]

    def take(self, most: int, *, lease: float, most_held: float | None) -> list[Received]:
        """Hand over up to so many deliveries."""
        now, wall = self._clock.monotonic(), self._clock.time() * 1000
        taken: list[Received] = []
        while self._arrived and len(taken) < most:
            tag, method, arrived = self._arrived.popleft()
            found = stored(method.properties, method.body, self.name)
            deadline = now + lease if most_held is None else min(now + lease, arrived + most_held)
            received = Received(
                found.message,
                self.name,
                Receipt(self, tag, arrived, found.expires),
                found.claims + 1 if self._counts else None,
                deadline,
                found.expires is not None and found.expires <= wall,
            )
            self.held[tag] = received
            taken.append(received)
        return taken

    # -- settling --------------------------------------------------------------------------------------------------

    def ack(self, tags: Iterable[int]) -> list[bytes]:
        """Return the frames that settle deliveries for good; few, where these are the oldest."""
        number = self._number
        prefix, rest = self._divide(tags)
        frames = [methods.basic_ack(number, prefix[-1], multiple=len(prefix) > 1)] if prefix else []
        return frames + [methods.basic_ack(number, tag) for tag in rest]

    def give_back(self, tags: Iterable[int]) -> list[bytes]:
        """Return the frames that give deliveries back, in their order."""
        number = self._number
        prefix, rest = self._divide(tags)
        frames = [methods.basic_give_back(number, prefix[-1], multiple=True, requeue=True)] if prefix else []
        return frames + [methods.basic_reject(number, tag, requeue=True) for tag in rest]

    def give_back_later(self, tags: Iterable[int]) -> None:
        """Give deliveries back with the next ones, or when the tender comes by: what follows may be all the rest."""
        self._returning.update(tags)

    def give_back_returning(self) -> list[bytes]:
        """Return the frames that give back what was left for later."""
        tags, self._returning = self._returning, set()
        return self.give_back(tags) if tags else []

    def give_back_waiting(self, arrived_before: float = float("inf")) -> list[bytes]:
        """Return the frames that give back what was not handed over, and came before a moment."""
        tags = [tag for tag, _, arrived in self._arrived if arrived < arrived_before]
        self._arrived = deque(each for each in self._arrived if each[2] >= arrived_before)
        return self.give_back(tags) if tags else []

    def drop(self, tags: Iterable[int]) -> Channel | None:
        """Part with the channel, if these are all that it delivered, and return it; to be closed without the lock.

        A quorum queue puts what it gets back behind what waits, unless it is by the end of a channel.
        """
        if self.keeps or not self._counts or self._unsettled.keys() != {*tags, *self._returning}:
            return None
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.leave()  # what is on its way comes to nobody: it has no place in the next channel
        self.lose()
        return channel

    def close(self, deadline: float) -> None:
        """Close its channel; to be called without the lock."""
        if self._channel is not None:
            self._channel.close(deadline=deadline)

    def lose(self) -> None:
        """Forget all that it delivered: the server has it, or it is gone."""
        self.held.clear()
        self._unsettled.clear()
        self._returning.clear()
        self._arrived.clear()
        self._consumer = None
        self._pushed.clear()
        self._ending.clear()
        self.streaming = False

    # -- parts -----------------------------------------------------------------------------------------------------

    @property
    def _number(self) -> int:
        if self._channel is None:
            raise RuntimeError("a line is used before it was opened")
        return self._channel.number

    def _qos(self, window: int) -> bytes:
        self._asked += 1
        return methods.basic_qos(self._number, window)

    def _divide(self, tags: Iterable[int]) -> tuple[Sequence[int], Sequence[int]]:
        """Divide deliveries, which are settled now, into the oldest of all, without a hole, and the rest, in order."""
        asked = set(tags)
        prefix = []
        for tag in self._unsettled:
            if tag not in asked:
                break
            prefix.append(tag)
        rest = sorted(asked.difference(prefix))
        for tag in asked:
            del self._unsettled[tag]
        self._pushed -= asked
        return prefix, rest

    def _take(self, method: Method) -> None:
        """Take what the server sends; by whoever reads, under the lock."""
        if method.id == answers.BASIC_DELIVER:
            delivered = answers.read_deliver(method.args)
            tag = delivered.delivery_tag
            self._unsettled[tag] = None
            if delivered.consumer_tag == self._consumer:
                self._pushed.add(tag)
            self._arrived.append((tag, method, self._clock.monotonic()))
        elif method.id == answers.BASIC_QOS_OK:
            self._answered += 1
        elif method.id == answers.QUEUE_DECLARE_OK:
            self._seen += 1
            self.ready = answers.read_declared(method.args).messages
        elif method.id == answers.BASIC_CANCEL_OK:
            self._ending.discard(answers.read_tag(method.args))
        elif method.id == answers.BASIC_CANCEL:  # the server's own: the queue is gone
            self.gone = True
