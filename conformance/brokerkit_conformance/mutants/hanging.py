"""Defects in how a client waits: for answers that never come, for lines that others use, for servers that are slow."""

from __future__ import annotations

import threading
from typing import Any, Final

from brokerkit import _waiting
from brokerkit_conformance.mutants import wire
from brokerkit_conformance.mutants.planting import Patch, mutant
from brokerkit_conformance.mutants.served import NetworkedHarness

_FAR_TOO_LONG: Final = 5.5


@mutant("FLT-06", "FLT-07", "ACK-08", "CLN-07", source="celery 8030, 8384, 9054", harness=NetworkedHarness)
def reads_without_timeout(patch: Patch) -> None:
    """Who waits for an answer waits for seconds longer than was asked."""

    def make(read: Any) -> Any:
        def mutated(sock: Any, size: int, end: float | None, silence: float | None) -> Any:
            if end is not None:
                end, silence = end + _FAR_TOO_LONG, (silence or 0.0) + _FAR_TOO_LONG
            return read(sock, size, end, silence)

        return mutated

    patch.wrap(wire, "_read", make)


@mutant("BIG-05", source="LAWS 2", harness=NetworkedHarness)
def one_call_at_a_time(patch: Patch) -> None:
    """All calls of a client wait for each other: a huge answer stops the extensions."""
    turn = threading.Lock()

    def make(call: Any) -> Any:
        def mutated(self: Any, *args: Any, **kwargs: Any) -> Any:
            with turn:
                return call(self, *args, **kwargs)

        return mutated

    patch.wrap(wire.Lines, "call", make)


@mutant("FLT-10", source="LAWS 2", harness=NetworkedHarness)
def slow_is_dead(patch: Patch) -> None:
    """A server that takes more than a moment to answer counts as dead."""

    def make(ask: Any) -> Any:
        return lambda self, order, timeout, silence: ask(self, order, min(timeout, 0.15), min(silence, 0.15))

    patch.wrap(wire.Line, "ask", make)


@mutant("RES-10", source="kombu: a dead connection ends the wait", harness=NetworkedHarness)
def a_broken_wait_is_the_end(patch: Patch) -> None:
    """A connection that breaks under a wait ends it, as if nothing could come any more."""
    patch.value(_waiting.Waiting, "_watched", lambda _, watch, seen, timeout: watch(seen, timeout))
