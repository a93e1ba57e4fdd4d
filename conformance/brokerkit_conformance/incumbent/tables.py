"""The tables of docs/incumbent.md."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from brokerkit_conformance.catalogue import catalogue
from brokerkit_conformance.incumbent.defects import DEFECTS
from brokerkit_conformance.incumbent.remarks import Whose, remark_on
from brokerkit_conformance.incumbent.shown import Shown
from brokerkit_conformance.model import Outcome

__all__ = ["COLUMNS", "HANGS", "areas", "failures", "not_shown", "short", "table"]

COLUMNS: Final = {"KombuRedis": "redis", "KombuMemory": "memory", "KombuSQLite": "sqlalchemy (SQLite)"}
"""What a harness is called on the page."""
HANGS: Final = "hangs:"
"""What the reason of a case begins with that did not end."""
_SHORT: Final = 150
_ANOTHER: Final = (
    (r"\b[0-9a-f]{32}\b|\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "…"),  # ids of messages and their tags
    (r"\bbk[0-9a-f]{8}-", ""),  # what the names of a case begin with
    (r"\b127\.0\.0\.1:\d+", "the server"),
    (r"; its log: .*", ""),
)
_HEADINGS: Final = (
    "pass",
    "refused",
    "more than claimed",
    *(f"fail: {whose}" for whose in Whose),
    "not shown",
)


def areas(trial: Shown) -> Iterator[str]:
    """One transport: how many laws of each area had which outcome."""
    counts = {area: Counter[str]() for area in catalogue().areas}
    for law, outcome in trial.outcomes.items():
        counts[law.partition("-")[0]][_heading(trial, law, outcome)] += 1
    rows = [(f"{area} {catalogue().areas[area]}", *_cells(count)) for area, count in counts.items() if count.total()]
    rows.append(("**all**", *_cells(sum(counts.values(), Counter[str]()))))
    yield from table(("area", *_HEADINGS), rows)


def failures(trials: Sequence[Shown]) -> Iterator[str]:
    """All that failed but for the six: what the case said, whose it is, and what it means."""
    known = {(defect.harness, defect.law) for defect in DEFECTS}
    rows = []
    for law in catalogue():
        for trial in trials:
            heading = _heading(trial, law.id, trial.outcomes.get(law.id, Outcome.NOT_RUN))
            if heading.startswith("fail") and (trial.harness, law.id) not in known:
                remark = remark_on(trial.harness, law.id)
                said = short(trial.reasons[law.id])
                rows.append((law.id, COLUMNS[trial.harness], said, str(remark.whose), remark.text))
    yield from table(("law", "on", "what the case said", "whose", "what it means"), rows)


def not_shown(trials: Sequence[Shown]) -> Iterator[str]:
    """What was asked, and neither held nor failed, by reason."""
    by_reason: dict[tuple[str, str], list[str]] = {}
    for trial in trials:
        for law, outcome in trial.outcomes.items():
            if _heading(trial, law, outcome) == "not shown":
                by_reason.setdefault((COLUMNS[trial.harness], short(trial.reasons[law])), []).append(law)
    rows = [(column, reason, ", ".join(sorted(laws))) for (column, reason), laws in by_reason.items()]
    yield from table(("on", "why", "laws"), rows)


def short(reason: str) -> str:
    """What a reason says in one line, fit for a cell: the last of a traceback, and the first of a hanging thread's stack."""
    lines = [line for line in reason.splitlines() if re.search(r"\w", line)] or [""]
    if len(lines) > 1 and lines[-1].lstrip().startswith("["):
        lines.pop()  # where a text of several lines was raised
    traced = "Traceback" in reason and not lines[0].startswith(HANGS) and "silent for" not in lines[0]
    line = lines[-1 if traced else 0]
    line = re.sub(r"[/\w.-]*/(?=[\w.-]+/?)", "…/", _without_names(line)) if "/" in line else _without_names(line)
    line = line.replace("|", "\\|").replace("<", "\\<").strip()
    return line if len(line) <= _SHORT else f"{line[: _SHORT - 1]}…"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A table in Markdown."""
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _without_names(line: str) -> str:
    """Leave out what is another one each time."""
    for another, instead in _ANOTHER:
        line = re.sub(another, instead, line)
    return line


def _heading(trial: Shown, law: str, outcome: Outcome) -> str:
    if outcome is Outcome.FAIL and trial.reasons[law].startswith(HANGS):
        return "not shown"  # on a busy machine it may be nobody's fault
    if outcome is Outcome.FAIL:
        return f"fail: {remark_on(trial.harness, law).whose}"
    named = {Outcome.PASS: "pass", Outcome.REFUSED_OK: "refused", Outcome.UNCLAIMED: "more than claimed"}
    return named.get(outcome, "not shown")


def _cells(count: Counter[str]) -> list[str]:
    return [str(count[heading] or "") for heading in _HEADINGS]
