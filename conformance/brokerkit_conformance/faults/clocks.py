"""A clock that is wrong, for client processes: nothing in the process itself is patched.

An actor asks `clock_from_environment()` and hands the answer to `brokerkit.connect(clock=...)`. Its log keeps the true
time, so that histories of many processes can be laid side by side.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Mapping
from typing import Final

from brokerkit.abc import Clock

__all__ = ["VARIABLE", "SkewedClock", "clock_from_environment", "environment_of"]

VARIABLE: Final = "BROKERKIT_CONFORMANCE_CLOCK_OFFSET"
"""Seconds by which the clock of an actor is ahead."""


class SkewedClock(Clock):
    """The machine's clock, or another one, and so many seconds more. Thread-safe.

    Only the time of day is wrong. The monotonic clock has no meaning outside its process, so it is left alone; a jump
    does not move it either.

    Attributes:
        offset: seconds by which it is ahead; negative if it is behind.
        of: the clock that is right; None for the machine's.
    """

    def __init__(self, offset: float, of: Clock | None = None) -> None:
        self.offset = offset
        self.of = of

    def __repr__(self) -> str:
        return f"SkewedClock({self.offset:+g} s)"

    def time(self) -> float:
        """Seconds since the epoch, as this clock shows them."""
        return (time.time() if self.of is None else self.of.time()) + self.offset

    def monotonic(self) -> float:
        """Seconds since the machine started, or of the other clock."""
        return time.monotonic() if self.of is None else self.of.monotonic()

    def wait(self, condition: threading.Condition, timeout: float | None) -> bool:
        """Wait on a held condition for at most `timeout` seconds."""
        return condition.wait(timeout) if self.of is None else self.of.wait(condition, timeout)

    def jump(self, seconds: float) -> None:
        """Set the clock forward, or back, at once, as a person or NTP would."""
        self.offset += seconds


def clock_from_environment(environment: Mapping[str, str] | None = None) -> SkewedClock | None:
    """Return the clock that this process was told to use, or None.

    Raises:
        ValueError: the variable holds no finite number.
    """
    text = (os.environ if environment is None else environment).get(VARIABLE, "")
    if not text:
        return None
    offset = float(text)
    if not math.isfinite(offset):
        raise ValueError(f"{VARIABLE}={text}: no clock can be so wrong")
    return SkewedClock(offset)


def environment_of(offset: float) -> dict[str, str]:
    """Return what to add to a process's environment so that its clock is so many seconds ahead."""
    return {VARIABLE: repr(offset)}
