"""The thread that looks after connections while nobody waits on them."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable
from typing import Final, final

from brokerkit.abc import Clock

__all__ = ["TICK", "Tender"]

_LOG: Final = logging.getLogger("brokerkit.rabbitmq")

TICK: Final = 0.25
"""Seconds between two looks: by so much heartbeats and the ends of leases may be late."""


@final
class Tender:
    """Calls methods from time to time, in one thread, which runs while there are any. Thread-safe.

    It holds their objects weakly: what nobody else uses is forgotten.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._methods: list[weakref.WeakMethod[Callable[[float], None]]] = []
        self._thread: threading.Thread | None = None

    def register(self, method: Callable[[float], None]) -> None:
        """Call a bound method with the time, every `TICK` seconds. It must be quick; what it raises is logged."""
        with self._changed:
            self._methods.append(weakref.WeakMethod(method))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="brokerkit-rabbitmq-tender", daemon=True)
                self._thread.start()

    def unregister(self, method: Callable[[float], None]) -> None:
        """Call it no more; a call under way may end after this returns."""
        with self._changed:
            self._methods = [kept for kept in self._methods if kept() not in (None, method)]
            self._changed.notify_all()

    def close(self) -> None:
        """Forget all; idempotent."""
        with self._changed:
            self._methods.clear()
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._methods = [kept for kept in self._methods if kept() is not None]
                if not self._methods:
                    self._thread = None
                    return
                methods = list(self._methods)
                self._clock.wait(self._changed, TICK)
            for kept in methods:
                _call(kept(), self._clock.monotonic())


def _call(method: Callable[[float], None] | None, now: float) -> None:
    if method is None:
        return
    try:
        method(now)
    except Exception:  # noqa: BLE001 - the others' heartbeats must go on
        _LOG.exception("a look after a connection failed")
