"""A run on the terminal: the verdict, then what was not shown, then the rest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from brokerkit_conformance.catalogue import Law
from brokerkit_conformance.model import Outcome

__all__ = ["print_laws", "print_report"]

_COLOURS = {"CONFORMANT": "green", "NONCONFORMANT": "red", "INCOMPLETE": "yellow", "INVALID": "red"}
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
        console.print(f"  {name}: {level['verdict']}, {level['shown']} of its {level['laws']} laws were shown")


def print_laws(laws: Iterable[Law], console: Console) -> None:
    """Print the catalogue."""
    table = Table("id", "level", "duty", "gate", "in this suite", "law", box=None)
    for law in laws:
        since = law.since or "[yellow]not yet[/]"
        table.add_row(law.id, law.level, law.duty, law.gate, since, f"{escape(law.title)} → {escape(law.must)}")
    console.print(table)


def _headline(report: Mapping[str, Any]) -> str:
    verdict = report["verdict"]
    areas = report["scope"]["areas"]
    held = [name for name, level in report["levels"].items() if level["verdict"] == "CONFORMANT"]
    about = ", ".join(str(plugin) for plugin in dict.fromkeys(report["plugins"].values()))
    head = f"[bold {_COLOURS[verdict]}]{verdict}[/]"
    if areas:
        return (
            f"{head} on the areas {', '.join(areas)}: {about}. No level is claimed: the other areas did not run, "
            "so every level is INCOMPLETE."
        )
    if verdict == "CONFORMANT":
        version = report["suite"]["version"]
        return f"{head} ({', '.join(held)}), as far as suite {version} goes: {about}"
    return f"{head}: {about}" + (f" (yet conformant: {', '.join(held)})" if held else "")


def _print_not_shown(report: Mapping[str, Any], console: Console) -> None:
    unshown = [c for c in report["cases"] if c["outcome"] and not Outcome(c["outcome"]).shown]
    impossible = [c for c in report["cases"] if c["expected"] == "impossible"]
    later = [c for c in report["cases"] if c["expected"] == "not yet"]
    if not (unshown or impossible or later):
        return
    console.print("[bold]Not shown to work[/]")
    _print_cases([f"{c['outcome']} {c['id']} {c['title']}: {_first(c['reason'])}" for c in unshown], console)
    reasons: dict[str, list[str]] = {}
    for case in impossible:
        reasons.setdefault(case["reason"], []).append(case["id"])
    for reason, ids in reasons.items():
        console.print(f"  does not apply, {escape(reason)}: {', '.join(ids)}", style="dim")
    if later:
        console.print(f"  not yet in this suite: {len(later)} laws ({_areas(later)})", style="dim")


def _print_failures(report: Mapping[str, Any], console: Console) -> None:
    failed = [c for c in report["cases"] if c["outcome"] in ("FAIL", "FLAKY")]
    if failed:
        console.print("[bold red]Shown not to work[/]")
    for case in failed:
        soft = "" if case["duty"] == "MUST" else f" ({case['duty']}, does not decide)"
        console.print(f"  [red]{case['outcome']}[/] {case['id']}{soft} {escape(case['title'])}: {escape(case['must'])}")
        console.print("    " + escape(case["reason"]).replace("\n", "\n    "), highlight=False)


def _print_cases(lines: list[str], console: Console) -> None:
    for line in lines[:_MOST_LINES]:
        console.print(f"  [yellow]{escape(line)}[/]", highlight=False)
    if len(lines) > _MOST_LINES:
        console.print(f"  [yellow]… and {len(lines) - _MOST_LINES} more: see the report[/]")


def _matrix(cases: Iterable[Mapping[str, Any]]) -> Table:
    columns = [str(outcome) for outcome in Outcome]
    counts: dict[str, dict[str, int]] = {}
    for case in cases:
        if case["outcome"]:
            row = counts.setdefault(case["id"][:3], {})
            row[case["outcome"]] = row.get(case["outcome"], 0) + 1
    used = [column for column in columns if any(column in row for row in counts.values())]
    table = Table("area", *used, box=None)
    for area, row in counts.items():
        table.add_row(area, *(str(row.get(column, "")) for column in used))
    return table


def _areas(cases: Iterable[Mapping[str, Any]]) -> str:
    counts: dict[str, int] = {}
    for case in cases:
        counts[case["id"][:3]] = counts.get(case["id"][:3], 0) + 1
    return " ".join(f"{area} {n}" for area, n in counts.items())


def _first(text: str) -> str:
    return text.split("\n", 1)[0]
