"""The suite on trial: every planted defect is noticed, and every MUST case has shown that it can fail."""

from __future__ import annotations

import pytest
from brokerkit_conformance.casebook import casebook
from brokerkit_conformance.catalogue import catalogue
from brokerkit_conformance.model import Outcome
from brokerkit_conformance.mutants import score
from brokerkit_conformance.mutants.planting import Mutant, Patch, all_mutants
from brokerkit_conformance.reference import MemoryHarness

from brokerkit.memory import MemoryServer


def test_every_mutant_is_killed_by_all_cases_that_name_it():
    result = score.run()
    assert result.survived == []
    assert result.unguarded == []
    assert result.perfect
    assert len(result.killed) == len(all_mutants()) >= 60


def test_every_mutant_is_described_and_names_laws_of_this_suite():
    for each in all_mutants():
        assert each.defect.endswith("."), each.name
        assert each.source, each.name
        assert each.kills, each.name
        assert all(law_id in casebook().cases for law_id in each.kills), each.name


@pytest.mark.parametrize("each", [m for m in all_mutants() if m.harness is not MemoryHarness], ids=lambda m: m.name)
def test_without_the_defect_the_same_cases_pass(each):
    records = score.try_mutant(each, sound=True)
    assert {record.outcome for record in records} <= {Outcome.PASS, Outcome.REFUSED_OK}, records


def test_a_survivor_is_told(monkeypatch):
    harmless = Mutant("harmless", "Nothing.", "here", ("RED-01",), lambda patch: None, MemoryHarness)
    (record,) = score.try_mutant(harmless)
    assert record.outcome is Outcome.PASS
    result = score.Score(killed=["other"], survived=[("harmless", "RED-01", "PASS", "")])
    assert not result.perfect
    assert result.plain()["percent"] == 50.0


def test_a_case_that_does_not_apply_does_not_count_as_killed():
    wrong = Mutant("wrong", "Nothing.", "here", ("VIS-08",), lambda patch: None, MemoryHarness)
    assert [record.outcome for record in score.try_mutant(wrong)] == [Outcome.NOT_RUN]


def test_nothing_at_all_is_not_a_perfect_score():
    assert not score.Score().perfect
    assert not score.Score(killed=["one"], unguarded=["PUB-01"]).perfect


def test_a_patch_is_taken_out_again():
    before = MemoryServer.ack, dict(vars(MemoryServer))
    patch = Patch()
    patch.value(MemoryServer, "ack", None)
    patch.wrap(MemoryServer, "release", lambda inner: inner.__call__)
    patch.value(MemoryServer, "brand_new", 1)
    patch.undo()
    assert (MemoryServer.ack, dict(vars(MemoryServer))) == before


def test_all_must_cases_are_guarded():
    musts = [law.id for law in catalogue() if law.since and law.duty == "MUST"]
    assert len(musts) > 120
    assert score.unguarded() == []
