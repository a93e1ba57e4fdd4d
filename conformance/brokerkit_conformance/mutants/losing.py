"""Defects in what happens when the server has lost something, or has no room."""

from __future__ import annotations

import importlib
from typing import Any

from brokerkit.errors import QueueNotFound, StorageFull, TransportError
from brokerkit.memory import MemoryReceiver, MemoryServer
from brokerkit.memory.server import StoredQueue
from brokerkit.models import Queue
from brokerkit_conformance import bench, reference
from brokerkit_conformance.mutants.cramped import CrampedHarness, Room
from brokerkit_conformance.mutants.planting import Patch, mutant

_DAY = 86_400.0


@mutant("EVI-01", source="PEERS: kombu's redis loses bindings")
def publishes_past_lost_queues(patch: Patch) -> None:
    """A publish leaves out bound queues that are gone, and says that all is well."""

    def make(bound: Any) -> Any:
        return lambda self, *args: [address for address in bound(self, *args) if address in self.queues]

    patch.wrap(MemoryServer, "_bound", make)


@mutant("EVI-02", "EVI-04", source="LAWS 2")
def losses_not_told(patch: Patch) -> None:
    """Messages that were found gone are passed over in silence."""
    patch.value(MemoryReceiver, "_report_lost", lambda _: None)


@mutant("EVI-02", source="LAWS 2")
def ids_outlive_messages(patch: Patch) -> None:
    """A message that was lost counts as a repetition when it is sent again, and is dropped."""

    def make(accept: Any) -> Any:
        return lambda self, queue, message: None if message.id in queue.ids else accept(self, queue, message)

    patch.wrap(MemoryServer, "_accept", make)


@mutant("EVI-03", "EVI-06", "EVI-07", source="PEERS: kombu's unacked index")
def orders_not_restored(patch: Patch) -> None:
    """What lost its place in an index is stranded for ever."""
    patch.value(MemoryServer, "_order_anew", lambda *_: None)


@mutant("EVI-07", source="LAWS 2")
def restored_at_the_wrong_place(patch: Patch) -> None:
    """What lost its place in an index gets a new one at random."""

    def mutated(_: Any, queue: Any) -> None:
        for stored in queue.messages.values():
            queue.ready.insert(0, (stored.message.priority, stored.seq, stored.version, stored))

    patch.value(MemoryServer, "_order_anew", mutated)


@mutant("EVI-04", source="LAWS 2")
def hands_out_what_is_gone(patch: Patch) -> None:
    """An index entry whose message is gone is handed out, again and again."""
    patch.value(MemoryServer, "_is_there", lambda *_: True)


@mutant("EVI-05", source="LAWS 2")
def extends_what_is_gone(patch: Patch) -> None:
    """An extension of a lease on nothing succeeds."""

    def make(extend: Any) -> Any:
        def mutated(self: Any, address: Any, receipt: Any, visibility_timeout: float) -> Any:
            queue = self.queues.get(address)
            if queue is not None and receipt[0] not in queue.messages:
                return self.clock.monotonic() + visibility_timeout
            return extend(self, address, receipt, visibility_timeout)

        return mutated

    patch.wrap(MemoryServer, "extend", make)


@mutant("EVI-05", source="LAWS 2")
def acks_what_is_gone(patch: Patch) -> None:
    """An ack of what is gone says that it was settled."""
    patch.wrap(MemoryServer, "ack", lambda ack: lambda self, address, receipt: ack(self, address, receipt) or True)


@mutant("EVI-11", source="celery: catatonic workers")
def workers_never_come_back(patch: Patch) -> None:
    """A receiver whose queue was gone once hears nothing any more."""
    deaf: list[Any] = []

    def make(receive: Any) -> Any:
        def mutated(self: Any, *, limit: int, timeout: float, acks: Any = ()) -> Any:
            if any(self is each for each in deaf):
                return receive(self, limit=0, timeout=0.0, acks=acks)
            try:
                return receive(self, limit=limit, timeout=timeout, acks=acks)
            except QueueNotFound:
                deaf.append(self)
                raise

        return mutated

    patch.wrap(MemoryReceiver, "receive", make)


