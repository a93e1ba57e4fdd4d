"""Defects of result stores, for the cases of results that laws of transports have beside their own."""

from __future__ import annotations

import contextlib
import importlib
import os
from typing import Any, Final

from brokerkit._reading import ResultReader
from brokerkit._result_calls import ResultCalls
from brokerkit.errors import AlreadyFinal, Closed, ConnectionLost, OperationTimeout, ResultTimeout, TransportError
from brokerkit.memory import MemoryResultBackend
from brokerkit.memory.results import StoredRecord
from brokerkit_conformance.mutants import alone
from brokerkit_conformance.mutants.alone import NetworkedStore, RestartableStore, Store
from brokerkit_conformance.mutants.planting import Patch, mutant
from brokerkit_conformance.mutants.remote import RemoteResults
from brokerkit_conformance.reference import MemoryAdmin

_kept: Final[list[Any]] = []
_TRIES: Final = 4
_SILENCE: Final = 5.0


@mutant("CLN-03", source="PEERS: caches that only grow", harness=Store)
def a_closed_store_keeps_memory(patch: Patch) -> None:
    """A closed store keeps 64 KB somewhere."""

    def make(close: Any) -> Any:
        def mutated(self: Any, *, timeout: float) -> None:
            _kept.append(bytearray(os.urandom(64 << 10)))
            close(self, timeout=timeout)

        return mutated

    patch.wrap(MemoryResultBackend, "close", make)


@mutant("CLN-07", source="PEERS: a pool that says goodbye", harness=NetworkedStore)
def a_store_says_goodbye(patch: Patch) -> None:
    """A store that is closed waits for what its server says to that."""

    def make(close: Any) -> Any:
        def mutated(self: Any, timeout: float) -> None:
            for _ in range(_TRIES):
                with contextlib.suppress(Exception):
                    self.backend.get(["goodbye"], timeout=_SILENCE)
            close(self, timeout)

        return mutated

    patch.wrap(ResultCalls, "close", make)


@mutant("CON-10", source="PEERS: waiters of a closed pool", harness=Store)
def who_waits_on_a_closed_store_is_told_that_its_time_is_up(patch: Patch) -> None:
    """Whoever waits on a store that is closed is told that no result came in time, and may wait again."""

    def make(wait: Any) -> Any:
        def mutated(self: Any, key: str, **how: Any) -> Any:
            try:
                return wait(self, key, **how)
            except Closed:
                raise ResultTimeout(f"{key!r} had no final result") from None

        return mutated

    patch.wrap(ResultReader, "wait", make)


@mutant("EVI-11", source="LAWS 2", harness=Store)
def what_is_gone_keeps_others_out(patch: Patch) -> None:
    """A store remembers which results are final, beside the records, and lets nobody store one again that is gone."""
    final: set[tuple[int, str]] = set()

    def make(put: Any) -> Any:
        def mutated(self: Any, record: Any, ttl: float | None) -> Any:
            if (id(self.server), record.key) in final:
                return AlreadyFinal("it was stored")
            if record.final:
                final.add((id(self.server), record.key))
            return put(self, record, ttl)

        return mutated

    patch.wrap(MemoryResultBackend, "_put_one", make)


@mutant("EVI-13", source="PEERS: a cache as a store", harness=Store)
def room_is_made_unasked(patch: Patch) -> None:
    """A store without room drops what it has, though it says that it does not."""

    def make(refuse: Any) -> Any:
        def mutated(backend: Any) -> Any:
            backend.server.records.clear()
            return refuse(backend)

        return staticmethod(mutated)

    patch.value(Store, "refuse", make(Store.refuse))


@mutant("EVI-14", source="PEERS: Celery on an evicting cache", harness=Store)
def a_store_that_forgets_does_not_say_so(patch: Patch) -> None:
    """A result store that may drop what it holds opens without a word."""
    patch.value(importlib.import_module("brokerkit.results"), "check_eviction", lambda *_, **__: None)


@mutant("EVI-16", source="LAWS 2: an index beside the records", harness=Store)
def an_index_of_all_results(patch: Patch) -> None:
    """A store keeps a list of all its results, in the name of none of them."""

    def make(store: Any) -> Any:
        def mutated(self: Any, record: Any, ttl: float | None) -> None:
            store(self, record, ttl)
            self.server.records[(self.virtual_host, "all-results")] = StoredRecord(b"[]", final=False, expires_at=None)

        return mutated

    patch.wrap(MemoryResultBackend, "_store", make)


@mutant("FLT-07", source="PEERS: errors of no kind", harness=NetworkedStore)
def a_silent_store_is_an_error_of_no_kind(patch: Patch) -> None:
    """A store that does not answer raises what says nothing of whether it is worth to try again."""

    def make(call: Any) -> Any:
        def mutated(self: Any, doing: str, *args: Any) -> Any:
            try:
                return call(self, doing, *args)
            except (ConnectionLost, OperationTimeout):
                raise TransportError(f"{doing}: it failed") from None

        return mutated

    patch.wrap(ResultCalls, "_call", make)


@mutant("FLT-10", source="PEERS: a wait by the socket's time-out", harness=NetworkedStore)
def a_wait_is_as_short_as_an_answer(patch: Patch) -> None:
    """A wait ends when the line is slower than a tenth of a second, however long it was to last."""
    patch.wrap(ResultReader, "patience", lambda patience: lambda self, timeout: min(patience(self, timeout), 0.1))


@mutant("FLT-11", source="PEERS: Celery's cache backend", harness=NetworkedStore)
def a_broken_answer_means_that_nothing_is_there(patch: Patch) -> None:
    """An answer that is cut off or nonsense is read as if there were no result."""

    def make(get: Any) -> Any:
        def mutated(self: Any, keys: Any, *, timeout: float) -> Any:
            try:
                return get(self, keys, timeout=timeout)
            except TransportError:
                return [None] * len(keys)

        return mutated

    patch.wrap(RemoteResults, "get", make)


@mutant("FLT-13", source="LAWS 2", harness=RestartableStore)
def a_kill_takes_the_results(patch: Patch) -> None:
    """A server that was killed comes back without the results that it had promised to keep."""

    def mutated(name: str, *, killed: bool) -> None:
        if killed:
            alone.records_of(name).records.clear()

    patch.value(alone, "store_came_up", mutated)


@mutant("HAR-01", source="go-cloud: the harness's nil object", harness=NetworkedStore)
def absence_is_remembered(patch: Patch) -> None:
    """That there is no result is told by the client, from what the server has said before."""
    absent: set[str] = set()

    def make(get: Any) -> Any:
        def mutated(self: Any, keys: Any, *, timeout: float) -> Any:
            if absent.issuperset(keys):
                return [None] * len(keys)
            found = get(self, keys, timeout=timeout)
            absent.update(key for key, record in zip(keys, found, strict=True) if record is None)
            return found

        return mutated

    patch.wrap(RemoteResults, "get", make)


@mutant("HAR-03", source="LAWS 4.2", harness=Store)
def the_eviction_of_one_result_takes_all(patch: Patch) -> None:
    """An eviction of one result takes those of others as well."""

    def make(remove: Any) -> Any:
        def mutated(self: Any, keys: Any) -> None:
            remove(self, [each for each in self.keys() if each.startswith("record/")] if keys else ())

        return mutated

    patch.wrap(MemoryAdmin, "remove", make)
