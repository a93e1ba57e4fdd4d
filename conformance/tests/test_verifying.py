"""What a report.json is worth: computed again from its raw outcomes, and doubted where it must be."""

from __future__ import annotations

import copy
import json
from datetime import date
from functools import cache

import pytest
from brokerkit_conformance import cli
from brokerkit_conformance.catalogue import catalogue
from brokerkit_conformance.reference import MemoryHarness
from brokerkit_conformance.report import seal
from brokerkit_conformance.trial import Trial
from brokerkit_conformance.verdict import Verdict
from brokerkit_conformance.verifying import Distrust, verify

TODAY = date(2026, 6, 1)


@cache
def made():
    trial = Trial(MemoryHarness(), areas=["RED", "PRE"])
    trial.run()
    return trial.report()


def text_of(change=lambda report: None, *, sealed=True):
    report = copy.deepcopy(made())
    change(report)
    return json.dumps(seal(report) if sealed else report)


def verified(*args, **kwargs):
    return verify(text_of(*args, **kwargs), catalogue(), today=TODAY)


def test_a_report_as_it_was_made_is_believed():
    found = verified(sealed=False)
    assert (found.verdict, found.distrust, found.exit_code) == (Verdict.CONFORMANT, None, 0)
    assert found.levels == made()["levels"]


def case(report, law_id="RED-01"):
    return next(each for each in report["cases"] if each["id"] == law_id)


def record(report, law_id="RED-01"):
    return next(each for each in report["evidence"] if each["id"] == law_id)


def remove(report, law_id, *parts):
    for part in parts:
        report[part] = [each for each in report[part] if each["id"] != law_id]


# each is sealed anew, as somebody would who knows how
EDITS = [
    (lambda r: r.update(verdict="INVALID"), "it claims INVALID, but its outcomes give CONFORMANT"),
    (lambda r: record(r).update(outcome="FAIL"), "its outcomes give NONCONFORMANT"),
    (lambda r: remove(r, "RED-01", "evidence"), "its outcomes give INCOMPLETE"),
    (lambda r: remove(r, "RED-01", "evidence", "cases"), "RED-01 belongs to its scope, and is left out"),
    (lambda r: remove(r, "RED-01", "cases"), "RED-01 belongs to its scope, and is left out"),
    (lambda r: case(r).update(outcome="FAIL"), "RED-01 is said to be FAIL, and its record gives PASS"),
    (lambda r: case(r).update(expected="impossible", outcome=None), "RED-01 is said to be None"),
    (lambda r: case(r).update(duty="INFO"), "RED-01: its duty are not what its record gives"),
    (lambda r: record(r).update(version=9), "its outcomes give INVALID"),
    (lambda r: r["evidence"].append(record(r)), "its outcomes give INVALID"),
    (lambda r: r["totals"].update(PASS=99), "its totals are not those of its outcomes"),
    (lambda r: r["levels"]["core"].update(verdict="CONFORMANT"), "its levels are not what its outcomes give"),
    (lambda r: r["not_yet_in_this_suite"].pop(), "what it calls not yet in this suite is not"),
    (lambda r: r["flaws"].append("?"), "its flaws are not those of its evidence"),
    (lambda r: r["declared"]["transport"].update(attempts="flag"), "its outcomes give INVALID"),
    (lambda r: r["declared"]["transport"].update(attempts="often"), "transport.attempts cannot be 'often'"),
    (lambda r: r["scope"].update(areas=["RED"]), "its outcomes give INVALID"),
    (lambda r: record(r).update(outcome="WAIVED"), "outcome cannot be 'WAIVED'"),
    (lambda r: r.pop("scope"), "scope is missing"),
    (lambda r: r.update(badge="gold"), "badge is unknown"),
    (
        lambda r: r["waivers"].append(
            {
                "case": "PUB-02",
                "kind": "bug",
                "text": "x",
                "issue": "https://e.org/1",
                "owner": "x",
                "expires": "2026-12-01",
                "config": "",
            }
        ),
        "its waivers do not count: PUB-02 cannot be waived",
    ),
]


