"""Defects with what other programs put where a message is expected."""

from __future__ import annotations

from typing import Any

from brokerkit import _settling
from brokerkit_conformance.mutants.planting import Patch, mutant


@mutant("POI-01", source="PEERS L3")
def undecodable_is_thrown_away(patch: Patch) -> None:
    """What cannot be decoded is acked, and gone."""

    def make(bury: Any) -> Any:
        def mutated(self: Any, received: Any, reason: str, detail: str) -> Any:
            if reason != "undecodable":
                return bury(self, received, reason, detail)
            self._leases.drop(received)
            return self._leases.receiver.ack([received])

        return mutated

    patch.wrap(_settling.Settling, "bury", make)
