"""The connections to one server: borrowed for a call each, the last used first."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Final, final

from redis import exceptions

from brokerkit.abc import Clock
from brokerkit.errors import Closed
from brokerkit_redis.calls import Call
from brokerkit_redis.errors import Late, Silence, is_topology
from brokerkit_redis.options import RedisOptions
from brokerkit_redis.wire import Wire

__all__ = ["Pool"]

_PING: Final[Call] = ("PING",)
_PATIENCE: Final = 1.0
"""A server that was silent for so many seconds is given up with all its connections; one call's short limit says little."""


@final
class Pool:
    """Connections to one server, opened as needed. Thread-safe.

    After an error that says that the server is gone, or the wrong one, all idle connections are dropped, so that the next
    call looks for the right one.

    Attributes:
        longest: seconds that the server may be silent.

    Args:
        connect: opens a connection, with the deadline that it gets.
        options: the limits.
        clock: for waiting and deadlines.
        gone: called when the server is gone, or points to another one.
    """

    def __init__(
        self,
        connect: Callable[[float], Wire],
        options: RedisOptions,
        clock: Clock,
        *,
        gone: Callable[[], None] | None = None,
    ) -> None:
        self._connect = connect
        self._gone = gone
        self._clock = clock
        self._max = options.max_connections
        self._health = options.health_check_interval
        self.longest = options.socket_timeout
        self._free = threading.Condition(threading.Lock())
        self._idle: list[Wire] = []
        self._open = 0
        self._generation = 0
        self._closed = False

    def run(self, calls: Sequence[Call], deadline: float) -> tuple[list[Any], bool]:
        """Send calls in one go over a borrowed connection; return their answers, and whether any is an error."""
        wire = self._take(deadline)
        try:
            answers = wire.run(calls, deadline, self.longest)
        except BaseException as error:
            self._lose(wire)
            self.notice(error)
            raise
        refused = wire.refused
        if refused:
            for answer in answers:
                if isinstance(answer, Exception):
                    self.notice(answer)
        self._give(wire)
        return answers, refused

    def open(self, deadline: float) -> Wire:
        """Open a connection that is not the pool's."""
        generation = self._generation
        try:
            wire = self._connect(deadline)
        except Exception as error:
            self.notice(error)
            raise
        wire.generation = generation
        return wire

    def is_good(self, wire: Wire, deadline: float) -> bool:
        """Tell whether a connection that rested can be used."""
        if wire.generation != self._generation or not wire.is_quiet():
            return False
        if not self._health or self._clock.monotonic() - wire.used <= self._health:
            return True
        try:
            (answer,) = wire.run([_PING], deadline, self.longest)
        except (exceptions.RedisError, OSError) as error:
            self.notice(error)
            return False
        return not wire.refused and answer == b"PONG"

    def notice(self, error: BaseException) -> None:
        """Drop the idle connections if an error says that the server is gone or the wrong one."""
        if isinstance(error, Silence):
            gone = error.seconds >= min(_PATIENCE, self.longest)
        elif isinstance(error, exceptions.MaxConnectionsError | Late):
            gone = False
        else:
            gone = isinstance(error, exceptions.ConnectionError | exceptions.InvalidResponse) or is_topology(error)
        if gone:
            self.drop_idle()
        if self._gone and (gone or isinstance(error, exceptions.MovedError)):
            self._gone()

    def drop_idle(self) -> None:
        """Close all idle connections, and the others when they come back."""
        with self._free:
            idle, self._idle = self._idle, []
            self._open -= len(idle)
            self._generation += 1
            self._free.notify_all()
        for wire in idle:
            wire.close()

    def close(self) -> None:
        """Close what is idle now, and the others when they come back; idempotent."""
        with self._free:
            self._closed = True
        self.drop_idle()

    def _take(self, deadline: float) -> Wire:
        wire = self._claim(deadline)
        try:
            if wire is not None:
                if self.is_good(wire, deadline):
                    return wire
                wire.close()
            return self.open(deadline)
        except BaseException:
            self._count_down()
            raise

    def _claim(self, deadline: float) -> Wire | None:
        """Take an idle connection, or the right to open one."""
        with self._free:
            while True:
                if self._closed:
                    raise Closed("the connection to Redis was closed")
                if self._idle:
                    return self._idle.pop()
                if self._open < self._max:
                    self._open += 1
                    return None
                left = deadline - self._clock.monotonic()
                if left <= 0:
                    raise exceptions.MaxConnectionsError(f"all {self._max} connections were taken for the whole time")
                self._clock.wait(self._free, left)

    def _give(self, wire: Wire) -> None:
        with self._free:
            if wire.generation == self._generation and not self._closed:
                self._idle.append(wire)
                self._free.notify()
                return
        self._lose(wire)

    def _lose(self, wire: Wire) -> None:
        wire.close()
        self._count_down()

    def _count_down(self) -> None:
        with self._free:
            self._open -= 1
            self._free.notify()
