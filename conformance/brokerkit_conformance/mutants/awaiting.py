"""Defects in waiting for results, and in racing for them."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

from brokerkit._known import Known
from brokerkit._waiting import Waiting
from brokerkit.memory import MemoryResultBackend
from brokerkit.rpc import RpcResultBackend
from brokerkit.rpc.inbox import Inbox
from brokerkit_conformance.mutants.planting import Patch, mutant
from brokerkit_conformance.rpc import RpcMemoryHarness


@mutant("RES-08", "RES-12", source="PEERS: Celery waits for ever")
def the_lost_are_waited_for(patch: Patch) -> None:
    """A wait for a record that is gone goes on until its time is up."""
    patch.value(Waiting, "gone", lambda *_: None)

    patch.wrap(Waiting, "join", lambda join: lambda self, keys: join(self, dict.fromkeys(keys, False)))
    patch.value(Known, "reason", lambda *_: None)


@mutant("RES-08", source="LAWS 2")
def waits_end_early(patch: Patch) -> None:
    """A wait gives up at once."""

    def make(wait: Any) -> Any:
        return lambda self, key, *, known, timeout: wait(self, key, known=known, timeout=min(timeout, 0.0))

    patch.wrap(Waiting, "wait", make)


@mutant("RES-09", "RES-11", source="LAWS 2")
def others_results_do_not_wake(patch: Patch) -> None:
    """What another connection stores does not wake who waits."""

    def put(self: Any, records: Any, *, ttl: float | None, timeout: float) -> Any:  # noqa: ARG001
        with self._open().condition:
            return [self._put_one(record, ttl) for record in records]

    def wait(self: Any, seen: Any, *, timeout: float) -> Any:
        clock, condition = self.server.clock, threading.Condition()
        with condition:
            clock.wait(condition, min(timeout, 600.0) * 1000)
        return list(seen)

    patch.value(MemoryResultBackend, "put", put)
    patch.value(MemoryResultBackend, "wait", wait)


@mutant("RES-21", source="LAWS 2")
def answers_mixed_up(patch: Patch) -> None:
    """Of many records that are read at once, two neighbours are exchanged."""

    def make(get: Any) -> Any:
        def mutated(self: Any, keys: Any, *, timeout: float) -> Any:
            found = list(get(self, keys, timeout=timeout))
            if len(found) > 1:
                found[0], found[1] = found[1], found[0]
            return found

        return mutated

    patch.wrap(MemoryResultBackend, "get", make)


@mutant("RES-12", source="LAWS 2")
def forget_is_a_no_op(patch: Patch) -> None:
    """To forget a record does nothing."""
    patch.value(MemoryResultBackend, "_remove", lambda *_: None)


@mutant("RES-13", "RES-14", "RES-15", source="PEERS: Celery overwrites")
def last_writer_wins(patch: Patch) -> None:
    """A final record is replaced by whatever comes later."""
    patch.value(MemoryResultBackend, "_keeps_out", lambda *_: False)


@mutant("RES-13", source="LAWS 2")
def twice_is_an_error(patch: Patch) -> None:
    """To store a final result again is an error instead of an answer."""

    def make(put: Any) -> Any:
        def mutated(self: Any, record: Any, ttl: float | None) -> Any:
            outcome = put(self, record, ttl)
            return None if outcome is None else RuntimeError("there is one already")

        return mutated

    patch.wrap(MemoryResultBackend, "_put_one", make)


@mutant("RES-14", source="PEERS")
def reservation_clears(patch: Patch) -> None:
    """A new reservation makes a final record PENDING again."""
    patch.value(MemoryResultBackend, "_keeps_out", lambda _, there, record: there.final and not record.if_absent)


@mutant("RES-15", source="LAWS 2")
def records_written_in_halves(patch: Patch) -> None:
    """A record is written in two steps, and readers see what is between."""

    def make(store: Any) -> Any:
        def mutated(self: Any, record: Any, ttl: float | None) -> None:
            before = self.server.records.get(self._address(record.key))
            if before is not None and before.value and len(record.value) > 500:  # noqa: PLR2004
                half = len(record.value) - 50
                store(
                    self, replace(record, value=record.value[:half] + b"9" * 48 + record.value[-2:], final=False), ttl
                )
                self.server.condition.release()
                threading.Event().wait(0.001)
                self.server.condition.acquire()
            store(self, record, ttl)

        return mutated

    patch.wrap(MemoryResultBackend, "_store", make)


@mutant("RES-21", source="LAWS 1.9, dogpile")
def batches_store_three(patch: Patch) -> None:
    """Of a batch, the first three are stored, and all are told to be."""

    def make(put: Any) -> Any:
        def mutated(self: Any, records: Any, *, ttl: float | None, timeout: float) -> Any:
            return [*put(self, records[:3], ttl=ttl, timeout=timeout), *([None] * len(records[3:]))]

        return mutated

    patch.wrap(MemoryResultBackend, "put", make)


@mutant("RES-22", source="LAWS 2")
def reading_consumes(patch: Patch) -> None:
    """A final record is gone once it was read."""

    def make(get: Any) -> Any:
        def mutated(self: Any, keys: Any, *, timeout: float) -> Any:
            found = get(self, keys, timeout=timeout)
            with self.server.condition:
                for record in found:
                    if record is not None and record.final:
                        self._remove(record.key)
            return found

        return mutated

    patch.wrap(MemoryResultBackend, "get", make)


@mutant("RES-22", source="PEERS: Celery's rpc leaves another reader PENDING", harness=RpcMemoryHarness)
def another_reader_waits(patch: Patch) -> None:
    """Who did not ask for a result finds nothing, and is not told why."""
    patch.value(RpcResultBackend, "check_reader", lambda *_: None)


@mutant("RES-22", source="PEERS: Celery's rpc gives a result once", harness=RpcMemoryHarness)
def requester_reads_once(patch: Patch) -> None:
    """The requester's process drops a result when it was read."""

    def make(get: Any) -> Any:
        def mutated(self: Any, keys: Any, *, timeout: float) -> Any:
            found = get(self, keys, timeout=timeout)
            self.delete([record.key for record in found if record is not None and record.final], timeout=timeout)
            return found

        return mutated

    patch.wrap(Inbox, "get", make)


@mutant("RES-25", source="PEERS")
def applications_share_ids(patch: Patch) -> None:
    """Virtual hosts make no difference to results."""
    patch.value(MemoryResultBackend, "_address", lambda _, key: ("", key))


@mutant("RES-29", source="PEERS: a wait that hangs")
def eviction_is_not_noticed(patch: Patch) -> None:
    """A record that goes away while somebody waits is waited for."""
    patch.value(
        MemoryResultBackend,
        "_differs",
        lambda _, seen, now: now is not None and (seen is None or seen.value != now.value),
    )


@mutant("CLN-08", source="LAWS 1.9, dogpile")
def thread_leak_per_result(patch: Patch) -> None:
    """Each result that is stored leaves a thread behind, for a while."""

    def make(put: Any) -> Any:
        def mutated(self: Any, record: Any, ttl: float | None) -> Any:
            if threading.active_count() < 60:  # noqa: PLR2004 - enough to be seen
                threading.Thread(target=threading.Event().wait, args=(30,), daemon=True).start()
            return put(self, record, ttl)

        return mutated

    patch.wrap(MemoryResultBackend, "_put_one", make)
