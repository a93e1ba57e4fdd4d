"""What one trial showed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from brokerkit_conformance.model import Outcome

__all__ = ["Shown"]


@dataclass(frozen=True, slots=True)
class Shown:
    """What one trial showed.

    Attributes:
        harness: the name of its class.
        server: the product and version behind it.
        outcomes: of each law that was asked, by id.
        reasons: of those that are no PASS.
    """

    harness: str
    server: str
    outcomes: Mapping[str, Outcome]
    reasons: Mapping[str, str]
