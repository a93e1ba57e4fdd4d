"""The cells that `brokerkit bench redis` has beside those of all engines: large bodies, many queues, memory, and results."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final, final

from brokerkit import connect
from brokerkit.bench.contract import Extra
from brokerkit.bench.ours import BROKERKIT, Ours
from brokerkit.bench.result_cells import CeleryResults, OurResults, handed, result_cells
from brokerkit_redis.bench_rivals import RawRedis, kombu, server_url

__all__ = ["EXTRAS", "ONE_QUEUE"]

ONE_QUEUE: Final = "brokerkit, one queue"
_OURS, _CELERYS, _QUEUES = 4, 5, 6  # databases
_LARGE: Final = 64 * 1024
_SMALL: Final = b"." * 100
_PINGS: Final = 100
_PATIENCE: Final = 30.0


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
        for make in (lambda: Ours(lambda _: server_url(folder, _OURS)), RawRedis, kombu):
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


def _consume(broker: Any, names: Sequence[str], number: int) -> None:
    came = 0
    with broker.consumer(*names, prefetch=100) as consumer:
        for delivery in consumer:
            with delivery:
                came += 1
            if came == number:
                return


def _latency(sender: Any, waiter: Any) -> float:
    return handed(lambda: waiter.receive(_PATIENCE), lambda: sender.send(_SMALL))


_queues = _Queues()

EXTRAS: Final = (
    Extra("large", "consume and ack 64 KiB, prefetch 100", "messages a second", _queues.large),
    Extra("idle_p50", "send to hand-over in another thread, median", "µs", _queues.median_latency),
    Extra("idle_p99", "send to hand-over in another thread, 99th of 100", "µs", _queues.worst_latency),
    Extra("queues", "consume and ack from 100 queues, 100 B", "µs a message", _queues.many),
    Extra("memory", "a waiting message of 100 B", "bytes", _queues.memory),
    *result_cells(
        OurResults(lambda folder: server_url(folder, _OURS)), CeleryResults(lambda folder: server_url(folder, _CELERYS))
    ),
)
