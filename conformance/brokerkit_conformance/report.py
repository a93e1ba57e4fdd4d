"""report.json: everything that a verdict rests on, so that anybody can compute it again."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from brokerkit.capabilities import promises
from brokerkit_conformance.catalogue import Catalogue, Law
from brokerkit_conformance.gates import Subject
from brokerkit_conformance.harness import Harness
from brokerkit_conformance.model import Evidence, Expectation, How, Outcome
from brokerkit_conformance.verdict import Judgement, Verdict, judge

__all__ = ["SCHEMA", "build", "verify", "write"]

SCHEMA: Final = 1


def build(
    *,
    harness: Harness,
    subject: Subject,
    laws: Sequence[Law],
    expectations: Iterable[Expectation],
    evidence: Sequence[Evidence],
    judgement: Judgement,
    catalogue: Catalogue,
    scope: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the report of a run as plain data.

    Args:
        harness: how the engine was reached; only its class is told, as its URLs may hold secrets.
        subject: what the plugin declares.
        laws: those that were asked for.
        expectations: of all laws of the catalogue.
        evidence: what was found.
        judgement: of that.
        catalogue: of this suite.
        scope: what was asked for: levels, areas.
    """
    how = {expectation.id: expectation for expectation in expectations}
    records = {record.id: record for record in evidence}
    return {
        "schema": SCHEMA,
        "suite": {"version": metadata.version("brokerkit-conformance"), "catalogue": catalogue.digest},
        "brokerkit": metadata.version("brokerkit-messaging"),
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "harness": f"{type(harness).__module__}:{type(harness).__qualname__}",
        "plugins": _plugins(harness),
        "capabilities": {
            "transport": dict(promises(subject.transport)) if subject.transport else None,
            "results": dict(promises(subject.results)) if subject.results else None,
        },
        "scope": dict(scope),
        "verdict": str(judgement.verdict),
        "levels": {level: _level(level, judgement, catalogue, whole=not scope["areas"]) for level in judgement.levels},
        "totals": dict(judgement.totals),
        "flaws": list(judgement.flaws),
        "cases": [_case(law, judgement, records.get(law.id), how[law.id]) for law in laws],
        "not_yet_in_this_suite": [law.id for law in catalogue if how[law.id].how is How.NOT_YET],
    }


def write(report: Mapping[str, Any], folder: Path) -> Path:
    """Write report.json into a folder, which is made; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "report.json"
    path.write_text(json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    return path


def verify(report: Any, catalogue: Catalogue) -> tuple[Verdict, list[str]]:
    """Compute the verdict of a report again from its raw outcomes; returns it, and what is wrong with the report."""
    try:
        wrong = _unreadable(report, catalogue)
        if wrong:
            return Verdict.INVALID, wrong
        asked = [catalogue[case["id"]] for case in report["cases"]]
        expectations = [Expectation(c["id"], How(c["expected"]), c["reason"]) for c in report["cases"]]
        evidence = [
            Evidence(id=c["id"], version=c["version"], outcome=Outcome(c["outcome"]), reason=c["reason"])
            for c in report["cases"]
            if How(c["expected"]).runs and c["seconds"] is not None
        ]
        absent = _absent(report, catalogue, {law.id for law in asked})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return Verdict.INVALID, [f"this is no report of ours: {type(error).__name__}: {error}"]
    judgement = judge(asked, expectations, evidence)
    flaws = [*judgement.flaws, *absent]
    if str(judgement.verdict) != report["verdict"]:
        flaws.append(f"it claims {report['verdict']}, but its outcomes give {judgement.verdict}")
    return (Verdict.INVALID if flaws else judgement.verdict), flaws


def _unreadable(report: Mapping[str, Any], catalogue: Catalogue) -> list[str]:
    if report["schema"] != SCHEMA:
        return [f"its schema is {report['schema']!r}; this suite reads {SCHEMA}"]
    if report["suite"]["catalogue"] != catalogue.digest:
        of = f"{report['suite']['catalogue']} of version {report['suite']['version']}"
        return [f"its catalogue is not this suite's: {of}; verify it with that version"]
    return []


def _absent(report: Mapping[str, Any], catalogue: Catalogue, asked: set[str]) -> list[str]:
    """Laws of the scope that the report leaves out, and any that it calls not yet in this suite although it is."""
    levels, areas = report["scope"]["levels"], report["scope"]["areas"]
    inside = {law.id for law in catalogue if law.level in levels and (not areas or law.area in areas)}
    out = [f"{i} belongs to its scope, and is left out" for i in sorted(inside - asked)]
    out += [
        f"{c['id']} is said to be not yet in this suite, but it is"
        for c in report["cases"]
        if How(c["expected"]) is How.NOT_YET and catalogue[c["id"]].since is not None
    ]
    return out


def _level(level: str, judgement: Judgement, catalogue: Catalogue, *, whole: bool) -> dict[str, Any]:
    """Return a level's verdict, and on how many of its laws it rests: those not yet in this suite are not among them.

    A run that was not of the `whole` level can show that it does not hold, but not that it holds.
    """
    verdict = judgement.levels[level]
    if verdict is Verdict.CONFORMANT and not whole:
        verdict = Verdict.INCOMPLETE
    laws = [law.id for law in catalogue if law.level == level]
    shown = sum(law_id in judgement.outcomes and judgement.outcomes[law_id].good for law_id in laws)
    return {"verdict": str(verdict), "shown": shown, "laws": len(laws)}


def _case(law: Law, judgement: Judgement, record: Evidence | None, expectation: Expectation) -> dict[str, Any]:
    return {
        "id": law.id,
        "version": law.version,
        "level": law.level,
        "duty": law.duty,
        "title": law.title,
        "must": law.must,
        "expected": str(expectation.how),
        "outcome": str(judgement.outcomes[law.id]) if law.id in judgement.outcomes else None,
        "reason": judgement.reasons.get(law.id, expectation.reason),
        "seconds": None if record is None else round(record.seconds, 3),
        "measured": {} if record is None else {name: _plain(value) for name, value in record.measured.items()},
    }


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4) if math.isfinite(value) else str(value)
    return value if isinstance(value, str | int | bool | None) else str(value)


def _plugins(harness: Harness) -> dict[str, str]:
    """Return the distributions that serve the harness's schemes, with their versions."""
    from brokerkit import registry  # noqa: PLC0415 - asked once a run
    from brokerkit.url import URL  # noqa: PLC0415 - asked once a run

    found = {}
    if urls := list(harness.urls()):
        found["transport"] = registry.find(URL.parse(urls[0]), "transport").distribution
    if urls := list(harness.results_urls()):
        found["results"] = registry.find(URL.parse(urls[0]), "result_backend").distribution
    return found
