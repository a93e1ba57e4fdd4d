"""Defects that many producers and consumers at once bring to light."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from brokerkit.memory import MemoryReceiver, MemoryServer
from brokerkit.models import new_id
from brokerkit_conformance.mutants import served
from brokerkit_conformance.mutants.planting import Patch, mutant

_RARELY: Final = 50


@mutant("CON-01", source="JEP, RabbitMQ 3.8 partitions")
def one_in_fifty_is_lost(patch: Patch) -> None:
    """A send in fifty is confirmed and not stored."""
    turns = itertools.count(1)

    def make(accept: Any) -> Any:
        return lambda self, queue, message: None if next(turns) % _RARELY == 0 else accept(self, queue, message)

    patch.wrap(MemoryServer, "_accept", make)


@mutant("CON-01", "CON-06", source="PEERS L1, pop without a record")
def two_consumers_get_it(patch: Patch) -> None:
    """A claim in fifty leaves the message ready for the next consumer, too."""
    turns = itertools.count(1)

    def make(lease: Any) -> Any:
        def mutated(self: Any, queue: Any, stored: Any, *rest: Any) -> Any:
            received = lease(self, queue, stored, *rest)
            if next(turns) % _RARELY == 0:
                self._make_ready(queue, stored)
            return received

        return mutated

    patch.wrap(MemoryServer, "_lease", make)


@mutant("CON-01", "CON-02", source="JEP, acks that a failover forgets")
def one_ack_in_fifty_is_forgotten(patch: Patch) -> None:
    """An ack in fifty is confirmed and forgotten, and the message is handed over again."""
    turns = itertools.count(1)

    def make(ack: Any) -> Any:
        def mutated(self: Any, address: Any, receipt: Any) -> bool:
            found = self.held(address, receipt)
            if found is None or next(turns) % _RARELY:
                return bool(ack(self, address, receipt))
            self._make_ready(*found)
            self.condition.notify_all()
            return True

        return mutated

    patch.wrap(MemoryServer, "ack", make)


@mutant("CON-02", source="PEERS, release by publishing a copy")
def released_comes_twice(patch: Patch) -> None:
    """A release stores a copy and leaves the original, which comes back as well."""

    def make(release: Any) -> Any:
        def mutated(self: Any, address: Any, receipt: Any, delay: float, *, counted: bool) -> bool:
            found = self.held(address, receipt)
            if found is not None:
                self._store(found[0], replace(found[1].message, id=new_id(self.clock.time())))
            return bool(release(self, address, receipt, delay, counted=counted))

        return mutated

    patch.wrap(MemoryServer, "release", make)


@mutant("CON-02", source="PEERS, release by ack and publish")
def some_released_are_lost(patch: Patch) -> None:
    """A release in ten removes the message, and dies before it is stored again."""
    turns = itertools.count(1)

    def make(release: Any) -> Any:
        def mutated(self: Any, address: Any, receipt: Any, delay: float, *, counted: bool) -> bool:
            if next(turns) % 10:
                return bool(release(self, address, receipt, delay, counted=counted))
            return bool(self.ack(address, receipt))

        return mutated

    patch.wrap(MemoryServer, "release", make)


@mutant("CON-06", source="LAWS 1.9")
def leaving_takes_the_prefetch_along(patch: Patch) -> None:
    """What a leaving consumer had claimed and not looked at is gone with it."""

    def make(release: Any) -> Any:
        def mutated(self: Any, deliveries: Any, *, counted: bool = True, **settings: Any) -> Any:
            if counted:
                return release(self, deliveries, counted=counted, **settings)
            return self.ack(deliveries)

        return mutated

    patch.wrap(MemoryReceiver, "release", make)


@mutant("CON-06", source="DA, GC: rebalancing without a fence")
def who_joins_takes_it_all(patch: Patch) -> None:
    """When a consumer joins, all that others hold is handed out again."""

    def make(build: Any) -> Any:
        def mutated(self: Any, server: Any, *rest: Any) -> None:
            build(self, server, *rest)
            with server.condition:
                for queue, stored in list(_leased(server)):
                    server._make_ready(queue, stored)  # noqa: SLF001 - a defect needs the inside

        return mutated

    patch.wrap(MemoryReceiver, "__init__", make)


@mutant("CON-08", source="LAWS 2, CON-08")
def one_gets_it_all(patch: Patch) -> None:
    """The consumer that came first is served first, always; others get what it leaves."""
    first: list[object] = []
    turns = itertools.count(1)

    def make(claim: Any) -> Any:
        def mutated(self: Any, address: Any, limit: int, visibility_timeout: float, owner: object) -> Any:
            first[:] = first or [owner]
            if owner is not first[0] and next(turns) % _RARELY:
                limit = 0
            return claim(self, address, limit, visibility_timeout, owner)

        return mutated

    patch.wrap(MemoryServer, "claim", make)


@mutant("CON-03", "FLT-22", "VIS-14", source="PEERS L1", harness=served.ServedHarness)
def a_death_takes_the_prefetch_along(patch: Patch) -> None:
    """What a killed consumer held is removed with its connection."""

    def hung_up(receiver: Any) -> None:
        server = receiver._server  # noqa: SLF001 - a defect needs the inside
        with server.condition:
            for queue, stored in [each for each in _leased(server) if each[1].owner is receiver]:
                server._remove(queue, stored)  # noqa: SLF001 - a defect needs the inside

    patch.value(served, "hung_up", hung_up)


@mutant("CON-03", source="PEERS L2, a sweeper that takes live leases", harness=served.ServedHarness)
def a_death_frees_what_others_hold(patch: Patch) -> None:
    """When one consumer dies, the sweeper gives out what all consumers hold, the living too."""

    def hung_up(receiver: Any) -> None:
        server = receiver._server  # noqa: SLF001 - a defect needs the inside
        with server.condition:
            for queue, stored in list(_leased(server)):
                server._make_ready(queue, stored)  # noqa: SLF001 - a defect needs the inside
            server.condition.notify_all()

    patch.value(served, "hung_up", hung_up)


@mutant("ORD-04", source="PEERS, redelivery at the tail", harness=served.ServedHarness)
def what_the_dead_held_comes_last(patch: Patch) -> None:
    """A message whose lease has ended is stored anew, behind all others."""

    def make(make_ready: Any) -> Any:
        def mutated(self: Any, queue: Any, stored: Any) -> None:
            if stored.state == "leased" and stored.due <= self.clock.monotonic():
                del queue.messages[stored.seq]
                stored.seq = next(self._numbers)
                queue.messages[stored.seq] = stored
                queue.ids[stored.message.id] = stored.seq
            make_ready(self, queue, stored)

        return mutated

    patch.wrap(MemoryServer, "_make_ready", make)


@mutant("DEL-04", source="PEERS, kombu on Redis: ETA longer than the visibility timeout", harness=served.ServedHarness)
def a_long_delay_comes_twice(patch: Patch) -> None:
    """A message whose delay is longer than the lease has been handed to a second worker meanwhile."""

    def make(lease: Any) -> Any:
        def mutated(self: Any, queue: Any, stored: Any, deadline: float, *rest: Any) -> Any:
            message = stored.message
            if message.delay > deadline - self.clock.monotonic() and stored.attempt == 0:
                self._store(queue, replace(message, id=new_id(self.clock.time()), delay=0.0))
            return lease(self, queue, stored, deadline, *rest)

        return mutated

    patch.wrap(MemoryServer, "_lease", make)


def _leased(server: Any) -> Iterator[tuple[Any, Any]]:
    for queue in server.queues.values():
        for stored in list(queue.messages.values()):
            if stored.state == "leased":
                yield queue, stored
