"""report.json: everything that a verdict rests on, so that anybody can compute it again."""

from __future__ import annotations

import hashlib
import json
import math
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final

from brokerkit.capabilities import promises
from brokerkit_conformance import declaring, serving
from brokerkit_conformance.catalogue import LEVELS, Catalogue, Law, catalogue
from brokerkit_conformance.identity import plugin_of, suite_digest
from brokerkit_conformance.masking import mask_of, masked
from brokerkit_conformance.model import Evidence, Expectation, How
from brokerkit_conformance.subject import plugin_classes
from brokerkit_conformance.verdict import Judgement, Verdict
from brokerkit_conformance.waivers import plain

if TYPE_CHECKING:
    from brokerkit_conformance.trial import Trial

__all__ = ["FORMAT", "SCHEMA", "build", "cases_of", "computed", "in_scope", "is_whole", "levels_of", "seal"]

FORMAT: Final = "brokerkit-conformance report"
SCHEMA: Final = 2
"""Rises when a reader of the last one would misread a report. `report.schema.json` describes it."""


def build(trial: Trial) -> dict[str, Any]:
    """Return the report of a trial as plain data, without the secrets of its harness, and sealed."""
    judgement = trial.judge()
    harness, subject = trial.harness, trial.subject
    report = {
        "format": FORMAT,
        "schema": SCHEMA,
        "suite": {
            "version": metadata.version("brokerkit-conformance"),
            "catalogue": catalogue().digest,
            "files": suite_digest(),
        },
        "brokerkit": metadata.version("brokerkit-messaging"),
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "harness": {"name": trial.name, "class": f"{type(harness).__module__}:{type(harness).__qualname__}"},
        "plugins": {side: plugin_of(kind, dist) for side, (kind, dist) in plugin_classes(harness).items()},
        "server": serving.server_of(
            harness, [side for side in (subject.transport, subject.results) if side is not None]
        ),
        "capabilities": {
            "transport": dict(promises(subject.transport)) if subject.transport and not subject.grace else None,
            "results": dict(promises(subject.results)) if subject.results and not subject.grace else None,
        },
        "declared": {
            "transport": declaring.encode(subject.transport),
            "results": declaring.encode(subject.results),
            "grace": sorted(subject.grace),
            "without": dict(subject.without),
        },
        "scope": trial.scope,
        "why_not_run": trial.why_not_run,
        "waivers": [plain(waiver) for waiver in trial.waivers],
        "run_flaws": trial.flaws,
        "evidence": [_record(record) for record in trial.evidence],
        "not_yet_in_this_suite": [e.id for e in trial.expectations if e.how is How.NOT_YET],
    }
    report |= computed(judgement, trial.scope, trial.laws, trial.expectations, trial.evidence)
    return seal(masked(report, mask_of(harness)))


def computed(
    judgement: Judgement,
    scope: Mapping[str, Sequence[str]],
    laws: Sequence[Law],
    expectations: Sequence[Expectation],
    evidence: Sequence[Evidence],
) -> dict[str, Any]:
    """Return the part of a report that follows from the rest of it."""
    return {
        "verdict": str(judgement.verdict),
        "levels": levels_of(judgement, catalogue(), scope),
        "totals": dict(judgement.totals),
        "flaws": list(judgement.flaws),
        "cases": cases_of(laws, judgement, expectations, evidence),
    }


def seal(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return a report with the digest over its content. It shows accidents and careless edits; it is no signature."""
    content = {name: value for name, value in report.items() if name != "digest"}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return content | {"digest": f"sha256:{hashlib.sha256(canonical.encode()).hexdigest()}"}


def in_scope(law: Law, scope: Mapping[str, Sequence[str]]) -> bool:
    """Tell whether a run with this scope is about a law."""
    cases, areas = scope["cases"], scope["areas"]
    return law.level in scope["levels"] and (not areas or law.area in areas) and (not cases or law.id in cases)


def is_whole(scope: Mapping[str, Sequence[str]]) -> bool:
    """Tell whether a run was of whole levels."""
    return not (scope["areas"] or scope["cases"])


def levels_of(judgement: Judgement, laws: Catalogue, scope: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return each level's verdict, and on how many of its laws it rests: those not yet in this suite are not among them.

    A run that was not of the whole level can show that it does not hold, but not that it holds.
    """
    found = {}
    asked = [level for level in LEVELS if level in (scope["levels"] if is_whole(scope) else judgement.levels)]
    for level in asked:
        verdict = judgement.levels.get(level, Verdict.INCOMPLETE)  # a level without any case yet
        ids = [law.id for law in laws if law.level == level]
        shown = sum(i in judgement.outcomes and judgement.outcomes[i].good for i in ids)
        claimed = verdict.holds or verdict is Verdict.DOES_NOT_APPLY
        told = Verdict.INCOMPLETE if claimed and not is_whole(scope) else verdict
        apart = judgement.impossible.get(level, 0)
        found[level] = {"verdict": str(told), "shown": shown, "laws": len(ids), "impossible": apart}
    return found


def cases_of(
    laws: Sequence[Law], judgement: Judgement, expectations: Sequence[Expectation], evidence: Sequence[Evidence]
) -> list[dict[str, Any]]:
    """Return a row for each law that was asked for."""
    how = {expectation.id: expectation for expectation in expectations}
    records: dict[str, list[Evidence]] = {}
    for record in evidence:
        records.setdefault(record.id, []).append(record)
    return [_case(law, judgement, records.get(law.id, []), how[law.id]) for law in laws]


def _case(law: Law, judgement: Judgement, records: Sequence[Evidence], expectation: Expectation) -> dict[str, Any]:
    return {
        "id": law.id,
        "version": law.version,
        "area": law.area,
        "level": law.level,
        "duty": law.duty,
        "title": law.title,
        "must": law.must,
        "expected": str(expectation.how),
        "outcome": str(judgement.outcomes[law.id]) if law.id in judgement.outcomes else None,
        "reason": judgement.reasons.get(law.id, expectation.reason),
        "attempts": len(records),
        "seconds": round(sum(record.seconds for record in records), 3) if records else None,
        "measured": _measured(records[-1]) if records else {},
        "history": [dict(part) for part in records[-1].history] if records else [],
        "waivable": law.waivable,
    }


def _record(record: Evidence) -> dict[str, Any]:
    return {
        "id": record.id,
        "version": record.version,
        "outcome": str(record.outcome),
        "reason": record.reason,
        "seconds": round(record.seconds, 3),
        "measured": _measured(record),
        "history": [dict(part) for part in record.history],
    }


def _measured(record: Evidence) -> dict[str, Any]:
    return {name: _plain(value) for name, value in record.measured.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4) if math.isfinite(value) else str(value)
    return value if isinstance(value, str | int | bool | None) else str(value)
