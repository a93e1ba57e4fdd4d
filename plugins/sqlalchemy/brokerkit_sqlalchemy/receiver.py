"""Claiming and settling: one consumer's claim on queues of a database."""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple, TypeAlias, final

import sqlalchemy

from brokerkit.abc import SETTLE_TIMEOUT, Receiver
from brokerkit.errors import InconsistencyError, QueueNotFound
from brokerkit.models import Received
from brokerkit_sqlalchemy import bindings
from brokerkit_sqlalchemy.client import Cursor, Database, change_each
from brokerkit_sqlalchemy.errors import is_busy
from brokerkit_sqlalchemy.rows import delivery_of
from brokerkit_sqlalchemy.statements import DELAYED, READY
from brokerkit_sqlalchemy.watch import Waiter

__all__ = ["SQLAlchemyReceiver"]

_LEAST_TIMEOUT: Final = 0.05  # a shorter wait for the lock would fail whenever another process commits
_FIRST_TIMEOUT: Final = (
    0.5  # as long as we have not looked at all, whatever the caller's: else "nothing" would be a guess
)
_LOCKED_FOR: Final = 5.0  # seconds of a locked file after which "nothing received" would be a lie
_RIPEN_AT_ONCE: Final = 10_000  # rows of one transaction, so that others get their turn
_COMPARE_EVERY: Final = 1.0  # seconds between two looks whether all bindings are there
_FRESH: Final = 0.75  # a queue's use is noted again when less than this part of its `expires` is left

_Claim: TypeAlias = tuple[int, int, str]
"""The receipt, which is the message's number and claim, and the message's id."""


class _State(NamedTuple):
    """What a queue looks like now: one row of the probe. `due` is the end of the next delay or lease."""

    name: str
    id: int
    expires: float | None
    expires_at: float | None
    dropped: int
    ready: int
    due: float | None

    def renew_at(self) -> float:
        """Return when its use has to be noted again."""
        if self.expires is None or self.expires_at is None:
            return float("inf")
        return self.expires_at - self.expires * _FRESH


class _Found(NamedTuple):
    """What a look or a claim found; at `wake_at` there may be more without anybody's doing. `locked`: it could not look."""

    deliveries: list[Received]
    missing: list[str]
    wake_at: float
    locked: Exception | None = None


