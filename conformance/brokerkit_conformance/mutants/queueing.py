"""Defects in names, times to live, purges and depths of queues."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

from brokerkit.memory import MemoryReceiver, MemoryServer
from brokerkit_conformance.mutants.planting import Patch, mutant


@mutant("PUB-07", source="PEERS L1")
def send_to_nowhere_is_fine(patch: Patch) -> None:
    """A send to a queue that is not there succeeds, and drops the message."""

    def make(send: Any) -> Any:
        def mutated(self: Any, address: Any, messages: Any) -> Any:
            return send(self, address, messages) if address in self.queues else [None] * len(messages)

        return mutated

    patch.wrap(MemoryServer, "send", make)


@mutant("PUB-08", "PUB-23", source="LAWS 2")
def missing_queues_not_told(patch: Patch) -> None:
    """A receiver of a queue that is not there waits for ever."""
    patch.value(MemoryReceiver, "_report", lambda self, missing: setattr(self, "_reported", set(missing)))


class _Folding(dict[Any, Any]):
    """A dict of addresses that takes some names for others."""

    def __init__(self, fold: Any) -> None:
        super().__init__()
        self._fold = fold

    def _key(self, address: Any) -> Any:
        return address[0], self._fold(address[1])

    def __setitem__(self, address: Any, value: Any) -> None:
        super().__setitem__(self._key(address), value)

    def __getitem__(self, address: Any) -> Any:
        return super().__getitem__(self._key(address))

    def get(self, address: Any, default: Any = None) -> Any:
        return super().get(self._key(address), default)

    def pop(self, address: Any, default: Any = None) -> Any:
        return super().pop(self._key(address), default)

    def __contains__(self, address: Any) -> bool:
        return super().__contains__(self._key(address))


def _names_folded(patch: Patch, fold: Any) -> None:
    def make(init: Any) -> Any:
        def mutated(self: Any, clock: Any) -> None:
            init(self, clock)
            self.queues = _Folding(fold)

        return mutated

    patch.wrap(MemoryServer, "__init__", make)
    # settings are compared with those of the first name: it must not matter here
    patch.wrap(
        MemoryServer,
        "declare",
        lambda declare: lambda self, vhost, q: None if (vhost, q.name) in self.queues else declare(self, vhost, q),
    )


@mutant("PUB-15", source="LAWS 2")
def names_fold_case(patch: Patch) -> None:
    """Names that differ in upper and lower case only are one queue."""
    _names_folded(patch, str.casefold)


@mutant("PUB-15", source="LAWS 2")
def names_lose_odd_characters(patch: Patch) -> None:
    """Characters that the engine does not like are replaced in names by one and the same."""
    _names_folded(patch, lambda name: "".join(c if c.isalnum() or c in "-." else "_" for c in name))


@mutant("PUB-15", source="LAWS 1.9, kombu")
def prefix_leaks_between_queues(patch: Patch) -> None:
    """What is sent to a queue also comes to queues whose names begin with its name."""

    def make(send: Any) -> Any:
        def mutated(self: Any, address: Any, messages: Any) -> Any:
            for other in [
                a for a in self.queues if a[0] == address[0] and a[1].startswith(address[1]) and a != address
            ]:
                send(self, other, messages)
            return send(self, address, messages)

        return mutated

    patch.wrap(MemoryServer, "send", make)


@mutant("PUB-16", source="LAWS 2")
def names_truncated(patch: Patch) -> None:
    """Names are cut at 100 characters."""
    _names_folded(patch, lambda name: name[:100])


@mutant("PUB-17", "PUB-18", "DLQ-09", source="LAWS 2")
def ttl_ignored(patch: Patch) -> None:
    """A time to live has no effect."""

    def make(lease: Any) -> Any:
        def mutated(*args: Any) -> Any:
            received = lease(*args)
            received.expired = False
            return received

        return mutated

    patch.wrap(MemoryServer, "_lease", make)


@mutant("PUB-17", "PUB-18", "DLQ-09", source="LAWS 1.9")
def expired_dropped_silently(patch: Patch) -> None:
    """What has outlived its time is dropped without a trace."""

    def make(next_ready: Any) -> Any:
        def mutated(self: Any, queue: Any) -> Any:
            while (stored := next_ready(self, queue)) is not None:
                if stored.expires_at is None or self.clock.monotonic() < stored.expires_at:
                    return stored
                self._remove(queue, stored)
            return None

        return mutated

    patch.wrap(MemoryServer, "_next_ready", make)


@mutant("PUB-18", source="LAWS 2")
def ttl_restarts_at_release(patch: Patch) -> None:
    """A release or a ripe delay starts the time to live anew."""

    def make(ready: Any) -> Any:
        def mutated(self: Any, queue: Any, stored: Any) -> None:
            if stored.message.ttl is not None:
                stored.expires_at = self.clock.monotonic() + stored.message.ttl * 2
            ready(self, queue, stored)

        return mutated

    patch.wrap(MemoryServer, "_make_ready", make)


@mutant("PUB-22", "PUB-24", "ACK-09", "VIS-02", source="LAWS 2")
def claims_do_not_claim(patch: Patch) -> None:
    """A delivered message stays ready for others."""

    def make(lease: Any) -> Any:
        def mutated(self: Any, queue: Any, stored: Any, *rest: Any) -> Any:
            received = lease(self, queue, stored, *rest)
            twin = replace(stored, seq=next(self._numbers), claims=0, owner=None)
            queue.messages[twin.seq] = twin
            if stored.claims == 1:
                self._make_ready(queue, twin)
            return received

        return mutated

    patch.wrap(MemoryServer, "_lease", make)


@mutant("PUB-24", "ACK-18", source="LAWS 2")
def purge_takes_what_is_held(patch: Patch) -> None:
    """A purge removes messages that somebody is working on."""

    def mutated(self: Any, address: Any) -> int:
        queue = self.queue(address)
        for stored in (gone := list(queue.messages.values())):
            self._remove(queue, stored)
        return len(gone)

    patch.value(MemoryServer, "purge", mutated)


@mutant("PUB-24", source="LAWS 2")
def depth_counts_all_as_ready(patch: Patch) -> None:
    """The depth does not tell what is ready from what is in flight."""

    def make(depth: Any) -> Any:
        def mutated(self: Any, address: Any) -> Any:
            found = depth(self, address)
            return replace(found, ready=found.ready + found.in_flight + found.delayed, in_flight=0, delayed=0)

        return mutated

    patch.wrap(MemoryServer, "depth", make)


@mutant("CLN-02", source="LAWS 1.9, go-cloud, watermill and kombu")
def thread_leak_per_receiver(patch: Patch) -> None:
    """Each receiver leaves a thread behind."""

    def make(init: Any) -> Any:
        def mutated(*args: Any) -> None:
            init(*args)
            threading.Thread(target=threading.Event().wait, args=(120,), daemon=True).start()

        return mutated

    patch.wrap(MemoryReceiver, "__init__", make)
