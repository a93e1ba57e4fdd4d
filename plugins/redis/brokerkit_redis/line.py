"""A connection of its own, for a consumer that waits, and for a subscriber."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, final

from redis import exceptions

from brokerkit.abc import Clock
from brokerkit.errors import Closed
from brokerkit_redis.calls import Call
from brokerkit_redis.pool import Pool
from brokerkit_redis.wire import Wire

__all__ = ["Line", "LineId"]

_NO_LIMIT: Final = float("inf")


@final
class LineId(int):
    """What the server calls a connection, and which server that is."""

    server: str


@final
class Line:
    """A connection of its own, opened at its first use, and anew at the next use after it broke.

    One thread uses it at a time; `close` may come from any, and ends what waits. Whoever keeps something on the connection,
    such as a subscription, sees by another `id` that it is gone.
    """

    def __init__(self, pool_now: Callable[[float], Pool], clock: Clock) -> None:
        self._pool_now = pool_now
        self._clock = clock
        self._using = threading.Lock()
        self._pool: Pool | None = None
        self._wire: Wire | None = None
        self._asked: list[Call] = []  # whose answers are to be read
        self._answers: deque[Any] = deque()  # that were read, and not handed over
        self._closed = False

    @property
    def id(self) -> LineId | None:
        """What the server calls this connection, for `Client.unblock`; None while it is not open."""
        wire = self._wire
        if wire is None:
            return None
        number = LineId(wire.id)
        number.server = wire.server
        return number

    def fileno(self) -> int:
        """Return what the system calls the connection, to wait for several at once."""
        wire = self._wire
        if wire is None:
            raise exceptions.ConnectionError("the connection was lost")
        return wire.fileno()

    def run(self, calls: Sequence[Call], timeout: float) -> list[Any]:
        """As `Client.run`."""
        deadline = self._clock.monotonic() + timeout
        with self._using:
            pool, wire = self._opened(deadline)
            try:
                answers = wire.run(calls, deadline, pool.longest)
            except BaseException as error:
                self._lose(error)
                raise
            if wire.refused:
                self._raise_first(answers)
            return answers

    def begin(self, calls: Sequence[Call], timeout: float) -> None:
        """Send calls whose answers are then read one by one, with `reply`; all of them, before anything else is sent."""
        deadline = self._clock.monotonic() + timeout
        with self._using:
            if self._asked or self._answers:
                raise RuntimeError("there are answers left to be read")
            pool, wire = self._opened(deadline)
            try:
                wire.refused = False
                wire.send(calls, deadline, pool.longest)
            except BaseException as error:
                self._lose(error)
                raise
            self._asked = list(calls)

    def reply(self, timeout: float) -> Any:
        """Return the next answer.

        A script that the server does not have is sent again, in full; the answers behind its first one are read before.
        An answer that is an error is raised, and the ones behind it can still be read.

        Args:
            timeout: seconds that the server may block; for its answer to come it has `socket_timeout` on top.
        """
        with self._using:
            if not self._answers:
                if not self._asked or self._wire is None or self._pool is None:
                    raise exceptions.ConnectionError("the connection was lost, with the answers that were under way")
                deadline = self._clock.monotonic() + timeout + self._pool.longest
                try:
                    self._read_on(self._wire, deadline)
                except BaseException as error:
                    self._lose(error)
                    raise
            answer = self._answers.popleft()
            if isinstance(answer, Exception):
                self._raise_first([answer])
            return answer

    def tell(self, calls: Sequence[Call], timeout: float) -> None:
        """Send calls on the connection as it is, never on a new one; `poll` gets the answers. For a subscriber."""
        deadline = self._clock.monotonic() + timeout
        with self._using:
            if self._wire is None or self._pool is None:
                raise exceptions.ConnectionError("the connection was lost")
            try:
                self._wire.send(calls, deadline, self._pool.longest)
            except BaseException as error:
                self._lose(error)
                raise

    def poll(self, timeout: float) -> Any:
        """Return what the server says unasked, as to a subscriber; None if it says nothing in time."""
        deadline = self._clock.monotonic() + timeout
        with self._using:
            if self._wire is None:
                raise exceptions.ConnectionError("the connection was lost")
            try:
                return self._wire.heard(deadline)
            except BaseException as error:
                self._lose(error)
                raise

    def close(self) -> None:
        """Close the connection; idempotent. Whoever waits for an answer gets an error at once."""
        self._closed = True
        wire = self._wire
        if wire is not None:
            wire.abort()
        if self._using.acquire(blocking=False):  # else the one who uses it gets the error, and closes it
            try:
                self._drop()
            finally:
                self._using.release()

    def _opened(self, deadline: float) -> tuple[Pool, Wire]:
        if self._closed:
            raise Closed("this connection to Redis was closed")
        if self._pool is not None and self._wire is not None:
            if self._pool.is_good(self._wire, deadline):
                return self._pool, self._wire
            self._drop()
        self._pool = self._pool_now(deadline)
        self._wire = self._pool.open(deadline)
        if self._was_closed():
            self._drop()
            raise Closed("this connection to Redis was closed")
        return self._pool, self._wire

    def _was_closed(self) -> bool:
        """Ask anew: another thread may have closed it while this one connected."""
        return self._closed

    def _read_on(self, wire: Wire, deadline: float) -> None:
        """Read the next answer; at a script that the server does not know, read all and send it again in full."""
        answer = wire.read(deadline, _NO_LIMIT)
        self._answers.append(answer)
        if not isinstance(answer, exceptions.NoScriptError):
            self._asked.pop(0)
        else:
            asked, self._asked = self._asked, []
            answers = [answer, *(wire.read(deadline, _NO_LIMIT) for _ in asked[1:])]
            wire.resend_unknown(asked, answers, deadline, _NO_LIMIT)
            self._answers = deque(answers)
        wire.used = self._clock.monotonic()

    def _raise_first(self, answers: Sequence[Any]) -> None:
        errors = [answer for answer in answers if isinstance(answer, Exception)]
        if self._pool is not None:
            for error in errors:
                self._pool.notice(error)
        if any(isinstance(error, exceptions.MovedError) for error in errors):
            self._drop()  # the next use goes to the right node
        raise errors[0]

    def _lose(self, error: BaseException) -> None:
        pool = self._pool
        self._drop()
        if pool is not None and not self._closed:
            pool.notice(error)

    def _drop(self) -> None:
        wire, self._wire = self._wire, None
        self._asked = []
        self._answers.clear()
        if wire is not None:
            wire.close()
