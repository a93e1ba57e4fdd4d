"""Letting time pass: on real engines it is waited for, on an engine with a movable clock it is moved."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

from brokerkit.abc import Clock
from brokerkit_conformance.harness import MovableClock

__all__ = ["MovedTime", "RealTime", "SystemTime", "Timeline", "eventually"]

# Real seconds that other threads get after each small move, to do what has become due: generous beside their work,
# small beside a test. A loaded machine gets more, see `_yield`.
_GRACE: Final = 0.002
_MOVED_LEASE: Final = 8.0
_STEP: Final = _MOVED_LEASE / 40
_ROUNDING: Final = 1e-5  # seconds since the epoch, as floats, are no finer than some 1e-7


class Timeline(Protocol):
    """The time of one case.

    Attributes:
        clock: what is injected into brokers and stores; None for the system's.
        lease: the visibility timeout to ask for, in seconds.
        slack: what is added to every upper bound that a plugin declares, in seconds.
    """

    clock: Clock | None
    lease: float
    slack: float

    def now(self) -> float:
        """Monotonic seconds of this time."""
        ...

    def let_pass(self, seconds: float) -> None:
        """Let so many seconds pass, with all that becomes due in them."""
        ...

    def jump(self, seconds: float) -> bool:
        """Let seconds pass in which nobody got to work, if that can be done; False if not."""
        ...

    def running(self) -> contextlib.AbstractContextManager[None]:
        """Let time run while the caller is in a call that waits."""
        ...


class SystemTime:
    """The machine's clock, for what is opened without the core, which has one of its own."""

    def time(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since the machine started."""
        return time.monotonic()

    def wait(self, condition: threading.Condition, timeout: float | None) -> bool:
        """Wait on a held condition."""
        return condition.wait(timeout)


class RealTime:
    """The time of the machine."""

    def __init__(self, lease: float) -> None:
        self.clock: Clock | None = None
        self.lease = lease
        self.slack = 4.0  # a busy machine with two cores; the promises themselves are measured and reported

    def now(self) -> float:
        """See `Timeline.now`."""
        return time.monotonic()

    def let_pass(self, seconds: float) -> None:
        """Wait."""
        threading.Event().wait(seconds)

    def jump(self, seconds: float) -> bool:  # noqa: ARG002 - nobody can
        """Real time cannot jump."""
        return False

    def running(self) -> contextlib.AbstractContextManager[None]:
        """Real time runs by itself."""
        return contextlib.nullcontext()


class MovedTime:
    """A time that only moves here: in small steps, after each of which other threads get to work."""

    def __init__(self, clock: MovableClock) -> None:
        self.clock: Any = clock
        self.lease = _MOVED_LEASE
        self.slack = 3 * _STEP
        self._lock = threading.Lock()

    def now(self) -> float:
        """See `Timeline.now`."""
        return float(self.clock.monotonic())

    def let_pass(self, seconds: float) -> None:
        """Move the clock by steps."""
        end = self.now() + seconds
        while (left := end - self.now()) > _ROUNDING:
            self._step(min(left, _STEP))

    def jump(self, seconds: float) -> bool:
        """Move the clock at once."""
        self.clock.advance(seconds)
        self._yield()
        return True

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Move the clock from another thread until the block ends."""
        done = threading.Event()

        def run() -> None:
            # first real time alone: what is due already needs none of ours
            self._yield()
            while not done.is_set():
                self._step(_STEP)

        mover = threading.Thread(target=run, name="moves-the-clock", daemon=True)
        mover.start()
        try:
            yield
        finally:
            done.set()
            mover.join()

    def _step(self, seconds: float) -> None:
        with self._lock:
            self.clock.advance(seconds)
            self._yield()

    def _yield(self) -> None:
        pause = threading.Event()
        for _ in range(5):
            began = time.monotonic()
            pause.wait(_GRACE)
            if time.monotonic() - began < 3 * _GRACE:
                return


def eventually(timeline: Timeline, condition: Callable[[], Any], within: float) -> bool:
    """Return whether a condition becomes true within so many seconds; never looks away for longer than a moment."""
    end = timeline.now() + within
    while True:
        if condition():
            return True
        if timeline.now() >= end - _ROUNDING:
            return False
        timeline.let_pass(min(0.02, within) if timeline.clock is None else _STEP)
