"""The cells that `brokerkit bench redis` has beside those of all engines: large bodies, many queues, memory, and results."""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final, final

from brokerkit import connect, results
from brokerkit.bench.ours import BROKERKIT, Ours
from brokerkit_redis.bench_rivals import KombuRedis, RawRedis, server_url

__all__ = ["EXTRAS", "ONE_QUEUE", "Extra"]

ONE_QUEUE: Final = "brokerkit, one queue"
_CELERY: Final = "Celery"
_OURS, _CELERYS, _QUEUES = 4, 5, 6  # databases
_LARGE: Final = 64 * 1024
_SMALL: Final = b"." * 100
_PINGS: Final = 100
_PATIENCE: Final = 30.0
_SETTLED: Final = 0.005  # seconds after which whoever was told to wait is waiting


@dataclass(frozen=True)
class Extra:
    """See `brokerkit.bench.contract.Extra`."""

    name: str
    title: str
    unit: str
    turn: Callable[[Path], Mapping[str, float]]


@final
class _Queues:
    """Cells of queues. Contenders are opened at the first turn, and live as long as the process."""

    def __init__(self) -> None:
        self._open: dict[str, Any] = {}
        self._latencies: dict[str, list[float]] = {}
        self._many: Any = None

    def large(self, folder: Path) -> Mapping[str, float]:
        """Messages of 64 KiB a second, consumed and acked."""
        rates = {}
        for name, one in self._contenders(folder).items():
            for _ in range(3):
                one.send_many([b"." * _LARGE] * 100)
            begun = time.perf_counter()
            one.consume(300, prefetch=100)
            rates[name] = 300 / (time.perf_counter() - begun)
        return rates

    def memory(self, folder: Path) -> Mapping[str, float]:
        """Bytes of the server's memory for a waiting message."""
        told = {}
        for name, one in self._contenders(folder).items():
            before = self._used(one, folder)
            for _ in range(100):
                one.send_many([_SMALL] * 100)
            told[name] = (self._used(one, folder) - before) / 10_000
            one.purge()
        return told

    def median_latency(self, folder: Path) -> Mapping[str, float]:
        """Microseconds from a send to the hand-over to a waiting thread."""
        self._latencies = {}
        for name, one in self._contenders(folder, mark="-sender").items():
            waiting = self._contenders(folder, mark="-waiter")[name]
            self._latencies[name] = [_latency(one, waiting) for _ in range(_PINGS)]
        return {name: median(some) for name, some in self._latencies.items()}

    def worst_latency(self, folder: Path) -> Mapping[str, float]:  # noqa: ARG002 - of the same messages
        """The 99th of a hundred of the same."""
        return {name: quantiles(some, n=100)[98] for name, some in self._latencies.items()}

    def many(self, folder: Path) -> Mapping[str, float]:
        """Microseconds a message, from 100 queues by turns and from one."""
        names = [f"queue-{number}" for number in range(100)]
        if self._many is None:
            self._many = connect(server_url(folder, _QUEUES))
            for name in names:
                self._many.declare(name)
        told = {}
        for which, some in ((BROKERKIT, names), (ONE_QUEUE, names[:1])):
            for name in some * (20 * 100 // len(some) // 20):
                self._many.send_many(name, [_SMALL] * 20)
            begun = time.perf_counter()
            _consume(self._many, some, 2000)
            told[which] = (time.perf_counter() - begun) / 2000 * 1e6
        return told

    def _contenders(self, folder: Path, mark: str = "") -> Mapping[str, Any]:
        found = {}
        for make in (lambda: Ours(lambda _: server_url(folder, _OURS)), RawRedis, KombuRedis):
            one = make()
            key = f"{one.name}{mark}"
            if key not in self._open:
                one.open(folder)
                self._open[key] = one
            found[one.name] = self._open[key]
        return found

    def _used(self, one: Any, folder: Path) -> int:
        raw = self._contenders(folder)[RawRedis.name]
        one.depth()  # what was sent is there
        return int(raw.used_memory())


@final
class _Results:
    """Cells of results, against Celery's Redis backend."""

    def __init__(self) -> None:
        self._ours: Any = None
        self._storing: Any = None
        self._celery: Any = None
        self._numbers = count()
        self._stored: dict[str, list[str]] = {}

    def store(self, folder: Path) -> Mapping[str, float]:
        """Results a second, stored one by one."""
        self._prepare(folder)
        ids = [f"{next(self._numbers):032x}" for _ in range(500)]
        ours, celery = self._ours, self._celery
        rates = {
            BROKERKIT: _rate(ids, lambda one: ours.set_result(one, {"n": 1})),
            _CELERY: _rate(ids, lambda one: celery.store_result(one, {"n": 1}, "SUCCESS")),
        }
        self._stored = {BROKERKIT: ids, _CELERY: ids}
        return rates

    def fetch(self, folder: Path) -> Mapping[str, float]:
        """Results a second, fetched one by one."""
        self._prepare(folder)
        ours, celery = self._ours, self._celery
        return {
            BROKERKIT: _rate(self._stored[BROKERKIT], ours.get),
            _CELERY: _rate(self._stored[_CELERY], celery.get_result),
        }

    def wait(self, folder: Path) -> Mapping[str, float]:
        """Microseconds from before a store to the return of who waits for it."""
        self._prepare(folder)
        ours, celery = self._ours, self._celery
        result = importlib.import_module("celery.result").AsyncResult
        told: dict[str, list[float]] = {BROKERKIT: [], _CELERY: []}
        for _ in range(_PINGS // 2):
            one = f"{next(self._numbers):032x}"
            pending = ours.pending(one)
            told[BROKERKIT].append(
                _handed(lambda p=pending: p.result(timeout=_PATIENCE), lambda k=one: self._storing.set_result(k, 1))  # type: ignore[misc]
            )
            waiting = result(one, app=self._app)
            told[_CELERY].append(
                _handed(
                    lambda w=waiting: w.get(timeout=_PATIENCE),  # type: ignore[misc]
                    lambda k=one: celery.store_result(k, 1, "SUCCESS"),  # type: ignore[misc]
                )
            )
        return {name: median(some) for name, some in told.items()}

    def _prepare(self, folder: Path) -> None:
        if self._ours is None:
            self._ours = results(server_url(folder, _OURS))
            self._storing = results(server_url(folder, _OURS))  # another, as who waits hears of its own at once
            url = server_url(folder, _CELERYS)
            self._app: Any = importlib.import_module("celery").Celery("bench", backend=url, broker=url)
            self._celery = self._app.backend


def _consume(broker: Any, names: Sequence[str], number: int) -> None:
    came = 0
    with broker.consumer(*names, prefetch=100) as consumer:
        for delivery in consumer:
            with delivery:
                came += 1
            if came == number:
                return


def _rate(ids: Sequence[str], step: Callable[[str], object]) -> float:
    begun = time.perf_counter()
    for one in ids:
        step(one)
    return len(ids) / (time.perf_counter() - begun)


def _latency(sender: Any, waiter: Any) -> float:
    return _handed(lambda: waiter.receive(_PATIENCE), lambda: sender.send(_SMALL))


def _handed(wait: Callable[[], object], give: Callable[[], object]) -> float:
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


_queues, _results = _Queues(), _Results()

EXTRAS: Final = (
    Extra("large", "consume and ack 64 KiB, prefetch 100", "messages a second", _queues.large),
    Extra("idle_p50", "send to hand-over in another thread, median", "µs", _queues.median_latency),
    Extra("idle_p99", "send to hand-over in another thread, 99th of 100", "µs", _queues.worst_latency),
    Extra("queues", "consume and ack from 100 queues, 100 B", "µs a message", _queues.many),
    Extra("memory", "a waiting message of 100 B", "bytes", _queues.memory),
    Extra("store", "results: store", "a second", _results.store),
    Extra("fetch", "results: fetch", "a second", _results.fetch),
    Extra("wait", "results: store to return of who waits, median", "µs", _results.wait),
)
