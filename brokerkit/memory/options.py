"""Options of `memory://`."""

from __future__ import annotations

from dataclasses import dataclass

from brokerkit.options import FanoutOptions

__all__ = ["MemoryOptions"]


@dataclass(frozen=True, kw_only=True, repr=False)
class MemoryOptions(FanoutOptions):
    """Options of the memory transport: those of every transport with topics."""
