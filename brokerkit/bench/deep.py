"""The deep cell: what a message costs to consume with many waiting behind it, against with few."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from brokerkit.bench.cells import BATCH, Entrant, Sample, WorkNotDone, bodies, timed
from brokerkit.bench.contract import Contender

__all__ = ["DEEP", "SHALLOW", "Depths", "depths"]

SHALLOW: Final = 1_000
DEEP: Final = 1_000_000
_TAKEN: Final = 500
_FILL: Final = 5_000
_TURNS: Final = 4


@dataclass(frozen=True, slots=True)
class Depths:
    """The cost of a claim, by how many messages wait.

    Attributes:
        name: of the contender, with its mode.
        prefetch: messages claimed at once.
        shallow_us: microseconds a message with `SHALLOW` waiting, by the wall.
        deep_us: the same with `deep` waiting.
        deep: how many that is.
    """

    name: str
    prefetch: int
    shallow_us: float
    deep_us: float
    deep: int

    @property
    def ratio(self) -> float:
        """How many times as much the deep one costs."""
        return self.deep_us / self.shallow_us


def depths(
    shallow: Entrant, deep: Entrant, *, rounds: int, waiting: int = DEEP, tell: Callable[[str], None] = lambda _: None
) -> list[Depths]:
    """Fill two queues of one kind of contender, and consume from both in turns, topping them up after each.

    Args:
        shallow: open and empty.
        deep: likewise, in another folder.
        rounds: each is several turns; medians are returned.
        waiting: messages in the deep queue.
        tell: is told of the progress.
    """
    _fill(shallow.contender, SHALLOW)
    for filled in range(0, waiting, 10 * _FILL):
        _fill(deep.contender, min(10 * _FILL, waiting - filled))
        tell(f"{deep.name}: {filled + 10 * _FILL:,} messages wait")
    found = []
    for prefetch in (100, 1):
        samples: dict[str, list[Sample]] = {"shallow": [], "deep": []}
        for turn in range(_TURNS * rounds + 1):  # the first warms up
            for which, entrant in (("shallow", shallow), ("deep", deep)):
                sample = _take(entrant, prefetch)
                if turn:
                    samples[which].append(sample)
        costs = {which: 1e6 * median(1 / one.rate for one in some) for which, some in samples.items()}
        found.append(Depths(deep.name, prefetch, costs["shallow"], costs["deep"], waiting))
    return found


def _take(entrant: Entrant, prefetch: int) -> Sample:
    came: list[tuple[int, int]] = []
    sample = timed(_TAKEN, lambda: came.append(entrant.contender.consume(_TAKEN, prefetch=prefetch)))
    if came[0][0] != _TAKEN:
        raise WorkNotDone(f"{entrant.name} consumed {came[0][0]} messages in place of {_TAKEN}")
    _fill(entrant.contender, _TAKEN)
    return sample


def _fill(contender: Contender, count: int) -> None:
    given: Sequence[bytes] = bodies(min(count, _FILL), BATCH)
    for first in range(0, count, _FILL):
        contender.send_many(given[: count - first])
