"""The harness of `memory://`, the executable specification: what the suite itself is tried on."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from brokerkit.testing import ManualClock
from brokerkit_conformance.harness import Harness, MovableClock

__all__ = ["MemoryHarness"]


class MemoryHarness(Harness):
    """`memory://`: a server and a clock of its own for each case, so that cases can move their time at once."""

    def urls(self) -> Sequence[str]:
        """Two virtual hosts of one new server."""
        name = f"conformance-{secrets.token_hex(6)}"
        return f"memory://{name}/one", f"memory://{name}/two"

    def results_urls(self) -> Sequence[str]:
        """Two virtual hosts of one new server."""
        return self.urls()

    def clock(self) -> MovableClock:
        """Time that is moved, not waited for."""
        return ManualClock()
