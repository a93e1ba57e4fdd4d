"""The suite on trial: what `brokerkit-conformance mutants` counts with, and that its cases pass where nothing is planted."""

from __future__ import annotations

import pytest
from brokerkit_conformance.casebook import casebook
from brokerkit_conformance.catalogue import catalogue
from brokerkit_conformance.model import Outcome
from brokerkit_conformance.mutants import score
from brokerkit_conformance.mutants.cramped import CrampedHarness
from brokerkit_conformance.mutants.planting import Mutant, Patch, all_mutants
from brokerkit_conformance.mutants.restartable import RestartableHarness
from brokerkit_conformance.reference import MemoryHarness
from brokerkit_conformance.trial import Trial

from brokerkit.memory import MemoryServer


def controls():
    """Each engine that is mutated but memory, which has its own run, with all laws that mutants of it break: each once."""
    kills = {}
    for each in all_mutants():
        if each.harness is not MemoryHarness:
            kills.setdefault(each.harness, {}).update(dict.fromkeys(each.kills))
    return [(harness, tuple(laws)) for harness, laws in kills.items()]


CONTROLS = controls()


def test_every_mutant_is_described_and_names_laws_of_this_suite():
    for each in all_mutants():
        assert each.defect.endswith("."), each.name
        assert each.source, each.name
        assert each.kills, each.name
        assert all(law_id in casebook().cases for law_id in each.kills), each.name


@pytest.mark.parametrize(("harness", "kills"), CONTROLS, ids=lambda part: getattr(part, "__name__", ""))
def test_without_a_defect_the_same_cases_pass(harness, kills):
    trial = Trial(harness(), cases=kills)
    try:
        # the server that can be restarted, or be full, is one for all its cases, which would do it to each other
        trial.run(jobs=1 if harness in (RestartableHarness, CrampedHarness) else 8)
    finally:
        trial.close()
    assert sorted(record.id for record in trial.evidence) == sorted(kills)
    odd = [record for record in trial.evidence if record.outcome not in (Outcome.PASS, Outcome.REFUSED_OK)]
    assert odd == []


def test_a_mutant_is_killed_in_a_process_of_its_own():
    result = score.run("ack-is-a-no-op", jobs=1)
    assert (len(result.killed), result.survived) == (1, [])


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
