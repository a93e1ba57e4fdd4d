"""The system's clock: the only place of the core that looks at the time."""

from __future__ import annotations

import threading
import time
from typing import Final, final

from brokerkit.abc import Clock

__all__ = ["SYSTEM_CLOCK", "SystemClock", "sleep"]


@final
class SystemClock:
    """Real time. Stateless, hence thread-safe."""

    def time(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since the machine started."""
        return time.monotonic()

    def wait(self, condition: threading.Condition, timeout: float | None) -> bool:
        """Wait on a held condition for at most `timeout` seconds."""
        return condition.wait(timeout)


SYSTEM_CLOCK: Final[Clock] = SystemClock()


def sleep(clock: Clock, seconds: float) -> None:
    """Let `seconds` of the clock pass."""
    condition = threading.Condition()
    deadline = clock.monotonic() + seconds
    with condition:
        while (left := deadline - clock.monotonic()) > 0:
            clock.wait(condition, left)
