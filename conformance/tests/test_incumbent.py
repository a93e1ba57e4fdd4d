"""kombu on trial: the bridge does what kombu does, and the suite shows what was known of kombu before."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
from brokerkit_conformance.catalogue import catalogue
from brokerkit_conformance.harness import load
from brokerkit_conformance.incumbent.defects import DEFECTS, REMARKS
from brokerkit_conformance.incumbent.page import Shown, missed, render
from brokerkit_conformance.incumbent.trying import try_one
from brokerkit_conformance.model import Outcome

import brokerkit
from brokerkit import registry
from brokerkit.errors import UnknownScheme

# the client libraries of Redis and of Celery's backend are no dependencies of ours
HERE = ["KombuMemory", "KombuSQLite"] + (["KombuRedis"] if find_spec("redis") else [])
THEIR_WARNINGS = pytest.mark.filterwarnings("ignore")  # theirs: kombu and its clients warn of themselves
DOES_WELL = ["PUB-01", "PUB-03", "PUB-05", "ACK-01", "ACK-02", "PRE-01", "VIS-12"]


@THEIR_WARNINGS
@pytest.mark.parametrize("name", HERE)
def test_what_kombu_does_well_passes(name):
    shown = try_one(name, laws=DOES_WELL)
    assert shown.reasons == {}
    assert set(shown.outcomes) == set(DOES_WELL)


@THEIR_WARNINGS
@pytest.mark.parametrize("name", HERE)
def test_the_known_defects_fail_and_no_other_way(name):
    laws = [defect.law for defect in DEFECTS if defect.harness == name]
    shown = try_one(name, laws=laws) if laws else Shown(name, "", "", {}, {})
    assert set(shown.outcomes.values()) <= {Outcome.FAIL}, shown.reasons
    assert len(shown.outcomes) == len(laws)


def test_the_schemes_are_known_only_during_a_trial():
    with pytest.raises(UnknownScheme):
        brokerkit.connect("kombu+memory://x")
    harness = load("brokerkit_conformance.incumbent:KombuMemory")
    harness.start()
    harness.start()
    assert registry.installed("transport")["kombu"][0].distribution.startswith("brokerkit-incumbent ")
    harness.stop()
    harness.stop()
    assert "kombu" not in registry.installed("transport")


def test_a_defect_that_does_not_show_is_told():
    first = DEFECTS[0]
    shown = Shown(first.harness, "Redis", "NONCONFORMANT", {first.law: Outcome.FAIL}, {first.law: "it | is\nlost"})
    assert missed([shown]) == list(DEFECTS[1:])
    assert missed([]) == list(DEFECTS)
    passed = Shown(first.harness, "Redis", "CONFORMANT", {first.law: Outcome.PASS}, {})
    assert first in missed([passed])


def test_remarks_and_defects_are_about_laws():
    assert {defect.law for defect in DEFECTS} | set(REMARKS) <= {law.id for law in catalogue()}


def test_a_page_can_be_made_of_anything_that_was_shown(monkeypatch):
    monkeypatch.setattr("brokerkit_conformance.incumbent.page.version", lambda name: "1.0")
    shown = Shown(
        "KombuSQLite", "SQLite 3", "NONCONFORMANT", {"PUB-01": Outcome.PASS, "VIS-08": Outcome.FAIL}, {"VIS-08": "a|b"}
    )
    text = render([shown])
    assert "| SQL | VIS-08 | sqlalchemy (SQLite) | FAIL | a\\|b |" in text
    assert "| L1 | VIS-09 | redis | not asked |  |" in text
