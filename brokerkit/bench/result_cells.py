"""The cells of a result store, and who takes part in them: brokerkit, Celery, and what else a plugin brings.

Celery is measured here, not used: it is imported when its contender opens.
"""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any, Final, Protocol, final

from brokerkit.bench.contract import Extra
from brokerkit.bench.ours import BROKERKIT
from brokerkit.results import results

__all__ = ["CELERY", "CeleryResults", "OurResults", "ResultContender", "handed", "result_cells"]

CELERY: Final = "Celery"
_VALUE: Final = {"n": 1}
_STORED: Final = 500
_SLICES: Final = 4
_WAITS: Final = 50
_PATIENCE: Final = 30.0
_SETTLED: Final = 0.005  # seconds after which whoever was told to wait is waiting


class ResultContender(Protocol):
    """One way to store results. Two threads use it, if it has `waiting`.

    Attributes:
        name: shown, and what goals refer to.
        waits: whether it can wait for a result.
    """

    name: str
    waits: bool

    def open(self, folder: Path) -> None:
        """Connect to the store in a folder that all share; keys must be its own."""
        ...

    def store(self, result_id: str, value: object) -> None:
        """Store one final result; it is stored when this returns."""
        ...

    def fetch(self, result_id: str) -> object:
        """Return the value of a result that is there."""
        ...

    def waiting(self, result_id: str, timeout: float) -> Callable[[], object]:
        """Return what waits for a result that somebody else stores."""
        ...


@final
class OurResults:
    """brokerkit's results, by the public API.

    Args:
        url: gives the URL for a folder.
    """

    name = BROKERKIT
    waits = True

    def __init__(self, url: Callable[[Path], str]) -> None:
        self._url = url

    def open(self, folder: Path) -> None:
        """See `ResultContender.open`."""
        self._waiting: Any = results(self._url(folder))
        self._storing: Any = results(self._url(folder))  # another, as who waits hears at once of what its own stores

    def store(self, result_id: str, value: object) -> None:
        """See `ResultContender.store`."""
        self._storing.set_result(result_id, value)

    def fetch(self, result_id: str) -> object:
        """See `ResultContender.fetch`."""
        return self._waiting.get(result_id).value

    def waiting(self, result_id: str, timeout: float) -> Callable[[], object]:
        """See `ResultContender.waiting`."""
        pending = self._waiting.pending(result_id)
        return lambda: pending.result(timeout=timeout)


@final
class CeleryResults:
    """Celery's backend on the store of a URL.

    Args:
        url: gives Celery's URL for a folder.
        settings: of the application, beside the backend.
    """

    name = CELERY
    waits = True

    def __init__(self, url: Callable[[Path], str], *, settings: Mapping[str, Any] | None = None) -> None:
        self._url = url
        self._settings = dict(settings or {})

    def open(self, folder: Path) -> None:
        """See `ResultContender.open`."""
        self._app: Any = importlib.import_module("celery").Celery(
            "bench", backend=self._url(folder), broker="memory://"
        )
        self._app.conf.update(self._settings)
        self._backend: Any = self._app.backend
        self._result: Any = importlib.import_module("celery.result").AsyncResult

    def store(self, result_id: str, value: object) -> None:
        """See `ResultContender.store`."""
        self._backend.store_result(result_id, value, "SUCCESS")

    def fetch(self, result_id: str) -> object:
        """See `ResultContender.fetch`."""
        return self._backend.get_result(result_id)

    def waiting(self, result_id: str, timeout: float) -> Callable[[], object]:
        """See `ResultContender.waiting`."""
        waiting = self._result(result_id, app=self._app)
        return lambda: waiting.get(timeout=timeout)


def result_cells(*contenders: ResultContender) -> Sequence[Extra]:
    """Return the cells of a result store: "store", "fetch" and "wait".

    Args:
        contenders: not yet open; they open at the first turn, and live as long as the process.
    """
    cells = _Results(contenders)
    return (
        Extra("store", "results: store", "a second", cells.store),
        Extra("fetch", "results: fetch", "a second", cells.fetch),
        Extra("wait", "results: store to return of who waits, median", "µs", cells.wait),
    )


def handed(wait: Callable[[], object], give: Callable[[], object]) -> float:
    """Return microseconds from before `give` to the return of `wait`, which another thread is in by then."""
    ended: list[float] = []
    begun = threading.Event()

    def waits() -> None:
        begun.set()
        wait()
        ended.append(time.perf_counter())

    thread = threading.Thread(target=waits)
    thread.start()
    begun.wait()
    threading.Event().wait(_SETTLED)
    given = time.perf_counter()
    give()
    thread.join()
    return (ended[0] - given) * 1e6


@final
class _Results:
    def __init__(self, contenders: Sequence[ResultContender]) -> None:
        self._contenders = contenders
        self._opened = False
        self._numbers = count()
        self._stored: Sequence[str] = ()

    def store(self, folder: Path) -> Mapping[str, float]:
        """Results a second, stored one by one."""
        self._open(folder)
        self._stored = [self._another() for _ in range(_STORED)]
        return self._rates(lambda one: lambda result_id: one.store(result_id, _VALUE))

    def fetch(self, folder: Path) -> Mapping[str, float]:
        """Results a second, fetched one by one: those that the turn before stored."""
        if not self._stored:
            self.store(folder)
        for one in self._contenders:
            if one.fetch(self._stored[0]) != _VALUE:
                raise AssertionError(f"{one.name} returned another result than it stored")
        return self._rates(lambda one: one.fetch)

    def wait(self, folder: Path) -> Mapping[str, float]:
        """Microseconds from before a store to the return of who waits for it."""
        self._open(folder)
        told: dict[str, list[float]] = {one.name: [] for one in self._contenders if one.waits}
        for _ in range(_WAITS):
            for one in self._contenders:
                if one.waits:
                    result_id = self._another()
                    wait = one.waiting(result_id, _PATIENCE)
                    told[one.name].append(handed(wait, lambda o=one, r=result_id: o.store(r, _VALUE)))  # type: ignore[misc]
        return {name: median(some) for name, some in told.items()}

    def _rates(self, step_of: Callable[[ResultContender], Callable[[str], object]]) -> Mapping[str, float]:
        seconds = dict.fromkeys((one.name for one in self._contenders), 0.0)
        for number in range(_SLICES):
            for one in self._contenders:
                step, some = step_of(one), self._stored[number::_SLICES]
                begun = time.perf_counter()
                for result_id in some:
                    step(result_id)
                seconds[one.name] += time.perf_counter() - begun
        return {name: len(self._stored) / spent for name, spent in seconds.items()}

    def _another(self) -> str:
        return f"{next(self._numbers):032x}"

    def _open(self, folder: Path) -> None:
        if not self._opened:
            for one in self._contenders:
                one.open(folder)
            self._opened = True
