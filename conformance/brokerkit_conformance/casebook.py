"""Cases are functions that belong to the suite, registered by law; nobody outside can replace or skip one."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeAlias

from brokerkit_conformance.catalogue import catalogue

if TYPE_CHECKING:
    from brokerkit_conformance.bench import Bench

__all__ = ["CAP", "Case", "Casebook", "Test", "case", "casebook", "of_results", "refusal", "without"]

Test: TypeAlias = "Callable[[Bench], None]"

CAP: Final = 30.0
"""Real seconds that one case may take, unless it says otherwise."""

CROWD_CAP: Final = 90.0
"""The same for one that starts many processes, which take their time to start on a busy machine."""

PACKAGE = "brokerkit_conformance.cases"


@dataclass(slots=True)
class Case:
    """What is known to the suite about one law.

    Attributes:
        test: shows that the law holds.
        refusal: shows that the power, where it is not claimed, is refused.
        of_results: shows the same of a result store: beside `test`, or alone where there is no broker.
        alone: no other case runs at the same time, as it counts threads or the like.
        crowd: it starts many processes: two such cases run at a time, after the common ones.
        cap: real seconds that it may take.
    """

    test: Test | None = None
    refusal: Test | None = None
    of_results: Test | None = None
    alone: bool = False
    crowd: bool = False
    cap: float = CAP


@dataclass(frozen=True, slots=True)
class Casebook:
    """All that the suite can run.

    Attributes:
        cases: by law.
        broken: what went wrong when an area's file was imported, by area.
        without: the refusal twins of laws that have none of their own, by the power that is absent.
    """

    cases: Mapping[str, Case]
    broken: Mapping[str, str] = field(default_factory=dict)
    without: Mapping[str, Test] = field(default_factory=dict)

    def test(self, law_id: str) -> Test | None:
        """Return what shows that a law holds."""
        own = self.cases.get(law_id)
        return None if own is None else own.test

    def tests(self, law_id: str, *, broker: bool, results: bool) -> list[Test]:
        """Return what shows that a law holds for a broker, for a result store, or for both."""
        own = self.cases.get(law_id)
        if own is None:
            return []
        both = [own.test if broker or own.of_results is None else None, own.of_results if results else None]
        return [test for test in both if test is not None]

    def refusal(self, law_id: str, power: str) -> Test | None:
        """Return what runs instead of a law's case, where a power is absent: the law's own twin, or the power's."""
        own = self.cases.get(law_id)
        return (own.refusal if own is not None else None) or self.without.get(power)


_cases: dict[str, Case] = {}
_without: dict[str, Test] = {}


def case(law_id: str, *, alone: bool = False, crowd: bool = False, cap: float | None = None) -> Callable[[Test], Test]:
    """Register the case of a law."""
    entry = _entry(law_id)

    def register(test: Test) -> Test:
        if entry.test is not None:
            raise ValueError(f"{law_id} has two cases: {entry.test.__qualname__} and {test.__qualname__}")
        entry.test, entry.alone, entry.crowd = test, alone, crowd
        entry.cap = cap or (CROWD_CAP if crowd else CAP)
        return test

    return register


def of_results(law_id: str) -> Callable[[Test], Test]:
    """Register what shows a law of transports for a result store. `gates.OF_RESULTS` has to name the law."""
    entry = _entry(law_id)

    def register(test: Test) -> Test:
        if entry.of_results is not None:
            raise ValueError(f"{law_id} has two cases of results")
        entry.of_results = test
        return test

    return register


def refusal(*law_ids: str) -> Callable[[Test], Test]:
    """Register the refusal twin of one or more laws."""

    def register(test: Test) -> Test:
        for law_id in law_ids:
            entry = _entry(law_id)
            if entry.refusal is not None:
                raise ValueError(f"{law_id} has two refusals")
            entry.refusal = test
        return test

    return register


def without(*powers: str) -> Callable[[Test], Test]:
    """Register the refusal twin of all laws that ask for a power and have no twin of their own."""

    def register(test: Test) -> Test:
        for power in powers:
            if power in _without:
                raise ValueError(f"the absence of {power} has two refusals")
            _without[power] = test
        return test

    return register


@cache
def casebook() -> Casebook:
    """Import every area's file, and return all cases. A file that cannot be imported leaves its laws without cases."""
    broken: dict[str, str] = {}
    package = importlib.import_module(PACKAGE)
    for module in pkgutil.iter_modules(package.__path__):
        if module.name.startswith("_"):
            continue
        try:
            importlib.import_module(f"{PACKAGE}.{module.name}")
        except Exception as error:  # noqa: BLE001 - whatever it is, the verdict says that the area did not run
            broken[module.name.partition("_")[0].upper()] = (
                f"{module.name}.py cannot be imported: {type(error).__name__}: {error}"
            )
    return Casebook(MappingProxyType(_cases), broken, MappingProxyType(_without))


def _entry(law_id: str) -> Case:
    if law_id not in catalogue():
        raise ValueError(f"no law {law_id!r} in the catalogue")
    return _cases.setdefault(law_id, Case())
