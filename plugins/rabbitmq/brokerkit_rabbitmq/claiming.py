"""Claiming: how a receiver takes from queues whose server pushes.

So that nothing is held for somebody who does not ask, and no delivery is counted that nobody had, the server may push only
while a `receive` runs, and no more than that one asked for:

* a *grab* takes what is ready: consume with a window as large as what is asked for, and cancel, in one write; the server
  answers the cancel behind all that it delivered, so that this is an atomic "give me up to n";
* who finds nothing *waits*, with a consumer whose window is one message: it is exhausted by what it brings;
* a consumer that had all it asked for, twice, has a backlog: then its consumer stays open between the calls, a *stream*
  with a window as large as what is asked for, until it runs dry. What waits here then is given back after a lease.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, final

from brokerkit.abc import Clock
from brokerkit.models import Received
from brokerkit_rabbitmq.connection import Connection
from brokerkit_rabbitmq.line import Line
from brokerkit_rabbitmq.link import Link

__all__ = ["AGAIN", "Claiming"]

AGAIN: Final = 0.5
"""Seconds of waiting from which another call is expected, and the consumers stay open until then."""

_STREAM_FROM: Final = 16  # messages asked for at a time; below, an open consumer would gain nothing
_FULL_ENOUGH: Final = 2  # grabs in a row that had all they asked for
_DRY: Final = 0.02  # seconds without a delivery after which a stream ends
_QUICKER: Final = 0.1  # seconds without all that was counted, after which others have taken it
_SWIFT: Final = 0.02  # seconds within which a message that comes was there before, and has others behind it
_MOST_LOOKED_AT: Final = 16  # queues at a time


@final
class Claiming:
    """Takes deliveries from the lines of a connection; by who has the receiver's turn.

    Args:
        connection: the receiver's.
        clock: for deadlines and leases.
        lease: seconds of each claim.
        most_held: seconds that a delivery may be held, or None.
    """

    def __init__(self, connection: Connection, clock: Clock, lease: float, most_held: float | None) -> None:
        self._connection = connection
        self._clock = clock
        self._lease = lease
        self._most_held = most_held

    def claim(self, link: Link, limit: int, end: float) -> list[Received]:
        """Return what is there, at most `limit`; or the first that comes until the end."""
        if claimed := self._hand_over(link, limit):
            return claimed
        lines = self._connection.lines
        if any(line.streaming for line in lines) and (claimed := self._from_stream(link, limit)):
            return claimed
        waits = end > self._clock.monotonic()
        if claimed := self._grab(link, self._worth_a_look(limit, waits=waits), limit):
            return claimed
        keep = end - self._clock.monotonic() >= AGAIN
        while not claimed and self._clock.monotonic() < end and not self._connection.done:
            claimed = self._wait(link, limit, end)
        return claimed or ([] if keep else self._end_waiting(link, limit))

    def _worth_a_look(self, limit: int, *, waits: bool) -> list[Line]:
        """Return the queues in which there may be something that no open consumer brings."""
        lines = [line for line in self._connection.lines if not line.lost]
        if not waits:
            return lines
        several = len(lines) > 1
        if limit == 1 and not several:
            return []  # one message is what a waiting consumer brings
        found = [line for line in lines if not line.open and (line.warm or several)]
        if len(found) > _MOST_LOOKED_AT:
            self._connection.lines.rotate(-_MOST_LOOKED_AT)
        return found[:_MOST_LOOKED_AT]

    def _grab(self, link: Link, lines: Sequence[Line], limit: int) -> list[Received]:
        """Take what is ready."""
        if not lines:
            return []
        self._look(link, lines)
        if claimed := self._hand_over(link, limit):
            return claimed
        lines = [line for line in lines if line.looked and line.ready and not line.lost]
        if not lines:
            return []
        share = max(limit // len(lines), 1)
        only = len(self._connection.lines) == 1
        stream = only and lines[0].full >= _FULL_ENOUGH and limit >= _STREAM_FROM
        with link.lock:
            for line in lines:
                link.write(*line.consume(limit if stream else min(line.ready, share), stream=stream))
        if stream:
            return self._from_stream(link, limit)
        # what was counted comes, unless others were quicker
        until = self._clock.monotonic() + _QUICKER
        self._connection.wait(link, lambda: all(line.exhausted or line.lost for line in lines), until)
        for line in lines:
            line.warm = bool(line.waiting)
            line.full = line.full + 1 if line.waiting >= share else 0
        return self._hand_over(link, limit)

    def _from_stream(self, link: Link, limit: int) -> list[Received]:
        """Take what a stream brings. One that has run dry goes on as a consumer that waits.

        It is not ended while something is on its way: a quorum queue would take that back, and count it.
        """
        streams = [line for line in self._connection.lines if line.streaming]

        def came() -> bool:
            return any(line.waiting or line.lost for line in streams)

        until = self._clock.monotonic() + (_DRY if any(line.open for line in streams) else 0)
        self._connection.wait(link, came, until)
        if claimed := self._hand_over(link, limit):
            return claimed
        self._look(link, streams)
        if any(line.ready and line.open for line in streams):  # it is slow
            self._connection.wait(link, came, self._connection.patience())
        for line in streams:
            line.full = 0
        return self._hand_over(link, limit)

    def _look(self, link: Link, lines: Sequence[Line]) -> None:
        """Ask how much is ready; what the server had pushed before has come when this returns."""
        with link.lock:
            link.write(*(line.look() for line in lines if not line.lost))
        self._connection.wait(link, lambda: all(line.looked for line in lines), self._connection.patience())

    def _end_waiting(self, link: Link, limit: int) -> list[Received]:
        """Let the server push no more; returns what it had pushed meanwhile."""
        lines = [line for line in self._connection.lines if line.consuming and not line.lost and not line.keeps]
        if not lines:
            return []
        with link.lock:
            link.write(*(frame for line in lines for frame in line.cancel()))
        self._connection.wait(link, lambda: all(line.settled_down for line in lines), self._connection.patience())
        return self._hand_over(link, limit)

    def _wait(self, link: Link, limit: int, end: float) -> list[Received]:
        """Wait for the first message."""
        connection = self._connection
        lines = list(connection.lines)
        with link.lock:
            for line in lines:
                if not line.open and not line.lost:
                    link.write(*line.consume(1))

        def came() -> bool:
            return any(line.waiting or (line.lost and not line.missing) for line in lines) or connection.done

        began = self._clock.monotonic()
        connection.wait(link, came, min(end, connection.until_retry))
        swift = self._clock.monotonic() - began < _SWIFT
        claimed = self._hand_over(link, limit)
        if not claimed and not connection.done:
            connection.reopen_lost(link)
        if claimed and swift and len(claimed) < limit:
            found = {received.queue for received in claimed}
            more = [line for line in connection.lines if line.name in found and not line.lost and not line.open]
            claimed += self._grab(link, more, limit - len(claimed))
        return claimed

    def _hand_over(self, link: Link, limit: int) -> list[Received]:
        """Take what has come, from each queue in turn."""
        claimed: list[Received] = []
        lines = self._connection.lines
        with link.lock:
            for line in list(lines):
                if line.lost or not line.waiting:
                    continue
                claimed += line.take(limit - len(claimed), lease=self._lease, most_held=self._most_held)
                if len(claimed) >= limit:
                    lines.rotate(-1 - lines.index(line))
                    break
        return claimed
