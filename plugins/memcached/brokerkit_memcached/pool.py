"""The connections to one server: borrowed for a call each, the last used first."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, final

from pymemcache.exceptions import MemcacheError

from brokerkit.abc import Clock
from brokerkit.errors import Closed
from brokerkit_memcached.errors import Crowded, Late, Silence
from brokerkit_memcached.options import MemcachedResultOptions
from brokerkit_memcached.wire import Wire

__all__ = ["Pool"]

_PATIENCE: Final = 1.0
"""A server that was silent for so many seconds is given up with all its connections; one call's short limit says little."""
_FRESH: Final = 0.05
"""Seconds after which a connection is looked at before it is used again: to look costs a system call."""
_DRIFT: Final = 600.0
"""Seconds for which what is known of the server's clock is good: two clocks part by a few milliseconds in that time."""


@final
class Pool:
    """Connections to one server, opened as needed. Thread-safe.

    After an error that says that the server is gone all idle connections are dropped: they are most likely gone, too.

    Attributes:
        failing: whether the last call failed for the server's sake; a server that does is asked last.

    Args:
        connect: opens a connection, with the deadline that it gets.
        options: the limits.
        clock: for waiting and deadlines.
    """

    def __init__(self, connect: Callable[[float], Wire], options: MemcachedResultOptions, clock: Clock) -> None:
        self._connect = connect
        self._clock = clock
        self._max = options.max_connections
        self._health = options.health_check_interval
        self._longest = options.socket_timeout
        self._free = threading.Condition(threading.Lock())
        self._idle: list[Wire] = []
        self._open = 0
        self._generation = 0
        self._closed = False
        self.failing = False

    def take(self, deadline: float) -> Wire:
        """Borrow a connection. It is given back by `give`, or by `lose` after an error."""
        wire = self._claim(deadline)
        try:
            if wire is not None:
                if self._is_good(wire, deadline):
                    return wire
                wire.close()
            generation = self._generation
            wire = self._connect(deadline)
            wire.generation = generation
        except BaseException as error:
            if wire is not None:
                wire.close()
            self._count_down()
            self._notice(error)
            raise
        return wire

    def give(self, wire: Wire) -> None:
        """Give a connection back that works."""
        self.failing = False
        with self._free:
            if wire.generation == self._generation and not self._closed:
                self._idle.append(wire)
                self._free.notify()
                return
        wire.close()
        self._count_down()

    def lose(self, wire: Wire, error: BaseException) -> None:
        """Close a connection that failed."""
        wire.close()
        self._count_down()
        self._notice(error)

    def close(self) -> None:
        """Close what is idle now, and the others when they come back; idempotent."""
        with self._free:
            self._closed = True
        self._drop_idle()

    def _claim(self, deadline: float) -> Wire | None:
        """Take an idle connection, or the right to open one."""
        with self._free:
            while True:
                if self._closed:
                    raise Closed("the connection to memcached was closed")
                if self._idle:
                    return self._idle.pop()
                if self._open < self._max:
                    self._open += 1
                    return None
                left = deadline - self._clock.monotonic()
                if left <= 0:
                    raise Crowded(f"all {self._max} connections were taken for the whole time")
                self._clock.wait(self._free, left)

    def _is_good(self, wire: Wire, deadline: float) -> bool:
        """Tell whether a connection that rested can be used; what it knows of the server's clock is made good."""
        now = self._clock.monotonic()
        if wire.generation != self._generation or (now - wire.used > _FRESH and not wire.is_quiet()):
            return False
        rested = bool(self._health) and now - wire.used > self._health
        if not rested and now - wire.asked <= _DRIFT:
            return True
        try:
            wire.ask_time(deadline)
        except (MemcacheError, OSError) as error:
            self._notice(error)
            return False
        return True

    def _notice(self, error: BaseException) -> None:
        """Drop the idle connections if an error says that the server is gone."""
        if isinstance(error, Silence):
            gone = error.seconds >= min(_PATIENCE, self._longest)
        else:
            gone = isinstance(error, MemcacheError) and not isinstance(error, Late)
        if gone:
            self.failing = True
            self._drop_idle()

    def _drop_idle(self) -> None:
        """Close all idle connections, and the others when they come back."""
        with self._free:
            idle, self._idle = self._idle, []
            self._open -= len(idle)
            self._generation += 1
            self._free.notify_all()
        for wire in idle:
            wire.close()

    def _count_down(self) -> None:
        with self._free:
            self._open -= 1
            self._free.notify()
