"""Verdict = catalogue − evidence."""

from __future__ import annotations

from dataclasses import replace

import pytest
from brokerkit_conformance.catalogue import Law
from brokerkit_conformance.model import Evidence, Expectation, How, Outcome
from brokerkit_conformance.verdict import Verdict, judge


def law(law_id, *, level="core", duty="MUST", version=1):
    return Law(
        id=law_id,
        version=version,
        area=law_id[:3],
        title="",
        must="",
        gate="T",
        tools=(),
        needs=(),
        duty=duty,
        level=level,
        since="0.1",
    )


LAWS = [law("AAA-01"), law("AAA-02"), law("BBB-01", level="lease")]


def expect(how=How.CASE, **others):
    return [Expectation(each.id, others.get(each.id.replace("-", "_"), how)) for each in LAWS]


def record(law_id, outcome=Outcome.PASS, version=1):
    return Evidence(id=law_id, version=version, outcome=outcome)


ALL = [record(each.id) for each in LAWS]


def test_all_passed_is_conformant_at_every_level():
    judgement = judge(LAWS, expect(), ALL)
    assert judgement.verdict is Verdict.CONFORMANT
    assert judgement.levels == {"core": Verdict.CONFORMANT, "lease": Verdict.CONFORMANT}
    assert judgement.totals == {"PASS": 3}
    assert not judgement.reasons


def test_a_missing_record_is_not_run_and_incomplete():
    judgement = judge(LAWS, expect(), ALL[:-1])
    assert judgement.verdict is Verdict.INCOMPLETE
    assert judgement.outcomes["BBB-01"] is Outcome.NOT_RUN
    assert judgement.reasons["BBB-01"] == "no record of it"
    assert judgement.levels == {"core": Verdict.CONFORMANT, "lease": Verdict.INCOMPLETE}


@pytest.mark.parametrize(
    "outcome",
    [Outcome.NOT_RUN, Outcome.INCONCLUSIVE, Outcome.ERROR, Outcome.WAIVED, Outcome.UNCLAIMED],
)
def test_what_was_not_shown_is_incomplete(outcome):
    assert judge(LAWS, expect(), [*ALL[:2], record("BBB-01", outcome)]).verdict is Verdict.INCOMPLETE


@pytest.mark.parametrize("outcome", [Outcome.FAIL, Outcome.FLAKY])
def test_a_failure_decides_even_if_others_are_missing(outcome):
    assert judge(LAWS, expect(), [record("AAA-01", outcome)]).verdict is Verdict.NONCONFORMANT


def test_no_evidence_at_all_is_incomplete():
    assert judge(LAWS, expect(), []).verdict is Verdict.INCOMPLETE
    assert judge([], [], []).verdict is Verdict.INCOMPLETE


@pytest.mark.parametrize("outcome", [Outcome.FAIL, Outcome.NOT_RUN])
def test_should_and_info_are_reported_and_do_not_decide(outcome):
    laws = [LAWS[0], law("AAA-02", duty="SHOULD"), law("BBB-01", duty="INFO", level="lease")]
    judgement = judge(laws, expect(), [ALL[0], record("AAA-02", outcome), ALL[2]])
    assert judgement.verdict is Verdict.CONFORMANT
    assert judgement.outcomes["AAA-02"] is outcome


def test_a_law_that_is_impossible_or_not_yet_there_needs_no_record():
    judgement = judge(LAWS, expect(BBB_01=How.IMPOSSIBLE, AAA_02=How.NOT_YET), ALL[:1])
    assert judgement.verdict is Verdict.CONFORMANT
    assert set(judgement.outcomes) == {"AAA-01"}


@pytest.mark.parametrize(
    ("records", "flaw"),
    [
        ([*ALL, ALL[0]], "AAA-01 has 2 records"),
        ([*ALL, record("CCC-01")], "CCC-01 has a record, but none was expected"),
        ([record("AAA-01", version=2), *ALL[1:]], "the record is of version 2, the law of 1"),
        ([record("AAA-01", Outcome.REFUSED_OK), *ALL[1:]], "was refused, but the plugin claims the power"),
    ],
)
def test_evidence_that_does_not_fit_is_invalid(records, flaw):
    judgement = judge(LAWS, expect(), records)
    assert judgement.verdict is Verdict.INVALID
    assert set(judgement.levels.values()) == {Verdict.INVALID}
    assert any(flaw in text for text in judgement.flaws)


def test_a_refusal_is_shown_by_refused_ok_and_by_nothing_else():
    refusals = expect(AAA_01=How.REFUSAL)
    assert judge(LAWS, refusals, [record("AAA-01", Outcome.REFUSED_OK), *ALL[1:]]).verdict is Verdict.CONFORMANT
    assert judge(LAWS, refusals, ALL).verdict is Verdict.INVALID


def test_exit_codes():
    assert [verdict.exit_code for verdict in Verdict] == [0, 1, 2, 3]
    assert Verdict.CONFORMANT.exit_code == 0


def test_a_stronger_claim_only_adds_cases():
    fewer = judge(LAWS, expect(BBB_01=How.IMPOSSIBLE), ALL[:2])
    more = judge(LAWS, expect(), ALL[:2])
    assert fewer.verdict is Verdict.CONFORMANT
    assert more.verdict is Verdict.INCOMPLETE
    assert replace(fewer, totals={}).outcomes.keys() <= more.outcomes.keys()
