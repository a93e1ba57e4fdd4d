"""Defects in what becomes of a binding that was removed behind everybody's back."""

from __future__ import annotations

from typing import Any

from brokerkit.memory import MemoryReceiver, MemoryServer
from brokerkit_conformance.mutants.planting import Patch, mutant


@mutant("EVI-10", source="PEERS: kombu's redis loses bindings")
def bindings_not_looked_after(patch: Patch) -> None:
    """Nobody compares what a queue was bound to with what it is bound to."""
    patch.value(MemoryServer, "restore_bindings", lambda *_: [])


@mutant("EVI-10", source="LAWS 2")
def bindings_restored_in_silence(patch: Patch) -> None:
    """A binding that was gone is made anew, and nobody hears that something was missed."""

    def mutated(self: Any, **_: Any) -> None:
        for name in self._names:
            self._server.restore_bindings(self._address(name))

    patch.value(MemoryReceiver, "_restore_bindings", mutated)


@mutant("EVI-10", source="LAWS 2")
def lost_bindings_told_without_end(patch: Patch) -> None:
    """A binding that is gone stays gone, and every receive says so."""

    def mutated(self: Any, address: Any) -> Any:
        queue = self.queues.get(address)
        return [] if queue is None else [b for b in queue.bound if b not in self.bindings]

    patch.value(MemoryServer, "restore_bindings", mutated)


@mutant("EVI-10", source="LAWS 2")
def bindings_restored_twice(patch: Patch) -> None:
    """A binding that is made anew brings every copy twice."""

    def make(restore: Any) -> Any:
        def mutated(self: Any, address: Any) -> Any:
            restored = restore(self, address)
            if restored:
                copy = type(self)._copy_to  # noqa: SLF001
                self._copy_to = lambda queue, message: [copy(self, queue, message), copy(self, queue, message)]
            return restored

        return mutated

    patch.wrap(MemoryServer, "restore_bindings", make)
