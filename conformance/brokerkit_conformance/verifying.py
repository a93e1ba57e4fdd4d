"""Computes the verdict of a report again, from its raw outcomes alone, and tells what kind of report it cannot trust."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import IntEnum
from importlib import metadata
from itertools import islice
from typing import Any, Final

from brokerkit_conformance import declaring
from brokerkit_conformance.catalogue import Catalogue
from brokerkit_conformance.gates import Subject, expectations
from brokerkit_conformance.identity import suite_digest
from brokerkit_conformance.model import Evidence, Expectation, How, Outcome
from brokerkit_conformance.report import FORMAT, SCHEMA, cases_of, in_scope, is_whole, levels_of, seal
from brokerkit_conformance.reporting.shape import misfits, report_schema
from brokerkit_conformance.verdict import Judgement, Verdict, judge
from brokerkit_conformance.waivers import WaiverError, from_plain

__all__ = ["Distrust", "Verified", "expected_of", "verify"]


class Distrust(IntEnum):
    """Why a report is not believed; the value is the command's exit code."""

    EDITED = 20
    TRUNCATED = 21
    FOREIGN = 22
    OTHER_SUITE = 23


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What a report is worth.

    Attributes:
        verdict: computed again; INVALID if the report is not believed.
        distrust: why it is not believed, if it is not.
        reasons: a sentence each.
        levels: the verdict of each level, computed again.
        expired: waivers that counted when the report was made, and do not today.
    """

    verdict: Verdict
    distrust: Distrust | None = None
    reasons: Sequence[str] = ()
    levels: Mapping[str, Mapping[str, Any]]
    expired: Sequence[str] = ()

    @property
    def exit_code(self) -> int:
        """The command's."""
        return self.verdict.exit_code if self.distrust is None else int(self.distrust)


_MOST: Final = 8


def verify(text: str, laws: Catalogue, *, today: date) -> Verified:
    """Compute the verdict of a report again.

    Args:
        text: of report.json.
        laws: the catalogue of this suite.
        today: to tell which waivers have expired since.
    """
    try:
        report = json.loads(text)
    except ValueError as error:
        return _unreadable(text, error)
    if not isinstance(report, dict) or report.get("format") != FORMAT:
        return _distrusted(Distrust.FOREIGN, "this is JSON, but no report of brokerkit-conformance")
    if (other := _other_suite(report, laws)) is not None:
        return _distrusted(Distrust.OTHER_SUITE, other)
    if wrong := list(islice(misfits(report, report_schema()), _MOST)):
        return _distrusted(Distrust.EDITED, *(f"it was edited: {each}" for each in wrong))
    return _weighed(report, laws, today)


def _weighed(report: Mapping[str, Any], laws: Catalogue, today: date) -> Verified:
    """Judge a report of the right shape."""
    try:
        again, differences = _again(report, laws)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return _distrusted(
            Distrust.EDITED, f"it was edited: it cannot be computed again: {type(error).__name__}: {error}"
        )
    if seal(report)["digest"] != report["digest"]:
        differences.append("its content is not what its digest was made of")
    if differences:
        return _distrusted(Distrust.EDITED, *(f"it was edited: {each}" for each in differences[:_MOST]))
    late = [waiver for waiver in report["waivers"] if waiver["expires"] < today.isoformat()]
    return Verified(
        verdict=again.verdict,
        reasons=again.flaws,
        levels=levels_of(again, laws, report["scope"]),
        expired=[f"{waiver['case']} was waived until {waiver['expires']}" for waiver in late],
    )


def _unreadable(text: str, error: ValueError) -> Verified:
    if f'"{FORMAT}"' not in text[:200]:
        return _distrusted(Distrust.FOREIGN, f"this is no report of brokerkit-conformance, nor any JSON: {error}")
    if text.rstrip().endswith("}") and isinstance(error, json.JSONDecodeError) and error.pos < len(text.rstrip()) - 1:
        return _distrusted(Distrust.EDITED, f"it was edited: it is no JSON any more: {error}")
    return _distrusted(Distrust.TRUNCATED, f"it is truncated: it ends after {len(text)} characters, before its end")


