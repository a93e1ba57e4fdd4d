"""Inversions: an older message first seen after a younger one. One scan over sorted deliveries, in both senses linear.

Only what is certain counts: one send was over before the other began, and one message was handed over before the other
was claimed. Messages whose place is their own affair are left out: delayed, sent more than once, or with an unknown send;
so are deliveries that are not a message's first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from brokerkit_conformance.history.accounts import Account, Handed
from brokerkit_conformance.history.events import Event
from brokerkit_conformance.history.excuses import Setting
from brokerkit_conformance.history.findings import Finding, Kind

__all__ = ["inversions", "is_first"]


@dataclass(frozen=True, slots=True)
class _First:
    """A message's first delivery, and its only send."""

    account: Account
    sent: Event
    stored: Event
    asked: Event
    handed: Event


def inversions(accounts: Iterable[Account], setting: Setting) -> Iterator[Finding]:
    """Yield a finding for each message that came after a younger one of its line."""
    lines: dict[tuple[str, str | None, int], list[_First]] = {}
    for account in accounts:
        if (first := _first(account, setting)) is not None:
            group = first.sent.group if setting.promises.order == "group" else None
            lines.setdefault((account.queue, group, first.sent.priority), []).append(first)
    for firsts in lines.values():
        late: dict[str, tuple[_First, _First]] = {}
        for by_actor in _by_actor(firsts):
            late.update((pair[0].account.message, pair) for pair in _inverted(by_actor, among_one=True))
        if not setting.promises.prefetch:
            late.update((pair[0].account.message, pair) for pair in _inverted(firsts, among_one=False))
        for message in sorted(late):
            yield _finding(*late[message])


def _first(account: Account, setting: Setting) -> _First | None:
    if len(account.sends) != 1 or account.retries or not account.handed:
        return None
    act, handed = account.sends[0], account.handed[0]
    if not act.ok or act.end is None or act.invoke.delay:
        return None
    if setting.promises.order == "group" and act.invoke.group is None:
        return None
    if not is_first(handed, setting):
        return None
    return _First(account, act.invoke, act.end, handed.receive.invoke, handed.event)


def is_first(handed: Handed, setting: Setting) -> bool:
    """Tell whether a message's first delivery in the history is certainly its first."""
    if handed.event.attempt is not None:
        return handed.event.attempt == 1
    # where attempts are not counted, a fault may hide that somebody else had it before
    return not any(fault.began <= handed.at for fault in setting.faults)


def _by_actor(firsts: Iterable[_First]) -> list[list[_First]]:
    found: dict[str, list[_First]] = {}
    for first in firsts:
        found.setdefault(first.handed.actor, []).append(first)
    return list(found.values())


def _inverted(firsts: list[_First], *, among_one: bool) -> Iterator[tuple[_First, _First]]:
    """Yield (older, younger) for each message that came after one whose send began when its own was over."""

    def began(first: _First) -> tuple[float, int]:
        return (first.handed.mono, first.handed.seq) if among_one else (first.asked.mono, 0)

    by_handing = sorted(firsts, key=lambda first: (first.handed.mono, first.handed.seq))
    youngest: _First | None = None
    passed = 0
    for first in sorted(firsts, key=began):
        while passed < len(by_handing) and (by_handing[passed].handed.mono, by_handing[passed].handed.seq) < began(
            first
        ):
            if youngest is None or by_handing[passed].sent.mono > youngest.sent.mono:
                youngest = by_handing[passed]
            passed += 1
        if youngest is not None and youngest is not first and youngest.sent.mono > first.stored.mono:
            yield first, youngest


def _finding(older: _First, younger: _First) -> Finding:
    events = {older.sent, older.stored, older.asked, older.handed}
    events |= {younger.sent, younger.stored, younger.asked, younger.handed}
    return Finding(
        kind=Kind.INVERSION,
        message=older.account.message,
        queue=older.account.queue,
        text=f"it was stored before {younger.account.message} was sent, and came after it",
        events=tuple(sorted(events, key=lambda event: (event.mono, event.actor, event.seq))),
    )
