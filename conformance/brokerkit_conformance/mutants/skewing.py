"""Defects in whose clock counts: planted in the memory engine, and as served to actors with clocks of their own."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from brokerkit._leases import Leases
from brokerkit.consumer import Consumer
from brokerkit.memory import MemoryReceiver, MemoryResultBackend, MemoryServer, MemoryTransport
from brokerkit.models import sent_at
from brokerkit_conformance.faults import clock_from_environment
from brokerkit_conformance.mutants import remote
from brokerkit_conformance.mutants import served as serving
from brokerkit_conformance.mutants.planting import Patch, mutant
from brokerkit_conformance.mutants.served import ServedHarness

_AHEAD = "ahead="


class SkewedHarness(ServedHarness):
    """The served engine, to which every actor says how far its clock is ahead, so that a mutant can go by it."""

    def prepare(self) -> tuple[str, str]:
        """Let actors reach this process, and tell."""
        return f"{__name__}:join_telling", super().prepare()[1]


def join_telling(address: str) -> None:
    """In an actor: as `served.join`, under a name that says how far the clock is ahead."""
    serving.join(address)
    clock = clock_from_environment()
    module: Any = remote
    hello = module.Hello
    own = f"{_AHEAD}{0.0 if clock is None else clock.offset}"
    module.Hello = lambda session, *rest: hello(f"{session}{own}", *rest)


def _ahead(own: Any) -> float:
    """Return how far the clock of the client is ahead that a transport or result backend works for."""
    return float(getattr(own, "remote", "").partition(_AHEAD)[2] or 0.0)


class _AsMonotonic:
    """A clock whose time of day is taken for a time that never jumps."""

    def __init__(self, clock: Any) -> None:
        self.monotonic = self.time = clock.time
        self.wait = clock.wait


def _own_time(patch: Patch, ahead: Any) -> None:
    """Let the server keep and judge leases by a time that differs from its own: by `ahead(server)` seconds."""

    def held(self: Any, address: Any, receipt: Any) -> Any:
        queue = self.queues.get(address)
        stored = queue.messages.get(receipt[0]) if queue else None
        fine = stored is not None and stored.claims == receipt[1] and stored.state == "leased"
        return (queue, stored) if fine else None

    def next_due(original: Any) -> Any:
        def mutated(self: Any, address: Any) -> Any:
            due = original(self, address)
            return due and due - ahead(self)

        return mutated

    def wait_until(original: Any) -> Any:
        return lambda self, queue, stored, due, state: original(self, queue, stored, due + ahead(self), state)

    patch.value(MemoryServer, "held", held)
    patch.wrap(MemoryServer, "next_due", next_due)
    patch.wrap(MemoryServer, "_wait_until", wait_until)
    patch.wrap(MemoryServer, "_ripen", lambda ripen: lambda self, queue, now: ripen(self, queue, now + ahead(self)))


@mutant("CLK-01", "CLK-02", "CLK-03", source="kombu: scores by the consumer's clock", harness=SkewedHarness)
def leases_by_the_clients_clock(patch: Patch) -> None:
    """Each client writes and judges the ends of leases by its own clock."""
    now_ahead = [0.0]

    def opened(original: Any) -> Any:
        def mutated(self: Any, *args: Any, **kwargs: Any) -> Any:
            receiver = original(self, *args, **kwargs)
            receiver.ahead = _ahead(self)
            return receiver

        return mutated

    def by_its_clock(original: Any) -> Any:
        def mutated(self: Any, *args: Any, **kwargs: Any) -> Any:
            now_ahead[0] = self.ahead  # whoever claims holds the server's lock
            try:
                return original(self, *args, **kwargs)
            finally:
                now_ahead[0] = 0.0

        return mutated

    _own_time(patch, lambda _: now_ahead[0])
    patch.wrap(MemoryTransport, "open_receiver", opened)
    patch.wrap(MemoryReceiver, "_claim", by_its_clock)
    patch.wrap(MemoryReceiver, "_due", by_its_clock)


@mutant("CLK-04", source="LAWS 2")
def leases_by_the_wall_clock(patch: Patch) -> None:
    """The ends of leases and delays are kept in the time of day."""
    _own_time(patch, lambda server: server.clock.time() - server.clock.monotonic())


@mutant("CLK-04", source="LAWS 2")
def waits_by_the_wall_clock(patch: Patch) -> None:
    """A consumer waits until a time of day."""

    def make(init: Any) -> Any:
        def mutated(self: Any, *args: Any, **kwargs: Any) -> None:
            init(self, *args, **kwargs)
            self._clock = _AsMonotonic(self._clock)

        return mutated

    patch.wrap(Consumer, "__init__", make)


@mutant("CLK-04", source="LAWS 2")
def leases_kept_by_the_wall_clock(patch: Patch) -> None:
    """The keeper of leases extends them at a time of day."""

    def make(init: Any) -> Any:
        def mutated(self: Any, receiver: Any, clock: Any, *args: Any, **kwargs: Any) -> None:
            init(self, receiver, _AsMonotonic(clock), *args, **kwargs)

        return mutated

    patch.wrap(Leases, "__init__", make)


@mutant("CLK-05", source="celery: eta by the client's clock", harness=SkewedHarness)
def delays_by_the_senders_clock(patch: Patch) -> None:
    """A delay ends at a time that the sender has worked out by its own clock."""

    def make(store: Any) -> Any:
        def mutated(self: Any, queue: Any, message: Any) -> None:
            delay = message.delay and max(message.delay + sent_at(message.id) - time.time(), 0.0)
            store(self, queue, replace(message, delay=delay))

        return mutated

    patch.wrap(MemoryServer, "_store", make)


@mutant("CLK-05", source="LAWS 2", harness=SkewedHarness)
def results_expire_by_the_storers_clock(patch: Patch) -> None:
    """A result's time to live ends at a time that its storer has worked out by its own clock."""

    def make(put: Any) -> Any:
        return lambda self, records, *, ttl, timeout: put(
            self, records, ttl=ttl and max(ttl + _ahead(self), 0.0), timeout=timeout
        )

    patch.wrap(MemoryResultBackend, "put", make)
