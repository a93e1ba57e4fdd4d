"""Defects in settling and prefetching."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

from brokerkit import _settling
from brokerkit._leases import Leases
from brokerkit.delivery import Delivery
from brokerkit.memory import MemoryReceiver, MemoryServer
from brokerkit_conformance.mutants.planting import Patch, mutant

Settling = _settling.Settling


@mutant("ACK-01", "ACK-03", "ACK-14", "PRE-05", source="LAWS 1.9, go-cloud")
def ack_is_a_no_op(patch: Patch) -> None:
    """An ack does nothing, and says that it was fine."""
    patch.value(MemoryServer, "ack", lambda self, address, receipt: self.held(address, receipt) is not None)


@mutant("ACK-01", "ACK-03", source="LAWS 1.9, go-cloud and watermill")
def acked_comes_again(patch: Patch) -> None:
    """An acked message comes again half a second later."""

    def make(ack: Any) -> Any:
        def mutated(self: Any, address: Any, receipt: Any) -> bool:
            found = self.held(address, receipt)
            done: bool = ack(self, address, receipt)
            if found is not None and done and found[1].attempt < 2:  # noqa: PLR2004
                self._store(found[0], replace(found[1].message, delay=0.5))
            return done

        return mutated

    patch.wrap(MemoryServer, "ack", make)


@mutant("ACK-02", "ACK-05", source="LAWS 1.9, go-cloud")
def release_is_a_no_op(patch: Patch) -> None:
    """A release does nothing; the message comes back when its lease ends."""
    patch.value(
        MemoryServer, "release", lambda self, address, receipt, *_, **__: self.held(address, receipt) is not None
    )


@mutant("ACK-04", source="LAWS 2")
def second_ack_takes_the_next(patch: Patch) -> None:
    """An ack that finds nothing removes whatever is in flight."""

    def make(ack: Any) -> Any:
        def mutated(self: Any, address: Any, receipt: Any) -> bool:
            queue = self.queues[address]
            if not ack(self, address, receipt):
                for stored in [s for s in queue.messages.values() if s.state != "gone"][:1]:
                    self._remove(queue, stored)
            return True

        return mutated

    patch.wrap(MemoryServer, "ack", make)


@mutant("ACK-05", source="LAWS 2")
def second_settlement_taken(patch: Patch) -> None:
    """A delivery that was settled can be settled again, and nobody is told."""
    patch.value(Delivery, "_begin", lambda _: None)
    patch.value(Settling, "_refuse", lambda *_: None)
    patch.value(Settling, "_check", lambda *_: None)


@mutant("ACK-06", source="LAWS 2")
def receipts_fit_everywhere(patch: Patch) -> None:
    """A receipt is taken for whatever queue it is shown."""

    def make(held: Any) -> Any:
        def mutated(self: Any, _: Any, receipt: Any) -> Any:
            return next((found for a in self.queues if (found := held(self, a, receipt)) is not None), None)

        return mutated

    patch.wrap(MemoryServer, "held", make)


@mutant("ACK-07", source="LAWS 2")
def one_stale_spoils_all(patch: Patch) -> None:
    """A batch of acks with one stale receipt is refused as a whole."""

    def make(settle: Any) -> Any:
        def mutated(self: Any, deliveries: Any) -> Any:
            if all(self._server.held(self._address(r.queue), r.receipt) for r in deliveries):
                return settle(self, deliveries)
            return list(deliveries)

        return mutated

    patch.wrap(MemoryReceiver, "_settle", make)


@mutant("ACK-07", "ACK-04", source="LAWS 2")
def stale_acks_not_told(patch: Patch) -> None:
    """An ack that came too late is reported as done."""

    def make(settle: Any) -> Any:
        return lambda self, deliveries: settle(self, deliveries) and []

    patch.wrap(MemoryReceiver, "_settle", make)


@mutant("ACK-09", source="LAWS 2, AMQP's multiple flag")
def cumulative_ack(patch: Patch) -> None:
    """An ack settles all older deliveries too."""

    def make(ack: Any) -> Any:
        def mutated(self: Any, address: Any, receipt: Any) -> bool:
            queue = self.queues[address]
            older = [s for s in queue.messages.values() if s.state == "leased" and s.seq < receipt[0]]
            for stored in older:
                self._remove(queue, stored)
            done: bool = ack(self, address, receipt)
            return done

        return mutated

    patch.wrap(MemoryServer, "ack", make)


@mutant("ACK-10", source="LAWS 2")
def auto_ack_does_not(patch: Patch) -> None:
    """With auto_ack, a delivery says that it is settled, but the engine keeps it."""

    def mutated(_: Any, delivery: Any) -> bool:
        delivery.settled = True
        return True

    patch.value(Settling, "settled_at_once", mutated)


@mutant("ACK-11", source="LAWS 2")
def failure_releases_twice(patch: Patch) -> None:
    """A handler's failure gives back two copies."""

    def make(release: Any) -> Any:
        def mutated(self: Any, address: Any, receipt: Any, delay: float, *, counted: bool) -> bool:
            found = self.held(address, receipt)
            done: bool = release(self, address, receipt, delay, counted=counted)
            if found is not None and counted:
                self._store(found[0], found[1].message)
            return done

        return mutated

    patch.wrap(MemoryServer, "release", make)


