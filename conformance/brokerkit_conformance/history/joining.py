"""Joining many logs to one history. The order in which the logs are given makes no difference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import pairwise

from brokerkit_conformance.history.events import Drain, Event, FaultKind, FaultRecord, History
from brokerkit_conformance.history.log import Parsed

__all__ = ["join"]


def join(
    logs: Iterable[Parsed],
    faults: Iterable[FaultRecord],
    drain: Drain,
    *,
    offsets: Mapping[str, float] | None = None,
) -> History:
    """Put the logs of all actors in one order, with the faults and the end.

    Args:
        logs: one of each actor.
        faults: the fault log.
        drain: the end.
        offsets: seconds to add to an actor's monotonic times so that they are the broker's, as measured; 0 for actors on
            the broker's own machine, where the monotonic clock is one.
    """
    given = sorted(logs, key=lambda log: log.name)
    broken = tuple(sorted(faults, key=lambda fault: (fault.began, fault.target, fault.kind)))
    killed = {fault.target for fault in broken if fault.kind is FaultKind.KILL}
    events: list[Event] = []
    damage: list[str] = []
    torn: list[str] = []
    for log in given:
        actors = {event.actor for event in log.events} or {log.name}
        damage += log.damage
        if log.torn:
            torn += sorted(actors)
            if not actors & killed:
                damage.append(f"{log.name}: the last line is cut off, and nobody killed that actor")
        events += [_shifted(event, (offsets or {}).get(event.actor, 0.0)) for event in log.events]
    damage += _gaps(events)
    events.sort(key=lambda event: (event.mono, event.actor, event.seq))
    return History(events=tuple(events), faults=broken, drain=drain, damage=tuple(damage), torn=tuple(torn))


def _shifted(event: Event, offset: float) -> Event:
    if not offset:
        return event
    deadline = None if event.deadline is None else event.deadline + offset
    return replace(event, mono=event.mono + offset, deadline=deadline)


def _gaps(events: Iterable[Event]) -> list[str]:
    by_actor: dict[str, list[Event]] = {}
    for event in events:
        by_actor.setdefault(event.actor, []).append(event)
    found = []
    for actor in sorted(by_actor):
        lines = sorted(by_actor[actor], key=lambda event: event.seq)
        if lines[0].seq != 0 or any(b.seq != a.seq + 1 for a, b in pairwise(lines)):
            found.append(f"{actor}: lines are missing, or there twice")
        if any(b.mono < a.mono for a, b in pairwise(lines)):
            found.append(f"{actor}: its time goes back")
    return found
