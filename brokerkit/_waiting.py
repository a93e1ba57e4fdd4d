"""Waiting for many records by one waiter per process and store.

Each waiting thread holds a ticket. One of them leads: it looks at all awaited keys in one call, hands what it finds to
the others, and passes the lead on when its own record has come or its time is up. There is no thread of our own.

A store that wakes waiters by itself (`SupportsWait`) blocks the leader in a call that does not know keys which came
later: their threads wait there for themselves until the leader's next turn, at most `_TURN` seconds. Any other store is
polled, after 1 ms at first and 50 ms at last.

No wake-up is lost: a ticket is registered before its key is read for the first time, and what is handed to it was read
after it was registered.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias, final

from brokerkit.abc import Clock
from brokerkit.errors import BrokerkitError, OperationTimeout
from brokerkit.models import Record

__all__ = ["TimeIsUp", "Waiting"]

_FIRST_PAUSE: Final = 0.001
_LAST_PAUSE: Final = 0.05
_GROWTH: Final = 1.5
_TURN: Final = 1.0
_LEAST_LOOK: Final = 0.5  # seconds that one look may take, though the waiter has less: a timeout of 0 looks once
_LEAST_WATCH: Final = 0.001
_LONGEST_SLEEP: Final = 3600.0  # Condition.wait refuses infinity

Read: TypeAlias = Callable[[Sequence[str], float], Sequence[Record | None]]
Watch: TypeAlias = Callable[[Mapping[str, Record | None], float], Sequence[str]]


class TimeIsUp(Exception):
    """The record did not end in time."""


@dataclass(slots=True, eq=False)
class _Ticket:
    """One waiting thread. `known`: there is or was a record, so its absence means that it is lost."""

    key: str
    known: bool
    condition: threading.Condition
    asleep: bool = False
    looked: bool = False
    done: bool = False
    outcome: Record | BrokerkitError | None = None


_Look: TypeAlias = Mapping[str, Sequence[tuple[_Ticket, bool]]]
"""What one look is for: keys, with the tickets that get its answer, and whether each was `known` when it began."""


@dataclass(slots=True)
class _Seen:
    record: Record | None
    ended: bool


@final
class Waiting:
    """All waiters of one store. Thread-safe.

    Args:
        clock: tells the time and waits.
        read: reads keys within a timeout, with repeats; raises our errors.
        ended: whether a record is worth waking its waiters: final, or unreadable.
        watch: blocks until one of the keys differs from what was seen; None if the store must be polled.
        patience: seconds for `read` with all its repeats; an error after it concerns everybody who waits.
    """

    def __init__(
        self, *, clock: Clock, read: Read, ended: Callable[[Record], bool], watch: Watch | None, patience: float
    ) -> None:
        self._clock = clock
        self._read = read
        self._ended = ended
        self._watch = watch
        self._patience = patience
        self._lock = threading.Lock()
        self._tickets: dict[str, list[_Ticket]] = {}
        self._seen: dict[str, _Seen] = {}
        self._leader: _Ticket | None = None
        self._covered: frozenset[str] = frozenset()  # keys in the leader's present call
        self._rhythm = _Rhythm()

    def wait(self, key: str, *, known: bool, timeout: float) -> Record | None:
        """Return the record once it has ended or expired, or None if it was `known` and is gone.

        Looks at least once, whatever the timeout, which may be 0 or infinite.

        Raises:
            TimeIsUp: neither happened within `timeout` seconds.
            BrokerkitError: the store cannot be read.
        """
        ticket = self._register(key, known=known)
        deadline = self._clock.monotonic() + timeout
        try:
            while (look := self._next_look(ticket, deadline)) is not None:
                self._do(look, ticket, deadline)
        finally:
            with self._lock:
                self._unregister(ticket)
        if not ticket.done:
            raise TimeIsUp
        if isinstance(ticket.outcome, BrokerkitError):
            raise ticket.outcome
        return ticket.outcome

    def stored(self, record: Record) -> None:
        """Tell waiters of a record that this process has just stored."""
        with self._lock:
            if record.key in self._tickets:
                # noted as seen as well, so that a store which wakes waiters notices if it goes again
                self._hand_out(record.key, record, [(t, t.known) for t in self._tickets[record.key]])

    def gone(self, key: str) -> None:
        """Tell waiters that this process has just deleted the record."""
        with self._lock:
            for ticket in self._tickets.get(key, ()):
                _finish(ticket, None)

    def fail(self, error: BrokerkitError) -> None:
        """End all waiting with an error."""
        with self._lock:
            for tickets in self._tickets.values():
                for ticket in tickets:
                    _finish(ticket, error)

    def waiters(self) -> int:
        """Return how many tickets there are."""
        with self._lock:
            return sum(map(len, self._tickets.values()))

    # -- who looks, and when -----------------------------------------------------------------------------------------

    def _register(self, key: str, *, known: bool) -> _Ticket:
        ticket = _Ticket(key, known, threading.Condition(self._lock))
        with self._lock:
            self._tickets.setdefault(key, []).append(ticket)
            self._rhythm.hurry()
            if self._leader is not None:
                self._leader.condition.notify_all()
        return ticket

    def _unregister(self, ticket: _Ticket) -> None:
        tickets = self._tickets[ticket.key]
        tickets.remove(ticket)
        if not tickets:
            del self._tickets[ticket.key]
            self._seen.pop(ticket.key, None)
        if self._leader is ticket:
            # only a sleeping thread needs to be called; one that is awake sees for itself that nobody leads
            everybody = (t for tickets in self._tickets.values() for t in tickets)
            self._lead(next((t for t in everybody if t.asleep and not t.done), None))

    def _lead(self, ticket: _Ticket | None) -> None:
        self._leader = ticket
        self._covered = frozenset()
        if ticket is not None:
            ticket.condition.notify_all()

    def _next_look(self, ticket: _Ticket, deadline: float) -> _Look | None:
        """Sleep until it is this thread's turn to look, and return at what; None if it need not wait any longer."""
        with self._lock:
            while not ticket.done:
                now = self._clock.monotonic()
                left = deadline - now
                if left <= 0 and ticket.looked:
                    return None
                if self._leader is None:
                    self._lead(ticket)
                if self._leader is ticket:
                    pause = min(self._rhythm.next_look - now, left)
                    if pause <= 0:
                        return self._take_all()
                    self._sleep(ticket, pause)
                elif left <= 0 or (self._watch is not None and ticket.key not in self._covered):
                    return self._take([ticket.key])
                else:
                    self._sleep(ticket, left)
            return None

    def _take_all(self) -> _Look:
        self._rhythm.fresh = False
        self._covered = frozenset(self._tickets)
        return self._take(self._tickets)

    def _take(self, keys: Sequence[str] | Mapping[str, object]) -> _Look:
        return {key: [(ticket, ticket.known) for ticket in self._tickets[key]] for key in keys}

    def _sleep(self, ticket: _Ticket, seconds: float) -> None:
        ticket.asleep = True
        try:
            self._clock.wait(ticket.condition, min(seconds, _LONGEST_SLEEP))
        finally:
            ticket.asleep = False

    # -- looking, outside the lock -----------------------------------------------------------------------------------

    def _do(self, look: _Look, ticket: _Ticket, deadline: float) -> None:
        left = deadline - self._clock.monotonic()
        patience = min(self._patience, max(left, _LEAST_LOOK))
        with self._lock:
            if ticket.done:
                return  # else it would watch for a change of what has ended
            seen = {key: self._seen[key].record for key in look if key in self._seen}
            unread = [key for key, tickets in look.items() if key not in seen or any(not t.looked for t, _ in tickets)]
        if self._watch is None:
            keys: Sequence[str] = list(look)
        else:
            keys = unread or self._watched(self._watch, seen, min(max(left, _LEAST_WATCH), _TURN))
        if not keys:
            return
        answers = self._answers(keys, patience)
        with self._lock:
            progress = False
            for key, answer in answers.items():
                if isinstance(answer, BrokerkitError) and answer.retryable and patience < self._patience:
                    # its time was too short to say that the store is down for everybody
                    if isinstance(answer, OperationTimeout):
                        ticket.looked = True  # and if that was all its time, then its time is up
                    else:
                        _finish(ticket, answer)
                else:
                    progress |= self._hand_out(key, answer, look[key])
            if self._watch is None and self._leader is ticket:
                self._rhythm.looked(self._clock.monotonic(), progress=progress)

    def _watched(self, watch: Watch, seen: Mapping[str, Record | None], timeout: float) -> Sequence[str]:
        try:
            return watch(seen, timeout)
        except BrokerkitError as error:
            if not error.retryable:
                raise
            # the connection broke: read all, with repeats, since the record may have come in the gap
            with self._lock:
                self._rhythm.looked(self._clock.monotonic(), progress=False)
            return list(seen)

    def _answers(self, keys: Sequence[str], patience: float) -> Mapping[str, Record | BrokerkitError | None]:
        """Read keys; an error that is no matter of time is looked for key by key, as it may concern one of them only."""
        try:
            return dict(zip(keys, self._read(keys, patience), strict=True))
        except BrokerkitError as error:
            if error.retryable or len(keys) == 1:
                return dict.fromkeys(keys, error)
        return {key: self._answers([key], patience)[key] for key in keys}

    # -- handing out; callers hold the lock --------------------------------------------------------------------------

    def _hand_out(
        self, key: str, answer: Record | BrokerkitError | None, tickets: Sequence[tuple[_Ticket, bool]]
    ) -> bool:
        """Give an answer to tickets, and tell whether any is done by it."""
        ended = isinstance(answer, BrokerkitError) or (answer is not None and self._note_seen(key, answer))
        if answer is None and key in self._tickets:
            self._seen[key] = _Seen(None, ended=False)
        if ended and not isinstance(answer, BrokerkitError):
            # also those who came since the look began: what is noted as seen is not told again
            tickets = [(ticket, True) for ticket in self._tickets.get(key, ())]
        for ticket, known in tickets:
            ticket.looked = True
            if ended or (answer is None and known):
                _finish(ticket, answer)
            elif answer is not None:
                ticket.known = True
        return any(ticket.done for ticket, _ in tickets)

    def _note_seen(self, key: str, record: Record) -> bool:
        """Remember a record that was read, and tell whether it has ended; one that did not change is not read again."""
        seen = self._seen.get(key)
        if seen is not None and seen.record is not None and seen.record.value == record.value:
            ended = seen.ended or record.expired
        else:
            ended = record.expired or self._ended(record)
        if key in self._tickets:
            self._seen[key] = _Seen(record, ended)
        return ended


@dataclass(slots=True)
class _Rhythm:
    """When the leader looks next: soon after something happened, ever later while nothing does."""

    next_look: float = field(default=float("-inf"))
    pause: float = _FIRST_PAUSE
    fresh: bool = False  # somebody came since the last look began

    def hurry(self) -> None:
        """Somebody came: look at once."""
        self.next_look = float("-inf")
        self.pause = _FIRST_PAUSE
        self.fresh = True

    def looked(self, now: float, *, progress: bool) -> None:
        """A look ended."""
        if self.fresh:
            return
        self.next_look = now + self.pause
        self.pause = max(self.pause / 2, _FIRST_PAUSE) if progress else min(self.pause * _GROWTH, _LAST_PAUSE)


def _finish(ticket: _Ticket, outcome: Record | BrokerkitError | None) -> None:
    if not ticket.done:
        ticket.done = True
        ticket.outcome = outcome
        ticket.condition.notify_all()
