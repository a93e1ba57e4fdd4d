"""Claiming and settling: one consumer's claim on queues.

RabbitMQ pushes; a receiver takes. So that nothing is held for somebody who does not ask, and no delivery is counted that
nobody had, the server may push only while a `receive` runs, and no more than that one asked for:

* a *grab* takes what is ready: consume with a window as large as what is asked for, and cancel, in one write; the server
  answers the cancel behind all that it delivered, so that this is an atomic "give me up to n";
* who finds nothing *waits*, with a consumer whose window is one message: it is exhausted by what it brings;
* a consumer that had all it asked for, twice, has a backlog: then its consumer stays open between the calls, a *stream*
  with a window as large as what is asked for, until it runs dry. What waits here then is given back after a lease.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, final

from brokerkit.abc import SETTLE_TIMEOUT, Clock, Receiver
from brokerkit.errors import Closed, OperationTimeout
from brokerkit.models import Received
from brokerkit_rabbitmq.errors import fresh
from brokerkit_rabbitmq.leases import Leases
from brokerkit_rabbitmq.line import Line
from brokerkit_rabbitmq.link import Link
from brokerkit_rabbitmq.losses import Losses
from brokerkit_rabbitmq.parking import Parked, Parking
from brokerkit_rabbitmq.promises import heartbeat_for
from brokerkit_rabbitmq.server import Server

__all__ = ["RabbitMQReceiver"]

_OPENING: Final = 1.0  # seconds for what has to be answered before anybody waits, however short that is to be
_LONGEST_OPENING: Final = 5.0  # what a connection gets, in the end, where the way is long
_STREAM_FROM: Final = 16  # messages asked for at a time; below, an open consumer would gain nothing
_FULL_ENOUGH: Final = 2  # grabs in a row that had all they asked for
_DRY: Final = 0.02  # seconds without a delivery after which a stream ends
_QUICKER: Final = 0.1  # seconds without all that was counted, after which others have taken it
_SWIFT: Final = 0.02  # seconds within which a message that comes was there before, and has others behind it
_AGAIN: Final = 0.5  # seconds of waiting from which another call is expected, and the consumers stay open until then
_MOST_LOOKED_AT: Final = 16  # queues at a time
_RETRY_MISSING: Final = 1.0  # seconds between two looks for a queue that is missing


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
        self._server = server
        self._parking = parking
        self._clock: Clock = server.clock
        self._names = list(dict.fromkeys(names))
        self._lease = visibility_timeout if most_held is None else min(visibility_timeout, most_held)
        self._most_held = most_held
        self._counts = counts
        self._vanishes = vanishes
        self._heartbeat = heartbeat or heartbeat_for(visibility_timeout)
        self._turn = threading.Lock()
        self._link: Link | None = None
        self._lines: deque[Line] = deque()
        self._leases = Leases(self._clock, self._lease, most_held)
        self._losses = Losses()
        self._missing: dict[str, float] = {}
        self._opening = _OPENING
        self._closed = False
        server.tender.register(self._leases.tend)

    # -- receiving -------------------------------------------------------------------------------------------------

    def receive(
        self, *, limit: int, timeout: float, acks: Sequence[Received] = ()
    ) -> tuple[Sequence[Received], Sequence[Received]]:
        """See `Receiver.receive`."""
        end = self._clock.monotonic() + timeout
        if acks and self._losses.any:
            return [], self.ack(acks)  # alone, so that one of the next calls has none, and can raise
        if not self._turn.acquire(timeout=timeout):
            return [], self.ack(acks) if acks else []  # another thread receives, and got what there was
        try:
            with self._leases.receiving(keep=timeout >= _AGAIN):
                return self._receive(limit, end, acks)
        finally:
            self._turn.release()

    def _receive(
        self, limit: int, end: float, acks: Sequence[Received]
    ) -> tuple[Sequence[Received], Sequence[Received]]:
        self._losses.tell()
        if self._closed:
            raise Closed("this receiver is closed")
        link = self._ready(end)
        lost = self._leases.ack(acks) if acks else []
        claimed = self._claim(link, limit, end)
        self._note_missing()
        if not claimed and not acks:
            self._losses.tell()
        return claimed, lost

    def _claim(self, link: Link, limit: int, end: float) -> list[Received]:
        if claimed := self._hand_over(limit):
            return claimed
        if any(line.streaming for line in self._lines) and (claimed := self._from_stream(link, limit)):
            return claimed
        waits = end > self._clock.monotonic()
        if claimed := self._grab(link, self._worth_a_look(limit, waits=waits), limit):
            return claimed
        keep = end - self._clock.monotonic() >= _AGAIN
        while not claimed and self._clock.monotonic() < end and not self._done:
            claimed = self._wait(link, limit, end)
        return claimed or ([] if keep else self._end_waiting(link, limit))

    def _worth_a_look(self, limit: int, *, waits: bool) -> list[Line]:
        """Return the queues in which there may be something that no open consumer brings."""
        lines = [line for line in self._lines if not line.lost]
        if not waits:
            return lines
        several = len(lines) > 1
        if limit == 1 and not several:
            return []  # one message is what a waiting consumer brings
        found = [line for line in lines if not line.open and (line.warm or several)]
        if len(found) > _MOST_LOOKED_AT:
            self._lines.rotate(-_MOST_LOOKED_AT)
        return found[:_MOST_LOOKED_AT]

    def _grab(self, link: Link, lines: Sequence[Line], limit: int) -> list[Received]:
        """Take what is ready."""
        if not lines:
            return []
        self._look(link, lines)
        if claimed := self._hand_over(limit):
            return claimed
        lines = [line for line in lines if line.looked and line.ready and not line.lost]
        if not lines:
            return []
        share = max(limit // len(lines), 1)
        stream = len(self._lines) == 1 and lines[0].full >= _FULL_ENOUGH and limit >= _STREAM_FROM
        with link.lock:
            for line in lines:
                link.write(*line.consume(limit if stream else min(line.ready, share), stream=stream))
        if stream:
            return self._from_stream(link, limit)
        # what was counted comes, unless others were quicker
        self._await(
            link, lambda: all(line.exhausted or line.lost for line in lines), self._clock.monotonic() + _QUICKER
        )
        for line in lines:
            line.warm = bool(line.waiting)
            line.full = line.full + 1 if line.waiting >= share else 0
        return self._hand_over(limit)

    def _from_stream(self, link: Link, limit: int) -> list[Received]:
        """Take what a stream brings. One that has run dry goes on as a consumer that waits.

        It is not ended while something is on its way: a quorum queue would take that back, and count it.
        """
        streams = [line for line in self._lines if line.streaming]
        until = self._clock.monotonic() + (_DRY if any(line.open for line in streams) else 0)
        self._await(link, lambda: any(line.waiting or line.lost for line in streams), until)
        if claimed := self._hand_over(limit):
            return claimed
        self._look(link, streams)
        if any(line.ready and line.open for line in streams):  # it is slow
            self._await(link, lambda: any(line.waiting or line.lost for line in streams), self._patience())
        for line in streams:
            line.full = 0
        return self._hand_over(limit)

    def _look(self, link: Link, lines: Sequence[Line]) -> None:
        """Ask how much is ready; what the server had pushed before has come when this returns."""
        with link.lock:
            link.write(*(line.look() for line in lines if not line.lost))
        self._await(link, lambda: all(line.looked for line in lines), self._patience())

    def _end_waiting(self, link: Link, limit: int) -> list[Received]:
        """Let the server push no more; returns what it had pushed meanwhile."""
        lines = [line for line in self._lines if line.consuming and not line.lost and not line.keeps]
        if not lines:
            return []
        with link.lock:
            link.write(*(frame for line in lines for frame in line.cancel()))
        self._await(link, lambda: all(line.settled_down for line in lines), self._patience())
        return self._hand_over(limit)

    def _wait(self, link: Link, limit: int, end: float) -> list[Received]:
        """Wait for the first message."""
        lines = list(self._lines)
        with link.lock:
            for line in lines:
                if not line.open and not line.lost:
                    link.write(*line.consume(1))
        began = self._clock.monotonic()
        until = min(end, began + _RETRY_MISSING) if self._missing else end
        self._await(
            link, lambda: any(line.waiting or (line.lost and not line.missing) for line in lines) or self._done, until
        )
        swift = self._clock.monotonic() - began < _SWIFT
        claimed = self._hand_over(limit)
        if not claimed and not self._done:
            self._reopen_lost(link)
        if claimed and swift and len(claimed) < limit:
            found = {received.queue for received in claimed}
            more = [line for line in self._lines if line.name in found and not line.lost and not line.open]
            claimed += self._grab(link, more, limit - len(claimed))
        return claimed

    def _hand_over(self, limit: int) -> list[Received]:
        """Take what has come, from each queue in turn."""
        link = self._link
        if link is None:
            return []
        claimed: list[Received] = []
        with link.lock:
            for line in list(self._lines):
                if line.lost or not line.waiting:
                    continue
                claimed += line.take(limit - len(claimed), lease=self._lease, most_held=self._most_held)
                if len(claimed) >= limit:
                    self._lines.rotate(-1 - self._lines.index(line))
                    break
        return claimed

    # -- the connection --------------------------------------------------------------------------------------------

    def _ready(self, end: float) -> Link:
        """Return the connection with a line for each queue. One that broke raises once; the next call opens another.

        Raises:
            Exception: the connection broke since the last call, or could not be made.
        """
        link = self._link
        if link is not None and link.broken is not None:
            self._link = None
            self._leases.lose_all()
            self._lines.clear()
            link.check()
        if link is None or link.broken is not None:
            link = self._connect(end)
        else:
            self._reopen_lost(link)
            for line in self._lines:
                if not line.connected:
                    line.connect(self._patience())
        return link

    def _connect(self, end: float) -> Link:
        """Open a connection and its lines. It takes longer than the call only where it has failed before."""
        deadline = max(end, self._clock.monotonic() + self._opening)
        self._opening = min(2 * self._opening, _LONGEST_OPENING)
        link = self._server.connector.open(deadline=deadline, heartbeat=self._heartbeat, purpose="receiver")
        lines = [Line(name, link, self._clock, counts=self._counts, keeps=self._vanishes(name)) for name in self._names]
        try:
            for line in lines:
                line.connect(max(deadline, self._patience()))
        except Exception:
            link.close(deadline=self._clock.monotonic())
            raise
        self._opening = _OPENING
        self._missing.clear()
        self._lines.extend(lines)
        self._leases.lead(link, lines)
        self._link = link
        return link

    def _open_line(self, link: Link, name: str) -> None:
        line = Line(name, link, self._clock, counts=self._counts, keeps=self._vanishes(name))
        line.connect(self._patience())
        self._lines.append(line)
        self._leases.lines = list(self._lines)

    def _reopen_lost(self, link: Link) -> None:
        """Give lines that were lost another try, such as those of queues that are declared anew.

        Raises:
            Exception: the server closed a channel for another reason than that the queue is missing.
        """
        now = self._clock.monotonic()
        reason: Exception | None = None
        for line in [line for line in self._lines if line.lost]:
            if line.missing and len(self._missing) < len(self._names) and now < self._missing.get(line.name, now):
                continue
            if not line.missing and not line.timed_out:
                reason = line.broken
            self._lines.remove(line)
            with link.lock:
                line.lose()
            if line.broken is None:
                line.close(self._patience())
            self._open_line(link, line.name)
        if reason is not None:
            raise fresh(reason)

    def _note_missing(self) -> None:
        now = self._clock.monotonic()
        missing = [line.name for line in self._lines if line.missing]
        for name in missing:
            self._missing.setdefault(name, now + _RETRY_MISSING)
            if self._missing[name] <= now:
                self._missing[name] = now + _RETRY_MISSING
        for name in self._missing.keys() - set(missing):
            del self._missing[name]
        self._losses.note(missing, len(self._names))

    @property
    def _done(self) -> bool:
        """Whether there is no more to wait for."""
        return self._closed or any(line.missing and line.name not in self._missing for line in self._lines)

    def _await(self, link: Link, ready: Callable[[], bool], deadline: float) -> None:
        link.wait(lambda: self._closed or ready(), deadline)

    def _patience(self) -> float:
        return self._clock.monotonic() + _OPENING

    # -- settling --------------------------------------------------------------------------------------------------

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
            outcomes = self._parking.send(queue, parked, deadline=deadline)
            lost += self._leases.ack([each for each, outcome in zip(ours, outcomes, strict=True) if outcome is None])
            failed = next(filter(None, outcomes), failed)
        if failed is not None:
            raise failed
        return lost

    def close(self, *, timeout: float) -> None:
        """See `Receiver.close`."""
        end = self._clock.monotonic() + timeout
        self._closed = True
        link = self._link
        if link is not None:
            link.wake()
        if not self._turn.acquire(timeout=timeout):
            raise OperationTimeout("a receive that waits could not be ended")
        try:
            self._server.tender.unregister(self._leases.tend)
            link, self._link = self._link, None
            if link is not None and link.broken is None:
                link.close(deadline=end)  # what is unsettled goes back to its place by that
            self._leases.lose_all()
            self._lines.clear()
        finally:
            self._turn.release()
