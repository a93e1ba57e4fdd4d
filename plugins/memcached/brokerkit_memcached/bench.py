"""What this plugin is measured against by `brokerkit bench memcached`. Nothing else imports this."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any, ClassVar, Final, final

from pymemcache.client.base import Client

from brokerkit import servers
from brokerkit.bench.contract import Contender, Extra, Goal
from brokerkit.bench.ours import BROKERKIT
from brokerkit.bench.result_cells import CELERY, CeleryResults, OurResults, result_cells
from brokerkit.errors import EvictionRisk
from brokerkit.results import results

__all__ = ["MEMCACHED", "MemcachedBenchmark"]

_RAW: Final = "pymemcache"
_DAY: Final = 86_400
_BATCH: Final = 100
_BATCHES: Final = 20
_TOLD: Final = "memcached.url"

_server: servers.Memcached | None = None

warnings.filterwarnings("ignore", category=EvictionRisk)  # the server's memory is enough for what is measured


def _server_url(folder: Path) -> str:
    """Return the URL of the run's server, which the first caller starts. Other processes find it by the folder."""
    global _server  # noqa: PLW0603 - it lives as long as the process: its reaper ends it
    told = folder.parent / _TOLD
    if not told.exists():
        if _server is None:
            _server = servers.Memcached(memory=256).start()
        told.write_text(_server.url(), encoding="ascii")
    return told.read_text("ascii")


@final
class _RawPymemcache:
    """pymemcache alone: JSON set and got, a day to live. A second result replaces the first, and nobody can wait."""

    name: str = _RAW
    waits: bool = False

    def open(self, folder: Path) -> None:
        """See `ResultContender.open`."""
        host, _, port = _server_url(folder).removeprefix("memcached://").partition(":")
        self._client: Any = Client((host, int(port)), timeout=30, no_delay=True, default_noreply=False)

    def store(self, result_id: str, value: object) -> None:
        """See `ResultContender.store`."""
        self._client.set(f"raw-{result_id}", json.dumps(value).encode(), expire=_DAY)

    def fetch(self, result_id: str) -> object:
        """See `ResultContender.fetch`."""
        return json.loads(self._client.get(f"raw-{result_id}"))

    def waiting(self, result_id: str, timeout: float) -> Callable[[], object]:
        """See `ResultContender.waiting`."""
        raise NotImplementedError

    def store_many(self, values: Mapping[str, object]) -> None:
        """Store a batch in one go."""
        self._client.set_many({key: json.dumps(value).encode() for key, value in values.items()}, expire=_DAY)

    def fetch_many(self, keys: Sequence[str]) -> int:
        """Return how many of some results there are, all decoded."""
        return len([json.loads(value) for value in self._client.get_many(keys).values()])


@final
class _Batches:
    """Cells of a hundred results at once. Celery has no batches: it stores and fetches one by one."""

    def __init__(self) -> None:
        self._numbers = count()
        self._keys: Sequence[Sequence[str]] = ()
        self._open = False

    def store(self, folder: Path) -> Mapping[str, float]:
        """Results a second, encoded."""
        self._prepare(folder)
        self._keys = [[f"{next(self._numbers):032x}" for _ in range(_BATCH)] for _ in range(_BATCHES)]
        told = {
            BROKERKIT: self._rate(lambda keys: self._store.set_results({key: {"n": 1} for key in keys})),
            _RAW: self._rate(lambda keys: self._raw.store_many({f"raw-{key}": {"n": 1} for key in keys})),
        }
        return {**told, CELERY: self._one_by_one(lambda key: self._celery.store(key, {"n": 1}))}

    def fetch(self, folder: Path) -> Mapping[str, float]:
        """Results a second, decoded."""
        self._prepare(folder)
        keys = [[f"{next(self._numbers):032x}" for _ in range(_BATCH)] for _ in range(_BATCHES)]
        for key in (key for some in keys for key in some):
            self._store.set_result(key, {"n": 1})
            self._raw.store(key, {"n": 1})
        for key in keys[0]:
            self._celery.store(key, {"n": 1})
        self._keys = keys
        told = {
            BROKERKIT: self._rate(lambda some: _all(found.value for found in self._store.get_many(some))),
            _RAW: self._rate(lambda some: _check(self._raw.fetch_many([f"raw-{key}" for key in some]))),
        }
        return {**told, CELERY: self._one_by_one(self._celery.fetch)}

    def _rate(self, step: Callable[[Sequence[str]], object]) -> float:
        begun = time.perf_counter()
        for some in self._keys:
            step(some)
        return _BATCH * _BATCHES / (time.perf_counter() - begun)

    def _one_by_one(self, step: Callable[[str], object]) -> float:
        begun = time.perf_counter()
        for key in self._keys[0]:
            step(key)
        return _BATCH / (time.perf_counter() - begun)

    def _prepare(self, folder: Path) -> None:
        if not self._open:
            self._store: Any = results(f"{_server_url(folder)}?key_prefix=batch:")
            self._raw, self._celery = _RawPymemcache(), _Celery()
            self._raw.open(folder)
            self._celery.open(folder)
            self._celery.store("warm", 1)
            self._open = True


