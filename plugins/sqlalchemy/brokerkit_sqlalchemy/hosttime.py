"""The time that all processes of a machine agree on, whatever is done to its wall clock.

What a database keeps of time has to mean the same to every process, and to go on after a restart of the machine. The
wall clock jumps when somebody sets it, and every lease would end too early or too late. The monotonic clock never jumps,
but begins anew with each start of the machine. So the first process after a start writes down by how much the two
differ, and from then on all add that to the monotonic clock. It stands still while the machine sleeps.
"""

from __future__ import annotations

import math
import sqlite3
import time
from functools import cache
from pathlib import Path
from typing import Final, final

from brokerkit.abc import Clock
from brokerkit_sqlalchemy.statements import Statements

__all__ = ["HostTime"]

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


@final
class HostTime:
    """Seconds since about the epoch, for what is stored: only differences mean something. Thread-safe.

    It is the wall clock's time where the machine does not tell its starts apart (only Linux does), and where the injected
    clock is not the machine's, as in tests.

    Attributes:
        agreed: whether it is known what the processes of this machine go by.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._boot = _boot_id() if _is_the_machines(clock) else None
        self._ahead: float | None = None
        self.agreed = self._boot is None

    def now(self) -> float:
        """Return the time."""
        return self._clock.time() if self._ahead is None else self._clock.monotonic() + self._ahead

    def agree(self, cursor: sqlite3.Cursor, sql: Statements) -> None:
        """Read from the database how far this time is ahead of the monotonic clock, or be the one to write it."""
        while self._boot is not None:
            row = cursor.execute(sql.read_clock).fetchone()
            text = row[0] if row else ""
            ahead = _of_this_boot(text, self._boot)
            if ahead is not None:
                self._ahead, self.agreed = ahead, True
                return
            mine = f"{self._boot} {self._clock.time() - self._clock.monotonic()!r}"
            cursor.execute(sql.write_clock, (mine, text))


@cache
def _boot_id() -> str | None:
    try:
        return _BOOT_ID.read_text("ascii").strip() or None
    except (OSError, ValueError):
        return None


def _is_the_machines(clock: Clock) -> bool:
    before = time.monotonic()
    return before <= clock.monotonic() <= time.monotonic()


def _of_this_boot(text: str, boot: str) -> float | None:
    """Return the number in a row of this start of the machine, or None if it is of another one, or damaged."""
    whose, _, number = text.partition(" ")
    try:
        ahead = float(number)
    except ValueError:
        return None
    return ahead if whose == boot and math.isfinite(ahead) else None
