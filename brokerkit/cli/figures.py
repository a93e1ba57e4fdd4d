"""The figures of a benchmark for people: tables on a terminal, or a page of markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from brokerkit.bench.cells import CELLS
from brokerkit.bench.ours import BROKERKIT
from brokerkit.bench.report import Met, Report
from brokerkit.cli.terminal import Terminal, table

if TYPE_CHECKING:
    from rich.text import Text

    from brokerkit.bench.contract import Extra

__all__ = ["markdown_page", "tables"]


def tables(out: Terminal, report: Report) -> None:
    """Show a report as tables."""
    out.show(_about(report) + "\n")
    for mode in report.modes:
        for size in report.settings.sizes:
            columns, rows = _speeds(report, mode, size)
            title = f"{report.title} {mode}, {size:,} B: messages a second (µs of client CPU a message)"
            out.show(table(columns, rows, numbers=columns[1:], title=title))
            out.show("")
    for title, columns, others in _others(report):
        out.show(table(columns, others, numbers=columns[1:], title=title))
        out.show("")
    out.show(
        table(
            ("goal", "measured", ""),
            [(goal.goal, _measured(goal), _verdict(met=goal.met)) for goal in report.goals],
            numbers=("measured",),
            title="Goals",
        )
    )


def markdown_page(report: Report, command: str) -> str:
    """Return a report as one page of markdown.

    Args:
        report: of a run.
        command: what makes it.
    """
    parts = [*_head(report, command), "", _about(report), ""]
    for mode in report.modes:
        for size in report.settings.sizes:
            columns, rows = _speeds(report, mode, size)
            parts += [f"## {report.title} {mode}, {size:,} B", "", *_markdown(columns, rows), ""]
    for title, columns, others in _others(report):
        parts += [f"## {title}", "", *_markdown(columns, others), ""]
    goals = [(goal.goal, _measured(goal), "met" if goal.met else "**missed**") for goal in report.goals]
    parts += ["## Goals", "", *_markdown(("goal", "measured", ""), goals), ""]
    if report.figures.notes:
        parts += ["## What the others do less", ""]
        parts += [f"- **{name}**: {note}." for name, note in report.figures.notes.items()]
    return "\n".join(parts).rstrip()


_SPEEDS = """The figures are messages a second, with microseconds of the client's processor time a message in brackets; all
are medians. Each cell ran in four turns a round, checked the number of messages and the bytes of their bodies, and that the
queue was empty once all was acked; bodies are bytes, so no serializer is measured."""

_TRUST = """How far to trust them: all contenders ran {where},
interleaved in one run, doing the same work after a warm-up; Python's garbage collector was on, as in users' programs.
**The ratios and the processor time are the figures to use**; the others depend on this machine and on what else it
did{moved}."""

_MOVED = ", and moved from turn to turn: the fastest\nturn of a cell was {:.2f} times the slowest, in the median"


def _head(report: Report, command: str) -> Iterator[str]:
    yield f"# Benchmarks: {report.title}"
    yield ""
    yield f"Made by `{command} --markdown`, {report.settings.rounds} rounds; [how it measures](../benchmarks.md)."
    if report.rows:
        yield _SPEEDS
    yield ""
    yield _TRUST.format(where=report.where, moved=_MOVED.format(report.spread) if report.spread else "")


def _about(report: Report) -> str:
    facts = [f"{name} {value}" for name, value in report.versions.items()]
    where = [report.machine["processor"], report.machine["system"], f"Python {report.machine['python']}"]
    load = f"load {report.machine['load']}"
    return f"{report.machine['when']}; {', '.join([*where, load])}; {', '.join(facts)}."


def _speeds(report: Report, mode: str, size: int) -> tuple[Sequence[str], list[tuple[str, ...]]]:
    rivals = [name for name in report.contenders if name != BROKERKIT]
    columns = ("", *report.contenders, *(f"× {name}" for name in rivals))
    rows = []
    for cell in CELLS:
        speeds = []
        for name in report.contenders:
            row = report.row(cell.name, size, mode, name)
            speeds.append(f"{row.rate:,.0f} ({row.cpu_us:.1f})" if row else "–")
        ratios = (report.ratio(cell.name, size, mode, name) for name in rivals)
        rows.append((cell.title, *speeds, *("–" if ratio is None else _figure(ratio) for ratio in ratios)))
    return columns, rows


def _others(report: Report) -> Iterator[tuple[str, Sequence[str], list[tuple[str, ...]]]]:
    """Yield title, columns and rows of the tables that are not about speed."""
    figures = report.figures
    rows: list[tuple[str, ...]]
    if figures.latency:
        rows = []
        for name, seconds in sorted(figures.latency.items()):
            ordered = sorted(seconds)
            middle, worst = ordered[len(ordered) // 2], ordered[-1]
            rows.append((name, f"{middle * 1000:.1f}", f"{worst * 1000:.1f}", str(len(ordered))))
        yield "Latency of an idle consumer in another process, ms", ("", "median", "worst", "messages"), rows
    if figures.deep:
        deep = figures.deep[0].deep
        columns: Sequence[str] = ("", "prefetch", "1,000 waiting", f"{deep:,} waiting", "ratio")
        rows = [
            (d.name, str(d.prefetch), f"{d.shallow_us:.1f}", f"{d.deep_us:.1f}", f"{d.ratio:.2f}") for d in figures.deep
        ]
        yield "Cost of consuming a message by those that wait behind it, µs", columns, rows
    if figures.extras:
        rows = [row for extra in report.extras for row in _extra(report, extra)]
        yield "In particular", ("", "unit", "brokerkit", "the other", "", "×"), rows
    if figures.imports:
        rows = [
            (f"import {one.module}", f"{one.seconds * 1000:.0f}", str(one.modules), ", ".join(one.clients) or "none")
            for one in figures.imports
        ]
        yield "Import", ("", "ms", "modules", "clients of brokers"), rows


def _extra(report: Report, extra: Extra) -> Iterator[tuple[str, ...]]:
    ours = report.extra_figure(extra.name, BROKERKIT)
    for name in report.figures.extras.get(extra.name, {}):
        theirs = report.extra_figure(extra.name, name)
        if name != BROKERKIT and ours and theirs:
            yield extra.title, extra.unit, f"{ours:,.0f}", name, f"{theirs:,.0f}", _figure(ours / theirs)


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield f"|---|{'---:|' * (len(columns) - 1)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.3g}"  # noqa: PLR2004


def _measured(goal: Met) -> str:
    if goal.cell == "latency" and not goal.versus:
        return f"{goal.measured * 1000:.1f} ms"
    return _figure(goal.measured) if goal.measured else "0"


def _verdict(*, met: bool) -> Text:
    from rich.text import Text  # noqa: PLC0415 - see Terminal.console

    return Text("met", style="green") if met else Text("missed", style="bold red")
