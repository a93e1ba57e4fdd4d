"""Defects in priorities and delays."""

from __future__ import annotations

import heapq
from dataclasses import replace
from typing import Any

from brokerkit._composing import Composer
from brokerkit.memory import MemoryServer
from brokerkit_conformance.mutants.planting import Patch, mutant


def _ready_by(patch: Patch, order: Any) -> None:
    """Let ready messages come by another order: a function of the stored message to a pair."""

    def mutated(_: Any, queue: Any, stored: Any) -> None:
        stored.state, stored.version = "ready", stored.version + 1
        heapq.heappush(queue.ready, (*order(stored), stored.version, stored))

    patch.value(MemoryServer, "_make_ready", mutated)


def _stored_as(patch: Patch, change: Any) -> None:
    """Let messages be stored as others."""
    patch.wrap(
        MemoryServer, "_store", lambda store: lambda self, queue, message: store(self, queue, change(queue, message))
    )


@mutant("PRI-01", "PRI-03", "PRI-06", "PRI-07", "PRI-08", "DEL-12", source="LAWS 2")
def priorities_ignored(patch: Patch) -> None:
    """Messages come by age, whatever their priority."""
    _ready_by(patch, lambda stored: (0, stored.seq))


@mutant("PRI-01", "PRI-03", source="kombu: the scale upside down on redis")
def lower_is_sooner(patch: Patch) -> None:
    """The lower a priority, the sooner it comes."""
    _ready_by(patch, lambda stored: (stored.message.priority, stored.seq))


@mutant("PRI-02", source="LAWS 2")
def last_in_first_out(patch: Patch) -> None:
    """Within one priority the youngest comes first."""
    _ready_by(patch, lambda stored: (-stored.message.priority, -stored.seq))


@mutant("PRI-04", source="kombu")
def priority_lost_on_return(patch: Patch) -> None:
    """What comes back has no priority any more."""
    _ready_by(patch, lambda stored: (0 if stored.claims else -stored.message.priority, stored.seq))


@mutant("PRI-05", source="LAWS 2")
def priorities_clamped(patch: Patch) -> None:
    """A priority above what a queue takes is lowered, silently."""

    def make(accept: Any) -> Any:
        def mutated(self: Any, queue: Any, message: Any) -> Any:
            return accept(self, queue, replace(message, priority=min(message.priority, queue.settings.max_priority)))

        return mutated

    patch.wrap(MemoryServer, "_accept", make)


@mutant("PRI-06", source="kombu: four buckets on redis")
def four_buckets(patch: Patch) -> None:
    """Ten priorities share four buckets."""
    _ready_by(patch, lambda stored: (-(stored.message.priority // 3), stored.seq))


@mutant("DEL-01", "DEL-05", "DEL-08", source="LAWS 2")
def delays_ignored(patch: Patch) -> None:
    """A delayed message comes at once."""
    _stored_as(patch, lambda _, message: replace(message, delay=0.0))


@mutant("DEL-02", source="LAWS 2")
def delays_too_long(patch: Patch) -> None:
    """Whatever waits, waits ten seconds longer."""
    _stored_as(patch, lambda _, message: replace(message, delay=message.delay and message.delay + 10))


@mutant("DEL-03", "DEL-05", "DEL-10", source="LAWS 2")
def any_delay_goes(patch: Patch) -> None:
    """A delay is not looked at before it is sent."""
    patch.value(Composer, "_check_delay", lambda *_: None)


@mutant("DEL-12", source="PEERS")
def time_to_live_after_the_delay(patch: Patch) -> None:
    """The time to live begins when the delay has ended."""
    _stored_as(patch, lambda _, message: replace(message, ttl=message.ttl and message.ttl + message.delay))
