"""The cells that `brokerkit bench rabbitmq` has beside those of all engines: batches of 1000, and bodies of 64 KiB."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, final

from brokerkit.bench.contract import Extra
from brokerkit.bench.ours import Ours
from brokerkit_rabbitmq.bench_rivals import RawAMQP, kombu, unconfirmed, url_of

__all__ = ["EXTRAS"]

_SMALL: Final = b"." * 1024
_LARGE: Final = b"." * 64 * 1024
_BATCH: Final = 1000
_MODE: Final = "quorum"


@final
class _Cells:
    """Contenders are opened at the first turn, and live as long as the process."""

    def __init__(self) -> None:
        self._open: dict[str, Any] = {}

    def batches(self, folder: Path) -> Mapping[str, float]:
        """Messages a second, sent in batches of a thousand."""
        return self._each(folder, lambda one: _sent(one, _SMALL, 3 * _BATCH, _BATCH))

    def large_sent(self, folder: Path) -> Mapping[str, float]:
        """Messages of 64 KiB a second, sent in batches of a hundred."""
        return self._each(folder, lambda one: _sent(one, _LARGE, 300, 100))

    def large(self, folder: Path) -> Mapping[str, float]:
        """Messages of 64 KiB a second, consumed and acked."""

        def consumed(one: Any) -> float:
            for _ in range(3):
                one.send_many([_LARGE] * 100)
            begun = time.perf_counter()
            one.consume(300, prefetch=100)
            return 300 / (time.perf_counter() - begun)

        return self._each(folder, consumed)

    def _each(self, folder: Path, work: Callable[[Any], float]) -> Mapping[str, float]:
        rates = {}
        for make in (lambda: Ours(lambda path: f"{url_of(path)}?queue_type={_MODE}"), _raw, kombu, unconfirmed):
            one = make()
            if one.name not in self._open:
                own = folder / one.name
                own.mkdir()
                one.open(own)
                self._open[one.name] = one
            rates[one.name] = work(self._open[one.name])
        return rates


def _raw() -> RawAMQP:
    return RawAMQP(_MODE)


def _sent(one: Any, body: bytes, messages: int, batch: int) -> float:
    begun = time.perf_counter()
    for _ in range(messages // batch):
        one.send_many([body] * batch)
    rate = messages / (time.perf_counter() - begun)
    one.depth()  # what was sent is there
    one.purge()
    return rate


_cells = _Cells()

EXTRAS: Final = (
    Extra("batches", f"send_many({_BATCH}), 1 KiB, quorum queues", "messages a second", _cells.batches),
    Extra("large_sent", "send_many(100), 64 KiB, quorum queues", "messages a second", _cells.large_sent),
    Extra("large", "consume and ack 64 KiB, prefetch 100, quorum queues", "messages a second", _cells.large),
)
