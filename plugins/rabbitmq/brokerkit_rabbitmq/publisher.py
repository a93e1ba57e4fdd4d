"""Publishing with confirms: each message has an outcome, however the connection ends."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Final, final

from amqp import exceptions

from brokerkit.abc import Clock
from brokerkit.errors import MessageTooLarge, OperationTimeout, OutcomeUnknown, Throttled
from brokerkit.models import Outcome
from brokerkit_rabbitmq import answers, methods
from brokerkit_rabbitmq.channel import Channel
from brokerkit_rabbitmq.errors import Refused, Unreachable, Unrouted, fresh
from brokerkit_rabbitmq.frames import Method, content
from brokerkit_rabbitmq.link import Link
from brokerkit_rabbitmq.window import Batch, Item, Window

__all__ = ["Publisher"]

_MOST: Final = 2000
"""Unconfirmed messages of a channel: more make nothing quicker, and are lost from sight together."""
_SLICE: Final = 512 * 1024
_UNSENT: Final = 1024 * 1024
"""Bytes that may wait for the socket before the next messages are encoded."""
_AROUND: Final = 22
"""Bytes of a frame around the properties of a content: an over-long one would end the connection."""
_OURS: Final = (403, 404, 406, 311)
"""Codes by which the server closes a channel for a publish, instead of storing it."""


@final
class Publisher:
    """Publishes on one link, with one confirm channel for queues and one for topics. Thread-safe: all threads share them.

    So what several threads publish singly becomes one window by itself. A publish to an exchange that is gone ends its
    channel; the default exchange is always there, hence the two.
    """

    def __init__(self, link: Link, clock: Clock) -> None:
        self._frame_max = link.frame_max
        self._queues = _Lane(link, clock)
        self._topics = _Lane(link, clock)

    def publish(self, exchange: str, items: Sequence[Item], *, mandatory: bool, deadline: float) -> Sequence[Outcome]:
        """Publish, and wait for the confirms.

        Args:
            exchange: empty for the default one, where routing keys are names of queues.
            items: routing key, encoded properties and body of each message.
            mandatory: a message that no queue wants is an error.
            deadline: by the clock.

        Returns:
            For each message None, it is stored; `OutcomeUnknown`; or why it is certainly not stored: `Unrouted`, `Refused`,
            py-amqp's error by which the server closed the channel, or as below for the rest of a batch.

        Raises:
            Throttled: the server takes nothing at present; nothing was written.
            OperationTimeout: there was no room in time; nothing was written.
            Exception: the link is broken, or the channel could not be opened; nothing was written.
        """
        lane = self._topics if exchange else self._queues
        largest = self._frame_max - _AROUND
        if all(len(properties) <= largest for _, properties, _ in items):
            return lane.publish(exchange, items, mandatory=mandatory, deadline=deadline)
        outcomes: list[Outcome] = [_too_large(len(item[1]), largest) for item in items]
        fitting = [place for place, item in enumerate(items) if len(item[1]) <= largest]
        if fitting:
            rest = [items[place] for place in fitting]
            done = lane.publish(exchange, rest, mandatory=mandatory, deadline=deadline)
            for place, outcome in zip(fitting, done, strict=True):
                outcomes[place] = outcome
        return outcomes


@final
class _Lane:
    """A confirm channel, opened anew when the server has closed it."""

    def __init__(self, link: Link, clock: Clock) -> None:
        self._link = link
        self._clock = clock
        self._opening = threading.Lock()
        self._confirms: _Confirms | None = None

    def publish(self, exchange: str, items: Sequence[Item], *, mandatory: bool, deadline: float) -> Sequence[Outcome]:
        batch = Batch(items)
        while True:
            self._refuse_if_blocked()
            confirms = self._opened(deadline)
            with confirms.used(batch):
                try:
                    confirms.write(batch, exchange, mandatory=mandatory, deadline=deadline)
                    confirms.wait(lambda: not batch.left, deadline)
                except Exception as error:
                    if batch.written:
                        return confirms.outcomes(batch, exchange, error)
                    if confirms.channel.broken is None:
                        raise
                else:
                    return confirms.outcomes(batch, exchange, None)
            # here the server has closed the channel for what others published

    def _opened(self, deadline: float) -> _Confirms:
        """Return the open channel; of several threads that find none, one opens it."""
        if not self._opening.acquire(timeout=max(deadline - self._clock.monotonic(), 0.0)):
            raise OperationTimeout("opening a channel took all the time")
        try:
            if self._confirms is None or self._confirms.retired or self._confirms.channel.broken is not None:
                self._confirms = _Confirms(self._link, deadline)
            return self._confirms
        finally:
            self._opening.release()

    def _refuse_if_blocked(self) -> None:
        link = self._link
        if link.blocked is not None:
            link.drain()  # it may be over
            if link.blocked is not None:
                raise _throttled(link)


@final
class _Confirms:
    """One confirm channel and its window.

    Attributes:
        channel: the channel.
        retired: nothing more is published here. A confirm did not come in time: tags that the server counts otherwise, since
            something was lost on the way, would confirm the wrong messages. Or a message was refused: a quorum queue tells
            a channel that it is full, and not always that it is no more.
    """

    def __init__(self, link: Link, deadline: float) -> None:
        self.retired = False
        self._users = 0
        self._link = link
        self._window = Window()
        self._refused = False
        self.channel: Channel = link.open_channel(self._take, deadline=deadline)
        self.channel.call(methods.confirm_select(self.channel.number), answers.CONFIRM_SELECT_OK, deadline=deadline)

    @contextlib.contextmanager
    def used(self, batch: Batch) -> Iterator[None]:
        """Let a batch be published here; who is the last one on a retired channel closes it."""
        with self._link.lock:
            self._users += 1
        try:
            yield
        finally:
            with self._link.lock:
                self._users -= 1
                self.retired = self.retired or self._refused or batch.left > 0
                if self.retired and not self._users:
                    self.channel.leave()

    def write(self, batch: Batch, exchange: str, *, mandatory: bool, deadline: float) -> None:
        """Write a batch, in slices as the window has room; what is left at the deadline is not written."""
        link = self._link
        while batch.written < len(batch.items):
            with link.lock:
                self.channel.check()
                link.check()  # what is entered into the window was written, or may have been
                if room := self._room(exchange):
                    link.write(*self._encoded(batch, exchange, room, mandatory=mandatory))
                    continue
            if not self.wait(lambda: self._room(exchange) > 0, deadline):
                break
        if not batch.written:
            raise self._reason_for_waiting()

    def wait(self, ready: Callable[[], bool], deadline: float) -> bool:
        """As `Link.wait`; raises also if the channel was closed."""
        channel = self.channel
        done = self._link.wait(lambda: ready() or channel.broken is not None, deadline)
        if done and channel.broken is not None and not ready():
            raise fresh(channel.broken)
        return done

    def outcomes(self, batch: Batch, exchange: str, error: Exception | None) -> Sequence[Outcome]:
        """What became of each message, as far as it is known now."""
        with self._link.lock:
            certain = self._is_certain(batch, exchange, error)
            found: list[Outcome] = [None] * len(batch.items)
            for place, why in batch.errors.items():
                found[place] = why
            if batch.left:
                for place in self._window.unconfirmed(batch):
                    if place not in batch.errors:
                        found[place] = fresh(error) if certain and error else self._unknown(error)
            for place in range(batch.written, len(batch.items)):
                found[place] = fresh(error) if certain and error else self._unwritten(error)
            return found

    def _room(self, exchange: str) -> int:
        """How many messages may be written now.

        The first one to an exchange goes alone: if the server closes the channel for it, it is known to be the reason, and
        that it was not stored; of several nobody knows which.
        """
        link, window = self._link, self._window
        if link.blocked is not None or link.unsent > _UNSENT:
            return 0
        if exchange not in window.proven:
            return 0 if window.open_to(exchange) else 1
        return _MOST - window.open

    def _encoded(self, batch: Batch, exchange: str, room: int, *, mandatory: bool) -> list[bytes]:
        """Return the frames of the next messages of a batch, and enter them into the window."""
        number, frame_max = self.channel.number, self._link.frame_max
        frames: list[bytes] = []
        count = size = 0
        for key, properties, body in batch.items[batch.written : batch.written + room]:
            frames.append(methods.basic_publish(number, exchange, key, mandatory=mandatory))
            frames += content(number, properties, body, frame_max)
            count += 1
            size += len(body)
            if size > _SLICE:
                break
        self._window.add(batch, count, exchange)
        return frames

    def _take(self, method: Method) -> None:
        if method.id == answers.BASIC_ACK:
            tag, multiple = answers.read_confirmed(method.args)
            self._window.confirm(tag, None, multiple=multiple)
        elif method.id == answers.BASIC_UNSTORED:
            tag, multiple = answers.read_confirmed(method.args)
            self._refused = True
            self._window.confirm(tag, _refused, multiple=multiple)
        elif method.id == answers.BASIC_RETURN:
            returned = answers.read_returned(method.args)
            self._window.give_back(returned.exchange, returned.key, method.properties, Unrouted(*returned))

    def _is_certain(self, batch: Batch, exchange: str, error: Exception | None) -> bool:
        """Tell whether the server closed the channel for the one message to an exchange that is not confirmed."""
        return bool(batch.left) and (
            isinstance(error, exceptions.AMQPError)
            and error.reply_code in _OURS
            and self.channel.broken is not None
            and (self._window.open == 1 or (f"'{exchange}'" in str(error) and self._window.open_to(exchange) == 1))
        )

    def _unknown(self, error: Exception | None) -> Exception:
        blocked = self._link.blocked
        why = f": {error}" if error else f": the server takes nothing at present ({blocked})" if blocked else " in time"
        unknown = OutcomeUnknown(f"no confirm came{why}")
        unknown.__cause__ = error
        return unknown

    def _unwritten(self, error: Exception | None) -> Exception:
        if error is None:
            return self._reason_for_waiting()
        unwritten = Unreachable(f"it was not sent: {error}")
        unwritten.__cause__ = error
        return unwritten

    def _reason_for_waiting(self) -> Exception:
        if self._link.blocked is not None:
            return _throttled(self._link)
        return OperationTimeout("what was sent before is not confirmed yet, and left no room in time")


def _too_large(size: int, largest: int) -> MessageTooLarge:
    return MessageTooLarge(f"its headers have {size} bytes, and the server takes {largest}: they must fit one frame")


def _throttled(link: Link) -> Throttled:
    return Throttled(f"{link.name} takes nothing that is published: {link.blocked}")


def _refused() -> Exception:
    return Refused("the server could not store the message")
