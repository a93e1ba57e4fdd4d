"""One receiver's connection: the link, a line for each queue, and what becomes of both when something is lost."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, final

from brokerkit.abc import Clock
from brokerkit_rabbitmq.errors import fresh
from brokerkit_rabbitmq.leases import Leases
from brokerkit_rabbitmq.line import Line
from brokerkit_rabbitmq.link import Link
from brokerkit_rabbitmq.losses import Losses
from brokerkit_rabbitmq.server import Server

__all__ = ["Connection"]

_OPENING: Final = 1.0  # seconds for what has to be answered before anybody waits, however short that is to be
_LONGEST_OPENING: Final = 5.0  # what a connection gets, in the end, where the way is long
_RETRY_MISSING: Final = 1.0  # seconds between two looks for a queue that is missing


@final
class Connection:
    """A link with a line for each queue. It belongs to who has the receiver's turn; only `close` may come from others.

    Args:
        server: the server.
        names: the queues.
        leases: gets to know the link and the lines.
        counts: whether the queues count deliveries.
        vanishes: tells of a queue whether it goes when nobody consumes it.
        heartbeat: of the link, in seconds.

    Attributes:
        lines: the queues; whose turn is next comes first.
        losses: what is to be told of queues that are missing.
        closed: nobody wants it any more: who waits comes back.
    """

    def __init__(
        self,
        server: Server,
        names: Sequence[str],
        leases: Leases,
        *,
        counts: bool,
        vanishes: Callable[[str], bool],
        heartbeat: int,
    ) -> None:
        self.lines: deque[Line] = deque()
        self.losses = Losses()
        self.closed = False
        self._server = server
        self._clock: Clock = server.clock
        self._names = list(dict.fromkeys(names))
        self._leases = leases
        self._counts = counts
        self._vanishes = vanishes
        self._heartbeat = heartbeat
        self._link: Link | None = None
        self._missing: dict[str, float] = {}
        self._opening = _OPENING

    @property
    def done(self) -> bool:
        """Whether there is no more to wait for."""
        return self.closed or any(line.missing and line.name not in self._missing for line in self.lines)

    @property
    def until_retry(self) -> float:
        """Until when one may wait before queues that are missing are looked for again."""
        return self._clock.monotonic() + _RETRY_MISSING if self._missing else float("inf")

    def patience(self) -> float:
        """Return the deadline of what the server has to answer at once."""
        return self._clock.monotonic() + _OPENING

    def wait(self, link: Link, ready: Callable[[], bool], deadline: float) -> None:
        """Wait until something is so, or the deadline is there, or this is closed."""
        link.wait(lambda: self.closed or ready(), deadline)

    def ready(self, end: float) -> Link:
        """Return the link with a line for each queue. One that broke raises once; the next call opens another.

        Raises:
            Exception: the link broke since the last call, or could not be made.
        """
        link = self._link
        if link is not None and link.broken is not None:
            self._forget()
            link.check()
        if link is None or link.broken is not None:
            return self._open(end)
        self.reopen_lost(link)
        for line in self.lines:
            if not line.connected:
                line.connect(self.patience())
        return link

    def reopen_lost(self, link: Link) -> None:
        """Give lines that were lost another try, such as those of queues that are declared anew.

        Raises:
            Exception: the server closed a channel for another reason than that the queue is missing.
        """
        now = self._clock.monotonic()
        reason: Exception | None = None
        for line in [line for line in self.lines if line.lost]:
            if line.missing and len(self._missing) < len(self._names) and now < self._missing.get(line.name, now):
                continue
            if not line.missing and not line.timed_out:
                reason = line.broken
            self._replace(link, line)
        if reason is not None:
            raise fresh(reason)

    def note_missing(self) -> None:
        """Remember which queues are missing, to tell of them, and when to look for them again."""
        now = self._clock.monotonic()
        missing = [line.name for line in self.lines if line.missing]
        for name in missing:
            self._missing.setdefault(name, now + _RETRY_MISSING)
            if self._missing[name] <= now:
                self._missing[name] = now + _RETRY_MISSING
        for name in self._missing.keys() - set(missing):
            del self._missing[name]
        self.losses.note(missing, len(self._names))

    def end_waiting(self) -> None:
        """Let who waits come back; from any thread."""
        self.closed = True
        link = self._link
        if link is not None:
            link.wake()

    def close(self, deadline: float) -> None:
        """Part with the link; what is unsettled goes back to its place by that. Idempotent."""
        link = self._link
        if link is not None and link.broken is None:
            link.close(deadline=deadline)
        self._forget()

    # -- parts -----------------------------------------------------------------------------------------------------

    def _open(self, end: float) -> Link:
        """Open a link and its lines. It takes longer than the call only where it has failed before."""
        deadline = max(end, self._clock.monotonic() + self._opening)
        self._opening = min(2 * self._opening, _LONGEST_OPENING)
        link = self._server.connector.open(
            deadline=deadline, heartbeat=self._heartbeat, purpose="receiver", unwanted=lambda: self.closed
        )
        lines = [self._line(name, link) for name in self._names]
        try:
            for line in lines:
                line.connect(max(deadline, self.patience()))
        except Exception:
            link.close(deadline=self._clock.monotonic())
            raise
        self._opening = _OPENING
        self._missing.clear()
        self.lines.extend(lines)
        self._leases.lead(link, lines)
        self._link = link
        return link

    def _replace(self, link: Link, line: Line) -> None:
        """Put a new line in a lost one's place. If it cannot be opened, the lost one stays, to be tried again."""
        with link.lock:
            line.lose()
        if line.broken is None:
            line.close(self.patience())
        anew = self._line(line.name, link)
        anew.connect(self.patience())
        self.lines[self.lines.index(line)] = anew
        self._leases.lines = list(self.lines)

    def _line(self, name: str, link: Link) -> Line:
        return Line(name, link, self._clock, counts=self._counts, keeps=self._vanishes(name))

    def _forget(self) -> None:
        self._link = None
        self._leases.lose_all()
        self.lines.clear()
