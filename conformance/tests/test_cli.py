"""The command, its exit codes and its report."""

from __future__ import annotations

import json

import pytest
from brokerkit_conformance import cli
from brokerkit_conformance.catalogue import catalogue

MEMORY = "brokerkit_conformance.reference:MemoryHarness"


@pytest.fixture
def command(capsys):
    def run(*args):
        with pytest.raises(SystemExit) as ended:
            cli.main([str(arg) for arg in args])
        return ended.value.code, capsys.readouterr()

    return run


def test_a_run_on_areas_gives_a_verdict_on_them_and_claims_no_level(command, tmp_path):
    code, shown = command("run", MEMORY, "--area", "red,ord", "--report", tmp_path)
    assert code == 0
    text = " ".join(shown.out.split())
    assert text.startswith("CONFORMANT on the areas RED, ORD: brokerkit-messaging")
    assert "every level is INCOMPLETE" in text
    report = json.loads((tmp_path / "report.json").read_text())
    assert {level["verdict"] for level in report["levels"].values()} == {"INCOMPLETE"}
    assert report["suite"]["catalogue"] == catalogue().digest
    assert report["capabilities"]["transport"]["lease.scope"] == "message"
    assert {c["id"] for c in report["cases"]} == {law.id for law in catalogue() if law.area in ("RED", "ORD")}


def test_json_is_the_report_and_nothing_else(command):
    code, shown = command("run", MEMORY, "--area", "CLN", "--json")
    report = json.loads(shown.out)
    assert (code, report["verdict"], report["totals"]) == (0, "CONFORMANT", {"PASS": 2})
    assert report["cases"][1]["measured"] == {"threads left": 0}


def test_a_level_is_conformant_when_all_its_laws_are(command):
    code, shown = command("run", MEMORY, "--level", "scale", "--json")
    report = json.loads(shown.out)
    assert (code, report["levels"]) == (0, {"scale": {"verdict": "CONFORMANT", "shown": 1, "laws": 5}})
    assert "PRE-06" in report["not_yet_in_this_suite"]


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("run", MEMORY, "--area", "XYZ"), 64),
        (("run", MEMORY, "--level", "perfect"), 64),
        (("run",), 64),
        (("frobnicate",), 64),
        (("run", "no.such:Harness"), 3),
        (("run", "nobody"), 3),
        (("verify", "/no/such/report.json"), 3),
    ],
)
def test_misuse_and_harnesses_that_do_not_work_have_their_own_codes(command, args, code):
    assert command(*args)[0] == code


def test_a_level_without_any_case_is_incomplete(command):
    code, shown = command("run", MEMORY, "--level", "clock")
    assert code == 2
    assert shown.out.startswith("INCOMPLETE")
    assert "not yet in this suite: 6 laws (CLK 6)" in shown.out


def test_the_list_shows_what_is_not_yet_there(command):
    code, shown = command("list", "--area", "EVI", "--json")
    laws = json.loads(shown.out)
    assert (code, len(laws), {law["since"] for law in laws}) == (0, 16, {None})


@pytest.fixture
def report(command, tmp_path):
    command("run", MEMORY, "--area", "ORD", "--report", tmp_path)
    return tmp_path / "report.json"


def test_verify_computes_the_verdict_again(command, report):
    assert command("verify", report)[0] == 0


def changed(report, change):
    content = json.loads(report.read_text())
    change(content)
    report.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda r: r["cases"][0].update(outcome="FAIL"), "its outcomes give NONCONFORMANT"),
        (lambda r: r["cases"][0].update(outcome="NOT_RUN"), "its outcomes give INCOMPLETE"),
        (lambda r: r["cases"].pop(0), "ORD-01 belongs to its scope, and is left out"),
        (lambda r: r["cases"][0].update(expected="not yet", reason="", seconds=None), "but it is"),
        (lambda r: r["cases"][0].update(version=9), "the record is of version 9"),
        (lambda r: r["suite"].update(catalogue="sha256:other"), "its catalogue is not this suite's"),
        (lambda r: r.update(schema=99), "its schema is 99"),
        (lambda r: r.pop("scope"), "this is no report of ours"),
    ],
)
def test_an_edited_or_old_report_is_invalid(command, report, change, text):
    changed(report, change)
    code, shown = command("verify", report)
    assert code == 3
    assert text in " ".join(shown.err.split())


def test_a_report_that_is_no_json_is_invalid(command, report):
    report.write_text("not json")
    assert command("verify", report)[0] == 3


def test_only_some_mutants(command):
    code, shown = command("mutants", "--only", "counts-from-zero", "--json")
    score = json.loads(shown.out)
    assert (code, score["killed"], score["survived"]) == (0, ["counts-from-zero"], [])
