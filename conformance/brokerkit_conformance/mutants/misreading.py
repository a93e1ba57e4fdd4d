"""Defects with what nobody of this version wrote, and with what the report says of the server."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from brokerkit import _dead_letters, _settling
from brokerkit.errors import InconsistencyError
from brokerkit.memory import MemoryServer
from brokerkit_conformance import serving
from brokerkit_conformance.mutants.planting import Patch, mutant
from brokerkit_conformance.reference import MemoryHarness

Settling = _settling.Settling


@mutant("POI-04", source="LAWS 2")
def any_version_is_mine(patch: Patch) -> None:
    """The version of a message's envelope is not looked at: what cannot be understood reaches a handler."""

    def make(unfit: Any) -> Any:
        def mutated(self: Any, received: Any) -> Any:
            found = unfit(self, received)
            return None if found and "envelope" in found[1] else found

        return mutated

    patch.wrap(Settling, "unfit", make)


@mutant("POI-04", source="celery: a worker that dies of an unknown task protocol")
def a_later_version_ends_the_consumer(patch: Patch) -> None:
    """A version that is no number ends the consumer by an exception."""

    def make(unfit: Any) -> Any:
        def mutated(self: Any, received: Any) -> Any:
            if not received.queue.endswith(".dead"):
                int(received.message.headers.get("bk-version", "1"))
            return unfit(self, received)

        return mutated

    patch.wrap(Settling, "unfit", make)


@mutant("POI-10", source="PEERS: one bad row stops the poll loop")
def a_bad_row_stops_the_receiver(patch: Patch) -> None:
    """A record that cannot be read makes every claim of its queue fail."""

    def make(lease: Any) -> Any:
        def mutated(self: Any, queue: Any, stored: Any, *rest: Any) -> Any:
            if "bk-malformed" in stored.message.headers:
                self._make_ready(queue, stored)
                raise InconsistencyError("a record cannot be read")
            return lease(self, queue, stored, *rest)

        return mutated

    patch.wrap(MemoryServer, "_lease", make)


@mutant("POI-10", source="kombu: a message that cannot be decoded is acked with a log line")
def skipped_without_a_word(patch: Patch) -> None:
    """A record that cannot be read is set aside, and nobody is told."""

    def make(tell: Any) -> Any:
        return lambda self, name, *rest: None if name == "dead_lettered" else tell(self, name, *rest)

    patch.wrap(Settling, "_tell", make)


@mutant("POI-10", source="this project's own dead letters, before this law")
def a_letter_without_a_date_hides_all(patch: Patch) -> None:
    """A dead letter whose time is no number makes the others unreadable."""
    patch.value(_dead_letters, "_moment", float)


@mutant("POI-10", source="this project's own redrive, before this law")
def a_letter_leads_the_redrive(patch: Patch) -> None:
    """A redrive sends a dead letter where the letter itself says."""

    def make(move: Any) -> Any:
        def mutated(broker: Any, receiver: Any, queue: str, letters: Any) -> int:
            origins = {letter.message.headers.get("bk-origin-queue", queue) for letter in letters}
            return sum(
                move(
                    broker,
                    receiver,
                    origin,
                    [r for r in letters if r.message.headers.get("bk-origin-queue", queue) == origin],
                )
                for origin in origins
            )

        return mutated

    patch.wrap(_dead_letters, "_move", make)


@mutant("POI-04", source="LAWS 2")
def redriven_as_of_this_version(patch: Patch) -> None:
    """A redrive takes the version off, so that what cannot be understood comes as if it could."""

    def make(revived: Any) -> Any:
        def mutated(message: Any) -> Any:
            kept = {name: value for name, value in message.headers.items() if name != "bk-version"}
            return revived(replace(message, headers=kept))

        return mutated

    patch.wrap(_dead_letters, "_revived", make)


@mutant("HAR-06", source="LAWS 2")
def settings_left_out(patch: Patch) -> None:
    """The report does not say how the server was set."""
    patch.wrap(serving, "server_of", lambda of: lambda *given: {**of(*given), "settings": {}, "settings_digest": ""})


@mutant("HAR-06", source="LAWS 3.6: emulator columns never merge with real ones")
def everything_is_real(patch: Patch) -> None:
    """The report says of an emulator that it is the real product."""
    patch.value(MemoryHarness, "emulator", True)
    patch.wrap(serving, "server_of", lambda of: lambda *given: {**of(*given), "emulator": False})
