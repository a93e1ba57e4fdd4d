"""Verdict = catalogue − evidence: a law without a record of its own was not shown, whatever a test runner believes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from brokerkit_conformance.catalogue import LEVELS, Law
from brokerkit_conformance.model import Evidence, Expectation, How, Outcome

__all__ = ["Judgement", "Verdict", "judge"]


class Verdict(StrEnum):
    """What a run shows."""

    CONFORMANT = "CONFORMANT"
    NONCONFORMANT = "NONCONFORMANT"
    INCOMPLETE = "INCOMPLETE"
    INVALID = "INVALID"

    @property
    def exit_code(self) -> int:
        """The command's exit code."""
        return list(Verdict).index(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The verdict, and what it rests on.

    Attributes:
        verdict: over all laws in question.
        levels: the verdict of each level that has a law in question.
        outcomes: of every law in question; NOT_RUN where there is no record.
        reasons: why, for those that are no PASS.
        flaws: what makes the evidence itself invalid.
        totals: how many laws had each outcome.
    """

    verdict: Verdict
    levels: Mapping[str, Verdict]
    outcomes: Mapping[str, Outcome]
    reasons: Mapping[str, str]
    flaws: Sequence[str]
    totals: Mapping[str, int]


def judge(
    laws: Iterable[Law], expectations: Iterable[Expectation], evidence: Sequence[Evidence], *, why_not_run: str = ""
) -> Judgement:
    """Weigh the evidence against what the laws expect.

    Args:
        laws: those in question.
        expectations: of at least those laws.
        evidence: every record there is; a record of a law that is not in question is a flaw.
        why_not_run: the reason given for laws without a record.
    """
    how = {expectation.id: expectation for expectation in expectations}
    asked = {law.id: law for law in laws if how[law.id].how.runs}
    records = {record.id: record for record in evidence}
    flaws = _flaws(asked, how, evidence)
    outcomes = {i: records[i].outcome if i in records else Outcome.NOT_RUN for i in asked}
    reasons = {i: records[i].reason if i in records else (why_not_run or "no record of it") for i in asked}
    musts = {i: outcome for i, outcome in outcomes.items() if asked[i].duty == "MUST"}
    by_level = {
        level: _verdict([musts[i] for i in musts if asked[i].level == level])
        for level in LEVELS
        if any(law.level == level for law in asked.values())
    }
    return Judgement(
        verdict=Verdict.INVALID if flaws else _verdict(list(musts.values())),
        levels=dict.fromkeys(by_level, Verdict.INVALID) if flaws else by_level,
        outcomes=outcomes,
        reasons={i: reason for i, reason in reasons.items() if not outcomes[i].good},
        flaws=flaws,
        totals=Counter(str(outcome) for outcome in outcomes.values()),
    )


def _verdict(outcomes: Sequence[Outcome]) -> Verdict:
    """A failure decides whatever else is missing; what was not shown decides over what was. Nothing shows nothing."""
    if Outcome.FAIL in outcomes or Outcome.FLAKY in outcomes:
        return Verdict.NONCONFORMANT
    if not outcomes or not all(outcome.good for outcome in outcomes):
        return Verdict.INCOMPLETE
    return Verdict.CONFORMANT


def _flaws(asked: Mapping[str, Law], how: Mapping[str, Expectation], evidence: Sequence[Evidence]) -> list[str]:
    flaws = [f"{i} has {n} records" for i, n in Counter(record.id for record in evidence).items() if n > 1]
    for record in evidence:
        law = asked.get(record.id)
        if law is None:
            flaws.append(f"{record.id} has a record, but none was expected")
        elif record.version != law.version:
            flaws.append(f"{record.id}: the record is of version {record.version}, the law of {law.version}")
        elif record.outcome is Outcome.REFUSED_OK and how[record.id].how is not How.REFUSAL:
            flaws.append(f"{record.id} was refused, but the plugin claims the power")
        elif record.outcome is Outcome.PASS and how[record.id].how is not How.CASE:
            flaws.append(f"{record.id} passed, but the plugin does not claim the power")
    return flaws
