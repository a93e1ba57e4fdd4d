"""One account for each message in each queue: its sends, its deliveries, and what was left of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from brokerkit_conformance.history.events import Event, History, Phase, Verb

__all__ = ["Account", "Act", "Handed", "accounts_of"]

_SETTLING = (Verb.ACK, Verb.DEAD_LETTER)


@dataclass(frozen=True, slots=True)
class Act:
    """One operation: its beginning, and its end if there is one."""

    invoke: Event
    end: Event | None

    @property
    def ok(self) -> bool:
        """Whether it is certainly done."""
        return self.end is not None and self.end.phase is Phase.OK

    @property
    def failed(self) -> bool:
        """Whether it is certainly not done."""
        return self.end is not None and self.end.phase is Phase.FAIL

    @property
    def unknown(self) -> bool:
        """Whether it may be done."""
        return not self.ok and not self.failed

    def events(self) -> Iterator[Event]:
        """Yield its events."""
        yield self.invoke
        if self.end is not None:
            yield self.end


@dataclass(slots=True)
class Handed:
    """One delivery.

    Attributes:
        receive: how it came.
        acts: what was done to it, by time.
        notes: what the actor was told, by time.
    """

    receive: Act
    acts: list[Act] = field(default_factory=list)
    notes: list[Event] = field(default_factory=list)

    @property
    def event(self) -> Event:
        """The handing-over."""
        return self.receive.end or self.receive.invoke

    @property
    def at(self) -> float:
        """When it was handed over: the claim was made before."""
        return self.event.mono

    @property
    def actor(self) -> str:
        """The owner."""
        return self.event.actor

    def settled(self) -> Act | None:
        """Return the ack or dead-lettering that is certainly done, if there is one."""
        return next((act for act in self.acts if act.invoke.verb in _SETTLING and act.ok), None)

    def maybe_settled(self) -> bool:
        """Whether an ack or dead-lettering may be done."""
        return any(act.invoke.verb in _SETTLING and not act.failed for act in self.acts)

    def events(self) -> Iterator[Event]:
        """Yield all its events."""
        yield from self.receive.events()
        for act in self.acts:
            yield from act.events()
        yield from self.notes


@dataclass(slots=True)
class Account:
    """All about one message in one queue.

    Attributes:
        message: the token.
        queue: where.
        sends: to this queue, by time.
        retries: notes that the core repeated a send.
        handed: the deliveries, by time.
        found: copies left in the queue at the end.
        dead: copies among the dead letters.
    """

    message: str
    queue: str
    sends: list[Act] = field(default_factory=list)
    retries: list[Event] = field(default_factory=list)
    handed: list[Handed] = field(default_factory=list)
    found: int = 0
    dead: int = 0

    @property
    def accepted(self) -> bool:
        """Whether a send of it is certainly done."""
        return any(act.ok for act in self.sends)

    @property
    def seen(self) -> bool:
        """Whether it showed up anywhere."""
        return bool(self.handed or self.found or self.dead)

    def possible_since(self) -> float:
        """Return the first time when it may have been there; infinity if never."""
        return min((act.invoke.mono for act in self.sends if not act.failed), default=math.inf)

    def send_events(self) -> Iterator[Event]:
        """Yield the events of its sends."""
        for act in self.sends:
            yield from act.events()
        yield from self.retries


def accounts_of(history: History) -> list[Account]:
    """Return the accounts of a history, sorted by queue and message."""
    accounts: dict[tuple[str, str], Account] = {}

    def of(queue: str | None, message: str | None) -> Account:
        key = (queue or "", message or "")
        return accounts.setdefault(key, Account(message=key[1], queue=key[0]))

    handed: dict[str, Handed] = {}
    for act in _acts(history.events):
        _enter(act, of, handed)
    for event in history.events:
        if event.phase is Phase.NOTE:
            _enter_note(event, of, handed)
    for found in history.drain.found:
        of(found.queue, found.message).found += 1
    for found in history.drain.dead:
        of(found.queue, found.message).dead += 1
    for account in accounts.values():
        account.handed.sort(key=lambda one: (one.at, one.event.actor, one.event.seq))
    return [accounts[key] for key in sorted(accounts)]


def _enter(act: Act, of: Callable[[str | None, str | None], Account], handed: dict[str, Handed]) -> None:
    invoke = act.invoke
    if invoke.verb in (Verb.SEND, Verb.PUBLISH):
        for queue in _queues(invoke):
            of(queue, invoke.message).sends.append(act)
    elif invoke.verb is Verb.RECEIVE:
        if act.ok and act.end is not None and act.end.message is not None:  # not an empty-handed one
            one = Handed(act)
            of(act.end.queue, act.end.message).handed.append(one)
            handed[str(act.end.delivery)] = one
    elif invoke.delivery in handed:
        handed[str(invoke.delivery)].acts.append(act)


def _enter_note(event: Event, of: Callable[[str | None, str | None], Account], handed: dict[str, Handed]) -> None:
    if event.delivery in handed:
        handed[str(event.delivery)].notes.append(event)
    elif event.verb in (Verb.SEND, Verb.PUBLISH):
        for queue in _queues(event):
            of(queue, event.message).retries.append(event)


def _queues(event: Event) -> tuple[str, ...]:
    return event.queues if event.verb is Verb.PUBLISH else (event.queue or "",)


def _acts(events: Iterable[Event]) -> list[Act]:
    """Pair the beginnings with the ends, each receive first: a delivery is known before anything is done to it.

    One receive may hand over many messages: it gives an act for each.
    """
    begun: dict[tuple[str, int], Event] = {}
    ends: dict[tuple[str, int], Event] = {}
    receives: list[Act] = []
    for event in sorted(events, key=lambda one: (one.actor, one.seq)):
        key = (event.actor, event.op)
        if event.phase is Phase.INVOKE:
            begun[key] = event
        elif event.phase is not Phase.NOTE:
            ends[key] = event
            if event.verb is Verb.RECEIVE:
                receives.append(Act(begun.get(key, event), event))
    others = [Act(event, ends.get(key)) for key, event in begun.items() if event.verb is not Verb.RECEIVE]
    return receives + sorted(others, key=lambda act: (act.invoke.mono, act.invoke.actor, act.invoke.seq))
