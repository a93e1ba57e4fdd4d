"""How a defect is written down, planted for a while, and taken out again."""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, final

from brokerkit_conformance.harness import Harness
from brokerkit_conformance.reference import MemoryHarness

__all__ = ["Mutant", "Patch", "all_mutants", "mutant"]

PACKAGE: Final = "brokerkit_conformance.mutants"


@final
class Patch:
    """Replaces attributes of classes and modules, and puts them back."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []

    def value(self, target: Any, name: str, new: Any) -> None:
        """Replace an attribute by a value."""
        own = name in vars(target)
        before = vars(target).get(name)
        setattr(target, name, new)
        self._undo.append((lambda: setattr(target, name, before)) if own else (lambda: delattr(target, name)))

    def wrap(self, target: Any, name: str, make: Callable[[Any], Any]) -> None:
        """Replace a function by what `make` makes of it."""
        self.value(target, name, make(getattr(target, name)))

    def undo(self) -> None:
        """Put everything back, in reverse order."""
        while self._undo:
            self._undo.pop()()


@dataclass(frozen=True, slots=True)
class Mutant:
    """One planted defect.

    Attributes:
        name: of the defect.
        defect: in words.
        source: where the like was seen: the survivors of other suites, or the behaviour of peers.
        kills: the laws whose cases must each fail on it.
        plant: makes the change.
        harness: of the engine that is mutated.
    """

    name: str
    defect: str
    source: str
    kills: tuple[str, ...]
    plant: Callable[[Patch], None]
    harness: Callable[[], Harness]

    @contextlib.contextmanager
    def planted(self) -> Iterator[None]:
        """Live with the defect for a while. Not thread-safe: one mutant at a time in a process."""
        patch = Patch()
        try:
            self.plant(patch)
            yield
        finally:
            patch.undo()


_mutants: dict[str, Mutant] = {}

Plant = Callable[[Patch], None]


def mutant(*kills: str, source: str = "", harness: Callable[[], Harness] = MemoryHarness) -> Callable[[Plant], Plant]:
    """Register a defect; its name is the function's, its description the docstring."""

    def register(plant: Plant) -> Plant:
        name = plant.__name__.replace("_", "-")
        if name in _mutants:
            raise ValueError(f"two mutants are named {name!r}")
        _mutants[name] = Mutant(name, (plant.__doc__ or "").strip(), source, kills, plant, harness)
        return plant

    return register


@cache
def all_mutants() -> tuple[Mutant, ...]:
    """Return all planted defects."""
    package = importlib.import_module(PACKAGE)
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{PACKAGE}.{module.name}")
    return tuple(_mutants.values())