def _distrusted(why: Distrust, *reasons: str) -> Verified:
    return Verified(verdict=Verdict.INVALID, distrust=why, reasons=reasons, levels={})


def _other_suite(report: Mapping[str, Any], laws: Catalogue) -> str | None:
    """Return a sentence if this suite cannot judge the report, as it comes from another."""
    if report.get("schema") != SCHEMA:
        return f"it has schema {report.get('schema')!r}, and this suite reads {SCHEMA}: verify it with the suite that made it"
    told = report.get("suite")
    suite: Mapping[str, Any] = told if isinstance(told, dict) else {}
    version, own = suite.get("version"), metadata.version("brokerkit-conformance")
    if version != own:
        return f"it was made by suite {version}, and this is {own}: verify it with that version, or run the suite again"
    if suite.get("catalogue") != laws.digest:
        return "its catalogue is not this suite's, although the version is the same: one of the two was modified"
    if suite.get("files") != suite_digest():
        return "it was made by other files than this suite's, although the version is the same: one of the two was modified"
    return None


def _again(report: Mapping[str, Any], laws: Catalogue) -> tuple[Judgement, list[str]]:
    """Return the judgement of the raw outcomes, and where the report says otherwise."""
    scope = report["scope"]
    asked = [law for law in laws if in_scope(law, scope)]
    hopes = expected_of(report, laws)
    evidence = [Evidence(**record | {"outcome": Outcome(record["outcome"])}) for record in report["evidence"]]
    made = datetime.fromisoformat(report["made"]).date()
    try:
        waivers = from_plain(report["waivers"], laws=laws, today=made)
    except WaiverError as error:
        return judge(asked, hopes, evidence), [f"its waivers do not count: {error}"]
    judgement = judge(
        asked,
        hopes,
        evidence,
        why_not_run=report["why_not_run"],
        waivers=waivers,
        flaws=report["run_flaws"],
        whole=is_whole(scope),
    )
    rows = cases_of(asked, judgement, hopes, evidence)
    later = [e.id for e in hopes if e.how is How.NOT_YET]
    levels = levels_of(judgement, laws, scope)
    return judgement, [*_differences(report, judgement, levels, later), *_case_differences(report["cases"], rows)]


def expected_of(report: Mapping[str, Any], laws: Catalogue) -> list[Expectation]:
    """Return what a report's own declaration makes of each law."""
    declared = report["declared"]
    transport, results = (declaring.decode(side, declared[side]) for side in ("transport", "results"))
    subject = Subject(transport, results, frozenset(declared["grace"]), without=declared["without"])
    hopes = expectations(laws, subject)
    if subject.nobody:
        return [Expectation(e.id, How.CASE) if e.how is not How.NOT_YET else e for e in hopes]
    return hopes


def _differences(
    report: Mapping[str, Any], judgement: Judgement, levels: Mapping[str, Any], later: Sequence[str]
) -> Iterator[str]:
    if str(judgement.verdict) != report["verdict"]:
        yield f"it claims {report['verdict']}, but its outcomes give {judgement.verdict}"
    if dict(judgement.totals) != report["totals"]:
        yield f"its totals are not those of its outcomes, {dict(judgement.totals)}"
    if list(judgement.flaws) != report["flaws"]:
        yield "its flaws are not those of its evidence"
    if levels != report["levels"]:
        yield "its levels are not what its outcomes give"
    if list(later) != report["not_yet_in_this_suite"]:
        yield "what it calls not yet in this suite is not"


def _case_differences(told: Sequence[Mapping[str, Any]], found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    rows = {row["id"]: row for row in told}
    for row in found:
        claimed = rows.pop(row["id"], None)
        if claimed is None:
            yield f"{row['id']} belongs to its scope, and is left out"
        elif claimed["outcome"] != row["outcome"]:
            yield f"{row['id']} is said to be {claimed['outcome']}, and its record gives {row['outcome']}"
        elif wrong := [name for name in row if name != "seconds" and claimed[name] != row[name]]:
            yield f"{row['id']}: its {', '.join(wrong)} are not what its record gives"
    for law_id in rows:
        yield f"{law_id} does not belong to its scope"
