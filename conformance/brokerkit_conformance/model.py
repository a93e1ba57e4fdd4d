"""The nouns of the suite: an outcome, a piece of evidence, and what was expected of a case."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

__all__ = ["Evidence", "Expectation", "HarnessError", "How", "Inconclusive", "NotRun", "Outcome"]


class Outcome(StrEnum):
    """What became of one case."""

    PASS = "PASS"  # noqa: S105 - no password
    REFUSED_OK = "REFUSED_OK"  # the power is not claimed, and using it was refused loudly
    FAIL = "FAIL"
    FLAKY = "FLAKY"  # it passed only when it was repeated: no pass
    WAIVED = "WAIVED"
    UNCLAIMED = "UNCLAIMED"  # it works, but the plugin does not claim it
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
        return self in (Outcome.PASS, Outcome.REFUSED_OK, Outcome.FAIL, Outcome.FLAKY)


class How(StrEnum):
    """What a run expects of a law."""

    CASE = "case"
    REFUSAL = "refusal"  # the power is absent: the case's refusal twin runs
    IMPOSSIBLE = "impossible"  # it cannot apply to this engine; listed with the reason
    NOT_YET = "not yet"  # in the catalogue, and not yet in this suite

    @property
    def runs(self) -> bool:
        """Whether evidence is expected."""
        return self in (How.CASE, How.REFUSAL)


@dataclass(frozen=True, slots=True)
class Expectation:
    """What is expected of one law, and why."""

    id: str
    how: How
    reason: str = ""


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
    """

    id: str
    version: int
    outcome: Outcome
    reason: str = ""
    seconds: float = 0.0
    measured: Mapping[str, Any] = field(default_factory=dict)


class NotRun(BaseException):
    """Raised by the bench: the case needs something that this harness does not bring."""


class Inconclusive(BaseException):
    """Raised by a case that could not make its own test, such as a fault that had no effect."""


class HarnessError(BaseException):
    """The harness, not the plugin, failed."""
