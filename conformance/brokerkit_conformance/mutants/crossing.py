"""Defects that only several processes show: planted in the memory engine as served to actors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from brokerkit.memory import MemoryResultBackend, MemoryServer, MemoryTransport
from brokerkit_conformance.mutants import served as serving
from brokerkit_conformance.mutants.leasing import _without_fence
from brokerkit_conformance.mutants.planting import Patch, mutant
from brokerkit_conformance.mutants.served import ServedHarness


def _is_remote(transport: Any) -> bool:
    return hasattr(transport, "remote")


@mutant("PUB-06", source="LAWS 2", harness=ServedHarness)
def confirmed_before_stored(patch: Patch) -> None:
    """A send returns when the message is buffered; it is stored with the next one."""
    buffers: dict[Any, list[Any]] = {}

    def make(send: Any) -> Any:
        def mutated(self: Any, name: str, messages: Any, *, timeout: float) -> Any:
            if not _is_remote(self):
                return send(self, name, messages, timeout=timeout)
            waiting = buffers.pop(self, [])
            buffers[self] = list(messages)
            return [*(send(self, name, waiting, timeout=timeout) and () if waiting else ()), *([None] * len(messages))]

        return mutated

    patch.wrap(MemoryTransport, "send", make)


@mutant("PUB-14", source="APScheduler's local broker", harness=ServedHarness)
def other_processes_are_not_heard(patch: Patch) -> None:
    """What other processes send goes nowhere."""

    def make(send: Any) -> Any:
        def mutated(self: Any, name: str, messages: Any, *, timeout: float) -> Any:
            return [None] * len(messages) if _is_remote(self) else send(self, name, messages, timeout=timeout)

        return mutated

    patch.wrap(MemoryTransport, "send", make)


@mutant("PUB-14", source="LAWS 3.2", harness=ServedHarness)
def shared_more_than_it_says(patch: Patch) -> None:
    """An engine that says it lives in one process is shared by several."""
    patch.value(MemoryTransport, "capabilities", replace(MemoryTransport.capabilities, shared="process"))


def _lost_with_its_owner(patch: Patch) -> None:
    def mutated(receiver: Any) -> None:
        server = receiver._server  # noqa: SLF001 - the engine's own
        with server.condition:
            for queue in server.queues.values():
                for stored in [s for s in queue.messages.values() if s.owner is receiver and s.state == "leased"]:
                    server._remove(queue, stored)  # noqa: SLF001 - as above

    patch.value(serving, "hung_up", mutated)


@mutant("VIS-08", "VIS-10", source="PEERS a: the SQL crash loss", harness=ServedHarness)
def lost_with_its_owner(patch: Patch) -> None:
    """What a process holds dies with it."""
    _lost_with_its_owner(patch)


@mutant("VIS-08", "VIS-10", source="LAWS 1.9", harness=ServedHarness)
def kill_is_not_noticed(patch: Patch) -> None:
    """The leases of a dead process never end."""

    def make(ready: Any) -> Any:
        def mutated(self: Any, queue: Any, stored: Any) -> None:
            if stored.state == "leased" and self.clock.monotonic() >= stored.due:
                stored.state = "gone"
            else:
                ready(self, queue, stored)

        return mutated

    patch.wrap(MemoryServer, "_make_ready", make)


@mutant("VIS-11", source="LAWS 2", harness=ServedHarness)
def the_frozen_wake_as_owners(patch: Patch) -> None:
    """A process that was frozen goes on as if its lease had waited for it."""
    patch.value(MemoryServer, "held", _without_fence)


@mutant("FAN-16", source="PEERS: kombu's abandoned pidboxes", harness=ServedHarness)
def dead_subscribers_stay(patch: Patch) -> None:
    """The queue of a dead subscriber stays for ever."""
    patch.value(MemoryServer, "_is_unused", lambda *_: False)


@mutant("FAN-17", source="APScheduler's local broker", harness=ServedHarness)
def other_processes_publish_to_nobody(patch: Patch) -> None:
    """What other processes publish is heard by nobody."""

    def make(publish: Any) -> Any:
        def mutated(self: Any, topic: str, messages: Any, *, timeout: float) -> Any:
            return [None] * len(messages) if _is_remote(self) else publish(self, topic, messages, timeout=timeout)

        return mutated

    patch.wrap(MemoryTransport, "publish", make)


@mutant("RES-16", source="LAWS 2", harness=ServedHarness)
def only_the_first_writer_stores(patch: Patch) -> None:
    """The process that uses a store first wins; what the others store at that moment is dropped."""
    first: list[Any] = []

    def make(put: Any) -> Any:
        def mutated(self: Any, records: Any, *, ttl: float | None, timeout: float) -> Any:
            if _is_remote(self) and (first or [self])[0] is not self:
                return [None] * len(records)
            first.append(self)
            return put(self, [replace(record) for record in records], ttl=ttl, timeout=timeout)

        return mutated

    patch.wrap(MemoryResultBackend, "put", make)
