"""report.md: the verdict, what was not shown, what failed, and the numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from brokerkit_conformance.reporting import views

__all__ = ["markdown"]


def markdown(report: Mapping[str, Any]) -> str:
    """Return a report as Markdown."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Mapping[str, Any]) -> Iterator[str]:
    yield f"# {report['verdict']}: {_flat(views.about(report))}"
    yield ""
    if worth := views.claim(report):
        yield _flat(f"{report['verdict']} {worth}".rstrip(".") + ".")
        yield ""
    for flaw in report["flaws"]:
        yield f"- **invalid**: {_flat(flaw)}"
    if report["flaws"]:
        yield ""
    yield from _table(("", ""), views.facts(report))
    yield from _not_shown(report)
    yield from _failures(report)
    yield "## Shown"
    yield ""
    columns, rows = views.matrix(report["cases"])
    yield from _table(
        ("area", *columns), [(area, *(str(row[column] or "") for column in columns)) for area, row in rows.items()]
    )
    yield from _table(
        ("level", "verdict", "laws shown"),
        [(name, level["verdict"], views.level_shown(level)) for name, level in report["levels"].items()],
    )
    yield "## Declared against measured"
    yield ""
    yield from _table(
        ("promise", "declared", "measured"), [(p.name, p.declared, p.measured) for p in views.promises_of(report)]
    )
    if numbers := views.other_numbers(report):
        yield "Also measured:"
        yield ""
        yield from _table(("case", "what", "value"), numbers)


def _not_shown(report: Mapping[str, Any]) -> Iterator[str]:
    yield "## Not shown to work"
    yield ""
    groups = views.not_shown(report)
    if not groups:
        yield "Nothing: every law of the catalogue that was asked for was shown."
    for group in groups:
        yield f"- **{group.name}** – {group.meaning}"
        for ids, text in group.lines:
            yield f"  - {ids}: {_flat(text)}"
    yield ""


def _failures(report: Mapping[str, Any]) -> Iterator[str]:
    failed = views.failures(report)
    if failed:
        yield "## Shown not to work"
        yield ""
    for case in failed:
        soft = "" if case["duty"] == "MUST" else f" ({case['duty']}, does not decide)"
        yield f"### {case['outcome']} {case['id']}{soft}: {_flat(case['title'])}"
        yield ""
        yield f"Must: {_flat(case['must'])}"
        yield ""
        yield from _block(case["reason"])
        for part in case["history"]:
            yield _flat(f"{part['kind']}: {part['message']} in {part['queue']}: {part['text']}")
            yield ""
            rows = [
                (f"{row['at']:.3f} s", row["actor"], f"{row['what']} {row['phase']}", row["detail"])
                for row in part["rows"]
            ]
            yield from _table(("at", "who", "what", ""), rows)
        yield from _block(views.replay(report, case))


def _block(text: str) -> Iterator[str]:
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text) or [""]))
    yield f"{fence}text"
    yield from text.splitlines()
    yield fence
    yield ""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(_flat(cell) for cell in row)} |"
    yield ""


def _flat(text: str) -> str:
    r"""Put a text on one line, with what Markdown or HTML would read as more than text escaped."""
    return re.sub(r"([\\`*_\[\]<>|~#])", r"\\\1", " ".join(text.split()))
