"""The report of a run: medians, ratios, and which goals were met."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, final

from brokerkit.bench.cells import CELLS
from brokerkit.bench.contract import Benchmark, Goal, extras_of
from brokerkit.bench.facts import machine, package_versions
from brokerkit.bench.measuring import Figures, Settings
from brokerkit.bench.ours import BROKERKIT

__all__ = ["Met", "Report", "Row", "report_of"]

_GOAL_SIZE = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One contender in one cell.

    Attributes:
        cell: its name.
        size: of the bodies, in bytes.
        mode: of the engine.
        contender: its name, without the mode.
        rate: messages a second, the median of all turns.
        cpu_us: microseconds of client's processor time a message, likewise.
        rates: of each turn.
    """

    cell: str
    size: int
    mode: str
    contender: str
    rate: float
    cpu_us: float
    rates: list[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Met:
    """One goal, and how it stands.

    Attributes:
        goal: in words.
        cell: of the goal.
        mode: likewise.
        versus: likewise.
        bound: likewise.
        value: likewise.
        measured: the figure of this run.
        met: whether it was reached.
    """

    goal: str
    cell: str
    mode: str | None
    versus: str
    bound: str
    value: float
    measured: float
    met: bool


@final
class Report:
    """What a run showed.

    Attributes:
        title: the engine's name.
        where: what the contenders ran on.
        modes: of the engine, in order.
        contenders: names in the order of the report: driver, peer, brokerkit.
        machine: what it ran on.
        versions: of what was measured.
        settings: how it was run.
        figures: all that was measured.
        rows: all cells.
        extras: the cells that only this engine has.
        goals: those that this run can tell of.
    """

    def __init__(
        self,
        brought: Benchmark,
        settings: Settings,
        figures: Figures,
        *,
        machine: Mapping[str, str],
        versions: Mapping[str, str],
    ) -> None:
        self.title = brought.title
        self.where = brought.where
        self.modes = [mode for mode in brought.modes if not settings.modes or mode in settings.modes]
        self.contenders = [brought.driver, brought.peer, BROKERKIT]
        self.machine = dict(machine)
        self.versions = dict(versions)
        self.settings = settings
        self.figures = figures
        self.extras = list(extras_of(brought))
        self.rows = [row for mode in self.modes for row in self._rows(mode)]
        self.goals = [met for goal in brought.goals if (met := self._judge(goal)) is not None]

    @property
    def missed(self) -> list[Met]:
        """The goals that were not reached."""
        return [goal for goal in self.goals if not goal.met]

    @property
    def spread(self) -> float | None:
        """How many times as fast the fastest turn of a cell was as the slowest; the median of all cells, if there are any."""
        return median(max(row.rates) / min(row.rates) for row in self.rows) if self.rows else None

    def row(self, cell: str, size: int, mode: str, contender: str) -> Row | None:
        """Return one contender in one cell; None if it was not measured."""
        found = (r for r in self.rows if (r.cell, r.size, r.mode, r.contender) == (cell, size, mode, contender))
        return next(found, None)

    def ratio(self, cell: str, size: int, mode: str, versus: str) -> float | None:
        """Return how many times as fast brokerkit is: the ratio of the medians."""
        ours, theirs = self.row(cell, size, mode, BROKERKIT), self.row(cell, size, mode, versus)
        return ours.rate / theirs.rate if ours and theirs else None

    def latency(self, contender: str, mode: str) -> float | None:
        """Return a contender's median latency, in seconds."""
        measured = self.figures.latency.get(f"{contender} {mode}") or self.figures.latency.get(contender)
        return median(measured) if measured else None

    def extra_figure(self, name: str, contender: str) -> float | None:
        """Return a contender's median in an extra cell."""
        measured = self.figures.extras.get(name, {}).get(contender)
        return median(measured) if measured else None

    def document(self) -> dict[str, Any]:
        """Return it for JSON; the keys stay as they are."""
        return {
            "engine": self.title,
            "machine": self.machine,
            "versions": self.versions,
            "settings": asdict(self.settings),
            "notes": self.figures.notes,
            "cells": [asdict(row) for row in self.rows],
            "latency_seconds": self.figures.latency,
            "extras": self.figures.extras,
            "deep": [asdict(one) | {"ratio": one.ratio} for one in self.figures.deep],
            "imports": [asdict(one) for one in self.figures.imports],
            "goals": [asdict(goal) for goal in self.goals],
        }

    def _rows(self, mode: str) -> list[Row]:
        rows = []
        for size in self.settings.sizes:
            for cell in CELLS:
                for name in self.contenders:
                    samples = self.figures.samples.get((cell.name, size, f"{name} {mode}"))
                    samples = samples or self.figures.samples.get((cell.name, size, name))
                    if samples:
                        rates = [sample.rate for sample in samples]
                        cpu = median(sample.cpu_us for sample in samples)
                        rows.append(
                            Row(
                                cell=cell.name,
                                size=size,
                                mode=mode,
                                contender=name,
                                rate=median(rates),
                                cpu_us=cpu,
                                rates=rates,
                            )
                        )
        return rows

    def _judge(self, goal: Goal) -> Met | None:
        measured = self._measured(goal)
        if measured is None:
            return None
        met = measured >= goal.value if goal.bound == "at least" else measured <= goal.value
        return Met(
            goal=_in_words(goal, {extra.name: extra.title for extra in self.extras}),
            cell=goal.cell,
            mode=goal.mode,
            versus=goal.versus,
            bound=goal.bound,
            value=goal.value,
            measured=measured,
            met=met,
        )

    def _measured(self, goal: Goal) -> float | None:
        if goal.cell == "import":
            return next((float(len(one.clients)) for one in self.figures.imports if one.module == BROKERKIT), None)
        if goal.cell in {extra.name for extra in self.extras}:
            ours, theirs = self.extra_figure(goal.cell, BROKERKIT), self.extra_figure(goal.cell, goal.versus)
            return ours / theirs if ours and theirs else None
        mode = goal.mode or next(iter(self.modes), "")
        if mode not in self.modes:
            return None
        if goal.cell == "latency":
            ours = self.latency(BROKERKIT, mode)
            theirs = self.latency(goal.versus, mode) if goal.versus else 1.0
            return ours / theirs if ours and theirs else None
        if goal.cell == "deep":
            ours_deep = [one.ratio for one in self.figures.deep if one.name == f"{BROKERKIT} {mode}"]
            return max(ours_deep, default=None)
        size = _GOAL_SIZE if _GOAL_SIZE in self.settings.sizes else self.settings.sizes[-1]
        return self.ratio(goal.cell, size, mode, goal.versus)


def report_of(brought: Benchmark, settings: Settings, figures: Figures) -> Report:
    """Return the report of a run that has just ended here."""
    versions = package_versions(("brokerkit-messaging",)) | dict(brought.versions())
    return Report(brought, settings, figures, machine=machine(), versions=versions)


def _in_words(goal: Goal, extras: Mapping[str, str]) -> str:
    titles = (
        {cell.name: cell.title for cell in CELLS}
        | dict(extras)
        | {
            "latency": "latency of an idle consumer in another process, median",
            "deep": "cost of a claim, 1,000,000 waiting against 1,000",
            "import": "clients of brokers that `import brokerkit` loads",
        }
    )
    mode = f" ({goal.mode})" if goal.mode else ""
    if goal.cell == "latency" and not goal.versus:
        return f"{titles[goal.cell]}{mode}: {goal.bound} {goal.value * 1000:g} ms"
    times = f" × that of {goal.versus}" if goal.versus else " ×" if goal.cell == "deep" else ""
    return f"{titles[goal.cell]}{mode}: {goal.bound} {goal.value:g}{times}"
