"""What the checker says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from brokerkit_conformance.history.events import Event, FaultRecord

__all__ = ["Checked", "Finding", "Kind", "Standing"]


class Kind(StrEnum):
    """A way in which a history breaks the law."""

    LOST = "lost"
    UNEXPECTED = "unexpected"
    RESURRECTED = "resurrected"
    DUPLICATE = "duplicate"
    DOUBLE_OWNER = "double owner"
    INVERSION = "inversion"
    NOT_LINEARIZABLE = "not linearizable"


class Standing(StrEnum):
    """What a history shows."""

    CLEAN = "CLEAN"
    BROKEN = "BROKEN"
    INCONCLUSIVE = "INCONCLUSIVE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One breach, with the shortest slice of the history that shows it.

    Attributes:
        kind: which law.
        message: the token.
        queue: where.
        text: what happened, in a sentence.
        events: the slice, by time.
        faults: those that hit the owners meanwhile, by time.
    """

    kind: Kind
    message: str
    queue: str
    text: str
    events: tuple[Event, ...] = ()
    faults: tuple[FaultRecord, ...] = ()

    def __str__(self) -> str:
        faults = [f"{fault.began:12.4f} fault {fault.kind} of {fault.target}" for fault in self.faults]
        lines = sorted([str(event) for event in self.events] + faults)
        return "\n  ".join([f"{self.kind}: {self.message} in {self.queue}: {self.text}", *lines])


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """The outcome of a check.

    Attributes:
        standing: CLEAN, BROKEN, or INCONCLUSIVE: then the findings are hints, and their absence shows nothing.
        reasons: why it is inconclusive.
        findings: by kind, queue and message.
        counts: sums, by name: accepted, refused, unknown, delivered, settled, dead, left, expired, recovered, and for each
            kind of excuse how many deliveries it excused.
        recovered: tokens of sends with an unknown outcome that showed up.
    """

    standing: Standing
    reasons: tuple[str, ...]
    findings: tuple[Finding, ...]
    counts: Mapping[str, int]
    recovered: tuple[str, ...]