@mutant("EVI-11", source="LAWS 2")
def workers_say_nothing(patch: Patch) -> None:
    """Everything that was lost is found empty, and nobody is told."""

    def find(self: Any, address: Any) -> Any:
        return self.queues.setdefault(address, StoredQueue(Queue(name=address[1]), self.clock.monotonic()))

    patch.value(MemoryServer, "queue", find)


@mutant("EVI-12", source="PEERS: NOSCRIPT", harness=CrampedHarness)
def statements_not_loaded_again(patch: Patch) -> None:
    """What the server forgot is not prepared again."""
    before = Room.forgot

    def make(claim: Any) -> Any:
        def mutated(self: Any, *args: Any, **kwargs: Any) -> Any:
            if Room.forgot > before:
                raise TransportError("no such script")
            return claim(self, *args, **kwargs)

        return mutated

    patch.wrap(MemoryServer, "claim", make)


@mutant("EVI-13", source="PEERS", harness=CrampedHarness)
def a_full_server_takes_no_acks(patch: Patch) -> None:
    """Settling needs room."""

    def make(ack: Any) -> Any:
        def mutated(self: Any, *args: Any) -> Any:
            if Room.full:
                raise StorageFull("there is no room to note an ack")
            return ack(self, *args)

        return mutated

    patch.wrap(MemoryServer, "ack", make)


@mutant("EVI-13", source="PEERS: a send that is not stored", harness=CrampedHarness)
def a_full_server_is_silent(patch: Patch) -> None:
    """What finds no room is dropped, and the sender hears nothing of it."""

    def make(accept: Any) -> Any:
        return lambda self, queue, message: None if Room.full else accept(self, queue, message)

    patch.wrap(MemoryServer, "_accept", make)


@mutant("EVI-14", source="LAWS 2")
def nobody_is_warned(patch: Patch) -> None:
    """Connecting says nothing of what the server may drop, and strict accepts it."""
    for name in (
        "brokerkit.broker",
        "brokerkit.results",
    ):  # by name: the package shows a function in the module's place
        patch.value(importlib.import_module(name), "check_eviction", lambda *_, **__: None)


@mutant("EVI-15", source="PEERS: bookkeeping with a time to live")
def idle_queues_forgotten(patch: Patch) -> None:
    """A queue that nobody used for 30 days is gone, whatever its settings say."""

    def make(unused: Any) -> Any:
        def mutated(self: Any, queue: Any) -> bool:
            return bool(unused(self, queue) or self.clock.monotonic() >= queue.used_at + 30 * _DAY)

        return mutated

    patch.wrap(MemoryServer, "_is_unused", make)


@mutant("EVI-16", source="LAWS 2")
def a_journal_of_its_own(patch: Patch) -> None:
    """The server keeps something that the storage map does not know."""

    def make(store: Any) -> Any:
        def mutated(self: Any, queue: Any, message: Any) -> None:
            self.journal = message.id
            store(self, queue, message)

        return mutated

    patch.wrap(MemoryServer, "_store", make)


@mutant("HAR-03", source="LAWS 4.2")
def evictions_take_too_much(patch: Patch) -> None:
    """An eviction of one queue's keys takes those of all queues."""

    def make(remove: Any) -> Any:
        def mutated(self: Any, keys: Any) -> None:
            kinds = {each.partition("/")[0] for each in keys}
            remove(self, [each for each in self.keys() if each.partition("/")[0] in kinds])

        return mutated

    patch.wrap(reference.MemoryAdmin, "remove", make)


@mutant("HAR-04", source="kombu: fixed names")
def fixed_names(patch: Patch) -> None:
    """All runs of a case use the same names."""
    patch.value(bench, "new_namespace", lambda law_id: f"bk-{law_id.lower()}")
