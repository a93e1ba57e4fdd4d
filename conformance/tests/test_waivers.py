"""Known failures: what a waivers file may say, and what it may not."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta

import pytest
from brokerkit_conformance import cli, waivers
from brokerkit_conformance.catalogue import catalogue
from brokerkit_conformance.waivers import WaiverError

TODAY = date(2026, 6, 1)
GOOD = {
    "case": "RED-03",
    "kind": "bug",
    "text": "attempts are counted from zero",
    "issue": "https://example.org/acme/issues/12",
    "owner": "the Acme team",
    "expires": "2026-08-30",
}


def read(*tables):
    return waivers.from_plain(tables, today=TODAY)


def test_a_waiver_of_ninety_days_counts():
    (waiver,) = read(GOOD)
    assert (waiver.case, waiver.expires) == ("RED-03", date(2026, 8, 30))
    assert waivers.from_plain([waivers.plain(waiver)], today=TODAY) == [waiver]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"case": "RED-99"}, "RED-99 is unknown to this suite"),
        ({"case": "RED-*"}, "RED-* is a wildcard"),
        ({"case": "RED"}, "RED is a wildcard"),
        ({"case": "RED-03,RED-04"}, "is a wildcard"),
        ({"case": "PUB-02"}, "PUB-02 cannot be waived: nobody may excuse loss"),
        ({"case": "FAN-02"}, "FAN-02 cannot be waived"),
        ({"case": "URL-10"}, "URL-10 cannot be waived"),
        ({"kind": "flaky"}, "kind is 'flaky'"),
        ({"issue": "soon"}, "it must be the URL of one issue"),
        ({"issue": "https://example.org/"}, "it must be the URL of one issue"),
        ({"expires": "2026-05-31"}, "the waiver expired on 2026-05-31"),
        ({"expires": "2026-08-31"}, "the waiver expires in 91 days; 90 is the most"),
        ({"expires": "never"}, "expires is missing, or no date"),
        ({"owner": " "}, "owner is missing"),
        ({"reason": "none"}, "unknown key reason"),
        ({"config": 3}, "config is no text"),
    ],
)
def test_what_a_waiver_may_not_say(change, text):
    with pytest.raises(WaiverError) as refused:
        read(GOOD | change)
    assert any(text in fault for fault in refused.value.faults), refused.value.faults


@pytest.mark.parametrize("key", sorted(GOOD))
def test_nothing_may_be_left_out(key):
    with pytest.raises(WaiverError, match=f"{key} is missing"):
        read({name: value for name, value in GOOD.items() if name != key})


def test_one_issue_is_no_umbrella_for_many_cases():
    three = [GOOD | {"case": case} for case in ("RED-01", "RED-02", "RED-03")]
    assert len(read(*three)) == 3
    with pytest.raises(WaiverError, match="is an umbrella for 4 cases"):
        read(*three, GOOD | {"case": "RED-04", "issue": GOOD["issue"] + "/"})


def test_a_case_is_waived_once():
    with pytest.raises(WaiverError, match="RED-03 is waived 2 times"):
        read(GOOD, GOOD | {"issue": "https://example.org/2/2"})


def test_a_waiver_may_be_for_one_harness():
    mine, every = read(GOOD | {"config": "acme"}, GOOD | {"case": "RED-04"})
    assert waivers.for_config([mine, every], "acme", "m:Harness") == [mine, every]
    assert waivers.for_config([mine, every], "other", "m:Harness") == [every]


def test_the_catalogue_says_what_nobody_can_waive():
    unwaivable = [law for law in catalogue() if not law.waivable]
    assert all(law.duty == "MUST" for law in unwaivable)
    assert {"ACK-01", "CON-04", "EVI-16", "URL-10", "HAR-02"} <= {law.id for law in unwaivable}
    assert not any(law.waivable for law in catalogue() if law.gate == "H")


# -- by the command -----------------------------------------------------------------------------------------------------

FAILING = """
import brokerkit.memory as memory
from brokerkit_conformance.reference import MemoryHarness

class Harness(MemoryHarness):
    def start(self):
        self._counted = counted = memory.MemoryServer._lease
        def from_zero(*args):
            received = counted(*args)
            received.attempt -= 1
            return received
        memory.MemoryServer._lease = from_zero

    def stop(self):
        memory.MemoryServer._lease = self._counted
"""


@pytest.fixture
def run(capsys, tmp_path):
    """Runs RED-03, on a plugin that fails it or on a sound one, with a waivers file."""
    tmp_path.joinpath("failing.py").write_text(FAILING)

    def run(waived, *, sound=False):
        text = "".join(
            f"[[waiver]]\n{chr(10).join(f'{k} = {json.dumps(v)}' for k, v in one.items())}\n" for one in waived
        )
        tmp_path.joinpath("waivers.toml").write_text(text)
        harness = "memory" if sound else f"{tmp_path}/failing.py:Harness"
        with pytest.raises(SystemExit) as ended:
            cli.main(["run", harness, "--case", "RED-03", "--json", "--waivers", f"{tmp_path}/waivers.toml"])
        shown = capsys.readouterr()
        return ended.value.code, json.loads(shown.out) if shown.out else None, " ".join(shown.err.split())

    return run


@pytest.fixture
def good():
    return GOOD | {"expires": (datetime.now(UTC).date() + timedelta(days=30)).isoformat()}


def test_a_waived_case_runs_and_says_how_it_failed(run, good):
    code, report, _ = run([good])
    assert (code, report["verdict"], report["totals"]) == (0, "CONFORMANT_WITH_WAIVERS", {"WAIVED": 1})
    assert report["evidence"][0]["outcome"] == "FAIL"
    assert report["evidence"][0]["reason"] in report["cases"][0]["reason"]


def test_without_its_waiver_the_case_fails(run):
    assert run([])[0] == 1


def test_a_waiver_of_a_case_that_passes_is_red(run, good):
    code, report, _ = run([good], sound=True)
    assert (code, report["verdict"], report["totals"]) == (1, "NONCONFORMANT", {"FIXED_REMOVE_WAIVER": 1})


def test_a_file_that_does_not_count_has_its_own_code_and_says_all_that_is_wrong(run, good):
    code, report, text = run([good | {"case": "URL-10"}, good | {"expires": "2020-01-01"}])
    assert (code, report) == (14, None)
    assert "URL-10 cannot be waived" in text
    assert "RED-03: the waiver expired on 2020-01-01" in text


@pytest.mark.parametrize(("text", "said"), [("not toml", "cannot be read"), ("waivers = []", "not waivers")])
def test_a_file_that_is_none_is_told(tmp_path, text, said):
    path = tmp_path / "waivers.toml"
    path.write_text(text)
    with pytest.raises(WaiverError, match=said):
        waivers.read(path)
    with pytest.raises(WaiverError, match="cannot be read"):
        waivers.read(tmp_path / "missing.toml")
