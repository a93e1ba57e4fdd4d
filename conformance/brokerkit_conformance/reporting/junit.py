"""junit.xml: what was not shown is an error there, never a skipped test."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final
from xml.sax.saxutils import escape, quoteattr

from brokerkit_conformance.model import Outcome
from brokerkit_conformance.reporting.views import Case, about, first_line, replay

__all__ = ["junit"]

_NO_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_HARMLESS: Final = (Outcome.WAIVED, Outcome.GRACE)


def junit(report: Mapping[str, Any]) -> str:
    """Return a report as JUnit XML: one test a law that was asked for, and one for the verdict."""
    told = [case for case in report["cases"] if case["outcome"]]
    rows = [_case(report, case) for case in told]
    kinds = Counter(kind for kind, _ in rows)
    verdict = "" if report["verdict"].startswith("CONFORMANT") else _element("failure", report["verdict"], _why(report))
    seconds = sum(case["seconds"] or 0.0 for case in told)
    head = (
        f'<testsuite name={_attribute("brokerkit-conformance: " + about(report))} tests="{len(rows) + 1}" '
        f'failures="{kinds["failure"] + bool(verdict)}" errors="{kinds["error"]}" skipped="0" '
        f'time="{seconds:.3f}" timestamp={_attribute(report["made"])}>'
    )
    last = f'<testcase classname="verdict" name={_attribute(report["verdict"])} time="0">{verdict}</testcase>'
    inner = [head, *(row for _, row in rows), last, "</testsuite>"]
    return "\n".join(['<?xml version="1.0" encoding="UTF-8"?>', "<testsuites>", *inner, "</testsuites>", ""])


def _case(report: Mapping[str, Any], case: Case) -> tuple[str, str]:
    """Return a law's kind and element."""
    outcome = Outcome(case["outcome"])
    decides = case["duty"] == "MUST"
    kind = "passed"
    if outcome.red and decides:
        kind = "failure"
    elif not outcome.good and outcome not in _HARMLESS and decides:
        kind = "error"
    text = f"must: {case['must']}\n{case['reason']}\nagain: {replay(report, case)}"
    inner = ""
    if kind != "passed":
        inner = _element(kind, f"{outcome} {first_line(case['reason'])}", text)
    elif not outcome.good:
        inner = "<system-out>" + _text(f"{outcome} ({case['duty']}): {text}") + "</system-out>"
    name = _attribute(f"{case['id']} {case['title']}")
    head = f'<testcase classname={_attribute(case["area"])} name={name} time="{case["seconds"] or 0:.3f}">'
    return kind, f"{head}{inner}</testcase>"


def _why(report: Mapping[str, Any]) -> str:
    return "\n".join(report["flaws"] or [f"{n} {outcome}" for outcome, n in report["totals"].items()])


def _element(kind: str, message: str, text: str) -> str:
    return f"<{kind} message={_attribute(message)}>{_text(text)}</{kind}>"


def _attribute(text: str) -> str:
    return quoteattr(_clean(text))


def _text(text: str) -> str:
    return escape(_clean(text))


def _clean(text: str) -> str:
    return _NO_XML.sub("\N{REPLACEMENT CHARACTER}", text)
