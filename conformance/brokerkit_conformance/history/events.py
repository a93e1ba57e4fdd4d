"""What actors write down: typed, frozen records that say who did what, when, and what became of it.

A message is named by the suite's own token (in its body), not by the broker's id: so it has a name before it is sent, and
if the answer never comes. Times are true monotonic seconds of one machine, also in an actor whose clock is skewed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Self, TypeVar

__all__ = ["Drain", "Event", "FaultKind", "FaultRecord", "Found", "History", "Phase", "Verb"]

_Record = TypeVar("_Record")


class Verb(StrEnum):
    """What an actor does, or is told."""

    SEND = "send"
    PUBLISH = "publish"
    RECEIVE = "receive"
    ACK = "ack"
    RELEASE = "release"
    EXTEND = "extend"
    DEAD_LETTER = "dead_letter"
    LEASE_LOST = "lease_lost"  # told by the core or the plugin; phase NOTE
    HANDLER = "handler"  # INVOKE: it starts; OK: it ends; FAIL: it raised, so the core gives the message back
    CLOSE = "close"  # of a consumer: what it held may come back at once


class Phase(StrEnum):
    """How far it came."""

    INVOKE = "invoke"
    OK = "ok"
    FAIL = "fail"  # certainly not done
    UNKNOWN = "unknown"  # done, or not, or later
    NOTE = "note"  # no call of its own; of a send: the core repeats it after an unknown outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of an actor's log.

    Attributes:
        actor: who.
        seq: the number of the line in the actor's log, from 0.
        pid: the process.
        mono: monotonic time, in seconds.
        wall: seconds since the epoch.
        verb: what.
        phase: how far.
        op: pairs an invoke with what became of it; unique in the log.
        message: the token; None for a receive that has not come back, or came back empty.
        queue: sent to, or received from.
        queues: of a publish: the queues that are bound, and so get a copy.
        delivery: the name of one handing-over, unique over all actors; all that is done to it bears the same.
        attempt: as the broker counts; None if it does not.
        group: the ordering key.
        priority: of a send.
        delay: seconds, of a send or a release.
        ttl: seconds after which a sent message may expire; None for never.
        lease: seconds asked for, of a receive or an extend; None for the run's own.
        deadline: monotonic end of the lease as the plugin promises it, of a receive or an extend.
        error: why it failed, in words.
    """

    actor: str
    seq: int
    pid: int
    mono: float
    wall: float
    verb: Verb
    phase: Phase
    op: int = 0
    message: str | None = None
    queue: str | None = None
    queues: tuple[str, ...] = ()
    delivery: str | None = None
    attempt: int | None = None
    group: str | None = None
    priority: int = 0
    delay: float = 0.0
    ttl: float | None = None
    lease: float | None = None
    deadline: float | None = None
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary without what is left at its default."""
        return _to_json(self)

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Self:
        """Build from such a dictionary.

        Raises:
            ValueError: it is none.
        """
        return _from_json(cls, {"queues": tuple, "verb": Verb, "phase": Phase}, given)

    def __str__(self) -> str:
        words = [f"{self.mono:12.4f}", self.actor, self.verb, self.phase, self.message, self.queue, self.delivery]
        if self.attempt is not None:
            words.append(f"attempt {self.attempt}")
        return " ".join(str(word) for word in [*words, self.error] if word)


class FaultKind(StrEnum):
    """What a fault does, as far as messages can tell."""

    KILL = "kill"  # of an actor
    TERM = "term"  # an actor is asked to end in good order
    FREEZE = "freeze"  # an actor stands still
    DISCONNECT = "disconnect"  # its connections end
    STALL = "stall"  # its connections stand, and carry nothing, or slowly
    BROKER_END = "broker_end"  # the server is killed or restarted: all connections end
    BROKER_STALL = "broker_stall"  # the server is frozen or slow
    OTHER = "other"  # no excuse for anything


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultRecord:
    """One fault that was made.

    Attributes:
        kind: what it does.
        target: the actor that it hits; "*" for all.
        began: monotonic time just before it.
        ended: monotonic time when it was over; None if it never was.
        proved: whether its effect was seen.
        evidence: what was seen, in words.
    """

    kind: FaultKind
    target: str
    began: float
    ended: float | None = None
    proved: bool = False
    evidence: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary without what is left at its default."""
        return _to_json(self)

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Self:
        """Build from such a dictionary.

        Raises:
            ValueError: it is none.
        """
        return _from_json(cls, {"kind": FaultKind}, given)


@dataclass(frozen=True, slots=True)
class Found:
    """A message that was still there at the end.

    Attributes:
        message: the token.
        queue: where; of a dead letter: the queue it came from.
    """

    message: str
    queue: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """What was there when all actors had ended, and all leases with them.

    Attributes:
        complete: whether everything was read: every queue to its end, shown by a marker sent after all else.
        began: monotonic time when it began.
        ended: monotonic time when it was over.
        found: the messages left, with every copy.
        dead: the dead letters, with every copy.
    """

    complete: bool
    began: float
    ended: float
    found: tuple[Found, ...] = ()
    dead: tuple[Found, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """All of one run, in one order.

    Attributes:
        events: of all actors, by time.
        faults: by time.
        drain: the end.
        damage: what is missing or broken in the logs, in words; empty for a valid history.
        torn: actors whose last line was cut off by a kill; tolerated.
    """

    events: tuple[Event, ...]
    faults: tuple[FaultRecord, ...]
    drain: Drain
    damage: tuple[str, ...] = ()
    torn: tuple[str, ...] = ()


def _to_json(record: Any) -> dict[str, Any]:
    values = {one.name: (getattr(record, one.name), one.default) for one in fields(record)}
    return {name: value for name, (value, default) in values.items() if value != default}


def _from_json(cls: type[_Record], kinds: Mapping[str, Any], given: Mapping[str, Any]) -> _Record:
    try:
        return cls(**{name: kinds[name](value) if name in kinds else value for name, value in given.items()})
    except (TypeError, ValueError) as error:
        raise ValueError(f"no {cls.__name__}: {error}") from error
