"""One open connection: calls go out in one write, and their answers come back in order.

redis-py opens the connection (`connecting`); from then on its socket is spoken to directly, so that one deadline bounds
writing and reading together, and that nothing is connected anew or sent again unasked.
"""

from __future__ import annotations

import contextlib
import math
import select
import socket
import ssl
from collections.abc import Sequence
from typing import Any, Final, final

import hiredis
from redis import exceptions
from redis.connection import AbstractConnection

from brokerkit.abc import Clock
from brokerkit_redis.calls import Call, again_with, in_full
from brokerkit_redis.errors import Late, Silence, answer_of

__all__ = ["Wire"]

_MORE: Final = object()
_ROOM: Final = 64 * 1024
_SLACK: Final = 0.05
"""Seconds by which a time-out may be too long: it saves a system call for each read."""


@final
class Wire:
    """One open connection. Not thread-safe, except for `abort`. Whoever gets an error from it must close it.

    Attributes:
        server: "host:port" or the socket's path.
        id: what the server calls this connection (CLIENT ID).
        generation: of the pool, when it was opened.
        used: when it was last used, by the clock.
        refused: whether any answer of the last `run` is an error.
    """

    __slots__ = (
        "_buffer",
        "_clock",
        "_connection",
        "_limit",
        "_poll",
        "_reader",
        "_socket",
        "generation",
        "id",
        "refused",
        "server",
        "used",
    )

    def __init__(self, connection: AbstractConnection, server: str, *, clock: Clock) -> None:
        opened: socket.socket | None = connection._sock  # noqa: SLF001 - redis-py has no other name for it
        if opened is None:
            raise exceptions.ConnectionError(f"{server}: the connection is closed")
        self._connection = connection
        self._socket = opened
        self._clock = clock
        self._limit = -1.0
        self._buffer = bytearray(_ROOM)
        self._reader = hiredis.Reader(
            protocolError=exceptions.InvalidResponse, replyError=self._refusal, notEnoughData=_MORE
        )
        self._poll = select.poll()
        self._poll.register(opened, select.POLLIN)
        self.server = server
        self.id = 0
        self.generation = 0
        self.used = clock.monotonic()
        self.refused = False

    def run(self, calls: Sequence[Call], deadline: float, longest: float) -> list[Any]:
        """Send calls, and return their answers; those that are errors stand among them, in their places.

        A script that the server does not have is sent again, in full.

        Args:
            calls: in the order in which the server does them.
            deadline: by the clock, for all of it.
            longest: seconds that the server may be silent.
        """
        self.refused = False
        self.send(calls, deadline, longest)
        answers = [self.read(deadline, longest) for _ in calls]
        if self.refused:
            self.resend_unknown(calls, answers, deadline, longest)
        self.used = self._clock.monotonic()
        return answers

    def send(self, calls: Sequence[Call], deadline: float, longest: float) -> None:
        """Send calls, whose answers are then read one by one."""
        pack = hiredis.pack_command
        content = pack(calls[0]) if len(calls) == 1 else b"".join([pack(call) for call in calls])  # type: ignore[arg-type]
        if deadline <= self._clock.monotonic():
            raise Late(f"{self.server}: the time of the call was over before anything was sent")
        self._allow(deadline, longest)
        try:
            self._socket.sendall(content)
        except TimeoutError:
            raise Silence(f"{self.server} took nothing for {self._limit:.3g} s", self._limit) from None
        except OSError as error:
            raise exceptions.ConnectionError(f"the connection to {self.server} broke: {error}") from error

    def read(self, deadline: float, longest: float) -> Any:
        """Return the next answer; an error of the server is returned, too."""
        gets = self._reader.gets
        answer = gets()
        while answer is _MORE:
            self._allow(deadline, longest)
            self._fill()
            answer = gets()
        return answer

    def resend_unknown(self, calls: Sequence[Call], answers: list[Any], deadline: float, longest: float) -> None:
        """Send the scripts in full that the server did not know, and put their answers into their places."""
        full = {
            place: call
            for place, answer in enumerate(answers)
            if isinstance(answer, exceptions.NoScriptError) and (call := in_full(calls[place])) is not None
        }
        if full:
            places = again_with(list(full), calls)
            self.send([full.get(place, calls[place]) for place in places], deadline, longest)
            for place in places:
                answers[place] = self.read(deadline, longest)
            self.refused = any(isinstance(answer, Exception) for answer in answers)

    def heard(self, deadline: float) -> Any:
        """Return the next thing that the server says unasked, or None if it says nothing in time."""
        gets = self._reader.gets
        while (said := gets()) is _MORE:
            try:
                self._allow(deadline, math.inf)
                self._fill()
            except Silence:
                return None
        self.used = self._clock.monotonic()
        return said

    def fileno(self) -> int:
        """Return what the system calls the connection, to wait for several at once."""
        return self._socket.fileno()

    def is_quiet(self) -> bool:
        """Tell whether nothing has come while nothing was asked: neither the connection's end nor a stray answer."""
        if not self._poll.poll(0):
            return True
        if not isinstance(self._socket, ssl.SSLSocket):
            return False
        self._socket.settimeout(0)  # under TLS there may be something to read that is none of ours, such as a new key
        self._limit = 0.0
        try:
            self._socket.recv_into(self._buffer)
        except ssl.SSLWantReadError:
            return True
        except OSError:
            pass
        return False

    def abort(self) -> None:
        """Break the connection, from any thread: whoever reads from it gets an error at once."""
        with contextlib.suppress(OSError):  # it is broken already
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # not ssl's, which would unwrap under the reader

    def close(self) -> None:
        """Close the connection; idempotent."""
        self._connection.disconnect()

    def _allow(self, deadline: float, longest: float) -> None:
        """Set the socket's time-out to what is left, and never above `longest`."""
        left = deadline - self._clock.monotonic()
        if left <= 0:
            raise Silence(f"{self.server}: the time of the call is over", 0.0)
        wanted = min(left, longest)
        if not wanted <= self._limit <= wanted + _SLACK:
            self._socket.settimeout(wanted)
            self._limit = wanted

    def _fill(self) -> None:
        try:
            size = self._socket.recv_into(self._buffer)
        except TimeoutError:
            raise Silence(f"{self.server} did not answer for {self._limit:.3g} s", self._limit) from None
        except OSError as error:
            raise exceptions.ConnectionError(f"the connection to {self.server} broke: {error}") from error
        if size == 0:
            raise exceptions.ConnectionError(f"{self.server} closed the connection")
        self._reader.feed(self._buffer, 0, size)  # type: ignore[arg-type] # it takes any buffer

    def _refusal(self, text: str) -> Exception:
        self.refused = True
        return answer_of(text)