@final
class SQLAlchemyReceiver(Receiver):
    """One consumer's claim on one or many queues. Thread-safe."""

    def __init__(
        self,
        database: Database,
        vhost: str,
        names: Sequence[str],
        waiter: Waiter,
        *,
        visibility_timeout: float,
        sweep: Callable[[Cursor, float], None],
    ) -> None:
        self._database = database
        self._sql = database.layout.sql
        self._names = deque(dict.fromkeys(names))
        self._probe_sql = database.layout.probe_for(len(self._names))
        self._vhost = vhost
        self._waiter = waiter
        self._clock = waiter.clock
        self._visibility_timeout = visibility_timeout
        self._sweep = sweep
        self._held: dict[int, _Claim] = {}
        self._states: dict[str, _State] = {}
        self._reported: set[str] = set()
        self._compare_at = float("-inf")
        self._untold: list[str] = []
        self._may_hold = False
        self._was_fed = False
        self._locked_since: float | None = None

    # -- receiving -------------------------------------------------------------------------------------------------

    def receive(
        self, *, limit: int, timeout: float, acks: Sequence[Received] = ()
    ) -> tuple[Sequence[Received], Sequence[Received]]:
        """See `Receiver.receive`."""
        end = self._clock.monotonic() + timeout
        lost, pending = self._fence(acks)
        least = _FIRST_TIMEOUT
        while True:
            self._waiter.stirred = False
            if not acks:
                self._tell()
            left = end - self._clock.monotonic()
            found, refused = self._attempt(limit, pending, max(left, least))
            lost += refused
            pending = []
            if found.locked is None:
                least = _LEAST_TIMEOUT
            if found.deliveries or self._waiter.closed:
                return found.deliveries, lost
            if acks and (found.missing or self._untold):
                return [], lost  # told at the next call, as nobody hears of `lost` from a call that raises
            self._report(found.missing)
            self._tell()
            left = end - self._clock.monotonic()
            if left <= 0:
                if found.locked is not None and least == _FIRST_TIMEOUT:
                    raise found.locked
                return [], lost
            self._waiter.wait(min(left, max(found.wake_at - self._database.time.now(), 0.0)))

    def _attempt(self, limit: int, acks: list[Received], timeout: float) -> tuple[_Found, list[Received]]:
        """Look, and claim if there is anything; claim at once where there are acks, or were messages a moment ago."""
        began = self._clock.monotonic()
        try:
            found = None if acks or self._was_fed else self._database.look(self._look, timeout=timeout)
            refused: list[Received] = []
            if found is None:
                self._may_hold = True
                found, refused = self._database.write(lambda c: self._claim(c, limit, acks), timeout=timeout)
        except (sqlite3.OperationalError, sqlalchemy.exc.OperationalError) as error:
            self._locked_since = began if self._locked_since is None else self._locked_since
            if acks or not is_busy(error) or self._clock.monotonic() - self._locked_since >= _LOCKED_FOR:
                raise
            return _Found([], [], 0.0, locked=error), []
        except InconsistencyError:
            self._waiter.watch.renew()
            raise
        self._locked_since = None
        self._was_fed = bool(found.deliveries)
        if self._was_fed:
            self._waiter.was_fed()
            self._note_dues()
        return found, refused

    def _look(self, cursor: Cursor) -> _Found | None:
        """Return when to look again, or None if there is something to do now. Takes no lock that others wait for."""
        now = self._database.time.now()
        missing = self._probe(cursor, now)
        wake_at = self._wake_at()
        if wake_at <= now or any(state.ready for state in self._states.values()) or self._unbound(cursor):
            return None
        return _Found([], missing, wake_at)

    def _claim(self, cursor: Cursor, limit: int, acks: list[Received]) -> tuple[_Found, list[Received]]:
        """Ack, then claim from all queues in turn, beginning with another one each time."""
        refused = self._settle(cursor, self._sql.ack, acks) if acks else []
        if self._waiter.closed:
            return _Found([], [], 0.0), refused
        deadline = self._clock.monotonic() + self._visibility_timeout
        now = self._database.time.now()
        self._sweep(cursor, now)
        missing = self._probe(cursor, now)
        self._renew(cursor, now)
        self._restore_bindings(cursor)
        claimed: list[Received] = []
        for name in self._names:
            state = self._states.get(name)
            if state is not None and limit > len(claimed):
                claimed += self._claim_from(cursor, state, limit - len(claimed), now, deadline)
        if claimed:
            self._names.rotate(-1)
        return _Found(claimed, missing, self._wake_at()), refused

    def _claim_from(self, cursor: Cursor, state: _State, limit: int, now: float, deadline: float) -> list[Received]:
        ripe = 0
        if state.due is not None and state.due <= now:
            ripe = cursor.execute(self._sql.ripen, (state.id, now, _RIPEN_AT_ONCE)).rowcount
            self._states[state.name] = state._replace(due=None if ripe < _RIPEN_AT_ONCE else now)
        if not (ripe or state.ready):
            return []
        rows = cursor.execute(self._sql.claim, (state.id, limit)).fetchall()
        due = now + self._visibility_timeout
        cursor.executemany(self._sql.lease, [(due, row[0]) for row in rows])
        claimed = [delivery_of(row, state.name, deadline, now) for row in rows]
        self._held.update([(received.receipt[0], _claim_of(received)) for received in claimed])
        if state.dropped and claimed:
            claimed[0].gap = state.dropped
            cursor.execute(self._sql.reset_dropped, (state.id,))
        return claimed

    def _probe(self, cursor: Cursor, now: float) -> list[str]:
        """Look at all queues, and return the names of those that are not there."""
        rows = cursor.execute(self._probe_sql, (self._vhost, now, *self._names))
        self._states = {state.name: state for state in map(_State._make, rows)}
        return [name for name in self._names if name not in self._states]

    def _wake_at(self) -> float:
        moments = (min(s.renew_at(), s.due if s.due is not None else float("inf")) for s in self._states.values())
        return min(moments, default=float("inf"))

    def _renew(self, cursor: Cursor, now: float) -> None:
        """Note that the queues are in use, not more often than need be."""
        for state in self._states.values():
            if state.expires is not None and state.renew_at() <= now:
                cursor.execute(self._sql.use_queue, (now, state.id))
                self._states[state.name] = state._replace(expires_at=now + state.expires)

    def _report(self, missing: list[str]) -> None:
        """Raise once for each queue that is gone, so that the others go on; and always when none is left."""
        new = [name for name in missing if name not in self._reported]
        self._reported = set(missing)
        if new or len(missing) == len(self._names):
            raise QueueNotFound(*(new or missing))

    def _unbound(self, cursor: Cursor) -> list[_State]:
        """Return the queues that lost a binding; looks at times only, until it finds one."""
        now = self._clock.monotonic()
        if now < self._compare_at:
            return []
        unbound = [state for state in self._states.values() if bindings.have_gone(cursor, self._sql, state.id)]
        if not unbound:
            self._compare_at = now + _COMPARE_EVERY
        return unbound

    def _restore_bindings(self, cursor: Cursor) -> None:
        for state in self._unbound(cursor):
            self._untold += [
                f"queue {state.name!r} to topic {gone.topic!r} with pattern {gone.pattern!r}"
                for gone in bindings.restore(cursor, self._sql, state.id, self._vhost)
            ]

    def _tell(self) -> None:
        """Raise once for bindings that were gone: what was published meanwhile did not reach their queues."""
        if self._untold:
            gone, self._untold = self._untold, []
            raise InconsistencyError(
                f"bindings were gone, and are there again: {'; '.join(gone)}. What was published meanwhile did not reach them"
            )

    # -- settling --------------------------------------------------------------------------------------------------

    def ack(self, deliveries: Sequence[Received], *, timeout: float = SETTLE_TIMEOUT) -> Sequence[Received]:
        """See `Receiver.ack`."""
        return self._settle_outside(self._sql.ack, deliveries, timeout)

    def release(
        self,
        deliveries: Sequence[Received],
        *,
        delay: float = 0.0,
        counted: bool = True,
        timeout: float = SETTLE_TIMEOUT,
    ) -> Sequence[Received]:
        """See `Receiver.release`."""
        state, due = DELAYED if delay > 0 else READY, self._database.time.now() + delay
        lost = self._settle_outside(self._sql.release, deliveries, timeout, state, due, 0 if counted else 1)
        self._waiter.watch.notify({received.queue for received in deliveries})
        return lost

    def extend(
        self, deliveries: Sequence[Received], *, visibility_timeout: float, timeout: float = SETTLE_TIMEOUT
    ) -> Sequence[Received]:
        """See `Receiver.extend`."""
        lost, held = self._fence(deliveries)

        def work(cursor: Cursor) -> tuple[float, list[int]]:
            deadline, now = self._clock.monotonic() + visibility_timeout, self._database.time.now()
            self._renew(cursor, now)  # a handler that runs for long uses its queue, too
            rows = [(now + visibility_timeout, *_claim_of(received)) for received in held]
            return deadline, change_each(cursor, self._sql.extend, rows)

        if held:
            deadline, refused = self._database.write(work, timeout=timeout)
            lost += [held[i] for i in refused]
            for i in set(range(len(held))).difference(refused):
                held[i].deadline = deadline
            self._note_dues()
        return lost

    def close(self, *, timeout: float) -> None:
        """See `Receiver.close`."""
        self._waiter.close()

        def work(cursor: Cursor) -> None:
            # within the transaction, hence after a claim that was under way
            rows = [(READY, self._database.time.now(), 0, *claim) for claim in self._held.values()]
            cursor.executemany(self._sql.release, rows)
            self._held.clear()

        if self._may_hold:  # set before each claim, and a claim that begins now sees that we are closed
            self._database.write(work, timeout=timeout)
            self._may_hold = False
            self._waiter.watch.notify(self._names)

    def _fence(self, deliveries: Iterable[Received]) -> tuple[list[Received], list[Received]]:
        """Divide into those whose lease has ended, and those that may be shown to the database."""
        now = self._clock.monotonic()
        lost: list[Received] = []
        held: list[Received] = []
        for received in deliveries:
            (held if now < received.deadline else lost).append(received)
        return lost, held

    def _settle_outside(
        self, sql: str, deliveries: Sequence[Received], timeout: float, *values: object
    ) -> list[Received]:
        lost, held = self._fence(deliveries)
        if held:
            lost += self._database.write(lambda cursor: self._settle(cursor, sql, held, *values), timeout=timeout)
        return lost

    def _settle(self, cursor: Cursor, sql: str, held: list[Received], *values: object) -> list[Received]:
        """Run the statement on each, and return those whose claim is not the current one."""
        refused = change_each(cursor, sql, [(*values, *_claim_of(received)) for received in held])
        for received in held:
            self._held.pop(received.receipt[0], None)
        return [held[i] for i in refused]

    def _note_dues(self) -> None:
        """Let others wait anew for the end of our leases. In a file they see by themselves that we wrote."""
        if self._database.in_memory:
            self._waiter.watch.notify(self._names)


def _claim_of(received: Received) -> _Claim:
    seq, claim = received.receipt
    return seq, claim, received.message.id
