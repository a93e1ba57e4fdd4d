"""Verdict = catalogue − evidence: a law without a record of its own was not shown, whatever a test runner believes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from brokerkit_conformance.catalogue import LEVELS, Law
from brokerkit_conformance.model import Evidence, Expectation, How, Outcome
from brokerkit_conformance.waivers import Waiver

__all__ = ["Judgement", "Verdict", "judge", "weigh"]


class Verdict(StrEnum):
    """What a run shows."""

    CONFORMANT = "CONFORMANT"
    NONCONFORMANT = "NONCONFORMANT"
    INCOMPLETE = "INCOMPLETE"
    INVALID = "INVALID"
    CONFORMANT_WITH_WAIVERS = "CONFORMANT_WITH_WAIVERS"
    DOES_NOT_APPLY = "DOES_NOT_APPLY"  # of a level alone: none of its laws can be asked of this engine

    @property
    def exit_code(self) -> int:
        """The command's exit code."""
        if self is Verdict.DOES_NOT_APPLY:
            return Verdict.INCOMPLETE.exit_code
        return 0 if self.holds else list(Verdict).index(self)

    @property
    def holds(self) -> bool:
        """Whether nothing is wrong but what somebody answers for."""
        return self in (Verdict.CONFORMANT, Verdict.CONFORMANT_WITH_WAIVERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The verdict, and what it rests on.

    Attributes:
        verdict: over all laws in question.
        levels: the verdict of each level that has a law in question.
        impossible: how many laws of each level cannot be asked of this engine: they neither hold nor count against it.
        outcomes: of every law in question; NOT_RUN where there is no record.
        reasons: why, for those that are no PASS.
        flaws: what makes the evidence itself invalid.
        totals: how many laws had each outcome.
    """

    verdict: Verdict
    levels: Mapping[str, Verdict]
    impossible: Mapping[str, int]
    outcomes: Mapping[str, Outcome]
    reasons: Mapping[str, str]
    flaws: Sequence[str]
    totals: Mapping[str, int]


def judge(
    laws: Iterable[Law],
    expectations: Iterable[Expectation],
    evidence: Sequence[Evidence],
    *,
    why_not_run: str = "",
    waivers: Iterable[Waiver] = (),
    flaws: Iterable[str] = (),
    whole: bool = False,
) -> Judgement:
    """Weigh the evidence against what the laws expect.

    Args:
        laws: those in question.
        expectations: of at least those laws.
        evidence: every record there is; a record of a law that is not in question is a flaw.
        why_not_run: the reason given for laws without a record.
        waivers: those in force for this harness.
        flaws: what is already known to be wrong with the run.
        whole: whether the laws are all of their levels; then nothing is conformant that reaches no level.
    """
    laws = list(laws)
    how = {expectation.id: expectation for expectation in expectations}
    asked = {law.id: law for law in laws if how[law.id].how.runs or how[law.id].how is How.GRACE}
    records: dict[str, list[Evidence]] = {}
    for record in evidence:
        records.setdefault(record.id, []).append(record)
    waived = {waiver.case: waiver for waiver in waivers}
    weighed = {i: weigh(records.get(i, []), how[i], waived.get(i), why_not_run or "no record of it") for i in asked}
    all_flaws = [*flaws, *_flaws(asked, how, records)]
    by_level = {level: _of_level(of_it, how, weighed) for level, of_it in _levels(laws, how).items()}
    overall = _verdict([weighed[i][0] for i, law in asked.items() if law.duty == "MUST"])
    if whole and overall.holds and not any(verdict.holds for verdict in by_level.values()):
        overall = Verdict.INCOMPLETE
    return Judgement(
        verdict=Verdict.INVALID if all_flaws else overall,
        levels=dict.fromkeys(by_level, Verdict.INVALID) if all_flaws else by_level,
        impossible=Counter(law.level for law in laws if how[law.id].how is How.IMPOSSIBLE),
        outcomes={i: outcome for i, (outcome, _) in weighed.items()},
        reasons={i: reason for i, (outcome, reason) in weighed.items() if not outcome.good},
        flaws=all_flaws,
        totals=Counter(str(outcome) for outcome, _ in weighed.values()),
    )


def weigh(
    records: Sequence[Evidence], expectation: Expectation, waiver: Waiver | None, why_not_run: str
) -> tuple[Outcome, str]:
    """Return the outcome of one law, and the reason for it, from all records of it there are."""
    if expectation.how is How.GRACE:
        return Outcome.GRACE, expectation.reason
    if not records:
        return Outcome.NOT_RUN, why_not_run
    if len({record.outcome for record in records}) > 1:
        seen = ", then ".join(str(record.outcome) for record in records)
        return Outcome.FLAKY, "\n".join([f"it was repeated: {seen}", *(r.reason for r in records if r.reason)])
    first = records[0]
    return (first.outcome, first.reason) if waiver is None else _under(waiver, first.outcome, first.reason)


def _under(waiver: Waiver, outcome: Outcome, reason: str) -> tuple[Outcome, str]:
    """A waiver excuses a failure and nothing else; where nothing fails, it has to go."""
    answers = f"{waiver.owner}, {waiver.issue}, until {waiver.expires}"
    if outcome is Outcome.FAIL:
        return Outcome.WAIVED, f"waived ({waiver.kind}: {waiver.text}; {answers})\n{reason}"
    if outcome.good:
        return Outcome.FIXED_REMOVE_WAIVER, f"it holds; remove its waiver ({answers})"
    return outcome, reason


def _verdict(outcomes: Sequence[Outcome]) -> Verdict:
    """A failure decides whatever else is missing; what was not shown decides over what was. Nothing shows nothing."""
    decisive = [outcome for outcome in outcomes if outcome is not Outcome.GRACE]
    if any(outcome.red for outcome in decisive):
        return Verdict.NONCONFORMANT
    if not decisive or not all(outcome.good or outcome is Outcome.WAIVED for outcome in decisive):
        return Verdict.INCOMPLETE
    return Verdict.CONFORMANT_WITH_WAIVERS if Outcome.WAIVED in decisive else Verdict.CONFORMANT


def _of_level(
    laws: Sequence[Law], how: Mapping[str, Expectation], weighed: Mapping[str, tuple[Outcome, str]]
) -> Verdict:
    """A level of which this suite has less than half the laws is not reachable yet: it can fail, and not hold.

    Laws that cannot be asked of the engine are in the suite all the same. Where there are no others, nothing is claimed.
    """
    later = sum(how[law.id].how is How.NOT_YET for law in laws)
    most_are_there = 2 * later <= len(laws)
    if not any(law.id in weighed for law in laws):
        return Verdict.DOES_NOT_APPLY if most_are_there else Verdict.INCOMPLETE
    verdict = _verdict([weighed[law.id][0] for law in laws if law.id in weighed and law.duty == "MUST"])
    return verdict if most_are_there or not verdict.holds else Verdict.INCOMPLETE


def _levels(laws: Sequence[Law], how: Mapping[str, Expectation]) -> dict[str, list[Law]]:
    """Return the laws in question by level, without levels of which no law is in this suite."""
    there = {law.level for law in laws if how[law.id].how is not How.NOT_YET}
    return {level: [law for law in laws if law.level == level] for level in LEVELS if level in there}


def _flaws(
    asked: Mapping[str, Law], how: Mapping[str, Expectation], records: Mapping[str, Sequence[Evidence]]
) -> list[str]:
    flaws = []
    for i, found in records.items():
        if len(found) > 1 and len({record.outcome for record in found}) == 1:
            flaws.append(f"{i} has {len(found)} records")
        flaws += [flaw for record in found if (flaw := _flaw(record, asked.get(i), how.get(i)))]
    return flaws


def _flaw(record: Evidence, law: Law | None, expectation: Expectation | None) -> str | None:
    """Return why a record cannot be right, if it cannot."""
    if law is None or expectation is None or not expectation.how.runs:
        return f"{record.id} has a record, but none was expected"
    if record.version != law.version:
        return f"{record.id}: the record is of version {record.version}, the law of {law.version}"
    if not record.outcome.raw:
        return f"{record.id} says {record.outcome} of itself; that is judged, never recorded"
    if record.outcome is Outcome.UNCLAIMED and law.gate.startswith("!"):
        return None  # the case of a power's absence is its own refusal
    contradiction = _CONTRADICTIONS.get((record.outcome, expectation.how))
    return None if contradiction is None else f"{record.id} {contradiction}"


_CONTRADICTIONS: Final = {
    (Outcome.REFUSED_OK, How.CASE): "was refused, but the plugin claims the power",
    (Outcome.UNCLAIMED, How.CASE): "is said to be unclaimed, but the plugin claims the power",
    (Outcome.PASS, How.REFUSAL): "passed, but the plugin does not claim the power",
}
