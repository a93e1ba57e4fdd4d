"""Defects in leases."""

from __future__ import annotations

import heapq
from dataclasses import replace
from typing import Any

from brokerkit import _settling
from brokerkit._leases import Leases
from brokerkit.broker import Broker
from brokerkit.memory import MemoryServer
from brokerkit_conformance.mutants.planting import Patch, mutant

Settling = _settling.Settling


@mutant("VIS-01", "VIS-06", "VIS-13", "VIS-18", "DLQ-07", source="LAWS 1.9, go-cloud")
def leases_never_end(patch: Patch) -> None:
    """The visibility timeout never expires."""

    def mutated(self: Any, queue: Any, now: float) -> None:
        later = [entry for entry in queue.waiting if entry[3].state == "leased" and entry[2] == entry[3].version]
        due = [entry for entry in queue.waiting if entry not in later and entry[0] <= now]
        queue.waiting = [entry for entry in queue.waiting if entry not in due]
        heapq.heapify(queue.waiting)
        for _, _, version, stored in due:
            if version == stored.version:
                self._make_ready(queue, stored)

    patch.value(MemoryServer, "_ripen", mutated)
    patch.value(MemoryServer, "next_due", lambda *_: None)


@mutant("VIS-02", "VIS-13", source="LAWS 2")
def leases_end_early(patch: Patch) -> None:
    """A lease ends after half its time."""

    def make(wait: Any) -> Any:
        def mutated(self: Any, queue: Any, stored: Any, due: float, state: str) -> None:
            now = self.clock.monotonic()
            wait(self, queue, stored, now + (due - now) / 2 if state == "leased" else due, state)

        return mutated

    patch.wrap(MemoryServer, "_wait_until", make)


@mutant("VIS-03", "VIS-04", "VIS-20", "VIS-22", source="LAWS 1.9")
def extend_is_a_no_op(patch: Patch) -> None:
    """An extension says that it worked, and changes nothing."""

    def mutated(self: Any, address: Any, receipt: Any, visibility_timeout: float) -> float | None:
        if self.held(address, receipt) is None:
            return None
        return float(self.clock.monotonic() + visibility_timeout)

    patch.value(MemoryServer, "extend", mutated)


def _without_fence(self: Any, address: Any, receipt: Any) -> Any:
    queue = self.queues.get(address)
    stored = queue.messages.get(receipt[0]) if queue else None
    return None if stored is None else (queue, stored)


def _unfenced(patch: Patch, method: str) -> None:
    """Let one kind of settlement work with the receipts of former owners."""

    def make(inner: Any) -> Any:
        def mutated(self: Any, *args: Any, **kwargs: Any) -> Any:
            before = type(self).held
            type(self).held = _without_fence  # under the server's lock
            try:
                return inner(self, *args, **kwargs)
            finally:
                type(self).held = before

        return mutated

    patch.wrap(MemoryServer, method, make)


@mutant("VIS-05", source="PEERS")
def late_extend_steals(patch: Patch) -> None:
    """An extension by a former owner takes the lease of the new one."""
    _unfenced(patch, "extend")


@mutant("VIS-06", source="PEERS L3")
def late_ack_accepted(patch: Patch) -> None:
    """An ack by a former owner removes what the new one works on."""
    _unfenced(patch, "ack")


@mutant("VIS-07", source="PEERS L4")
def late_release_accepted(patch: Patch) -> None:
    """A release by a former owner gives back what the new one works on."""
    _unfenced(patch, "release")


@mutant("VIS-07", source="PEERS")
def late_close_takes_back(patch: Patch) -> None:
    """A receiver's close makes visible all that it ever claimed, whoever has it now."""
    claimed: dict[Any, list[tuple[Any, Any]]] = {}

    def remember(lease: Any) -> Any:
        def mutated(self: Any, queue: Any, stored: Any, deadline: float, *rest: Any) -> Any:
            claimed.setdefault(rest[0], []).append((queue, stored))
            return lease(self, queue, stored, deadline, *rest)

        return mutated

    def leave(self: Any, owner: object) -> None:
        for queue, stored in claimed.pop(owner, []):
            if stored.state == "leased":
                self._make_ready(queue, stored)
        self.condition.notify_all()

    patch.wrap(MemoryServer, "_lease", remember)
    patch.value(MemoryServer, "leave", leave)


@mutant("VIS-12", "ACK-17", "CLN-09", source="LAWS 1.9, kombu")
def close_keeps_leases(patch: Patch) -> None:
    """A closed consumer gives nothing back: its messages wait for the end of their leases."""

    def mutated(self: Any, _: Any, timeout: float) -> None:
        self._leases.flush()
        self._leases.receiver.close(timeout=timeout)

    patch.value(Settling, "give_all_back", mutated)
    patch.value(MemoryServer, "leave", lambda *_: None)


@mutant("VIS-13", "VIS-18", "RED-02", source="PEERS")
def restored_twice(patch: Patch) -> None:
    """At the end of a lease two copies become visible."""

    def make(ready: Any) -> Any:
        def mutated(self: Any, queue: Any, stored: Any) -> None:
            if stored.state == "leased" and self.clock.monotonic() >= stored.due:
                twin = replace(stored, seq=next(self._numbers), claims=0)
                queue.messages[twin.seq] = twin
                ready(self, queue, twin)
            ready(self, queue, stored)

        return mutated

    patch.wrap(MemoryServer, "_make_ready", make)


@mutant("VIS-15", source="LAWS 2")
def timeouts_clamped(patch: Patch) -> None:
    """A visibility timeout out of range is changed to one within it, silently."""
    patch.value(Broker, "check_visibility_timeout", lambda *_: None)


@mutant("VIS-20", "PUB-22", source="mastra 23648, apscheduler 1116")
def steals_from_itself(patch: Patch) -> None:
    """A receiver that finds nothing takes what others of its process work on."""

    def make(next_ready: Any) -> Any:
        def mutated(self: Any, queue: Any) -> Any:
            found = next_ready(self, queue)
            if found is None:
                found = next((s for s in queue.messages.values() if s.state == "leased" and s.claims < 2), None)  # noqa: PLR2004
            return found

        return mutated

    patch.wrap(MemoryServer, "_next_ready", make)


@mutant("VIS-21", source="LAWS 2")
def late_ack_of_nobody(patch: Patch) -> None:
    """An ack long after the end of the lease is taken, and the worker never learns that it was late."""
    _unfenced(patch, "ack")
    patch.value(Leases, "_forget", lambda *_: None)


@mutant("VIS-22", source="LAWS 2")
def extends_all_of_its_leases(patch: Patch) -> None:
    """An extension of one delivery sets the leases of all of its receiver."""

    def make(extend: Any) -> Any:
        def mutated(self: Any, address: Any, receipt: Any, visibility_timeout: float) -> Any:
            found = self.held(address, receipt)
            deadline = extend(self, address, receipt, visibility_timeout)
            for stored in list(found[0].messages.values()) if found else ():
                if stored.state == "leased" and stored.owner is found[1].owner:
                    self._wait_until(found[0], stored, deadline, "leased")
            return deadline

        return mutated

    patch.wrap(MemoryServer, "extend", make)
