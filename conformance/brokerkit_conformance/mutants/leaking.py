"""Defects that leave something behind, that tell what did not happen, and in the suite's own tools."""

from __future__ import annotations

import os
from typing import Any, Final

from brokerkit import _settling
from brokerkit.broker import Broker
from brokerkit.consumer import Consumer
from brokerkit.memory import MemoryReceiver, MemoryServer, MemoryTransport
from brokerkit.testing import ManualClock
from brokerkit_conformance.bench import Bench
from brokerkit_conformance.mutants import score
from brokerkit_conformance.mutants.planting import Patch, mutant

_kept: Final[list[Any]] = []


def _before(patch: Patch, target: Any, name: str, act: Any) -> None:
    """Do something each time before a method runs."""

    def make(call: Any) -> Any:
        def mutated(self: Any, *args: Any, **kwargs: Any) -> Any:
            act(self)
            return call(self, *args, **kwargs)

        return mutated

    patch.wrap(target, name, make)


@mutant("CLN-03", source="PEERS: connections of closed pools")
def descriptors_left_open(patch: Patch) -> None:
    """Every twentieth broker that is closed leaves a descriptor behind."""
    closed: list[int] = []

    def leave(_: Any) -> None:
        closed.append(1)
        if len(closed) % 20 == 0:
            _kept.append(os.dup(0))

    _before(patch, Broker, "close", leave)


@mutant("CLN-03", source="PEERS: caches that only grow")
def memory_kept(patch: Patch) -> None:
    """A closed broker keeps 64 KB somewhere."""
    _before(patch, MemoryTransport, "close", lambda _: _kept.append(bytearray(os.urandom(64 << 10))))


@mutant("CON-11", source="LAWS 2")
def close_drops_the_prefetched(patch: Patch) -> None:
    """A consumer that is closed acks what it had prefetched."""

    def make(release: Any) -> Any:
        def mutated(self: Any, deliveries: Any, *, delay: float = 0.0, counted: bool = True, **rest: Any) -> Any:
            if not counted:
                return self.ack(deliveries)
            return release(self, deliveries, delay=delay, counted=counted, **rest)

        return mutated

    patch.wrap(MemoryReceiver, "release", make)


@mutant("CON-11", source="PEERS")
def consumers_leave_descriptors(patch: Patch) -> None:
    """A consumer that is closed leaves its pipe open."""
    _before(patch, Consumer, "close", lambda _: _kept.extend(os.pipe()))


@mutant("OBS-06", source="LAWS 2")
def told_twice(patch: Patch) -> None:
    """What happened is told twice."""

    def make(tell: Any) -> Any:
        def mutated(self: Any, *args: Any) -> None:
            tell(self, *args)
            tell(self, *args)

        return mutated

    patch.wrap(_settling.Settling, "_tell", make)


@mutant("OBS-06", source="LAWS 2")
def gaps_are_not_counted(patch: Patch) -> None:
    """However many copies were dropped, one is told."""

    def make(claim: Any) -> Any:
        def mutated(self: Any, *args: Any) -> Any:
            claimed = claim(self, *args)
            for received in claimed:
                received.gap = min(received.gap, 1)
            return claimed

        return mutated

    patch.wrap(MemoryServer, "claim", make)


@mutant("HAR-05", source="kombu: its tests patch the SQS transport")
def the_plugin_is_patched(patch: Patch) -> None:
    """The plugin that is tried is not the one that is installed."""
    patch.value(MemoryTransport, "purge", lambda *_, **__: 0)


@mutant("HAR-07", source="LAWS 4.2")
def time_goes_twice_as_fast(patch: Patch) -> None:
    """The clock that cases move moves twice as far."""
    patch.wrap(ManualClock, "advance", lambda advance: lambda self, seconds: advance(self, 2 * seconds))


@mutant("HAR-09", source="dogpile: threads whose failure nobody sees")
def threads_die_unseen(patch: Patch) -> None:
    """What a case's thread raised is forgotten."""
    patch.value(Bench, "join", lambda self: [thread.join(1.0) for thread in self._threads])


@mutant("HAR-08", source="go-cloud: cases that no implementation can fail")
def nobody_plants_anything(patch: Patch) -> None:
    """The suite comes without planted defects, and nobody notices that its cases cannot fail."""
    patch.value(score, "all_mutants", tuple)
