"""The leases of one receiver: judged by the local clock, ended by the tender, settled in one write under one lock.

What is composed under the link's lock is written under it: a settlement of several must not overtake that of one. And all
that has arrived is read before a lease is judged: a process that was frozen has its connection's end among it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, final

from brokerkit.abc import Clock
from brokerkit.errors import OperationTimeout
from brokerkit.models import Received
from brokerkit_rabbitmq.channel import Channel
from brokerkit_rabbitmq.line import Line, Receipt
from brokerkit_rabbitmq.link import Link

__all__ = ["Leases"]

_IDLE: Final = 0.25  # seconds without a receive after which the server may push no more


@final
class Leases:
    """What a receiver holds. Thread-safe.

    Args:
        clock: by which leases end.
        lease: seconds for which what a stream brought may wait to be handed over.
        most_held: seconds that a delivery may be held, however often it is extended; None for no bound.

    Attributes:
        lines: the queues.
    """

    def __init__(self, clock: Clock, lease: float, most_held: float | None) -> None:
        self.lines: Sequence[Line] = ()
        self._clock = clock
        self._lease = lease
        self._most_held = most_held
        self._link: Link | None = None
        self._receiving = 0
        self._received = 0.0

    def lead(self, link: Link, lines: Sequence[Line]) -> None:
        """From here on, all is on this connection."""
        self._link = link
        self.lines = list(lines)

    @contextlib.contextmanager
    def receiving(self, *, keep: bool) -> Iterator[None]:
        """Meanwhile a receive runs: what comes back may come to it, and no channel is closed behind its back.

        Args:
            keep: another one is expected, so that consumers that wait for a message may go on for a while.
        """
        with self._guard():
            self._receiving += 1
        try:
            yield
        finally:
            self._end(keep=keep)

    def _end(self, *, keep: bool) -> None:
        with self._guard():
            self._received = self._clock.monotonic()
            self._receiving -= 1
        link = self._link
        if link is None or link.broken is not None:
            return
        with link.lock:
            frames = [frame for line in self.lines if self._is_done(line, keep=keep) for frame in line.cancel()]
            _written(link, frames)

    def _guard(self) -> contextlib.AbstractContextManager[object]:
        link = self._link
        return contextlib.nullcontext() if link is None else link.lock

    def _is_done(self, line: Line, *, keep: bool) -> bool:
        return line.consuming and not line.lost and not line.streaming and not keep and not line.keeps

    # -- settling --------------------------------------------------------------------------------------------------

    def ack(self, deliveries: Sequence[Received], deadline: float | None = None) -> list[Received]:
        """Settle for good; returns those whose lease was lost.

        Args:
            deliveries: what to settle.
            deadline: until when to wait for the server, which then has read it, and said whether the queues are still
                there; None for no wait.
        """
        link = self._link
        if link is None:
            return list(deliveries)
        with link.lock:
            held, lost = self._divided(deliveries)
            frames: list[bytes] = []
            asked: list[Line] = []
            for line, tags in _by_line(held):
                if not self._receiving and not line.streaming and not line.keeps:
                    frames += line.cancel()  # else the next ones would come here, where nobody asks
                frames += line.ack(tags)
                if (
                    deadline is not None
                ):  # behind the ack: what is read first may be all that is read of a killed process
                    frames.append(line.look())
                    asked.append(line)
            if not _written(link, frames):
                return list(deliveries)
        if deadline is not None:
            try:
                link.wait(lambda: all(line.looked for line in asked), deadline)
            except Exception:  # noqa: BLE001 - whatever it is; the next receive tells
                return list(deliveries)
        gone = {id(line) for line in asked if line.lost}
        return lost + [received for received in held if id(received.receipt.line) in gone]

    def release(self, deliveries: Sequence[Received], deadline: float, *, counted: bool) -> list[Received]:
        """Give back; returns those whose lease was lost. The server has read it when this returns in time.

        Args:
            deliveries: what to give back.
            deadline: by the clock.
            counted: False may take a moment longer: what is given back unread is often all that there is, in two calls.
        """
        link = self._link
        if link is None or not self._looked(link, deliveries, deadline):
            return list(deliveries)
        ended: list[Channel] = []
        fenced: list[Line] = []
        with link.lock:
            held, lost = self._divided(deliveries)
            frames: list[bytes] = []
            for line, tags in _by_line(held):
                channel = None if self._receiving else line.drop(tags)
                if channel is not None:
                    ended.append(channel)
                elif counted or self._receiving:
                    frames += [*self._given_back(line, tags), line.fence()]
                    fenced.append(line)
                else:
                    line.give_back_later(tags)
            if not _written(link, frames):
                return list(deliveries)
        with contextlib.suppress(Exception):  # if the connection breaks, they are given back by that
            for channel in ended:
                channel.close(deadline=deadline)
            if fenced:
                link.wait(lambda: all(line.fenced for line in fenced), deadline)
        return lost

    def _given_back(self, line: Line, tags: Sequence[int]) -> list[bytes]:
        # without the end of the consumer it would come back here, where nobody asks
        frames = [] if self._receiving or line.keeps else line.cancel()
        return frames + line.give_back_returning() + line.give_back(tags)

    def extend(self, deliveries: Sequence[Received], seconds: float, deadline: float) -> list[Received]:
        """Prolong leases; returns those that were lost.

        Raises:
            OperationTimeout: the server said nothing: it may be about to give them to others.
        """
        link = self._link
        if link is None or not self._looked(link, deliveries, deadline, must_answer=True):
            return list(deliveries)
        with link.lock:
            held, lost = self._divided(deliveries)
            now = self._clock.monotonic()
            for received in held:
                received.deadline = self._bounded(received.receipt, now + seconds)
        return lost

    def _looked(
        self, link: Link, deliveries: Sequence[Received], deadline: float | None, *, must_answer: bool = False
    ) -> bool:
        """See that the queues of deliveries are still there: the server settles for one that is gone without a word.

        Returns:
            False if the connection broke.
        """
        if deadline is None:
            return True
        lines = {id(r.receipt.line): r.receipt.line for r in deliveries if isinstance(r.receipt, Receipt)}
        try:
            with link.lock:
                ours = [line for line in lines.values() if line in self.lines and line.connected and not line.lost]
                link.write(*(line.look() for line in ours))
            answered = link.wait(lambda: all(line.looked for line in ours), deadline)
        except Exception:  # noqa: BLE001 - whatever it is; the next receive tells
            return False
        if must_answer and not answered:
            raise OperationTimeout(f"{link.name} did not answer in time")
        return True

    def divide(self, deliveries: Sequence[Received], *, keep_until: float) -> tuple[list[Received], list[Received]]:
        """Divide into those that are held, which do not end before a moment, and those that are lost."""
        link = self._link
        if link is None:
            return [], list(deliveries)
        with link.lock:
            held, lost = self._divided(deliveries)
            for received in held:
                received.deadline = max(received.deadline, self._bounded(received.receipt, keep_until + 1))
        return held, lost

    def lose_all(self) -> None:
        """Forget all: the connection is gone."""
        link = self._link
        if link is not None:
            with link.lock:
                for line in self.lines:
                    line.lose()
        self.lines = ()
        self._link = None

    # -- the tender ------------------------------------------------------------------------------------------------

    def tend(self, now: float) -> None:
        """End leases whose time is over, and consumers that nobody waits on; called from time to time."""
        link = self._link
        if link is None or link.broken is not None:
            return
        ended: list[Channel] = []
        try:
            with link.lock:
                link.drain()
                for line in self.lines:
                    channel = self._tend_line(link, line, now)
                    ended += [] if channel is None else [channel]
            for channel in ended:
                channel.close(deadline=now)
        except Exception:
            if link.broken is None:
                raise  # for the tender, which logs it; of a connection's end the next receive tells

    def _tend_line(self, link: Link, line: Line, now: float) -> Channel | None:
        """Look after one queue; returns its channel if that is to be closed."""
        if line.lost or not line.connected:
            line.held.clear()
            return None
        ended = [tag for tag, received in line.held.items() if received.deadline <= now]
        for tag in ended:
            del line.held[tag]
        if ended and not self._receiving and (channel := line.drop(ended)) is not None:
            return channel
        idle = not self._receiving and now - self._received >= _IDLE and not line.keeps
        frames = line.cancel() if idle else []
        if ended:
            frames += self._given_back(line, ended)
        frames += line.give_back_returning()
        if idle and line.waiting:
            frames += line.give_back_waiting(now - (self._lease if line.streamed else _IDLE))
        if frames:
            link.write(*frames)
        return None

    # -- parts -----------------------------------------------------------------------------------------------------

    def _divided(self, deliveries: Sequence[Received]) -> tuple[list[Received], list[Received]]:
        """Divide into those that are held, and those that are lost; under the lock."""
        link = self._link
        try:
            if link is None:
                return [], list(deliveries)
            link.drain()
        except Exception:  # noqa: BLE001 - the connection broke, and the leases with it: the next receive tells
            return [], list(deliveries)
        now = self._clock.monotonic()
        held: dict[int, Received] = {}
        lost: list[Received] = []
        for received in deliveries:
            receipt: Any = received.receipt
            ours = isinstance(receipt, Receipt) and receipt.line in self.lines and not receipt.line.lost
            if ours and now < received.deadline and receipt.line.held.get(receipt.tag) is received:
                held[id(received)] = received
            else:
                lost.append(received)
        return list(held.values()), lost

    def _bounded(self, receipt: Receipt, deadline: float) -> float:
        return deadline if self._most_held is None else min(deadline, receipt.arrived + self._most_held)


def _written(link: Link, frames: Sequence[bytes]) -> bool:
    """Write, under the lock; False if the connection broke, which the next receive tells."""
    try:
        if frames:
            link.write(*frames)
    except Exception:  # noqa: BLE001 - whatever it is
        return False
    return True


def _by_line(deliveries: Iterable[Received]) -> list[tuple[Line, list[int]]]:
    """Divide what is settled now by its queue; it is held no more."""
    grouped: dict[int, tuple[Line, list[int]]] = {}
    for received in deliveries:
        line, tag = received.receipt.line, received.receipt.tag
        del line.held[tag]
        grouped.setdefault(id(line), (line, []))[1].append(tag)
    return list(grouped.values())
