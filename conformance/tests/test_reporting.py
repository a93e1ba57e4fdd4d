"""The four forms of a report: complete, of the right shape, self-contained, and without secrets."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from importlib.metadata import PathDistribution
from xml.etree import ElementTree as ET

import pytest
from brokerkit_conformance import reporting
from brokerkit_conformance.history import FaultKind, Promises, Tape, check
from brokerkit_conformance.identity import digest_of, modified_files
from brokerkit_conformance.model import Broken, Evidence, How, Outcome
from brokerkit_conformance.reference import MemoryHarness
from brokerkit_conformance.reporting import views
from brokerkit_conformance.reporting.junit import junit
from brokerkit_conformance.reporting.markdown import markdown
from brokerkit_conformance.reporting.page import page
from brokerkit_conformance.reporting.shape import misfits, report_schema
from brokerkit_conformance.runner import examine
from brokerkit_conformance.slices import rows_of
from brokerkit_conformance.trial import Trial

SECRET = "h&nter2<%"
HOSTILE = f'<script>alert("1")</script> | `x` ]]> \x00 amqp://ann:{SECRET}@host lost {SECRET}'


class Secretive(MemoryHarness):
    def options(self):
        return {"password": SECRET}


def double_owner():
    tape = Tape()
    tape.send("order-17", 0)
    first = tape.receive("ann", "order-17", 0.4, attempt=1, deadline=2.4)
    tape.fault(FaultKind.FREEZE, "bob", 0.9, 1.1)
    second = tape.receive("bob", "order-17", 1.6, attempt=2, deadline=3.6)
    tape.ack(first, 2.1)
    tape.ack(second, 2.3)
    return check(tape.history(), Promises(lease=2.0)).findings


@cache
def report():
    """Of a run in which every kind of trouble comes up."""
    trial = Trial(MemoryHarness(), areas=["RED", "ORD", "DLQ"])
    trial.harness = Secretive()
    outcomes = {
        "RED-01": (Outcome.FAIL, HOSTILE, rows_of(double_owner())),
        "RED-02": (Outcome.INCONCLUSIVE, "the fault had no effect", ()),
        "RED-03": (Outcome.ERROR, "tried to leave by Skipped", ()),
    }
    refusals = {each.id for each in trial.expectations if each.how is How.REFUSAL}
    for law in trial.runnable:
        good = Outcome.REFUSED_OK if law.id in refusals else Outcome.PASS
        outcome, reason, history = outcomes.get(law.id, (good, "", ()))
        record = Evidence(
            id=law.id, version=law.version, outcome=outcome, reason=reason, history=history, measured={SECRET: 1.5}
        )
        if law.id != "RED-04":
            trial.record([record])
        if law.id == "RED-05":
            trial.record([replace(record, outcome=Outcome.FAIL, reason="not the first time")])
    return trial.report()


def test_the_trouble_is_all_there():
    assert report()["verdict"] == "NONCONFORMANT"
    assert {"FAIL", "FLAKY", "INCONCLUSIVE", "ERROR", "NOT_RUN", "PASS"} == set(report()["totals"]) - {"REFUSED_OK"}


def test_the_report_fits_its_schema():
    assert list(misfits(json.loads(json.dumps(report())), report_schema())) == []


@pytest.mark.parametrize(
    ("value", "schema", "text"),
    [
        (True, {"type": "integer"}, "is bool, not integer"),
        ({}, {"type": "object", "required": ["a"]}, "a is missing"),
        ({"b": 1}, {"additionalProperties": False}, "b is unknown"),
        ({"b": 1}, {"additionalProperties": {"type": "string"}}, "b is int"),
        ([1, "x"], {"items": {"type": "integer"}}, "[1] is str"),
        ("x", {"pattern": "^y"}, "cannot be 'x'"),
        (-1, {"minimum": 0}, "is below 0"),
        ("x", {"enum": ["y"]}, "cannot be 'x'"),
        ("x", {"const": "y"}, "is 'x', not 'y'"),
    ],
)
def test_what_does_not_fit_a_schema_is_told(value, schema, text):
    assert any(text in misfit for misfit in misfits(value, schema))


def test_a_schema_that_is_not_understood_is_refused():
    with pytest.raises(ValueError, match="oneOf"):
        list(misfits(1, {"oneOf": []}))


@pytest.mark.parametrize("form", [json.dumps, junit, markdown, page])
def test_no_form_shows_a_secret(form):
    text = form(report())
    for spelling in (SECRET, "h&amp;nter2", "h%26nter2", "nter2"):
        assert spelling not in text


def test_junit_has_no_skipped_test_and_an_error_for_what_was_not_shown():
    root = ET.fromstring(junit(report()))
    (suite,) = root
    kinds = {case.get("name").split()[0]: [child.tag for child in case] for case in suite}
    assert kinds["RED-01"] == ["failure"]
    assert kinds["RED-05"] == ["failure"]
    assert kinds["RED-02"] == kinds["RED-03"] == kinds["RED-04"] == ["error"]
    assert kinds["RED-06"] == []
    assert kinds["NONCONFORMANT"] == ["failure"]
    assert suite.get("skipped") == "0"
    assert (int(suite.get("errors")), int(suite.get("failures"))) == (3, 3)
    assert int(suite.get("tests")) == len(kinds)


class Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.tags, self.addresses, self.headings = [], [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href", "action", "srcset")]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("h1", "h2"):
            self.headings.append(data)


def read_page():
    reader = Reader()
    reader.feed(page(report()))
    reader.close()
    return reader


def test_the_page_needs_nothing_else_and_is_well_formed():
    reader = read_page()
    assert reader.open == []
    assert reader.addresses == []
    assert not {"script", "link", "img", "iframe", "object"} & set(reader.tags)
    assert "url(" not in page(report())
    assert "@import" not in page(report())
    assert "&lt;script&gt;" in page(report())


def test_the_first_things_are_the_verdict_and_what_was_not_shown():
    assert read_page().headings[:3] == ["NONCONFORMANT", "Not shown to work", "Shown not to work"]
    text = markdown(report())
    assert text.startswith("# NONCONFORMANT: brokerkit-messaging")
    assert text.index("## Not shown to work") < text.index("## Shown not to work") < text.index("## Shown\n")


@pytest.mark.parametrize("form", [markdown, page])
def test_a_failure_has_its_history_and_a_command_to_run_it_again(form):
    text = form(report())
    plain = re.sub(r"<[^>]+>|\\", "", text)
    name = report()["harness"]["name"]
    assert f"brokerkit-conformance run {name} --case RED-01" in plain
    assert "double owner" in plain
    (last, *_) = reversed(rows_of(double_owner())[0]["rows"])
    for word in ("order-17", "ann", "bob", f"{last['at']:.3f}", f"{last['what']} {last['phase']}"):
        assert word in plain


def test_what_was_not_shown_is_grouped_the_worst_first():
    groups = {group.name: group.lines for group in views.not_shown(report())}
    assert list(groups)[:3] == ["NOT_RUN", "ERROR", "INCONCLUSIVE"]
    later = any(case["expected"] == "not yet" for case in report()["cases"])
    assert ("not yet in this suite" in groups) == later
    assert groups["NOT_RUN"][0][0] == "RED-04"


def test_declared_stands_beside_measured():
    trial = Trial(MemoryHarness(), cases=["VIS-01"])
    trial.run()
    promises = {promise.name: promise for promise in views.promises_of(trial.report())}
    assert promises["transport.redelivery.lease_end"].measured.startswith("VIS-01: ")
    assert promises["transport.redelivery.lease_end"].declared


def test_all_forms_are_written(tmp_path):
    path = reporting.write(report(), tmp_path / "out")
    assert sorted(each.name for each in path.parent.iterdir()) == [
        "junit.xml",
        "report.html",
        "report.json",
        "report.md",
    ]
    assert json.loads(path.read_text()) == json.loads(json.dumps(report()))


def test_a_case_hands_the_slices_of_a_broken_history_to_its_record():
    class Bench:
        def __init__(self):
            self.measured = {}

        def finish(self):
            pass

    def broken(bench):
        raise Broken(double_owner())

    slices = []
    outcome, reason, _ = examine(broken, Bench, slices=slices)
    assert (outcome, "order-17" in reason) == (Outcome.FAIL, True)
    assert [part["kind"] for part in slices] == [str(finding.kind) for finding in double_owner()]
    assert [row["at"] for row in slices[0]["rows"]] == sorted(row["at"] for row in slices[0]["rows"])


def test_a_digest_is_over_names_and_contents(tmp_path):
    tmp_path.joinpath("a.py").write_text("1")
    first = digest_of(tmp_path)
    tmp_path.joinpath("a.py").write_text("2")
    second = digest_of(tmp_path)
    tmp_path.joinpath("a.py").rename(tmp_path / "b.py")
    assert len({first, second, digest_of(tmp_path)}) == 3


def test_files_of_an_installed_suite_that_were_changed_are_named(tmp_path):
    info = tmp_path / "suite-1.dist-info"
    info.mkdir()
    names = {"same.py": "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU", "changed.py": "AAAA", "gone.py": "AAAA"}
    info.joinpath("RECORD").write_text("".join(f"{name},sha256={value},0\n" for name, value in names.items()))
    tmp_path.joinpath("same.py").write_text("")
    tmp_path.joinpath("changed.py").write_text("")
    assert modified_files(PathDistribution(info)) == ["changed.py", "gone.py"]
    assert modified_files() == []
