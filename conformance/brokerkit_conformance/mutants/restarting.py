"""Defects that a restart or a kill shows: of the server, and of clients at the worst moment."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from brokerkit import _dead_letters, _settling
from brokerkit.memory import MemoryServer, MemoryTransport
from brokerkit.models import new_id
from brokerkit_conformance.mutants import restartable
from brokerkit_conformance.mutants.planting import Patch, mutant
from brokerkit_conformance.mutants.restartable import CarryingHarness, RestartableHarness

_HERE: Final = "brokerkit_conformance.mutants.restarting"


def _after_an_end(patch: Patch, change: Callable[[MemoryServer, Any], None], *, kills_only: bool = True) -> None:
    """Change each queue while the server is down; after kills only, or after orderly ends too."""

    def mutated(server: MemoryServer, *, killed: bool) -> None:
        for queue in server.queues.values() if killed or not kills_only else ():
            change(server, queue)

    patch.value(restartable, "came_up", mutated)


@mutant("FLT-04", "FLT-05", source="Redis with appendfsync everysec, claimed durable", harness=RestartableHarness)
def the_last_writes_are_lost(patch: Patch) -> None:
    """What was confirmed shortly before a kill had not reached the disk."""

    def change(server: Any, queue: Any) -> None:
        for stored in list(queue.messages.values())[-5:]:
            server._remove(queue, stored)  # noqa: SLF001 - the engine's own

    _after_an_end(patch, change)


@mutant("FLT-04", source="kombu's redis transport: unacked index apart from its payload", harness=RestartableHarness)
def what_is_held_dies_with_the_server(patch: Patch) -> None:
    """Claims are kept in the server's memory alone: what was held at a kill is gone."""

    def change(server: Any, queue: Any) -> None:
        for stored in [each for each in queue.messages.values() if each.state == "leased"]:
            server._remove(queue, stored)  # noqa: SLF001 - the engine's own

    _after_an_end(patch, change)


@mutant("FLT-04", source="LAWS 2", harness=RestartableHarness)
def acks_are_not_written(patch: Patch) -> None:
    """Acks live in the server's memory alone: what was acked before a kill comes again."""
    acked: list[tuple[Any, Any]] = []

    def make(ack: Any) -> Any:
        def mutated(self: Any, address: Any, receipt: Any) -> Any:
            if (found := self.held(address, receipt)) is not None:
                acked.append((found[0], replace(found[1].message)))
            return ack(self, address, receipt)

        return mutated

    patch.wrap(MemoryServer, "ack", make)

    def change(server: Any, queue: Any) -> None:
        for message in [message for where, message in acked if where is queue]:
            server._store(queue, message)  # noqa: SLF001 - the engine's own

    _after_an_end(patch, change)


