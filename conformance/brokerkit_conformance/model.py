"""The nouns of the suite: an outcome, a piece of evidence, and what was expected of a case."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

__all__ = [
    "Broken",
    "Evidence",
    "Expectation",
    "HarnessError",
    "How",
    "Inconclusive",
    "LyingHarness",
    "NoServer",
    "NotRun",
    "Outcome",
    "Unclaimed",
    "Undeclared",
    "WrongAddress",
]


class Outcome(StrEnum):
    """What became of one case."""

    PASS = "PASS"  # noqa: S105 - no password
    REFUSED_OK = "REFUSED_OK"  # the power is not claimed, and using it was refused loudly
    FAIL = "FAIL"
    FLAKY = "FLAKY"  # it passed only when it was repeated: no pass
    WAIVED = "WAIVED"  # it failed, and a waiver in force says who repairs it until when
    FIXED_REMOVE_WAIVER = "FIXED_REMOVE_WAIVER"  # it passed, and a waiver still says that it fails
    UNCLAIMED = "UNCLAIMED"  # it works, but the plugin does not claim it
    GRACE = "GRACE"  # the question is new in this suite; the plugin has until the next to answer it
    INCONCLUSIVE = "INCONCLUSIVE"  # the test itself could not be made, such as a fault without effect
    NOT_RUN = "NOT_RUN"
    ERROR = "ERROR"  # the suite or the harness failed, or somebody tried to skip

    @property
    def good(self) -> bool:
        """Whether the law was shown to hold."""
        return self in (Outcome.PASS, Outcome.REFUSED_OK)

    @property
    def shown(self) -> bool:
        """Whether the law was tested at all, with whatever result."""
        return self.good or self.red

    @property
    def red(self) -> bool:
        """Whether it decides against the plugin, whatever else is missing."""
        return self in (Outcome.FAIL, Outcome.FLAKY, Outcome.FIXED_REMOVE_WAIVER)

    @property
    def raw(self) -> bool:
        """Whether a case can end so; the others are only judged."""
        return self not in (Outcome.FLAKY, Outcome.WAIVED, Outcome.FIXED_REMOVE_WAIVER, Outcome.GRACE)


class How(StrEnum):
    """What a run expects of a law."""

    CASE = "case"
    REFUSAL = "refusal"  # the power is absent: the case's refusal twin runs
    IMPOSSIBLE = "impossible"  # it cannot apply to this engine; listed with the reason
    NOT_YET = "not yet"  # in the catalogue, and not yet in this suite
    GRACE = "grace"  # it hangs on a capability that is new, and that the plugin does not answer yet

    @property
    def runs(self) -> bool:
        """Whether evidence is expected."""
        return self in (How.CASE, How.REFUSAL)


@dataclass(frozen=True, slots=True)
class Expectation:
    """What is expected of one law, and why.

    Attributes:
        id: the law's.
        how: what a run does with it.
        reason: why that is so, where it is not its case.
        power: the catalogue's word for the power that is absent, where its refusal twin runs.
    """

    id: str
    how: How
    reason: str = ""
    power: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The record of one execution of one case.

    Attributes:
        id: the law's.
        version: of the case.
        outcome: what became of it.
        reason: why, if it is no PASS; with the traceback's last lines.
        seconds: real time that it took.
        measured: numbers that it took down, by name.
        history: the shortest slices of history that show what is wrong, as rows of a timeline; see `Broken`.
    """

    id: str
    version: int
    outcome: Outcome
    reason: str = ""
    seconds: float = 0.0
    measured: Mapping[str, Any] = field(default_factory=dict)
    history: Sequence[Mapping[str, Any]] = ()


class NotRun(BaseException):
    """Raised by the bench: the case needs something that this harness does not bring."""


class Inconclusive(BaseException):
    """Raised by a case that could not make its own test, such as a fault that had no effect."""


class Unclaimed(BaseException):
    """Raised by a refusal twin whose probe finds that the power works, although it is not claimed."""


class Broken(AssertionError):
    """Raised by a case whose history breaks the law; the report shows its slices as a timeline.

    Args:
        findings: what `brokerkit_conformance.history.check` found; each has a text, events and faults.
    """

    def __init__(self, findings: Iterable[Any]) -> None:
        self.findings = tuple(findings)
        super().__init__(
            "; ".join(f"{each.kind}: {each.message} in {each.queue}: {each.text}" for each in self.findings)
        )


class HarnessError(BaseException):
    """The harness, not the plugin, failed. `exit_code` is the command's."""

    exit_code = 10


class WrongAddress(HarnessError):
    """What the harness gives as URL leads to no plugin, or is refused by it before any connection."""

    exit_code = 11


class LyingHarness(HarnessError):
    """What the harness says of its engine is not so."""

    exit_code = 12


class Undeclared(HarnessError):
    """The plugin does not answer every question of the capabilities."""

    exit_code = 13


class NoServer(BaseException):
    """Nothing answers where the harness points: no case can run."""
