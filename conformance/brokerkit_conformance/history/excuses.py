"""Which events excuse one more delivery, and from when.

A delivery can end once, so it excuses at most one other; a repeated send excuses one copy. An excuse holds from the moment
when it may have had its effect, as late as the evidence allows, and for ever after: how late a message comes back is
measured elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from brokerkit_conformance.history.accounts import Account, Act, Handed
from brokerkit_conformance.history.events import FaultKind, FaultRecord, History, Phase, Verb
from brokerkit_conformance.history.promises import Excuse, Promises

__all__ = ["Reason", "Setting", "copies", "ending", "faults_of", "lease_end", "live_until"]

_LETTING_GO: Final = (Verb.ACK, Verb.RELEASE, Verb.DEAD_LETTER)
_KINDS: Final = {
    FaultKind.KILL: Excuse.KILL,
    FaultKind.FREEZE: Excuse.FREEZE,
    FaultKind.DISCONNECT: Excuse.CONNECTION_LOSS,
    FaultKind.STALL: Excuse.CONNECTION_LOSS,
    FaultKind.BROKER_END: Excuse.CONNECTION_LOSS,
    FaultKind.BROKER_STALL: Excuse.LEASE_END,
}
_PASSING: Final = (FaultKind.FREEZE, FaultKind.STALL, FaultKind.BROKER_STALL)


@dataclass(frozen=True, slots=True)
class Reason:
    """An excuse, and from when it holds."""

    excuse: Excuse
    since: float


class Setting:
    """What concerns all messages: the faults, the closing of consumers, the promises."""

    def __init__(self, history: History, promises: Promises) -> None:
        self.promises = promises
        self.faults = history.faults
        self._by_target: dict[str, list[FaultRecord]] = {}
        for fault in history.faults:
            self._by_target.setdefault(fault.target, []).append(fault)
        self._closed: dict[str, list[float]] = {}
        for event in history.events:
            if event.verb is Verb.CLOSE and event.phase is Phase.INVOKE:
                self._closed.setdefault(event.actor, []).append(event.mono)

    def hitting(self, actor: str, since: float) -> Iterator[FaultRecord]:
        """Yield the faults that hit an actor and were not over before a moment."""
        for fault in (*self._by_target.get(actor, ()), *self._by_target.get("*", ())):
            if fault.ended is None or fault.ended >= since:
                yield fault

    def closed(self, actor: str, since: float) -> float:
        """Return when an actor closed its consumer, or was asked to end, after a moment; infinity if never."""
        times = [time for time in self._closed.get(actor, ()) if time >= since]
        times += [max(since, f.began) for f in self.hitting(actor, since) if f.kind is FaultKind.TERM]
        return min(times, default=math.inf)


def copies(account: Account) -> list[Reason]:
    """Return an excuse for each copy that a repeated send may have stored, besides the first."""
    found: list[Reason] = [Reason(Excuse.RETRY, note.mono) for note in account.retries]
    doubtful = False
    for act in account.sends:
        if doubtful and not act.failed:
            found.append(Reason(Excuse.RETRY, act.invoke.mono))
        doubtful = doubtful or act.unknown
    return sorted(found, key=lambda reason: reason.since)


def ending(one: Handed, account: Account, setting: Setting) -> Reason | None:
    """Return by what, and from when, a delivery may have ended so that the message is handed over again."""
    settled = one.settled()
    latest = math.inf if settled is None or settled.end is None else settled.end.mono
    reasons = [
        reason
        for reason in (
            *_given_up(one),
            *_lease_end(one, account, setting),
            *_by_faults(one, account, setting),
            Reason(Excuse.CLOSE, setting.closed(one.actor, one.at)),
        )
        if reason.excuse in setting.promises.excuses and reason.since < math.inf and reason.since <= latest
    ]
    return min(reasons, key=lambda reason: reason.since, default=None)


def lease_end(one: Handed, account: Account, promises: Promises) -> float:
    """Return the earliest moment, by the broker's clock, at which the lease of a delivery may have ended by itself.

    The lease began after the receive did, and each extension after its call: so nothing that the plugin says is needed.
    What it says, its deadline, counts too: it promised to hold the message until then.
    """
    claimed = one.receive.invoke.mono if not promises.prefetch else min(account.possible_since(), one.at)
    ends = [claimed + _asked(one.receive, promises)]
    ends += [act.invoke.mono + _asked(act, promises) for act in _extensions(one)]
    deadlines = (act.end.deadline for act in (one.receive, *_extensions(one)) if act.end is not None)
    noted = (note.deadline for note in one.notes)
    ends += [deadline for deadline in (*deadlines, *noted) if deadline is not None]
    return max(ends) - promises.early


def _asked(act: Act, promises: Promises) -> float:
    return promises.lease if act.invoke.lease is None else act.invoke.lease


def _extensions(one: Handed) -> Iterator[Act]:
    return (act for act in one.acts if act.invoke.verb is Verb.EXTEND and act.ok)


def _given_up(one: Handed) -> Iterator[Reason]:
    for act in one.acts:
        if act.invoke.verb is Verb.RELEASE and not act.failed:
            yield Reason(Excuse.RELEASE, act.invoke.mono + act.invoke.delay)
        elif act.invoke.verb is Verb.HANDLER and act.failed and act.end is not None:
            yield Reason(Excuse.RELEASE, act.end.mono)
        elif act.invoke.verb in (Verb.ACK, Verb.DEAD_LETTER) and act.unknown:
            yield Reason(Excuse.UNKNOWN_SETTLEMENT, act.invoke.mono)


def _lease_end(one: Handed, account: Account, setting: Setting) -> Iterator[Reason]:
    if not setting.promises.kept_alive:
        yield Reason(Excuse.LEASE_END, lease_end(one, account, setting.promises))


def _by_faults(one: Handed, account: Account, setting: Setting) -> Iterator[Reason]:
    held_until = lease_end(one, account, setting.promises)
    # with prefetch the message may have been claimed, and lost, while it waited in the actor
    since = account.possible_since() if setting.promises.prefetch else one.receive.invoke.mono
    for fault in setting.hitting(one.actor, since):
        if (excuse := _KINDS.get(fault.kind)) is None:
            continue
        begins = max(fault.began, since)
        if setting.promises.scope == "connection" or fault.kind in (FaultKind.KILL, FaultKind.BROKER_END):
            yield Reason(excuse, begins)
            continue
        # the lease outlives the fault, and is prolonged again, unless it ends meanwhile
        begins = max(begins, held_until)
        if fault.kind not in _PASSING or fault.ended is None or begins <= fault.ended:
            yield Reason(excuse, begins)


def live_until(one: Handed, account: Account, setting: Setting) -> float:
    """Return until when a delivery is certainly its owner's."""
    until = [act.invoke.mono for act in one.acts if act.invoke.verb in _LETTING_GO]
    until += [act.end.mono for act in one.acts if act.end is not None and act.failed]
    until += [note.mono for note in one.notes if note.verb is Verb.LEASE_LOST]
    until.append(setting.closed(one.actor, one.at))
    until += [reason.since for reason in _by_faults(one, account, setting)]
    if not setting.promises.kept_alive:
        until.append(lease_end(one, account, setting.promises))
    return min(until, default=math.inf)


def faults_of(handed: Iterable[Handed], setting: Setting) -> tuple[FaultRecord, ...]:
    """Return the faults that hit any owner while or after it held the message."""
    hits = {fault for one in handed for fault in setting.hitting(one.actor, one.receive.invoke.mono)}
    return tuple(sorted(hits, key=lambda fault: (fault.began, fault.target, fault.kind)))
