"""A run: all contenders of an engine, in all modes, interleaved over several rounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, final

from brokerkit.bench.cells import CELLS, Cell, Entrant, Sample, bodies
from brokerkit.bench.contract import Benchmark, Contender, extras_of
from brokerkit.bench.deep import Depths, depths
from brokerkit.bench.imports import Import, imports
from brokerkit.bench.latency import latencies
from brokerkit.bench.ours import BROKERKIT, Ours

__all__ = ["Figures", "Key", "Run", "Settings", "turned"]

_WARM_UP: Final = 200
_LEAST: Final = 50
_MOST: Final = 20_000
_STEP: Final = 50
_QUICK: Final = 0.1  # seconds of `budget` below which the warm-up is short, too
_SLICES: Final = 4
"""Turns of the contenders within one cell of one round: a disk that is slow for a moment is slow for all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a run is made.

    Attributes:
        rounds: interleaved rounds.
        sizes: of bodies, in bytes.
        modes: of the engine; empty for all.
        budget: seconds that one cell of one contender takes in one round, about.
        pings: messages of the latency cell in each round; 0 leaves it out.
        deep: whether a claim is measured with a million messages waiting.
    """

    rounds: int = 5
    sizes: Sequence[int] = (100, 1024)
    modes: Sequence[str] = ()
    budget: float = 0.4
    pings: int = 5
    deep: bool = False


Key = tuple[str, int, str]
"""A cell's name, the size of its bodies, and the entrant's name."""


@dataclass(slots=True)
class Figures:
    """What was measured.

    Attributes:
        samples: of each cell, several a round.
        latency: seconds, of each entrant's messages.
        deep: see `Depths`.
        imports: see `Import`.
        extras: figures of each turn, by the extra cell's name and the contender's.
        notes: what contenders do less than the others.
    """

    samples: dict[Key, list[Sample]] = field(default_factory=dict)
    latency: dict[str, list[float]] = field(default_factory=dict)
    deep: list[Depths] = field(default_factory=list)
    imports: list[Import] = field(default_factory=list)
    extras: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)


@final
class Run:
    """One run of a benchmark.

    Args:
        name: of the benchmark.
        brought: the benchmark.
        settings: how.
        folder: an empty one on the disk that is to be measured.
        tell: is told of the progress.
    """

    def __init__(
        self, name: str, brought: Benchmark, settings: Settings, folder: Path, tell: Callable[[str], None]
    ) -> None:
        self._name = name
        self._brought = brought
        self._settings = settings
        self._modes = [mode for mode in brought.modes if not settings.modes or mode in settings.modes]
        self._folder = folder
        self._tell = tell
        self._counts: dict[Key, int] = {}
        self.figures = Figures()

    def measure(self) -> Figures:
        """Run it all.

        Raises:
            WorkNotDone: a contender lost, repeated or changed messages.
        """
        with ExitStack() as stack:
            entrants = [stack.enter_context(self._open(make, mode)) for make, mode in self._line_up()]
            for entrant in entrants:
                if entrant.contender.note:
                    self.figures.notes[entrant.name] = entrant.contender.note
            if entrants:
                self._cells(entrants, warm_up=True)
            for number in range(self._settings.rounds):
                self._tell(f"round {number + 1} of {self._settings.rounds}")
                if entrants:
                    self._cells(turned(entrants, number), warm_up=False)
                    self._latency(turned(entrants, number))
                self._extras()
        if self._settings.deep:
            self._deep()
        self._tell("imports")
        self.figures.imports = imports(["brokerkit", *self._brought.modules])
        return self.figures

    def _line_up(self) -> Iterator[tuple[Callable[[], Contender], str | None]]:
        """Yield who takes part: brokerkit and the driver in each mode, the peer once."""
        for mode in self._modes:
            yield partial(self._ours, mode), mode
            for one in self._brought.rivals(mode):
                once = one.name == self._brought.peer
                if not once or mode == self._modes[0]:
                    yield partial(self._rival, one.name, mode), None if once else mode

    def _ours(self, mode: str) -> Contender:
        return Ours(lambda folder: self._brought.url(folder, mode))

    def _rival(self, name: str, mode: str) -> Contender:
        return next(one for one in self._brought.rivals(mode) if one.name == name)

    @contextmanager
    def _open(self, make: Callable[[], Contender], mode: str | None, mark: str = "") -> Iterator[Entrant]:
        contender = make()
        folder = self._folder / f"{contender.name}-{mode}{mark}"
        folder.mkdir()
        contender.open(folder)
        try:
            yield Entrant(contender, mode, folder, make)
        finally:
            contender.close()

    def _cells(self, entrants: Sequence[Entrant], *, warm_up: bool) -> None:
        for size in self._settings.sizes:
            for cell in CELLS:
                fit = [entrant for entrant in entrants if cell.fit(entrant.contender)]
                for number in range(1 if warm_up else _SLICES):
                    for entrant in turned(fit, number):
                        self._cell(cell, size, entrant, warm_up=warm_up)

    def _cell(self, cell: Cell, size: int, entrant: Entrant, *, warm_up: bool) -> None:
        key = (cell.name, size, entrant.name)
        if warm_up:
            sample = cell.work(entrant, bodies(_LEAST if self._settings.budget < _QUICK else _WARM_UP, size))
            fitting = int(sample.rate * self._settings.budget / _SLICES) // _STEP * _STEP
            self._counts[key] = min(max(fitting, _LEAST), _MOST)
        else:
            self.figures.samples.setdefault(key, []).append(cell.work(entrant, bodies(self._counts[key], size)))

    def _latency(self, entrants: Sequence[Entrant]) -> None:
        for entrant in entrants if self._settings.pings else ():
            mode = entrant.mode or self._modes[0]
            measured = latencies(self._name, entrant, mode=mode, count=self._settings.pings)
            self.figures.latency.setdefault(entrant.name, []).extend(measured)

    def _extras(self) -> None:
        folder = self._folder / "extras"
        folder.mkdir(exist_ok=True)
        for extra in extras_of(self._brought):
            for name, figure in extra.turn(folder).items():
                self.figures.extras.setdefault(extra.name, {}).setdefault(name, []).append(figure)

    def _deep(self) -> None:
        for make, mode in self._line_up():
            if mode == self._modes[0] and make().name in (BROKERKIT, self._brought.driver):
                with self._open(make, mode, "-shallow") as shallow, self._open(make, mode, "-deep") as deep:
                    self.figures.deep += depths(shallow, deep, rounds=self._settings.rounds, tell=self._tell)


def turned(entrants: Sequence[Entrant], number: int) -> list[Entrant]:
    """Return the same ones in an order that begins with another one for each number."""
    first = number % len(entrants)
    return [*entrants[first:], *entrants[:first]]
