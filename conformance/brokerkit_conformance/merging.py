"""Weighs what several worker processes have found of one suite."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from brokerkit_conformance.catalogue import catalogue
from brokerkit_conformance.model import Evidence, Expectation, How, Outcome
from brokerkit_conformance.verdict import Judgement, judge
from brokerkit_conformance.waivers import from_plain

__all__ = ["judge_merged"]


def judge_merged(plain: Mapping[str, Any]) -> Judgement:
    """Judge the plain data of `Desk.evidence`, with the evidence of all workers in it."""
    return judge(
        [catalogue()[law_id] for law_id in plain["laws"]],
        [Expectation(law_id, How(how), reason) for law_id, how, reason in plain["expectations"]],
        [Evidence(**record | {"outcome": Outcome(record["outcome"])}) for record in plain["evidence"]],
        waivers=from_plain(plain["waivers"]),
        flaws=plain["flaws"],
    )
