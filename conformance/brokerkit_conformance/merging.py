"""Puts together what several worker processes have found of one suite: one report, as if one process had run it all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from brokerkit_conformance.catalogue import catalogue
from brokerkit_conformance.model import Evidence, Outcome
from brokerkit_conformance.report import computed, in_scope, is_whole, seal
from brokerkit_conformance.verdict import Judgement, judge
from brokerkit_conformance.verifying import expected_of
from brokerkit_conformance.waivers import from_plain

__all__ = ["Merged", "merge"]


@dataclass(frozen=True, slots=True)
class Merged:
    """The judgement over all workers' evidence, and the report that tells it."""

    judgement: Judgement
    report: Mapping[str, Any]


def merge(reports: Sequence[Mapping[str, Any]]) -> Merged:
    """Weigh the evidence of all workers at once. Their reports are of one suite; secrets are out of them already."""
    base, laws = reports[0], catalogue()
    rows = [record for report in reports for record in report["evidence"]]
    evidence = [Evidence(**record | {"outcome": Outcome(record["outcome"])}) for record in rows]
    flaws = list(dict.fromkeys(flaw for report in reports for flaw in report["run_flaws"]))
    why_not_run = next((report["why_not_run"] for report in reports if report["why_not_run"]), "")
    asked = [law for law in laws if in_scope(law, base["scope"])]
    hopes = expected_of(base, laws)
    judgement = judge(
        asked,
        hopes,
        evidence,
        why_not_run=why_not_run,
        waivers=from_plain(base["waivers"]),
        flaws=flaws,
        whole=is_whole(base["scope"]),
    )
    whole = {
        **base,
        "made": max(report["made"] for report in reports),
        "why_not_run": why_not_run,
        "run_flaws": flaws,
        "evidence": rows,
        **computed(judgement, base["scope"], asked, hopes, evidence),
    }
    return Merged(judgement, seal(whole))