@mutant("ACK-12", source="LAWS 2")
def hands_out_its_own_objects(patch: Patch) -> None:
    """The engine hands out the very object that it stores."""
    patch.value(MemoryServer, "_copy", lambda _, message: message)


@mutant("ACK-14", source="LAWS 2")
def only_the_receiving_thread_acks(patch: Patch) -> None:
    """An ack from another thread than the one that claimed is lost, silently."""
    threads: WeakKeyDictionary[Any, int] = WeakKeyDictionary()

    def remember(receive: Any) -> Any:
        def mutated(self: Any, **kwargs: Any) -> Any:
            threads[self] = threading.get_ident()
            return receive(self, **kwargs)

        return mutated

    def forget(settle: Any) -> Any:
        def mutated(self: Any, deliveries: Any) -> Any:
            return settle(self, deliveries) if threads.get(self) == threading.get_ident() else []

        return mutated

    patch.wrap(MemoryReceiver, "receive", remember)
    patch.wrap(MemoryReceiver, "_settle", forget)


@mutant("ACK-15", source="LAWS 2")
def close_forgets_acks(patch: Patch) -> None:
    """Acks that wait for company are dropped by a close."""
    patch.value(Leases, "flush", lambda self: self.take_finished() and None)


@mutant("ACK-15", "ACK-17", "VIS-12", source="LAWS 1.9, watermill and kombu")
def close_loses_what_is_held(patch: Patch) -> None:
    """What a consumer holds when it is closed is gone."""

    def mutated(self: Any, unstarted: Any, timeout: float) -> None:
        self._leases.flush()
        self._leases.receiver.ack([*unstarted, *self._leases.held])
        self._leases.receiver.close(timeout=timeout)

    patch.value(Settling, "give_all_back", mutated)


@mutant("ACK-17", "PRE-07", "OBS-05", source="LAWS 1.9, go-cloud")
def close_destroys_the_backlog(patch: Patch) -> None:
    """A consumer's close empties its queues; and they stay deaf."""
    deaf: list[Any] = []

    def make(close: Any) -> Any:
        def mutated(self: Any, *, timeout: float) -> None:
            close(self, timeout=timeout)
            with self._server.condition:
                for name in self._names:
                    queue = self._server.queues.get(self._address(name))
                    for stored in list(queue.messages.values()) if queue else ():
                        self._server._remove(queue, stored)  # noqa: SLF001 - the engine is the patient
                    deaf.append(queue)

        return mutated

    def deafen(accept: Any) -> Any:
        return lambda self, queue, message: None if queue in deaf else accept(self, queue, message)

    patch.wrap(MemoryReceiver, "close", make)
    patch.wrap(MemoryServer, "_accept", deafen)


@mutant("ACK-16", "DEL-07", source="PEERS")
def delays_of_releases_ignored(patch: Patch) -> None:
    """A release with a delay is back at once."""

    def make(release: Any) -> Any:
        return lambda self, address, receipt, _, *, counted: release(self, address, receipt, 0.0, counted=counted)

    patch.wrap(MemoryServer, "release", make)


@mutant("ACK-18", source="LAWS 2")
def settling_in_a_deleted_queue_crashes(patch: Patch) -> None:
    """To settle in a queue that is gone raises whatever the engine's internals raise."""

    def make(held: Any) -> Any:
        return lambda self, address, receipt: held(self, address, receipt) if self.queues[address] else None

    patch.wrap(MemoryServer, "held", make)


@mutant("PRE-01", "PRE-02", "PRE-04", source="LAWS 1.9, watermill and kombu")
def prefetch_ignored(patch: Patch) -> None:
    """A receiver takes all that there is, whatever it was asked for."""

    def make(receive: Any) -> Any:
        return lambda self, *, limit, timeout, acks=(): receive(self, limit=limit + 999, timeout=timeout, acks=acks)

    patch.wrap(MemoryReceiver, "receive", make)


@mutant("PRE-05", "VIS-04", "VIS-20", source="LAWS 2")
def nobody_keeps_leases(patch: Patch) -> None:
    """The core does not prolong leases while handlers work."""

    def mutated(self: Any) -> None:
        self._next_extension = float("inf")

    patch.value(Leases, "_extend", mutated)


@mutant("PRE-08", source="LAWS 2")
def first_queue_first(patch: Patch) -> None:
    """A consumer of many queues asks the first one first, always."""

    def make(claim: Any) -> Any:
        def mutated(self: Any, limit: int) -> Any:
            order = list(self._names)
            found = claim(self, limit)
            self._names[:] = order
            return found

        return mutated

    patch.wrap(MemoryReceiver, "_claim", make)


@mutant("ORD-03", source="LAWS 1.9, watermill")
def released_goes_to_the_tail(patch: Patch) -> None:
    """What is given back stands behind younger ones."""

    def make(ready: Any) -> Any:
        def mutated(self: Any, queue: Any, stored: Any) -> None:
            if stored.claims:
                del queue.messages[stored.seq]
                stored.seq = next(self._numbers)
                queue.messages[stored.seq] = stored
            ready(self, queue, stored)

        return mutated

    patch.wrap(MemoryServer, "_make_ready", make)
