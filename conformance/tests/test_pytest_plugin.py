"""The suite under pytest: whatever is selected, deselected or deleted, the verdict tells."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import brokerkit_conformance
import pytest
from brokerkit_conformance.catalogue import catalogue
from brokerkit_conformance.verifying import verify

SUITE = """
from brokerkit_conformance import suite
from brokerkit_conformance.reference import MemoryHarness

TestConformance = suite(MemoryHarness, areas=["ORD", "RED"])
"""
FAILING = """
import brokerkit.memory as memory
counted = memory.MemoryServer._lease
def from_zero(*args):
    received = counted(*args)
    received.attempt -= 1
    return received
memory.MemoryServer._lease = from_zero
"""


@pytest.fixture
def run(tmp_path):
    def run(*args, text=SUITE, **env):
        tmp_path.joinpath("test_it.py").write_text(text)
        tmp_path.joinpath("pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--brokerkit-report", "out", *args],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
            env={**os.environ, **env},
        )
        report = tmp_path / "out" / "report.json"
        return done, json.loads(report.read_text()) if report.exists() else None

    return run


def test_one_test_a_law_and_one_for_the_verdict(run):
    done, report = run("-v")
    assert done.returncode == 0, done.stdout
    assert "test_law[RED-01] PASSED" in done.stdout
    assert done.stdout.index("test_law[ORD-03]") < done.stdout.index("test_verdict PASSED")
    assert "CONFORMANT" in done.stdout
    assert "skipped" not in done.stdout
    assert report["verdict"] == "CONFORMANT"
    assert report["scope"]["areas"] == ["ORD", "RED"]
    assert "RED-07" in {case["id"] for case in report["cases"] if case["expected"] == "impossible"}


@pytest.mark.parametrize(
    "args",
    [("-k", "RED-01 or verdict"), ("--deselect", "test_it.py::TestConformance::test_law[RED-02]")],
)
def test_what_was_deselected_makes_it_incomplete(run, args):
    done, report = run(*args)
    assert done.returncode == 1
    assert report["verdict"] == "INCOMPLETE"
    assert "Not shown to work" in done.stdout
    assert {c["id"]: c["outcome"] for c in report["cases"]}["RED-02"] == "NOT_RUN"


def test_k_that_leaves_only_green_tests_is_still_incomplete(run):
    done, report = run("-k", "RED-01")
    assert "1 passed" in done.stdout
    assert "INCOMPLETE" in done.stdout
    assert report["verdict"] == "INCOMPLETE"


def test_x_after_a_foreign_failure_is_incomplete(run):
    done, report = run("-x", text="def test_another_thing():\n    assert False\n" + SUITE)
    assert done.returncode == 1
    assert report["verdict"] == "INCOMPLETE"
    assert report["totals"]["NOT_RUN"] >= 8


def test_x_after_a_failed_law_shows_the_failure_and_what_did_not_run(run):
    done, report = run("-x", text=FAILING + SUITE)
    assert report["verdict"] == "NONCONFORMANT"
    assert report["totals"]["FAIL"] == 1
    assert report["totals"]["NOT_RUN"] >= 5
    assert "Not shown to work" in done.stdout


def test_a_failed_law_says_what_was_asked_and_what_was_seen(run):
    done, report = run(text=FAILING + SUITE)
    assert done.returncode == 1
    assert "must: count==1, redelivered False" in done.stdout
    assert "the first delivery is attempt 0" in done.stdout
    assert report["verdict"] == "NONCONFORMANT"


@pytest.fixture
def copied_suite(tmp_path_factory):
    """A copy of the suite that a test may damage, found before the installed one."""
    where = tmp_path_factory.mktemp("copy") / "brokerkit_conformance"
    shutil.copytree(Path(brokerkit_conformance.__file__).parent, where)
    return where


@pytest.mark.parametrize("damage", ["delete", "break"])
def test_a_deleted_or_broken_case_file_makes_it_incomplete(run, copied_suite, damage):
    path = copied_suite / "cases" / "red.py"
    path.unlink() if damage == "delete" else path.write_text("import no_such_module\n")
    done, report = run(PYTHONPATH=str(copied_suite.parent))
    assert done.returncode == 1
    assert report["verdict"] == "INCOMPLETE"
    reasons = {c["reason"] for c in report["cases"] if c["outcome"] == "NOT_RUN"}
    expected = "this suite has no case of RED-01" if damage == "delete" else "red.py cannot be imported"
    assert any(expected in reason for reason in reasons), reasons


def test_a_subclass_cannot_override_a_law(run):
    text = SUITE + (
        "\nclass TestMine(TestConformance):\n    def test_law(self, law_id):\n        pass\ndel TestConformance\n"
    )
    done, report = run(text=text)
    assert done.returncode == 1
    assert report["verdict"] == "INCOMPLETE"


def test_a_mark_cannot_skip_or_excuse_a_law(run):
    text = "import pytest\n" + FAILING + SUITE + "\nTestConformance = pytest.mark.xfail(TestConformance)\n"
    _, report = run(text=text)
    assert report["verdict"] == "NONCONFORMANT"
    skipped = "import pytest\n" + SUITE + "\nTestConformance = pytest.mark.skip(TestConformance)\n"
    _, report = run(text=skipped)
    assert report["verdict"] == "INCOMPLETE"


def test_several_workers_merge_what_they_found_into_one_report(run, tmp_path):
    alone, single = run()
    assert alone.returncode == 0, alone.stdout
    shutil.rmtree(tmp_path / "out")
    done, report = run("-n", "2")
    assert done.returncode == 0, done.stdout
    assert "CONFORMANT" in done.stdout
    assert f"{report['totals']['PASS']} PASS" in done.stdout
    for part in ("verdict", "totals", "levels", "scope", "declared", "plugins", "not_yet_in_this_suite"):
        assert report[part] == single[part], part
    assert {row["id"] for row in report["evidence"]} == {row["id"] for row in single["evidence"]}
    assert any(row["measured"] for row in report["evidence"])
    assert sorted(each.name for each in tmp_path.joinpath("out").iterdir())[1:] == [
        "report.html",
        "report.json",
        "report.md",
    ]
    verified = verify(json.dumps(report), catalogue(), today=datetime.now(UTC).date())
    assert (str(verified.verdict), verified.reasons) == ("CONFORMANT", [])


def test_several_workers_that_were_not_asked_for_all_are_incomplete(run):
    done, report = run("-n", "2", "-k", "RED-01 or RED-02")
    assert "INCOMPLETE" in done.stdout
    assert done.returncode == 1
    assert report["verdict"] == "INCOMPLETE"
    assert report["totals"]["PASS"] == 2


def test_several_workers_tell_what_failed_and_how(run):
    done, report = run("-n", "2", text=FAILING + SUITE)
    assert (done.returncode, report["verdict"]) == (1, "NONCONFORMANT")
    assert {row["id"]: row["reason"] for row in report["evidence"]}["RED-01"].startswith(
        "the first delivery is attempt 0"
    )


def test_what_a_crashed_worker_had_found_is_missing(run):
    # the first worker to come here dies with what it found so far, as by a segmentation fault
    crash = """
