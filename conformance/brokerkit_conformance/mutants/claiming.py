"""Defects in the moment between the server's claim and the client's knowledge of it."""

from __future__ import annotations

from typing import Any

from brokerkit.memory import MemoryReceiver
from brokerkit.models import Received
from brokerkit_conformance.mutants import served
from brokerkit_conformance.mutants.planting import Patch, mutant


@mutant("VIS-09", source="PEERS L1", harness=served.NetworkedHarness)
def popped_before_it_is_recorded(patch: Patch) -> None:
    """A claim takes the message away, and only the client's next call records it: who dies in between loses it."""
    unrecorded: dict[MemoryReceiver, list[Received]] = {}

    def recording(call: Any) -> Any:
        def mutated(self: MemoryReceiver, *args: Any, **kwargs: Any) -> Any:
            unrecorded.pop(self, None)
            return call(self, *args, **kwargs)

        return mutated

    def popping(receive: Any) -> Any:
        def mutated(self: MemoryReceiver, **kwargs: Any) -> Any:
            claimed, lost = receive(self, **kwargs)
            unrecorded[self] = list(claimed)
            return claimed, lost

        return mutated

    for name in ("ack", "extend", "release", "receive"):
        patch.wrap(MemoryReceiver, name, recording)
    patch.wrap(MemoryReceiver, "receive", popping)
    patch.value(served, "hung_up", lambda receiver: receiver.ack(unrecorded.pop(receiver, [])))
