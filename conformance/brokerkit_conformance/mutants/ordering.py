"""Defects in order by key, in order across connections, and in the bound on holding a delivery; and engines that have these."""

from __future__ import annotations

import heapq
import itertools
from dataclasses import replace
from typing import Any, ClassVar

from brokerkit._composing import Composer
from brokerkit.broker import Broker
from brokerkit.consumer import Consumer
from brokerkit.errors import QueueNotFound
from brokerkit.memory import MemoryServer, MemoryTransport
from brokerkit_conformance.mutants.planting import Patch, mutant
from brokerkit_conformance.reference import MemoryHarness

__all__ = ["GroupedHarness", "HoldingHarness"]


class GroupedHarness(MemoryHarness):
    """`memory://` that keeps the order of each `ordering_key` by letting one receiver at a time hold its messages."""

    owned: ClassVar[bool] = True

    def start(self) -> None:
        """Declare it, and do it."""
        self._patch = Patch()
        self._patch.value(MemoryTransport, "capabilities", replace(MemoryTransport.capabilities, order="group"))

        def claim(original: Any) -> Any:
            def by(self: Any, address: Any, limit: int, visibility_timeout: float, owner: object) -> Any:
                self.claimer = owner
                return original(self, address, limit, visibility_timeout, owner)

            return by

        self._patch.wrap(MemoryServer, "claim", claim)
        self._patch.wrap(MemoryServer, "_next_ready", _of_free_keys)

    def stop(self) -> None:
        """Be plain again."""
        self._patch.undo()


def _of_free_keys(next_ready: Any) -> Any:
    """Pass over messages of a key of which somebody else holds some."""

    def mutated(self: Any, queue: Any) -> Any:
        taken = {
            stored.message.ordering_key
            for stored in queue.messages.values()
            if GroupedHarness.owned and stored.state == "leased" and stored.owner is not self.claimer
        } - {None}
        passed = []
        while (stored := next_ready(self, queue)) is not None and stored.message.ordering_key in taken:
            passed.append(stored)
        for each in passed:
            heapq.heappush(queue.ready, (-each.message.priority, each.seq, each.version, each))
        return stored

    return mutated


class HoldingHarness(MemoryHarness):
    """`memory://` that ends a claim after 12 s, however often it is extended."""

    max_hold: ClassVar[float] = 12.0

    def start(self) -> None:
        """Declare it, and do it."""
        self._patch = Patch()
        declared = MemoryTransport.capabilities
        bounded = replace(declared, lease=replace(declared.lease, max_hold=self.max_hold))
        self._patch.value(MemoryTransport, "capabilities", bounded)
        self._patch.wrap(MemoryServer, "_wait_until", self._bounded)

    def stop(self) -> None:
        """Be plain again."""
        self._patch.undo()

    def _bounded(self, wait_until: Any) -> Any:
        ends: dict[tuple[int, int], float] = {}

        def mutated(server: Any, queue: Any, stored: Any, due: float, state: str) -> None:
            if state == "leased":
                latest = ends.setdefault((id(stored), stored.claims), server.clock.monotonic() + self.max_hold)
                due = min(due, latest)
            wait_until(server, queue, stored, due, state)

        return mutated


@mutant("ORD-02", source="SQS: a standard queue taken for a FIFO one", harness=GroupedHarness)
def keys_without_owners(patch: Patch) -> None:
    """Several receivers hold messages of one key."""
    patch.value(GroupedHarness, "owned", False)


@mutant("ORD-07", source="sequences with a cache: each connection takes its numbers in advance")
def numbers_taken_in_advance(patch: Patch) -> None:
    """Each connection has a hundred numbers of its own, by which its messages are ordered."""
    blocks = itertools.count(1_000_000, 100)

    def make(send: Any) -> Any:
        def mutated(self: Any, *args: Any, **kwargs: Any) -> Any:
            if not hasattr(self, "numbers"):
                self.numbers = itertools.count(next(blocks))
            self.server._numbers, everybodys = self.numbers, self.server._numbers  # noqa: SLF001
            try:
                return send(self, *args, **kwargs)
            finally:
                self.server._numbers = everybodys  # noqa: SLF001

        return mutated

    patch.wrap(MemoryTransport, "send", make)


@mutant("VIS-16", source="RabbitMQ: consumer_timeout closes the channel", harness=HoldingHarness)
def extensions_that_are_cut_are_not_told(patch: Patch) -> None:
    """An extension past the longest hold is confirmed."""

    def make(extend: Any) -> Any:
        def mutated(self: Any, address: Any, receipt: Any, visibility_timeout: float) -> float:
            extend(self, address, receipt, visibility_timeout)
            return float(self.clock.monotonic() + visibility_timeout)

        return mutated

    patch.wrap(MemoryServer, "extend", make)


@mutant("PRE-03", source="kombu: qos set after the consumer has begun")
def prefetch_set_and_ignored(patch: Patch) -> None:
    """A consumer's prefetch can be set, and nothing comes of it."""
    patch.value(Consumer, "prefetch", 2)


@mutant("DEL-09", source="LAWS 2")
def cancel_does_nothing(patch: Patch) -> None:
    """There is a call that seems to take a message back."""
    patch.value(Broker, "cancel", lambda *_: None)


@mutant("PUB-21", "PUB-19", source="kombu: options of another transport are ignored")
def strange_options_ignored(patch: Patch) -> None:
    """Sending options that nobody knows are dropped."""

    def make(sending: Any) -> Any:
        return lambda self, given: sending(self, {k: v for k, v in given.items() if k not in ("durable", "mandatory")})

    patch.wrap(Composer, "_sending", make)


@mutant("PUB-19", source="LAWS 2")
def nobody_hears_is_an_error(patch: Patch) -> None:
    """A publish that nobody hears is refused, although it is declared to be fine."""

    def make(bound: Any) -> Any:
        def mutated(self: Any, mine: Any, routing_key: str) -> Any:
            found = bound(self, mine, routing_key)
            if not found:
                raise QueueNotFound(mine.topic)
            return found

        return mutated

    patch.wrap(MemoryServer, "_bound", make)
