"""Waiting for many records by one waiter per process and store.

Each waiting thread holds a ticket for each record that it waits for. One thread leads: it looks at all awaited keys in
one call, hands what it finds to the others, and passes the lead on when something of its own has come or its time is
up. There is no thread of our own.

A store that wakes waiters by itself (`SupportsWait`) blocks the leader in a call that does not know keys which came
later: their threads wait there for themselves until the leader's next turn, at most `_TURN` seconds. Any other store is
polled, after 1 ms at first and 50 ms at last. Looks at thousands of keys are further apart in both ways, so that their
number does not grow with that of the records that come.

No wake-up is lost: a ticket is registered before its key is read for the first time, and what is handed to it was read
after it was registered.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, final

from brokerkit._tickets import Answer, Rhythm, Ticket, Waiter
from brokerkit.abc import Clock
from brokerkit.errors import BrokerkitError, OperationTimeout
from brokerkit.models import Record

__all__ = ["TimeIsUp", "Waiting"]

_TURN: Final = 1.0
_LEAST_LOOK: Final = 0.5  # seconds that one look may take, though the waiter has less: a timeout of 0 looks once
_LEAST_WATCH: Final = 0.001
_ENOUGH: Final = 50  # reads that fail, when none succeeds
_LONGEST_SLEEP: Final = 3600.0  # Condition.wait refuses infinity

Read: TypeAlias = Callable[[Sequence[str], float], Mapping[str, Record | None]]
Watch: TypeAlias = Callable[[Mapping[str, Record | None], float], Sequence[str]]


class TimeIsUp(Exception):
    """The record did not end in time."""


_Look: TypeAlias = Mapping[str, Sequence[tuple[Ticket, bool]]]
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
        read: reads keys within a timeout, with repeats; raises our errors. Those of a server that is away may be missing.
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
        self._waiters: dict[Waiter, None] = {}
        self._tickets: dict[str, list[Ticket]] = {}
        self._seen: dict[str, _Seen] = {}
        self._leader: Waiter | None = None
        self._covered: Collection[str] = frozenset()  # keys in the leader's present call
        self._covered_up_to = 0  # and who waited for nothing else when it began
        self._arrivals = 0
        self._abandoned: deque[Waiter] = deque()
        self._rhythm = Rhythm()

    def wait(self, key: str, *, known: bool, timeout: float) -> Record | None:
        """Return the record once it has ended or expired, or None if it was `known` and is gone.

        Looks at least once, whatever the timeout, which may be 0 or infinite.

        Raises:
            TimeIsUp: neither happened within `timeout` seconds.
            BrokerkitError: the store cannot be read.
        """
        waiter = self.join({key: known})
        try:
            ended = self.next(waiter, self._clock.monotonic() + timeout)
        finally:
            self.leave(waiter)
        if not ended:
            raise TimeIsUp
        ((_, answer),) = ended
        if isinstance(answer, BrokerkitError):
            raise answer
        return answer

    # -- waiting for many, by one thread ------------------------------------------------------------------------------

    def join(self, keys: Mapping[str, bool]) -> Waiter:
        """Begin to wait for records. They are looked for while the thread is in `next`, or anybody else waits.

        Args:
            keys: which, and whether there was a record, so that its absence means a loss.
        """
        with self._lock:
            self._sweep()
            self._arrivals += 1
            waiter = Waiter(self._lock, self._arrivals, keys.items())
            self._waiters[waiter] = None
            for key, ticket in waiter.tickets.items():
                self._tickets.setdefault(key, []).append(ticket)
            self._rhythm.hurry()
            if self._leader is not None:
                self._leader.condition.notify_all()
        return waiter

    def next(self, waiter: Waiter, deadline: float) -> list[tuple[str, Answer]]:
        """Wait until any of the waiter's records has ended, expired or is gone; return all that have, not told before.

        Looks at least once for each, whatever the deadline; returns nothing when that has passed.
        """
        try:
            while (look := self._next_look(waiter, deadline)) is not None:
                self._do(look, waiter, deadline)
        finally:
            with self._lock:
                self._pass_on(waiter)
                ended = waiter.fetch()
        return ended

    def leave(self, waiter: Waiter) -> None:
        """Stop waiting; idempotent."""
        with self._lock:
            self._leave(waiter)

    def abandon(self, waiter: Waiter) -> None:
        """Stop waiting soon. Takes no lock: for finalizers, which may run while this thread holds it."""
        self._abandoned.append(waiter)

    def stored(self, record: Record) -> None:
        """Tell waiters of a record that this process has just stored."""
        with self._lock:
            if record.key in self._tickets:
                # noted as seen as well, so that a store which wakes waiters notices if it goes again
                self._hand_out(record.key, record, [(t, t.known) for t in self._tickets[record.key]])

    def gone(self, key: str) -> None:
        """Tell waiters that this process has just deleted the record."""
        with self._lock:
            for ticket in list(self._tickets.get(key, ())):
                self._finish(ticket, None)

    def fail(self, error: BrokerkitError) -> None:
        """End all waiting with an error."""
        with self._lock:
            for ticket in [ticket for tickets in self._tickets.values() for ticket in tickets]:
                self._finish(ticket, error)

    def waiters(self) -> int:
        """Return how many tickets there are."""
        with self._lock:
            self._sweep()
            return sum(map(len, self._tickets.values()))

    # -- who looks, and when -----------------------------------------------------------------------------------------

    def _sweep(self) -> None:
        while self._abandoned:
            self._leave(self._abandoned.popleft())

    def _leave(self, waiter: Waiter) -> None:
        self._waiters.pop(waiter, None)
        for ticket in list(waiter.tickets.values()):
            ticket.done = True
            self._remove(ticket)
        waiter.tickets.clear()
        self._pass_on(waiter)

    def _remove(self, ticket: Ticket) -> None:
        tickets = self._tickets[ticket.key]
        tickets.remove(ticket)
        if not tickets:
            del self._tickets[ticket.key]
            self._seen.pop(ticket.key, None)

    def _pass_on(self, waiter: Waiter) -> None:
        if self._leader is waiter:
            # only a sleeping thread needs to be called; one that is awake sees for itself that nobody leads
            self._lead(next((w for w in self._waiters if w.asleep and not w.ended), None))

    def _lead(self, waiter: Waiter | None) -> None:
        self._leader = waiter
        self._covered, self._covered_up_to = frozenset(), 0
        if waiter is not None:
            waiter.condition.notify_all()

    def _next_look(self, waiter: Waiter, deadline: float) -> _Look | None:
        """Sleep until it is this thread's turn to look, and return at what; None if it need not wait any longer."""
        with self._lock:
            self._sweep()
            while not waiter.ended:
                now = self._clock.monotonic()
                left = deadline - now
                if left <= 0 and not waiter.unlooked:
                    return None
                if self._leader is None:
                    self._lead(waiter)
                if self._leader is waiter:
                    pause = min(self._rhythm.next_look - now, left)
                    if pause <= 0:
                        return self._take_all()
                    self._sleep(waiter, pause)
                elif left <= 0:
                    return self._take([key for key, ticket in waiter.tickets.items() if not ticket.looked])
                elif uncovered := self._uncovered(waiter):
                    return self._take(uncovered)
                else:
                    self._sleep(waiter, left)
            return None

    def _uncovered(self, waiter: Waiter) -> Sequence[str]:
        """Return keys that the leader's present call does not know, if that may block."""
        if self._watch is None or waiter.number <= self._covered_up_to:
            return ()
        return [key for key in waiter.tickets if key not in self._covered]

    def _take_all(self) -> _Look:
        self._rhythm.fresh = False
        self._covered, self._covered_up_to = frozenset(self._tickets), self._arrivals
        return self._take(self._tickets)

    def _take(self, keys: Collection[str]) -> _Look:
        return {key: [(ticket, ticket.known) for ticket in self._tickets[key]] for key in keys}

    def _sleep(self, waiter: Waiter, seconds: float) -> None:
        waiter.asleep = True
        try:
            self._clock.wait(waiter.condition, min(seconds, _LONGEST_SLEEP))
        finally:
            waiter.asleep = False

    # -- looking, outside the lock -----------------------------------------------------------------------------------

    def _do(self, look: _Look, waiter: Waiter, deadline: float) -> None:
        left = deadline - self._clock.monotonic()
        patience = min(self._patience, max(left, _LEAST_LOOK))
        with self._lock:
            if waiter.ended:
                return  # else it would watch for a change of what has ended
            look = {key: tickets for key, tickets in look.items() if key in self._tickets}
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
                    self._fail_one(waiter, answer)  # its time was too short to say that the store is down for everybody
                else:
                    progress |= self._hand_out(key, answer, look[key])
            if self._leader is waiter and self._watch is None:
                self._rhythm.looked(self._clock.monotonic(), len(look), progress=progress)
            elif self._leader is waiter and not unread:
                self._rhythm.woken(self._clock.monotonic(), len(look))

    def _watched(self, watch: Watch, seen: Mapping[str, Record | None], timeout: float) -> Sequence[str]:
        try:
            return watch(seen, timeout)
        except BrokerkitError as error:
            if not error.retryable:
                raise
            # the connection broke: read all, with repeats, since the record may have come in the gap
            with self._lock:
                self._rhythm.looked(self._clock.monotonic(), len(seen), progress=False)
            return list(seen)

    def _answers(self, keys: Sequence[str], patience: float) -> Mapping[str, Answer]:
        """Read keys; an error that is no matter of time is looked for by halves, as it may concern some of them only.

        If nothing at all can be read after many tries, it is taken to concern every one.
        """
        answers: dict[str, Answer] = {}
        parts, failures, successes = [keys], 0, 0
        while parts:
            some = parts.pop()
            try:
                answers.update(self._read(some, patience))
                successes += 1
            except BrokerkitError as error:
                failures += 1
                if error.retryable or len(some) == 1 or (not successes and failures > _ENOUGH):
                    answers.update(dict.fromkeys(some, error))
                else:
                    parts += [some[len(some) // 2 :], some[: len(some) // 2]]
        return answers

    # -- handing out; callers hold the lock --------------------------------------------------------------------------

    def _hand_out(self, key: str, answer: Answer, tickets: Sequence[tuple[Ticket, bool]]) -> bool:
        """Give an answer to tickets, and tell whether any is done by it."""
        ended = isinstance(answer, BrokerkitError) or (answer is not None and self._note_seen(key, answer))
        if answer is None and key in self._tickets:
            self._seen[key] = _Seen(None, ended=False)
        if ended and not isinstance(answer, BrokerkitError):
            # also those who came since the look began: what is noted as seen is not told again
            tickets = [(ticket, True) for ticket in self._tickets.get(key, ())]
        for ticket, known in tickets:
            ticket.look()
            if ended or (answer is None and known):
                self._finish(ticket, answer)
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

    def _fail_one(self, waiter: Waiter, error: BrokerkitError) -> None:
        for ticket in list(waiter.tickets.values()):
            if isinstance(error, OperationTimeout):
                ticket.look()  # and if that was all its time, then its time is up
            else:
                self._finish(ticket, error)

    def _finish(self, ticket: Ticket, answer: Answer) -> None:
        if not ticket.done:
            ticket.end(answer)
            self._remove(ticket)
