"""Laws of transports that are shown of result stores, too: who is asked what."""

from __future__ import annotations

from dataclasses import replace

import pytest
from brokerkit_conformance.casebook import Case, Casebook, casebook, of_results
from brokerkit_conformance.catalogue import catalogue
from brokerkit_conformance.gates import OF_RESULTS, Subject, expected
from brokerkit_conformance.harness import Harness
from brokerkit_conformance.model import How, Outcome
from brokerkit_conformance.runner import run_case

from brokerkit.memory.results import CAPABILITIES
from brokerkit.memory.transport import CAPABILITIES as TRANSPORT

LAWS = catalogue()
STORE_ALONE = Subject(None, replace(CAPABILITIES, embedded=False, shared="network"))
BOTH = Subject(TRANSPORT, CAPABILITIES)


def test_the_gates_know_each_law_of_transports_that_has_a_case_of_results():
    book = casebook()
    assert not book.broken
    with_cases = {law_id for law_id, case in book.cases.items() if case.of_results is not None}
    assert {law_id for law_id in with_cases if LAWS[law_id].gate != "H"} == OF_RESULTS
    assert all(LAWS[law_id].gate == "T" for law_id in OF_RESULTS)


def test_a_store_alone_is_asked_what_concerns_it_and_nothing_else():
    for law in LAWS:
        if law.since is not None and law.area != "RES" and law.gate[0] in "TC!":
            how = expected(law, STORE_ALONE).how
            assert how is (How.CASE if law.id in OF_RESULTS else How.IMPOSSIBLE), law.id


def test_each_side_that_is_there_is_tried_on_a_bench_of_its_own():
    tried = []
    case = Case(
        test=lambda bench: tried.append(("broker", bench)), of_results=lambda bench: tried.append(("store", bench))
    )
    book = Casebook({"EVI-11": case})
    for subject, sides in (
        (BOTH, ["broker", "store"]),
        (STORE_ALONE, ["store"]),
        (Subject(TRANSPORT, None), ["broker"]),
    ):
        tried.clear()
        record = run_case(Harness(), subject, LAWS["EVI-11"], expected(LAWS["EVI-11"], subject), book)
        assert record.outcome is Outcome.PASS
        assert [side for side, _ in tried] == sides
        assert len({id(bench) for _, bench in tried}) == len(sides)


def test_one_side_that_fails_fails_the_law():
    def no(_):
        raise AssertionError("not this one")

    for case in (Case(test=no, of_results=lambda _: None), Case(test=lambda _: None, of_results=no)):
        record = run_case(Harness(), BOTH, LAWS["EVI-11"], expected(LAWS["EVI-11"], BOTH), Casebook({"EVI-11": case}))
        assert record.outcome is Outcome.FAIL
        assert "not this one" in record.reason


def test_a_law_has_one_case_of_results():
    with pytest.raises(ValueError, match="EVI-11 has two cases of results"):
        of_results("EVI-11")(lambda _: None)
