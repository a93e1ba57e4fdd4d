"""The checker of histories: no loss, nothing out of nowhere, and no duplicate without an excuse. Pure, and deterministic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from brokerkit_conformance.history.accounts import Account, Handed, accounts_of
from brokerkit_conformance.history.events import Event, History, Verb
from brokerkit_conformance.history.excuses import Setting, copies, faults_of, live_until
from brokerkit_conformance.history.findings import Checked, Finding, Kind, Standing
from brokerkit_conformance.history.linear import linearize
from brokerkit_conformance.history.matching import Matching
from brokerkit_conformance.history.ordering import inversions
from brokerkit_conformance.history.promises import Promises

__all__ = ["check"]


def check(history: History, promises: Promises) -> Checked:
    """Judge a history.

    A small one is also searched for a linearization; one that is too hard to search is judged by the other rules alone.

    Args:
        history: of one run, see `join`.
        promises: by which it is judged.
    """
    setting = Setting(history, promises)
    accounts = accounts_of(history)
    counts: Counter[str] = Counter()
    findings: list[Finding] = []
    for account in accounts:
        findings += _Judge(account, setting, history).findings(counts)
    if promises.order != "none":
        findings += inversions(accounts, setting)
    if not findings:
        findings += linearize(accounts, setting, history, counts)
    recovered = tuple(sorted({account.message for account in accounts if _recovered(account)}))
    counts["recovered"] = len(recovered)
    reasons = tuple(_invalid(history))
    standing = Standing.INCONCLUSIVE if reasons else Standing.BROKEN if findings else Standing.CLEAN
    order = list(Kind)
    findings.sort(key=lambda one: (order.index(one.kind), one.queue, one.message, one.text))
    return Checked(
        standing=standing,
        reasons=reasons,
        findings=tuple(findings),
        counts=dict(sorted(counts.items())),
        recovered=recovered,
    )


def _invalid(history: History) -> Iterator[str]:
    if not history.drain.complete:
        yield "the final drain is not complete"
    for fault in history.faults:
        if not fault.proved:
            yield f"the fault {fault.kind} of {fault.target} did not prove its effect: {fault.evidence or 'no evidence'}"
    yield from history.damage


def _recovered(account: Account) -> bool:
    return account.seen and not account.accepted and any(act.unknown for act in account.sends)


class _Judge:
    """Judges one message in one queue."""

    def __init__(self, account: Account, setting: Setting, history: History) -> None:
        self._account = account
        self._setting = setting
        self._history = history
        self._drain = history.drain

    def findings(self, counts: Counter[str]) -> Iterator[Finding]:
        """Yield what is wrong, and count what is not."""
        account = self._account
        counts["accepted"] += account.accepted
        counts["refused"] += bool(account.sends) and all(act.failed for act in account.sends)
        counts["unknown"] += not account.accepted and any(act.unknown for act in account.sends)
        counts["delivered"] += len(account.handed)
        counts["settled"] += any(one.settled() for one in account.handed)
        counts["dead"] += account.dead
        counts["left"] += account.found
        if (unexpected := self._unexpected()) is not None:
            yield unexpected
            return
        yield from self._lost(counts)
        matching = Matching(account, self._setting, history=self._history)
        for kind, text, involved in matching.breaches():
            yield self._finding(kind, text, involved)
        counts.update(matching.excused)
        yield from self._double_owners()

    # -- out of nowhere, into nowhere ------------------------------------------------------------------------------

    def _unexpected(self) -> Finding | None:
        account = self._account
        since = account.possible_since()
        early = [one for one in account.handed if one.at < since]
        left = (account.found or account.dead) and self._drain.ended < since
        if not early and not left:
            return None
        if not account.sends:
            text = "nobody sent it here"
        elif all(act.failed for act in account.sends):
            text = "its send was refused, and yet it came"
        else:
            text = "it came before it was sent"
        return self._finding(Kind.UNEXPECTED, text, early[:1])

    def _lost(self, counts: Counter[str]) -> Iterator[Finding]:
        account = self._account
        if not account.accepted or account.found or account.dead:
            return
        acked = any(act.invoke.verb is Verb.ACK and not act.failed for one in account.handed for act in one.acts)
        if acked or (self._maybe_dead() and not self._dead()):
            return
        if self._expired():
            counts["expired"] += 1
            return
        told = "dead-lettered, and not among the dead letters" if self._dead() else "neither settled nor left"
        yield self._finding(Kind.LOST, f"its send was confirmed, and it is {told}", account.handed[-1:])

    def _dead(self) -> bool:
        return any(act.invoke.verb is Verb.DEAD_LETTER and act.ok for one in self._account.handed for act in one.acts)

    def _maybe_dead(self) -> bool:
        acts = (act for one in self._account.handed for act in one.acts)
        return any(act.invoke.verb is Verb.DEAD_LETTER and not act.failed for act in acts)

    def _expired(self) -> bool:
        sends = [act for act in self._account.sends if act.ok]
        return all(
            act.invoke.ttl is not None and act.invoke.mono + act.invoke.ttl <= self._drain.ended for act in sends
        )

    # -- two at once -----------------------------------------------------------------------------------------------

    def _double_owners(self) -> Iterator[Finding]:
        if copies(self._account):
            return  # two copies have two owners
        owner: Handed | None = None
        until = 0.0
        for one in self._account.handed:
            if owner is not None and one.at + self._setting.promises.late_heartbeat < until:
                ends = live_until(one, self._account, self._setting)
                if ends > one.at:
                    held = f"{owner.actor} still held it when {one.actor} got it"
                    yield self._finding(Kind.DOUBLE_OWNER, held, [owner, one])
            ends = live_until(one, self._account, self._setting)
            if owner is None or ends > until:
                owner, until = one, ends

    def _finding(self, kind: Kind, text: str, handed: Iterable[Handed]) -> Finding:
        involved = list(handed)
        events: set[Event] = {event for one in involved for event in one.events()}
        events |= set(self._account.send_events())
        return Finding(
            kind=kind,
            message=self._account.message,
            queue=self._account.queue,
            text=text,
            events=tuple(sorted(events, key=lambda event: (event.mono, event.actor, event.seq))),
            faults=faults_of(involved, self._setting),
        )