import os, pathlib
def test_crash():
    flag = pathlib.Path("crashed")
    if not flag.exists():
        flag.touch()
        os._exit(3)
"""
    done, report = run("-n", "2", "--max-worker-restart", "0", text=SUITE + crash)
    assert done.returncode != 0
    assert report["verdict"] == "INCOMPLETE"
    assert "\nINCOMPLETE\n" in done.stdout
    done, _ = run("-n", "1", "--max-worker-restart", "0", text=SUITE + crash.replace('"crashed"', '"again"'))
    assert done.returncode != 0
    assert "INCOMPLETE: no worker came back with evidence" in done.stdout


RERUN = """
import pytest
from _pytest.runner import runtestprotocol

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    for attempt in range(3):
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        if all(report.passed for report in reports):
            break
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    return True
"""


def test_reruns_cannot_make_a_failure_green(run, tmp_path):
    tmp_path.joinpath("conftest.py").write_text(RERUN)
    done, report = run(text=FAILING + SUITE)
    assert done.returncode == 1
    assert report["verdict"] in ("NONCONFORMANT", "INVALID")
    assert any("RED-01 has 3 records" in flaw for flaw in report["flaws"])


WAIVERS = """
[[waiver]]
case = "RED-03"
kind = "bug"
text = "attempts are counted from zero"
issue = "https://example.org/acme/issues/12"
owner = "the Acme team"
expires = {expires}
"""


def test_a_waiver_excuses_its_case_alone(run, tmp_path):
    expires = datetime.now(UTC).date() + timedelta(days=30)
    tmp_path.joinpath("waivers.toml").write_text(WAIVERS.format(expires=expires))
    done, report = run("-v", "--brokerkit-waivers", "waivers.toml", text=FAILING + SUITE)
    assert "test_law[RED-03] PASSED" in done.stdout
    assert "test_law[RED-01] FAILED" in done.stdout
    assert {c["id"]: c["outcome"] for c in report["cases"]}["RED-03"] == "WAIVED"
    done, report = run("--brokerkit-waivers", "waivers.toml")
    assert (done.returncode, report["totals"]["FIXED_REMOVE_WAIVER"]) == (1, 1)
    tmp_path.joinpath("waivers.toml").write_text(WAIVERS.format(expires="2020-01-01"))
    done, report = run("--brokerkit-waivers", "waivers.toml")
    assert done.returncode != 0
    assert "RED-03: the waiver expired on 2020-01-01" in done.stdout + done.stderr


def test_an_absent_server_is_incomplete(run):
    text = SUITE + (
        "\nclass Absent(MemoryHarness):\n    def start(self):\n        raise OSError('no acmed')\n"
        "TestConformance = suite(Absent, areas=['RED'])\n"
    )
    done, report = run(text=text)
    assert done.returncode == 1
    assert (report["verdict"], set(report["totals"])) == ("INCOMPLETE", {"NOT_RUN"})
    assert "could not start its server: OSError: no acmed" in done.stdout


def test_the_installed_suite_runs_on_a_named_harness(run):
    done, report = run(
        "--pyargs", "brokerkit_conformance", "--brokerkit=brokerkit_conformance.reference:MemoryHarness", "-k", "RED"
    )
    assert "6 passed" in done.stdout
    assert report["verdict"] == "INCOMPLETE"


def test_the_installed_suite_without_a_harness_says_what_to_write(run):
    done, _ = run("--pyargs", "brokerkit_conformance")
    assert done.returncode != 0
    assert "name the harness: --brokerkit=module:Class" in done.stdout + done.stderr


def test_a_harness_that_cannot_be_made_is_one_sentence(run):
    done, _ = run("--pyargs", "brokerkit_conformance", "--brokerkit=nobody")
    assert done.returncode != 0
    assert "no harness 'nobody' is installed" in done.stdout + done.stderr
