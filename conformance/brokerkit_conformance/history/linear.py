"""Linearizability of small histories, by a search in the manner of Wing and Gong (1993), with remembered states.

Each operation takes effect at one moment between its beginning and its end. The search looks for an order of these moments
that a correct queue could have gone through. Operations with an unknown outcome, and the ends of leases, may take effect at
any time after they became possible, or never.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from brokerkit_conformance.history.accounts import Account
from brokerkit_conformance.history.events import Event, History, Verb
from brokerkit_conformance.history.excuses import Setting, ending
from brokerkit_conformance.history.findings import Finding, Kind
from brokerkit_conformance.history.ordering import is_first

__all__ = ["MOST", "linearize"]

MOST: Final = 40
"""Operations on one queue up to which it is searched."""

_STATES: Final = 50_000


@dataclass(frozen=True, slots=True)
class _Op:
    """What must, or may, take effect at one moment from `begin` to `end`."""

    kind: Literal["send", "take", "settle", "return"]
    message: str
    delivery: str
    begin: float
    end: float
    must: bool
    line: str | None = None  # messages of one line keep their order; None: this one has no place
    events: tuple[Event, ...] = ()


_State: TypeAlias = tuple[tuple[tuple[str, str | None], ...], tuple[str, ...], frozenset[str]]
"""Never delivered, in order, with their lines; ready without a place; in flight, by delivery."""


def linearize(
    accounts: Iterable[Account], setting: Setting, history: History, counts: Counter[str]
) -> Iterator[Finding]:
    """Yield a finding for each queue whose history no correct queue could have gone through.

    `counts` gets "searched" and "undecided" queues.
    """
    by_queue: dict[str, list[Account]] = {}
    for account in accounts:
        by_queue.setdefault(account.queue, []).append(account)
    for queue in sorted(by_queue):
        ops = [op for account in by_queue[queue] for op in _ops(account, setting, history)]
        if sum(op.must for op in ops) > MOST:
            continue
        counts["searched"] += 1
        stuck = _search(sorted(ops, key=lambda op: (op.begin, op.end, op.kind, op.message, op.delivery)))
        if stuck is None:
            counts["undecided"] += 1
        elif stuck:
            first = min(stuck, key=lambda op: (op.end, op.begin, op.message))
            yield Finding(
                kind=Kind.NOT_LINEARIZABLE,
                message=first.message,
                queue=queue,
                text=f"no order of {len(ops)} operations explains this {first.kind}",
                events=tuple(sorted({e for op in stuck for e in op.events}, key=lambda e: (e.mono, e.actor, e.seq))),
            )


def _ops(account: Account, setting: Setting, history: History) -> Iterator[_Op]:
    since = account.possible_since()
    placed = not account.handed or is_first(account.handed[0], setting)
    for act in account.sends:
        if not act.failed:
            end = act.end.mono if act.ok and act.end is not None else math.inf
            line = _line(act.invoke, setting) if placed else None
            yield _Op("send", account.message, "", act.invoke.mono, end, act.ok, line, tuple(act.events()))
    for note in account.retries:
        yield _Op("send", account.message, "", note.mono, math.inf, must=False, events=(note,))
    for one in account.handed:
        name = str(one.event.delivery)
        begin = since if setting.promises.prefetch else one.receive.invoke.mono
        yield _Op("take", account.message, name, begin, one.at, must=True, events=tuple(one.receive.events()))
        for act in one.acts:
            if act.invoke.verb in (Verb.ACK, Verb.DEAD_LETTER) and not act.failed:
                end = act.end.mono if act.ok and act.end is not None else math.inf
                yield _Op("settle", account.message, name, act.invoke.mono, end, act.ok, events=tuple(act.events()))
        if (reason := ending(one, account, setting)) is not None:
            yield _Op("return", account.message, name, reason.since, math.inf, must=False)
    for number in range(account.found):
        yield _Op("take", account.message, f"left {number}", history.drain.began, history.drain.ended, must=True)


def _line(sent: Event, setting: Setting) -> str | None:
    order = setting.promises.order
    if order == "none" or sent.delay or (order == "group" and sent.group is None):
        return None
    return f"{sent.priority} {sent.group if order == 'group' else ''}"


def _search(ops: Sequence[_Op]) -> list[_Op] | None:
    """Return nothing if there is an order, the operations at which the longest one ends if not, None if undecided."""
    everything = sum(1 << i for i, op in enumerate(ops) if op.must)
    start: tuple[int, _State] = (0, ((), (), frozenset()))
    seen = {start}
    stack = [start]
    furthest = 0
    while stack:
        done, state = stack.pop()
        if done & everything == everything:
            return []
        if (done & everything).bit_count() >= (furthest & everything).bit_count():
            furthest = done
        for i in reversed(_candidates(ops, done)):
            for after in _apply(ops[i], state):
                step = (done | 1 << i, after)
                if step not in seen:
                    seen.add(step)
                    stack.append(step)
        if len(seen) > _STATES:
            return None
    return [ops[i] for i in _candidates(ops, furthest) if ops[i].must]


def _candidates(ops: Sequence[_Op], done: int) -> list[int]:
    """Return those that may be next: no other that must be done was over before they began."""
    left = [i for i in range(len(ops)) if not done >> i & 1]
    limit = min((ops[i].end for i in left if ops[i].must), default=math.inf)
    return [i for i in left if ops[i].begin <= limit]


def _apply(op: _Op, state: _State) -> Iterator[_State]:
    """Yield the states after an operation; none if it cannot take effect now."""
    fresh, loose, flying = state
    if op.kind == "send":
        if op.line is None:
            yield fresh, _with(loose, op.message), flying
        else:
            yield (*fresh, (op.message, op.line)), loose, flying
    elif op.kind == "take":
        if op.message in loose:
            yield fresh, _without(loose, op.message), flying | {op.delivery}
        heads: set[str | None] = set()
        for i, (message, line) in enumerate(fresh):
            if message == op.message and line not in heads:
                yield fresh[:i] + fresh[i + 1 :], loose, flying | {op.delivery}
                return
            heads.add(line)
    elif op.delivery in flying:
        yield fresh, _with(loose, op.message) if op.kind == "return" else loose, flying - {op.delivery}


def _with(loose: tuple[str, ...], message: str) -> tuple[str, ...]:
    return tuple(sorted((*loose, message)))


def _without(loose: tuple[str, ...], message: str) -> tuple[str, ...]:
    at = loose.index(message)
    return loose[:at] + loose[at + 1 :]
