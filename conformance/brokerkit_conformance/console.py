"""A run on the terminal: the verdict, then what was not shown, then the rest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from brokerkit_conformance.catalogue import Law
from brokerkit_conformance.reporting import views
from brokerkit_conformance.verdict import Verdict

__all__ = ["print_laws", "print_report"]

_COLOURS = {"CONFORMANT": "green", "NONCONFORMANT": "red", "INCOMPLETE": "yellow", "INVALID": "red"}
_COLOURS["CONFORMANT_WITH_WAIVERS"] = "yellow"
_MOST_LINES = 12


def print_report(report: Mapping[str, Any], console: Console) -> None:
    """Print a report; whoever reads only the first lines learns the verdict and what was not shown."""
    console.print(_headline(report))
    for flaw in report["flaws"]:
        console.print(f"  [red]invalid[/]: {escape(flaw)}")
    _print_not_shown(report, console)
    _print_failures(report, console)
    console.print(_matrix(report["cases"]))
    totals = ", ".join(f"{n} {outcome}" for outcome, n in sorted(report["totals"].items()))
    console.print(totals)
    for name, level in report["levels"].items():
        console.print(f"  {name}: {level['verdict']}, {views.level_shown(level)}", highlight=False)


def print_laws(laws: Iterable[Law], console: Console) -> None:
    """Print the catalogue."""
    table = Table("id", "level", "duty", "gate", "in this suite", "law", box=None)
    for law in laws:
        since = law.since or "[yellow]not yet[/]"
        table.add_row(law.id, law.level, law.duty, law.gate, since, f"{escape(law.title)} → {escape(law.must)}")
    console.print(table)


def _headline(report: Mapping[str, Any]) -> str:
    verdict = report["verdict"]
    head = f"[bold {_COLOURS[verdict]}]{verdict}[/]"
    worth, about = escape(views.claim(report)), escape(views.about(report))
    if report["scope"]["areas"] or report["scope"]["cases"]:
        what, _, rest = worth.partition(". ")
        return f"{head} {what}: {about}. {rest}"
    return f"{head} {worth}: {about}" if Verdict(verdict).holds else f"{head}: {about} {worth}".rstrip()


def _print_not_shown(report: Mapping[str, Any], console: Console) -> None:
    groups = views.not_shown(report)
    if groups:
        console.print("[bold]Not shown to work[/]")
    for group in groups:
        colour = "yellow" if group.blocks else "dim"
        for ids, text in group.lines[:_MOST_LINES]:
            if group.name == "not yet in this suite":
                line = f"  {group.name}: {text.partition(' ')[0]} laws ({ids})"
            elif group.blocks:
                line = f"  {group.name} {ids} {text}"
            else:
                line = f"  {group.name}, {text}: {ids}"
            console.print(f"[{colour}]{escape(line)}[/]", highlight=False)
        if len(group.lines) > _MOST_LINES:
            console.print(f"  [{colour}]… and {len(group.lines) - _MOST_LINES} more: see the report[/]")


def _print_failures(report: Mapping[str, Any], console: Console) -> None:
    failed = views.failures(report)
    if failed:
        console.print("[bold red]Shown not to work[/]")
    for case in failed:
        soft = "" if case["duty"] == "MUST" else f" ({case['duty']}, does not decide)"
        console.print(f"  [red]{case['outcome']}[/] {case['id']}{soft} {escape(case['title'])}: {escape(case['must'])}")
        console.print("    " + escape(case["reason"]).replace("\n", "\n    "), highlight=False)
        for part in case["history"]:
            console.print(f"    {escape(part['kind'])}: {escape(part['text'])}", highlight=False)
        console.print(f"    again: {escape(views.replay(report, case))}", style="dim", highlight=False, soft_wrap=True)


def _matrix(cases: Iterable[Mapping[str, Any]]) -> Table:
    columns, rows = views.matrix([case for case in cases if case["outcome"]])
    table = Table("area", *columns, box=None)
    for area, row in rows.items():
        table.add_row(area, *(str(row[column] or "") for column in columns))
    return table
