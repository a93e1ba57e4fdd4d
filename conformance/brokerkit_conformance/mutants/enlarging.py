"""Defects that only size shows: long bodies, large batches, long backlogs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from brokerkit.memory import MemoryReceiver, MemoryServer, MemoryTransport
from brokerkit_conformance.mutants.planting import Patch, mutant
from brokerkit_conformance.mutants.served import ServedHarness


@mutant("BIG-01", source="LAWS 2")
def body_cut_below_a_mebibyte(patch: Patch) -> None:
    """Bodies are cut one byte before 1 MiB."""

    def make(store: Any) -> Any:
        return lambda self, queue, message: store(self, queue, replace(message, body=message.body[: 2**20 - 1]))

    patch.wrap(MemoryServer, "_store", make)


@mutant("BIG-01", source="LAWS 2: a length of 16 bits")
def length_of_sixteen_bits(patch: Patch) -> None:
    """A body's length is written as 16 bits, so that one of 64 KiB is empty."""

    def make(store: Any) -> Any:
        return lambda self, queue, message: store(
            self, queue, replace(message, body=message.body[: len(message.body) % 2**16])
        )

    patch.wrap(MemoryServer, "_store", make)


@mutant("BIG-06", source="dogpile: of n values three are stored")
def batch_of_a_thousand(patch: Patch) -> None:
    """Of a batch the first thousand are stored, and all are confirmed."""

    def make(send: Any) -> Any:
        def mutated(self: Any, name: str, messages: Any, *, timeout: float) -> Any:
            outcomes = send(self, name, messages[:1000], timeout=timeout)
            return [*outcomes, *([None] * (len(messages) - len(outcomes)))]

        return mutated

    patch.wrap(MemoryTransport, "send", make)


@mutant("BIG-06", source="LAWS 2")
def one_outcome_for_all(patch: Patch) -> None:
    """If one message of a batch is refused, the outcome of all says so, although the others are stored."""

    def make(send: Any) -> Any:
        def mutated(self: Any, name: str, messages: Any, *, timeout: float) -> Any:
            outcomes = send(self, name, messages, timeout=timeout)
            first = next((outcome for outcome in outcomes if outcome is not None), None)
            return [first] * len(messages)

        return mutated

    patch.wrap(MemoryTransport, "send", make)


@mutant("DEL-11", source="LAWS 2")
def ripens_a_few(patch: Patch) -> None:
    """A look takes at most five thousand delays off the list; those that it was too full for are dropped."""

    def make(ripen: Any) -> Any:
        def mutated(self: Any, queue: Any, now: float) -> None:
            due = [entry for entry in queue.waiting if entry[0] <= now and entry[2] == entry[3].version]
            for entry in sorted(due)[5000:] if len(due) > 5000 else []:  # noqa: PLR2004 - as the docstring says
                self._remove(queue, entry[3])
            ripen(self, queue, now)

        return mutated

    patch.wrap(MemoryServer, "_ripen", make)


@mutant("DEL-11", source="LAWS 2: a timer wheel of a fixed size")
def room_for_twenty_thousand_delays(patch: Patch) -> None:
    """Twenty thousand messages can wait for their time; those beyond do not wait."""

    def make(wait: Any) -> Any:
        def mutated(self: Any, queue: Any, stored: Any, due: float, state: Any) -> None:
            full = state == "delayed" and len(queue.waiting) >= 20_000  # noqa: PLR2004 - as the docstring says
            wait(self, queue, stored, self.clock.monotonic() if full else due, state)

        return mutated

    patch.wrap(MemoryServer, "_wait_until", make)


@mutant("PRE-06", source="kombu: a prefetch of 0 is no bound", harness=ServedHarness)
def takes_all_there_is(patch: Patch) -> None:
    """A receive brings the whole queue, whatever was asked for."""

    def make(receive: Any) -> Any:
        return lambda self, *, limit, timeout, acks=(): receive(self, limit=10**9, timeout=timeout, acks=acks)  # noqa: ARG005

    patch.wrap(MemoryReceiver, "receive", make)


@mutant("BIG-07", source="RB: a claim check whose payload nobody collects")
def large_bodies_stay(patch: Patch) -> None:
    """What a queue keeps of a large body stays there when its message has gone."""

    def make(remove: Any) -> Any:
        def mutated(self: Any, queue: Any, stored: Any) -> None:
            remove(self, queue, stored)
            if len(stored.message.body) > 2**16:
                queue.messages[stored.seq] = stored

        return mutated

    patch.wrap(MemoryServer, "_remove", make)
