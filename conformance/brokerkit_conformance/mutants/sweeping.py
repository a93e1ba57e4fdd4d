"""The memory engine with a sweeper: of all receivers one makes ended leases ready, for as long as it holds a mutex."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import brokerkit
from brokerkit.memory import MemoryReceiver, MemoryServer, MemoryTransport
from brokerkit_conformance.harness import Admin
from brokerkit_conformance.mutants.planting import Patch, mutant
from brokerkit_conformance.mutants.served import ServedHarness
from brokerkit_conformance.reference import STORAGE
from brokerkit_conformance.storage import Role, StorageMap, key

__all__ = ["SweptHarness"]

_MUTEX = key("server", "mutex")
_FOREVER = 1e9


class SweptHarness(ServedHarness):
    """`memory://` whose mutex is held for a second at most, so that others take over when the sweeper dies."""

    term: ClassVar[float] = 1.0
    lost_is_free: ClassVar[bool] = True

    def start(self) -> None:
        """Sweep by turns."""
        super().start()
        declared = MemoryTransport.capabilities
        late = replace(declared.redelivery, lease_end=0.1 + self.term, kill=0.1 + self.term)
        self._patch.value(MemoryTransport, "capabilities", replace(declared, redelivery=late))
        self._patch.value(MemoryServer, "mutex", None)
        self._patch.value(MemoryServer, "had_mutex", False)
        self._patch.value(MemoryServer, "claimer", None)
        self._patch.wrap(MemoryReceiver, "_claim", _with_a_turn)
        self._patch.wrap(MemoryReceiver, "_due", _due_for_the_sweeper)
        self._patch.wrap(MemoryServer, "_ripen", _by_the_sweeper)

    def private_urls(self) -> tuple[Sequence[str], Sequence[str]]:
        """The same: nothing in it can break that others need."""
        return self.urls(), self.urls()

    def admin(self, url: str, *, clock: Any = None) -> Admin:  # noqa: ARG002 - it goes by the machine's
        """One that sees the mutex."""
        return _MutexAdmin(url)

    def storage_map(self) -> StorageMap:
        """As of memory, and the mutex."""
        return {**STORAGE, Role.MUTEX: _MUTEX}


class _MutexAdmin(Admin):
    def __init__(self, url: str) -> None:
        with brokerkit.connect(url) as broker:
            transport: Any = broker.transport
            self._server = transport.server

    def keys(self) -> Collection[str]:
        with self._server.condition:
            return () if self._server.mutex is None else (_MUTEX,)

    def remove(self, keys: Collection[str]) -> None:
        with self._server.condition:
            self._server.mutex = None if _MUTEX in keys else self._server.mutex


def _with_a_turn(claim: Any) -> Any:
    """Let a receiver take the mutex if it is free, or ran out, and keep it while it receives."""

    def mutated(self: Any, limit: int) -> Any:
        server, now = self._server, self._server.clock.monotonic()
        free = server.mutex is None and (SweptHarness.lost_is_free or not server.had_mutex)
        if free or (server.mutex is not None and (server.mutex[0] is self or server.mutex[1] <= now)):
            server.mutex, server.had_mutex = (self, now + SweptHarness.term), True
        server.claimer = self
        return claim(self, limit)

    return mutated


def _due_for_the_sweeper(due: Any) -> Any:
    """Let the sweeper wait for the end of a lease, and the others for the end of its term."""

    def mutated(self: Any) -> Any:
        mutex, now = self._server.mutex, self._server.clock.monotonic()
        if mutex is None or mutex[0] is self:
            return [max(moment, now + 0.01) for moment in due(self)] + [now + SweptHarness.term / 3]
        return [max(mutex[1], now + 0.01)]

    return mutated


def _by_the_sweeper(ripen: Any) -> Any:
    def mutated(self: Any, queue: Any, now: float) -> None:
        if self.mutex is not None and self.mutex[0] is self.claimer:
            ripen(self, queue, now)

    return mutated


@mutant("VIS-19", source="PEERS: a mutex without a time to live", harness=SweptHarness)
def mutex_held_by_the_dead(patch: Patch) -> None:
    """The mutex of a sweeper that died is held for ever."""
    patch.value(SweptHarness, "term", _FOREVER)


@mutant("EVI-08", source="LAWS 2", harness=SweptHarness)
def lost_mutex_is_missed(patch: Patch) -> None:
    """When the mutex was lost, nobody sweeps any more."""
    patch.value(SweptHarness, "lost_is_free", False)