def _all(values: Any) -> None:
    if [value for value in values if value != {"n": 1}]:
        raise AssertionError("a batch came with other results than were stored")


def _check(number: int) -> None:
    if number != _BATCH:
        raise AssertionError(f"of {_BATCH} results came {number}")


@final
class _Celery:
    """Celery's cache backend on pymemcache. Its client is not for two threads: who waits has an application of its own."""

    name: str = CELERY
    waits: bool = True

    def __init__(self) -> None:
        self._storing, self._waiting = (CeleryResults(lambda folder: f"cache+{_server_url(folder)}/") for _ in range(2))

    def open(self, folder: Path) -> None:
        """See `ResultContender.open`."""
        self._storing.open(folder)
        self._waiting.open(folder)

    def store(self, result_id: str, value: object) -> None:
        """See `ResultContender.store`."""
        self._storing.store(result_id, value)

    def fetch(self, result_id: str) -> object:
        """See `ResultContender.fetch`."""
        return self._storing.fetch(result_id)

    def waiting(self, result_id: str, timeout: float) -> Callable[[], object]:
        """See `ResultContender.waiting`."""
        return self._waiting.waiting(result_id, timeout)


_batches: Final = _Batches()


@final
class MemcachedBenchmark:
    """See `brokerkit.bench.contract.Benchmark`. It is a store of results alone."""

    title: str = "memcached"
    modes: Sequence[str] = ()
    driver: str = _RAW
    peer: str = CELERY
    where: str = "against one private memcached on this machine, by TCP"
    modules: Sequence[str] = ("celery.backends.cache", "pymemcache")
    extras: Sequence[Extra] = (
        *result_cells(
            OurResults(lambda folder: f"{_server_url(folder)}?key_prefix=ours:"), _Celery(), _RawPymemcache()
        ),
        Extra("store_many", f"results: store {_BATCH} at once (Celery: one by one)", "a second", _batches.store),
        Extra("fetch_many", f"results: fetch {_BATCH} at once (Celery: one by one)", "a second", _batches.fetch),
    )
    goals: ClassVar[Sequence[Goal]] = (
        Goal("store", None, CELERY, "at least", 1.6),
        Goal("fetch", None, CELERY, "at least", 0.9),
        Goal("wait", None, CELERY, "at most", 0.05),
        Goal("store_many", None, CELERY, "at least", 12),
        Goal("fetch_many", None, CELERY, "at least", 8),
        Goal("import", None, "", "at most", 0),
    )

    def url(self, folder: Path, mode: str) -> str:  # noqa: ARG002 - there are no modes
        """Return brokerkit's URL."""
        return _server_url(folder)

    def rivals(self, mode: str) -> Sequence[Contender]:  # noqa: ARG002
        """Return nobody: there are no messages."""
        return []

    def versions(self) -> Mapping[str, str]:
        """Return what is measured."""
        return {name: version(name) for name in ("brokerkit-memcached", "pymemcache", "celery")}


MEMCACHED: Final = MemcachedBenchmark()
"""What the entry point gives."""
