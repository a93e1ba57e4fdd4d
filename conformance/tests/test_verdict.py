"""Verdict = catalogue − evidence."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest
from brokerkit_conformance.catalogue import Law
from brokerkit_conformance.model import Evidence, Expectation, How, Outcome
from brokerkit_conformance.verdict import Verdict, judge
from brokerkit_conformance.waivers import Waiver


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
        waivable=True,
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
    [Outcome.NOT_RUN, Outcome.INCONCLUSIVE, Outcome.ERROR],
)
def test_what_was_not_shown_is_incomplete(outcome):
    assert judge(LAWS, expect(), [*ALL[:2], record("BBB-01", outcome)]).verdict is Verdict.INCOMPLETE


def test_a_failure_decides_even_if_others_are_missing():
    assert judge(LAWS, expect(), [record("AAA-01", Outcome.FAIL)]).verdict is Verdict.NONCONFORMANT


@pytest.mark.parametrize("outcomes", [(Outcome.FAIL, Outcome.PASS), (Outcome.PASS, Outcome.NOT_RUN)])
def test_what_was_repeated_until_it_passed_is_flaky_and_no_pass(outcomes):
    judgement = judge(LAWS, expect(), [*ALL[1:], *(record("AAA-01", outcome) for outcome in outcomes)])
    assert judgement.outcomes["AAA-01"] is Outcome.FLAKY
    assert judgement.verdict is Verdict.NONCONFORMANT
    assert "it was repeated" in judgement.reasons["AAA-01"]


def test_a_power_that_works_and_is_not_claimed_is_incomplete():
    judgement = judge(LAWS, expect(AAA_01=How.REFUSAL), [record("AAA-01", Outcome.UNCLAIMED), *ALL[1:]])
    assert (judgement.verdict, judgement.outcomes["AAA-01"]) == (Verdict.INCOMPLETE, Outcome.UNCLAIMED)


def test_a_law_with_grace_is_told_and_does_not_block():
    judgement = judge(LAWS, expect(AAA_01=How.GRACE), ALL[1:])
    assert (judgement.verdict, judgement.outcomes["AAA-01"]) == (Verdict.CONFORMANT, Outcome.GRACE)
    only_grace = judge(LAWS[:1], expect(AAA_01=How.GRACE), [])
    assert only_grace.verdict is Verdict.INCOMPLETE


WAIVER = Waiver(
    case="AAA-01",
    kind="bug",
    text="it drops every third",
    issue="https://example.org/1",
    owner="ann",
    expires=date(2027, 1, 1),
)


def test_a_waived_failure_is_conformant_with_waivers_and_lowers_its_level_alone():
    judgement = judge(LAWS, expect(), [record("AAA-01", Outcome.FAIL), *ALL[1:]], waivers=[WAIVER])
    assert judgement.verdict is Verdict.CONFORMANT_WITH_WAIVERS
    assert judgement.outcomes["AAA-01"] is Outcome.WAIVED
    assert judgement.levels == {"core": Verdict.CONFORMANT_WITH_WAIVERS, "lease": Verdict.CONFORMANT}
    assert "ann, https://example.org/1, until 2027-01-01" in judgement.reasons["AAA-01"]


def test_a_waiver_of_what_holds_has_to_go():
    judgement = judge(LAWS, expect(), ALL, waivers=[WAIVER])
    assert judgement.verdict is Verdict.NONCONFORMANT
    assert judgement.outcomes["AAA-01"] is Outcome.FIXED_REMOVE_WAIVER


@pytest.mark.parametrize("outcome", [Outcome.NOT_RUN, Outcome.ERROR, Outcome.INCONCLUSIVE])
def test_a_waiver_excuses_a_failure_and_nothing_else(outcome):
    judgement = judge(LAWS, expect(), [record("AAA-01", outcome), *ALL[1:]], waivers=[WAIVER])
    assert (judgement.verdict, judgement.outcomes["AAA-01"]) == (Verdict.INCOMPLETE, outcome)


def test_a_waiver_does_not_excuse_another_failure_or_a_missing_record():
    failed = [ALL[0], record("AAA-02", Outcome.FAIL), ALL[2]]
    assert judge(LAWS, expect(), failed, waivers=[WAIVER]).verdict is Verdict.NONCONFORMANT
    assert judge(LAWS, expect(), ALL[1:], waivers=[WAIVER]).verdict is Verdict.INCOMPLETE


def test_a_level_of_which_most_laws_are_not_yet_there_cannot_hold_but_can_fail():
    laws = [law("AAA-01"), law("AAA-02"), law("AAA-03")]
    hopes = [Expectation("AAA-01", How.CASE), *(Expectation(each.id, How.NOT_YET) for each in laws[1:])]
    assert judge(laws, hopes, ALL[:1]).levels == {"core": Verdict.INCOMPLETE}
    assert judge(laws, hopes, ALL[:1], whole=True).verdict is Verdict.INCOMPLETE
    assert judge(laws, hopes, [record("AAA-01", Outcome.FAIL)]).levels == {"core": Verdict.NONCONFORMANT}


def test_laws_that_cannot_be_asked_are_in_the_suite_and_do_not_count_against_a_level():
    laws = [law(f"AAA-0{n}") for n in range(1, 5)]
    hows = [How.CASE, How.IMPOSSIBLE, How.NOT_YET, How.NOT_YET]
    hopes = [Expectation(each.id, how) for each, how in zip(laws, hows, strict=True)]
    judgement = judge(laws, hopes, ALL[:1], whole=True)
    assert judgement.levels == {"core": Verdict.CONFORMANT}
    assert judgement.impossible == {"core": 1}


def test_a_level_of_which_nothing_can_be_asked_is_not_claimed():
    judgement = judge(LAWS, expect(BBB_01=How.IMPOSSIBLE), ALL[:2], whole=True)
    assert (judgement.verdict, judgement.impossible) == (Verdict.CONFORMANT, {"lease": 1})
    assert judgement.levels == {"core": Verdict.CONFORMANT, "lease": Verdict.DOES_NOT_APPLY}
    nothing = judge(LAWS[2:], expect(BBB_01=How.IMPOSSIBLE), [], whole=True)
    assert (nothing.verdict, nothing.levels) == (Verdict.INCOMPLETE, {"lease": Verdict.DOES_NOT_APPLY})


def test_a_level_whose_few_laws_cannot_be_asked_may_still_get_others():
    laws = [law("AAA-01"), law("AAA-02"), law("AAA-03")]
    hopes = [Expectation("AAA-01", How.IMPOSSIBLE), *(Expectation(each.id, How.NOT_YET) for each in laws[1:])]
    assert judge(laws, hopes, []).levels == {"core": Verdict.INCOMPLETE}


def test_the_case_of_an_absence_may_find_the_power():
    absence = replace(LAWS[0], gate="!priority")
    found = record("AAA-01", Outcome.UNCLAIMED)
    assert judge([absence], expect(), [found]).verdict is Verdict.INCOMPLETE
    assert judge([LAWS[0]], expect(), [found]).verdict is Verdict.INVALID


def test_what_is_wrong_with_the_run_makes_it_invalid():
    assert judge(LAWS, expect(), ALL, flaws=["the suite's file red.py was modified"]).verdict is Verdict.INVALID


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
        *(
            ([record("AAA-01", outcome), *ALL[1:]], f"AAA-01 says {outcome} of itself")
            for outcome in (Outcome.WAIVED, Outcome.FLAKY, Outcome.GRACE, Outcome.FIXED_REMOVE_WAIVER)
        ),
        ([record("AAA-01", Outcome.UNCLAIMED), *ALL[1:]], "is said to be unclaimed, but the plugin claims"),
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
    assert {str(verdict): verdict.exit_code for verdict in Verdict} == {
        "CONFORMANT": 0,
        "CONFORMANT_WITH_WAIVERS": 0,
        "DOES_NOT_APPLY": 2,
        "NONCONFORMANT": 1,
        "INCOMPLETE": 2,
        "INVALID": 3,
    }


def test_a_stronger_claim_only_adds_cases():
    fewer = judge(LAWS, expect(BBB_01=How.IMPOSSIBLE), ALL[:2])
    more = judge(LAWS, expect(), ALL[:2])
    assert fewer.verdict is Verdict.CONFORMANT
    assert more.verdict is Verdict.INCOMPLETE
    assert replace(fewer, totals={}).outcomes.keys() <= more.outcomes.keys()