@pytest.mark.parametrize(("change", "text"), EDITS, ids=[str(n) for n in range(len(EDITS))])
def test_an_edited_report_is_not_believed(change, text):
    found = verified(change)
    assert (found.distrust, found.verdict, found.exit_code) == (Distrust.EDITED, Verdict.INVALID, 20)
    told = " ".join(found.reasons)
    assert text in told, told


def test_an_edit_that_fits_is_shown_by_the_digest():
    found = verified(lambda r: r.update(system="a much better one"), sealed=False)
    assert found.distrust is Distrust.EDITED
    assert found.reasons == ("it was edited: its content is not what its digest was made of",)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.9999])
def test_a_truncated_report_is_told(part):
    whole = text_of()
    found = verify(whole[: int(len(whole) * part)], catalogue(), today=TODAY)
    assert (found.distrust, found.exit_code) == (Distrust.TRUNCATED, 21)
    assert "it is truncated: it ends after" in found.reasons[0]


def test_a_report_that_was_edited_by_hand_until_it_is_no_json_is_told():
    found = verify(text_of().replace('"RED"', "'RED'"), catalogue(), today=TODAY)
    assert found.distrust is Distrust.EDITED
    assert "no JSON any more" in found.reasons[0]


@pytest.mark.parametrize(
    "text", ["", "not json", "[]", "{}", '"text"', '{"format": "pytest"}', '{"schema": 1, "cases": []}']
)
def test_a_foreign_file_is_told(text):
    found = verify(text, catalogue(), today=TODAY)
    assert (found.distrust, found.exit_code) == (Distrust.FOREIGN, 22)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda r: r.update(schema=1), "it has schema 1, and this suite reads 2"),
        (lambda r: r["suite"].update(version="0.0.9"), "it was made by suite 0.0.9"),
        (lambda r: r["suite"].update(catalogue="sha256:" + 64 * "0"), "its catalogue is not this suite's"),
        (lambda r: r["suite"].update(files="sha256:" + 64 * "0"), "it was made by other files than this suite's"),
        (lambda r: r.update(suite=None), "it was made by suite None"),
    ],
)
def test_a_report_of_another_suite_is_told(change, text):
    found = verified(change)
    assert (found.distrust, found.exit_code) == (Distrust.OTHER_SUITE, 23)
    assert text in found.reasons[0]


def test_waivers_that_have_expired_since_are_told():
    trial = Trial(MemoryHarness(), areas=["RED"])
    trial.run()
    waiver = {
        "case": "PUB-16",  # out of scope: it changes nothing else
        "kind": "bug",
        "text": "x",
        "issue": "https://e.org/1",
        "owner": "x",
        "expires": "",
        "config": "",
    }
    report = trial.report()
    report["waivers"] = [waiver | {"expires": report["made"][:10]}]
    found = verify(json.dumps(seal(report)), catalogue(), today=date(9999, 1, 1))
    assert found.verdict is Verdict.CONFORMANT
    assert found.expired == [f"PUB-16 was waived until {report['made'][:10]}"]


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        (text_of, 0, "CONFORMANT: "),
        (lambda: text_of(lambda r: r.update(verdict="INVALID")), 20, "it was edited: it claims INVALID"),
        (lambda: text_of()[:5000], 21, "it is truncated"),
        (lambda: "{}", 22, "no report of brokerkit-conformance"),
        (lambda: text_of(lambda r: r.update(schema=3)), 23, "it has schema 3"),
    ],
)
def test_the_command_says_it_with_a_code_of_its_own(capsys, tmp_path, text, code, said):
    path = tmp_path / "report.json"
    path.write_text(text())
    with pytest.raises(SystemExit) as ended:
        cli.main(["verify", str(path)])
    shown = capsys.readouterr()
    assert ended.value.code == code
    assert said in " ".join((shown.err + shown.out).split())
    assert ("core: INCOMPLETE" in shown.out) is (code == 0)
