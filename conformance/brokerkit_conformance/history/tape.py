"""Histories written by hand: for tests of the checker, and to show what it makes of a story."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from brokerkit_conformance.history.events import (
    Drain,
    Event,
    FaultKind,
    FaultRecord,
    Found,
    History,
    Phase,
    Verb,
)
from brokerkit_conformance.history.joining import join
from brokerkit_conformance.history.log import Parsed

__all__ = ["Tape"]

_LEARNT = {Verb.RECEIVE: ("message", "queue", "delivery", "attempt", "deadline"), Verb.EXTEND: ("deadline",)}


class Tape:
    """Takes down calls in any order; each begins at `at` and is over `took` seconds later. Fields are those of `Event`.

    Example:
        tape = Tape()
        tape.send("m", 0)
        tape.ack(tape.receive("ann", "m", 1), 2)
        check(tape.history(), Promises(lease=2.0))
    """

    def __init__(self) -> None:
        self._lines: list[tuple[float, dict[str, Any]]] = []
        self._faults: list[FaultRecord] = []
        self._op = 0
        self._deliveries: dict[str, dict[str, Any]] = {}

    def call(
        self, actor: str, verb: Verb, at: float, end: Phase | None = Phase.OK, *, took: float = 0.1, **fields: Any
    ) -> None:
        """Take down any call; one without an end is still under way when the log ends."""
        self._op += 1
        call = {"actor": actor, "verb": verb, "op": self._op}
        asked = {name: value for name, value in fields.items() if name not in _LEARNT.get(verb, ())}
        self._lines.append((at, {**call, "phase": Phase.INVOKE, **asked}))
        if end is not None:
            self._lines.append((at + took, {**call, "phase": end, **fields}))

    def note(self, actor: str, verb: Verb, at: float, **fields: Any) -> None:
        """Take down what an actor was told."""
        self._lines.append((at, {"actor": actor, "verb": verb, "phase": Phase.NOTE, **fields}))

    def send(self, message: str, at: float, end: Phase | None = Phase.OK, *, actor: str = "p", **fields: Any) -> None:
        """Take down a send to queue "q", or to another."""
        self.call(actor, Verb.SEND, at, end, **{"message": message, "queue": "q", **fields})

    def receive(self, actor: str, message: str, at: float, **fields: Any) -> str:
        """Take down a delivery, and return its name."""
        name = f"d{len(self._deliveries)}"
        handed = {"message": message, "queue": fields.pop("queue", "q"), "delivery": name}
        self._deliveries[name] = {"actor": actor, **handed}
        self.call(actor, Verb.RECEIVE, at, **handed, **fields)
        return name

    def do(self, verb: Verb, delivery: str, at: float, end: Phase | None = Phase.OK, **fields: Any) -> None:
        """Take down what its owner does to a delivery."""
        self.call(verb=verb, at=at, end=end, **self._deliveries[delivery], **fields)

    def ack(self, delivery: str, at: float, end: Phase | None = Phase.OK) -> None:
        """Take down an ack."""
        self.do(Verb.ACK, delivery, at, end)

    def fault(
        self, kind: FaultKind, target: str, began: float, ended: float | None = None, *, proved: bool = True
    ) -> None:
        """Take down a fault."""
        self._faults.append(FaultRecord(kind=kind, target=target, began=began, ended=ended, proved=proved))

    def logs(self) -> list[Parsed]:
        """Return the log of each actor."""
        by_actor: dict[str, list[Event]] = {}
        for at, fields in sorted(self._lines, key=lambda line: line[0]):
            lines = by_actor.setdefault(fields["actor"], [])
            lines.append(Event(seq=len(lines), pid=1, mono=at, wall=1e9 + at, **fields))
        return [Parsed(actor, tuple(lines), torn=False, damage=()) for actor, lines in by_actor.items()]

    def history(
        self, *, complete: bool = True, found: Sequence[str] = (), dead: Sequence[str] = (), ends: float = 1000.0
    ) -> History:
        """Return the whole, with what was left in queue "q", and of it among the dead letters, when it ends."""
        drain = Drain(
            complete=complete,
            began=ends,
            ended=ends + 1,
            found=tuple(Found(message, "q") for message in found),
            dead=tuple(Found(message, "q") for message in dead),
        )
        return join(self.logs(), self._faults, drain)