@mutant("FLT-05", source="LAWS 2", harness=RestartableHarness)
def torn_by_a_kill(patch: Patch) -> None:
    """Of the message that is written when the server is killed, half is there."""

    def change(_: Any, queue: Any) -> None:
        for stored in list(queue.messages.values())[-1:]:
            stored.message = replace(stored.message, body=stored.message.body[: len(stored.message.body) // 2])

    _after_an_end(patch, change)


@mutant("FLT-05", source="celery on SQLite: database is locked", harness=RestartableHarness)
def locked_for_ever(patch: Patch) -> None:
    """A lock that the killed one held stays: nothing is ever found again, and nobody is told."""

    def mutated(_: MemoryServer, *, killed: bool) -> None:
        if killed:
            patch.value(MemoryServer, "claim", lambda *_: [])
            patch.value(MemoryServer, "next_due", lambda *_: None)

    patch.value(restartable, "came_up", mutated)


@mutant("FLT-03", source="PEERS: lost on a graceful restart", harness=RestartableHarness)
def the_queue_is_not_saved(patch: Patch) -> None:
    """An orderly end does not save what waits."""

    def change(server: Any, queue: Any) -> None:
        for stored in list(queue.messages.values()):
            server._remove(queue, stored)  # noqa: SLF001 - the engine's own

    _after_an_end(patch, change, kills_only=False)


@mutant("FLT-13", source="celery 7276: workers that hang after Redis was restarted", harness=RestartableHarness)
def consumers_are_forgotten(patch: Patch) -> None:
    """Whoever consumed before a restart connects again, goes on asking, and never gets anything."""
    known: set[Any] = set()
    forgotten: set[Any] = set()

    def deaf(*, limit: int, timeout: float, acks: Any = ()) -> tuple[list[Any], list[Any]]:  # noqa: ARG001 - as the contract has it
        threading.Event().wait(timeout)
        return [], []

    def make(open_receiver: Any) -> Any:
        def mutated(self: Any, *args: Any, **kwargs: Any) -> Any:
            receiver = open_receiver(self, *args, **kwargs)
            known.add(self.remote)
            if self.remote in forgotten:
                receiver.receive = deaf
            return receiver

        return mutated

    patch.wrap(MemoryTransport, "open_receiver", make)
    patch.value(restartable, "came_up", lambda _, killed: forgotten.update(known))  # noqa: ARG005 - after both


@mutant("DEL-06", source="kombu's redis transport: ETA tasks in the worker's memory", harness=RestartableHarness)
def delays_die_with_the_server(patch: Patch) -> None:
    """What waits for its time is known to the server's memory alone: after a kill it is gone."""

    def change(server: Any, queue: Any) -> None:
        for stored in [each for each in queue.messages.values() if each.state == "delayed"]:
            server._remove(queue, stored)  # noqa: SLF001 - the engine's own

    _after_an_end(patch, change)


@mutant("DEL-06", source="LAWS 2", harness=RestartableHarness)
def delays_end_with_a_restart(patch: Patch) -> None:
    """After a kill what waits for its time comes at once."""

    def change(server: Any, queue: Any) -> None:
        for stored in [each for each in queue.messages.values() if each.state == "delayed"]:
            server._make_ready(queue, stored)  # noqa: SLF001 - the engine's own

    _after_an_end(patch, change)


@mutant("DEL-06", source="LAWS 2", harness=RestartableHarness)
def delays_begin_anew(patch: Patch) -> None:
    """After a kill what waits for its time waits for as long as after its sending."""

    def change(server: Any, queue: Any) -> None:
        for stored in [each for each in queue.messages.values() if each.state == "delayed"]:
            server._wait_until(queue, stored, server.clock.monotonic() + 60, "delayed")  # noqa: SLF001 - the engine's own

    _after_an_end(patch, change)


@mutant("ORD-05", source="LAWS 2: a table without ORDER BY", harness=RestartableHarness)
def read_back_in_any_order(patch: Patch) -> None:
    """After a kill the messages are read back in another order."""

    def change(server: Any, queue: Any) -> None:
        numbers = sorted(stored.seq for stored in queue.messages.values())
        stored_ones = list(queue.messages.values())
        queue.messages.clear()
        for number, stored in zip(reversed(numbers), stored_ones, strict=True):
            stored.seq = number
            queue.messages[number], queue.ids[stored.message.id] = stored, number
            if stored.state == "ready":
                server._make_ready(queue, stored)  # noqa: SLF001 - the engine's own

    _after_an_end(patch, change)


@mutant("DLQ-04", source="PEERS: ack first, dead-letter after", harness=CarryingHarness)
def acked_before_it_is_buried(patch: Patch) -> None:
    """A dead letter is acked at its source first, and stored in the dead queue after."""
    patch.value(CarryingHarness, "carried", f"{_HERE}:ack_first")


@mutant("DLQ-04", source="LAWS 2", harness=CarryingHarness)
def buried_under_a_new_id(patch: Patch) -> None:
    """Each dead letter has an id of its own: a repeated one is not known again."""
    patch.value(CarryingHarness, "carried", f"{_HERE}:letters_with_new_ids")
    letters_with_new_ids(patch)


def ack_first(patch: Patch) -> None:
    """Let the core ack before it buries."""

    def mutated(self: Any, received: Any, reason: str, detail: str) -> None:
        self._leases.drop(received)
        self._ack(received)
        broker = self._broker
        letter = _dead_letters.letter_for(received, reason=reason, detail=detail, now=broker.clock.time())
        _dead_letters.bury(broker.send_messages, broker.declare_queue, received.queue, letter)

    patch.value(_settling.Settling, "_bury", mutated)


def letters_with_new_ids(patch: Patch) -> None:
    """Let the core give each dead letter a new id."""

    def make(letter_for: Any) -> Any:
        return lambda received, **why: replace(letter_for(received, **why), id=new_id(why["now"]))

    patch.wrap(_dead_letters, "letter_for", make)
