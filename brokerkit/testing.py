"""For tests of code that uses brokerkit: a clock that moves when told, and calls that fail when told."""

from __future__ import annotations

import functools
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any, ClassVar, Final, final

from brokerkit.errors import nearest

__all__ = ["Faults", "ManualClock", "wait_until"]

_HANG_LIMIT: Final = 60.0


@final
class ManualClock:
    """A clock that stands still until `advance` moves it. Thread-safe.

    Waiting on it lasts until the condition is notified or the clock was advanced far enough; after 60 s of real time
    without either, it raises, so that a test which forgot to advance fails instead of hanging.
    """

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._now = start
        self._start = start
        self._lock = threading.Condition(threading.Lock())
        self._waiting: list[threading.Condition] = []

    def time(self) -> float:
        """Seconds since the epoch, as far as this clock was moved."""
        return self._now

    def monotonic(self) -> float:
        """Seconds since the clock was made."""
        return self._now - self._start

    def wait(self, condition: threading.Condition, timeout: float | None) -> bool:
        """Wait on a held condition until it is notified (True) or `timeout` seconds of this clock passed (False)."""
        deadline = None if timeout is None else self._now + timeout
        with self._lock:
            self._waiting.append(condition)
            self._lock.notify_all()
        try:
            if deadline is not None and self._now >= deadline:
                return False
            if not condition.wait(_HANG_LIMIT):
                raise AssertionError(f"nobody notified or advanced the clock for {_HANG_LIMIT:g} s; a test hangs")
            return deadline is None or self._now < deadline
        finally:
            with self._lock:
                self._waiting.remove(condition)

    def advance(self, seconds: float) -> None:
        """Move the clock, and wake everybody who waits on it."""
        with self._lock:
            self._now += seconds
            waiting = list(self._waiting)
        for condition in waiting:
            with condition:
                condition.notify_all()

    def waiters(self) -> int:
        """Return how many threads wait on this clock now."""
        with self._lock:
            return len(self._waiting)

    def wait_for_waiters(self, count: int) -> None:
        """Return when at least `count` threads wait on this clock, so that a test can advance it without a race."""
        with self._lock:
            if not self._lock.wait_for(lambda: len(self._waiting) >= count, _HANG_LIMIT):
                raise AssertionError(f"only {len(self._waiting)} of {count} threads ever waited on the clock")


@final
class Faults:
    """Makes chosen calls of a transport or result backend fail, before or after they took effect.

    It stands between the core and any plugin's object, and reaches the receivers opened after it was made.

    Example:
        faults = Faults(broker.transport)
        faults.fail("send", ConnectionLost("cut"), after=True)  # stored, but the answer is lost

    Attributes:
        calls: how often each method was called.
    """

    METHODS: ClassVar[tuple[str, ...]] = (
        *("declare", "delete", "purge", "depth", "send", "bind", "unbind", "publish", "open_receiver"),
        *("receive", "ack", "extend", "release"),
        *("put", "get"),
    )

    def __init__(self, target: object) -> None:
        self.calls: Counter[str] = Counter()
        self._faults: dict[str, list[tuple[Exception, bool]]] = {}
        self._wrap(target)

    def fail(self, method: str, error: Exception, *, times: int = 1, after: bool = False) -> None:
        """Let the next `times` calls of a method raise `error`; with `after`, they take effect first."""
        if method not in self.METHODS:
            raise ValueError(f"no method {method!r} to fail{nearest(method, self.METHODS)}")
        self._faults.setdefault(method, []).extend([(error, after)] * times)

    def _wrap(self, target: Any) -> None:
        for name in self.METHODS:
            if callable(inner := getattr(target, name, None)):
                setattr(target, name, functools.partial(self._call, name, inner))

    def _call(self, name: str, inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.calls[name] += 1
        faults = self._faults.get(name)
        error, after = faults.pop(0) if faults else (None, True)
        if error is not None and not after:
            raise error
        answer = inner(*args, **kwargs)
        if error is not None:
            raise error
        if name == "open_receiver":
            self._wrap(answer)
        return answer


def wait_until(condition: Callable[[], object], *, timeout: float = 20.0) -> None:
    """Return when `condition()` is true, looked at every few milliseconds of real time.

    Raises:
        AssertionError: it is still false after `timeout` seconds, a limit against hanging.
    """
    pause = threading.Event()
    for _ in range(int(timeout / 0.002)):
        if condition():
            return
        pause.wait(0.002)
    raise AssertionError(f"still not true after {timeout:g} s: {condition}")
