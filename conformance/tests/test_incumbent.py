"""kombu on trial: the bridge does what kombu does, and the suite shows what was known of kombu before."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
from brokerkit_conformance.catalogue import catalogue
from brokerkit_conformance.harness import load
from brokerkit_conformance.incumbent import remarks
from brokerkit_conformance.incumbent.defects import DEFECTS
from brokerkit_conformance.incumbent.page import missed, render
from brokerkit_conformance.incumbent.remarks import Whose, remark_on
from brokerkit_conformance.incumbent.shown import Shown
from brokerkit_conformance.incumbent.tables import COLUMNS, short
from brokerkit_conformance.incumbent.trying import try_one
from brokerkit_conformance.model import HarnessError, Outcome

import brokerkit
from brokerkit import registry
from brokerkit.errors import UnknownScheme

PAGE = Path(__file__).parents[2] / "docs" / "incumbent.md"
DOES_WELL = ["PUB-01", "PUB-03", "PUB-05", "ACK-01", "ACK-02", "PRE-01", "VIS-12"]


@pytest.mark.parametrize("name", COLUMNS)
def test_what_kombu_does_well_passes_and_the_known_defects_fail(name):
    defects = [defect.law for defect in DEFECTS if defect.harness == name]
    shown = try_one(name, laws=[*defects, *DOES_WELL], jobs=6, seconds=55)
    assert {law: reason for law, reason in shown.reasons.items() if law not in defects} == {}
    assert shown.outcomes == dict.fromkeys(defects, Outcome.FAIL) | dict.fromkeys(DOES_WELL, Outcome.PASS)
    assert not [law for law in defects if shown.reasons[law].startswith("hangs")]


def test_the_late_ack_is_shown_with_the_loss_that_it_leads_to():
    text = PAGE.read_text()
    assert re.search(r"\| L7 \| VIS-06 \| redis \| FAIL \| .*0 messages came, which is its loss", text)


def test_the_page_shows_the_six():
    rows = re.findall(r"^\| (\w+) \| (\w+-\d+) \| ([^|]+) \| (\w+) \| [^|]{20,}", PAGE.read_text(), re.MULTILINE)
    assert rows == [(d.name, d.law, COLUMNS[d.harness], "FAIL") for d in DEFECTS]
    assert [(d.name, d.law) for d in DEFECTS] == [
        ("L1", "VIS-09"),
        ("L3", "POI-01"),
        ("L4", "EVI-01"),
        ("L7", "VIS-06"),
        ("D1", "VIS-20"),
        ("SQL", "VIS-08"),
    ]


def test_the_page_names_no_place():
    assert not re.search(r"/(work|tmp|home|root)/|pypi|127\.0\.0\.1", PAGE.read_text())


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


def test_what_has_no_time_is_not_run_and_the_trial_ends():
    began = time.monotonic()
    shown = try_one("KombuMemory", laws=["VIS-12", "PUB-01"], seconds=0.0)
    assert time.monotonic() - began < 30
    assert shown.outcomes == dict.fromkeys(["VIS-12", "PUB-01"], Outcome.NOT_RUN)


def test_a_trial_whose_process_dies_is_told_and_ends(monkeypatch):
    started = []

    def kill_it(*arguments, **keywords):
        process = popen(*arguments, **keywords)
        started.append(process)
        os.kill(process.pid, signal.SIGKILL)
        return process

    popen = subprocess.Popen
    monkeypatch.setattr("subprocess.Popen", kill_it)
    shown = try_one("KombuMemory", laws=["PUB-01"], seconds=30)
    assert shown.outcomes == {"PUB-01": Outcome.ERROR}
    assert len(started) == 1
    assert started[0].returncode == -signal.SIGKILL


def test_a_harness_that_cannot_be_tried_is_an_error():
    with pytest.raises(HarnessError, match="KombuNothing"):
        try_one("KombuNothing", laws=["PUB-01"], seconds=30)


def test_a_defect_that_does_not_show_is_told():
    first = DEFECTS[0]
    shown = Shown(first.harness, "Redis", {first.law: Outcome.FAIL}, {first.law: "it | is\nlost"})
    assert missed([shown]) == list(DEFECTS[1:])
    assert missed([]) == list(DEFECTS)
    passed = Shown(first.harness, "Redis", {first.law: Outcome.PASS}, {})
    assert first in missed([passed])


def test_remarks_and_defects_are_about_laws_and_harnesses():
    known = {law.id for law in catalogue()}
    assert {defect.law for defect in DEFECTS} <= known
    assert {law for _, law in remarks._REMARKS} <= known
    assert {harness for harness, _ in remarks._REMARKS} <= {"", *COLUMNS}


def test_a_failure_is_somebodys_or_unread():
    assert remark_on("KombuRedis", "VIS-06").whose is Whose.KOMBU
    assert remark_on("KombuRedis", "PUB-07").whose is Whose.CONTRACT
    assert remark_on("KombuRedis", "HAR-01").whose is Whose.UNREAD


@pytest.mark.parametrize(
    ("reason", "cell"),
    [
        ("a | b", "a \\| b"),
        ("Traceback\n  x\nValueError: wrong", "ValueError: wrong"),
        ("hangs: no end after 30 s\n  File x\n    y()", "hangs: no end after 30 s"),
        ("message 01a1fc683ff0720f9349d3990d448549 of bk51bd8c50-vis-01-q", "message … of vis-01-q"),
        ("open /root/.local/file.py failed", "open …/file.py failed"),
        ("it never came; its log: x\n\n [a.py:1]", "it never came"),
        ("it ended with code 1:\nTraceback\n  x\nError: wrong\n [a.py:1]", "Error: wrong"),
        ("  + Traceback\n    | ValueError: wrong\n    +------", "\\| ValueError: wrong"),
        ("", ""),
        ("x" * 200, "x" * 149 + "…"),
    ],
)
def test_a_reason_fits_a_cell(reason, cell):
    assert short(reason) == cell


def test_a_page_can_be_made_of_anything_that_was_shown(monkeypatch):
    monkeypatch.setattr("brokerkit_conformance.incumbent.page.version", lambda name: "1.0")
    outcomes = {
        "PUB-01": Outcome.PASS,
        "VIS-08": Outcome.FAIL,
        "PUB-07": Outcome.FAIL,
        "ORD-08": Outcome.UNCLAIMED,
        "EVI-11": Outcome.NOT_RUN,
        "PUB-02": Outcome.FAIL,
    }
    reasons = {"VIS-08": "a|b", "PUB-07": "no", "ORD-08": "more", "EVI-11": "cannot", "PUB-02": "hangs: no end"}
    text = render([Shown("KombuSQLite", "SQLite 3", outcomes, reasons)])
    assert "| SQL | VIS-08 | sqlalchemy (SQLite) | FAIL | a\\|b |" in text
    assert "| L1 | VIS-09 | redis | not asked |  |" in text
    assert "| PUB Publish / consume | 1 |  |  |  | 1 |  |  | 1 |" in text
    assert "| **all** | 1 |  | 1 | 1 | 1 |  |  | 2 |" in text
    assert "| sqlalchemy (SQLite) | cannot | EVI-11 |" in text
    assert "| sqlalchemy (SQLite) | hangs: no end | PUB-02 |" in text
    assert Counter(re.findall(r"^\| PUB-07 \| (.*?) \|", text, re.MULTILINE)) == {"sqlalchemy (SQLite)": 1}
