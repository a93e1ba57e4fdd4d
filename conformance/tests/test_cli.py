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
    code, shown = command("run", MEMORY, "--case", "CLN-02,CLN-08", "--json")
    report = json.loads(shown.out)
    assert (code, report["verdict"], report["totals"]) == (0, "CONFORMANT", {"PASS": 2})
    assert report["cases"][0]["measured"] == {"threads left": 0}


def test_a_level_is_conformant_when_all_its_laws_are(command):
    code, shown = command("run", MEMORY, "--level", "fanout", "--json")
    report = json.loads(shown.out)
    assert (code, report["levels"]["fanout"]["verdict"], report["levels"]["fanout"]["laws"]) == (0, "CONFORMANT", 17)
    assert report["levels"]["fanout"]["impossible"] == 2
    assert report["not_yet_in_this_suite"] == [law.id for law in catalogue() if law.since is None]


def test_a_level_that_does_not_apply_is_said_so_and_not_claimed(command, tmp_path):
    path = tmp_path / "harness.py"
    path.write_text(
        "from brokerkit_conformance.reference import MemoryHarness\n"
        "class Results(MemoryHarness):\n"
        "    def results_urls(self): return MemoryHarness.urls(self)\n"
        "    def urls(self): return ()\n"
    )
    code, shown = command("run", f"{path}:Results", "--level", "fanout")
    assert code == 2
    assert shown.out.startswith("INCOMPLETE")
    assert "fanout: DOES_NOT_APPLY, no law of this level applies to this engine" in " ".join(shown.out.split())
    assert command("run", f"{path}:Results", "--level", "fanout", "--allow-incomplete")[0] == 0


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("run", MEMORY, "--area", "XYZ"), 64),
        (("run", MEMORY, "--level", "perfect"), 64),
        (("run",), 64),
        (("frobnicate",), 64),
        (("run", MEMORY, "--case", "ABC-01"), 64),
        (("run", "no.such:Harness"), 10),
        (("run", "nobody"), 10),
        (("verify", "/no/such/report.json"), 66),
    ],
)
def test_misuse_and_harnesses_that_do_not_work_have_their_own_codes(command, args, code):
    assert command(*args)[0] == code


def test_the_list_shows_what_is_not_yet_there(command):
    code, shown = command("list", "--area", "CLK", "--json")
    laws = json.loads(shown.out)
    assert (code, len(laws), [law["since"] for law in laws]) == (
        0,
        6,
        [c.since for c in catalogue() if c.area == "CLK"],
    )


def test_one_case_can_be_run_again(command):
    code, shown = command("run", MEMORY, "--case", "red-01,RED-02")
    assert code == 0
    assert shown.out.startswith("CONFORMANT on the cases RED-01, RED-02")
    assert "every level is INCOMPLETE" in " ".join(shown.out.split())


def test_the_help_lists_the_exit_codes(command):
    _, shown = command("--help")
    text = " ".join(shown.out.replace("│", " ").split())
    for words in ("0 CONFORMANT", "2 INCOMPLETE", "13 UNDECLARED", "20 edited", "21 truncated", "64 a mistake"):
        assert words in text


def test_only_some_mutants(command):
    code, shown = command("mutants", "--only", "counts-from-zero", "--json")
    score = json.loads(shown.out)
    assert (code, score["killed"], score["survived"]) == (0, ["counts-from-zero"], [])
