"""Defects in counts and dead letters."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

from brokerkit import _dead_letters, _settling
from brokerkit.broker import Broker
from brokerkit.memory import MemoryReceiver, MemoryServer, MemoryTransport
from brokerkit_conformance.mutants.planting import Patch, mutant

Settling = _settling.Settling


def _counted(patch: Patch, change: Any) -> None:
    """Change the attempt that a delivery carries."""

    def make(lease: Any) -> Any:
        def mutated(self: Any, queue: Any, stored: Any, *rest: Any) -> Any:
            received = lease(self, queue, stored, *rest)
            received.attempt = change(stored, received.attempt)
            return received

        return mutated

    patch.wrap(MemoryServer, "_lease", make)


@mutant("RED-01", "RED-02", "RED-03", source="LAWS 2")
def counts_from_zero(patch: Patch) -> None:
    """The first delivery is attempt 0."""
    _counted(patch, lambda _, attempt: attempt - 1)


@mutant("RED-02", "RED-03", "DLQ-01", "DLQ-07", source="LAWS 2")
def never_counts(patch: Patch) -> None:
    """Every delivery is attempt 1."""
    _counted(patch, lambda *_: 1)


@mutant("RED-03", source="LAWS 2")
def counts_for_each_receiver(patch: Patch) -> None:
    """Each new connection counts from 1."""
    owners: dict[int, list[int]] = {}

    def change(stored: Any, _: int) -> int:
        seen = owners.setdefault(id(stored), [])
        if not seen or seen[-1] != id(stored.owner):
            seen.clear()
        seen.append(id(stored.owner))
        return len(seen)

    _counted(patch, change)


@mutant("RED-04", source="LAWS 2")
def unstarted_are_counted(patch: Patch) -> None:
    """What was prefetched and never started counts an attempt, against the declaration."""

    def make(release: Any) -> Any:
        return lambda self, address, receipt, delay, **_: release(self, address, receipt, delay, counted=True)

    patch.wrap(MemoryServer, "release", make)


@mutant("RED-05", source="pipeshub 2992")
def counts_what_it_can_read(patch: Patch) -> None:
    """A body that is no UTF-8 counts no attempts."""
    _counted(patch, lambda stored, attempt: attempt if stored.message.body.isascii() else 1)


@mutant("RED-06", source="Brighter: SQS and RocketMQ")
def delayed_release_starts_anew(patch: Patch) -> None:
    """A release with a delay sets the count back."""

    def make(release: Any) -> Any:
        def mutated(self: Any, address: Any, receipt: Any, delay: float, *, counted: bool) -> Any:
            found = self.held(address, receipt)
            if delay and found is not None:
                found[1].attempt = 0
            return release(self, address, receipt, delay, counted=counted)

        return mutated

    patch.wrap(MemoryServer, "release", make)


@mutant("RED-07", source="LAWS 2")
def invented_count(patch: Patch) -> None:
    """An engine that does not count says that every delivery is the first."""
    patch.value(MemoryTransport, "capabilities", replace(MemoryTransport.capabilities, attempts="flag"))
    _counted(patch, lambda *_: 1)


@mutant("DLQ-06", "RED-02", "DLQ-01", source="LAWS 1.9, go-cloud and kombu")
def drops_after_three(patch: Patch) -> None:
    """A message that was delivered three times and comes back again is dropped, silently."""

    def make(ready: Any) -> Any:
        def mutated(self: Any, queue: Any, stored: Any) -> None:
            if stored.attempt >= 2:  # noqa: PLR2004 - the third time that it comes back
                self._remove(queue, stored)
            else:
                ready(self, queue, stored)

        return mutated

    patch.wrap(MemoryServer, "_make_ready", make)


@mutant("DLQ-01", source="LAWS 2")
def one_attempt_too_many(patch: Patch) -> None:
    """A message is dead-lettered after max_attempts + 1 failures."""
    patch.wrap(Broker, "max_attempts", lambda most: lambda self, queue: (most(self, queue) or 0) + 1 or None)


@mutant("DLQ-02", "DLQ-03", source="LAWS 2")
def dead_without_reason(patch: Patch) -> None:
    """A dead letter does not say why."""

    def make(letter_for: Any) -> Any:
        return lambda received, *, reason, detail, now: letter_for(received, reason="dead", detail="", now=now)  # noqa: ARG005

    patch.wrap(_dead_letters, "letter_for", make)


@mutant("DLQ-03", "ACK-03", "DLQ-01", source="LAWS 2")
def dead_letters_dropped(patch: Patch) -> None:
    """What should be dead-lettered is acked, and stored nowhere."""
    patch.value(_dead_letters, "bury", lambda *_: None)


@mutant("DLQ-05", source="PEERS")
def buried_blindly(patch: Patch) -> None:
    """A dead letter that finds no room is acked at its source all the same."""

    def make(bury: Any) -> Any:
        def mutated(*args: Any) -> None:
            with contextlib.suppress(Exception):
                bury(*args)

        return mutated

    patch.wrap(_dead_letters, "bury", make)


@mutant("DLQ-07", source="celery 4766")
def the_unseen_do_not_count(patch: Patch) -> None:
    """Only failures that somebody lived to see count: a message that kills its workers does so for ever."""

    def make(unfit: Any) -> Any:
        def mutated(self: Any, received: Any) -> Any:
            found = unfit(self, received)
            return None if found and found[0] == "crashed" else found

        return mutated

    patch.wrap(Settling, "unfit", make)


@mutant("DLQ-08", source="LAWS 2")
def redrive_keeps_a_copy(patch: Patch) -> None:
    """A redrive leaves the letters in the dead queue too."""

    def make(ack: Any) -> Any:
        def mutated(self: Any, deliveries: Any, **rest: Any) -> Any:
            dead = [r for r in deliveries if r.queue.endswith(".dead")]
            self.release(dead) if dead else None
            return ack(self, [r for r in deliveries if r not in dead], **rest)

        return mutated

    patch.wrap(MemoryReceiver, "ack", make)


@mutant("DLQ-08", source="LAWS 2")
def redriven_as_dead(patch: Patch) -> None:
    """A redriven message keeps the headers of its death."""
    patch.value(_dead_letters, "_revived", lambda message: message)


@mutant("DLQ-10", source="LAWS 2")
def the_dead_die_again(patch: Patch) -> None:
    """A dead queue has a dead queue of its own."""
    patch.value(_dead_letters, "is_dead_queue", lambda _: False)
