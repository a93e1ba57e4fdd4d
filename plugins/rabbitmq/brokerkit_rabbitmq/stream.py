"""A connected socket, plain or TLS, that never blocks: takes any amount to send, and hands out the methods that came."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
from collections import deque
from collections.abc import Sequence
from typing import Final, final

from brokerkit_rabbitmq.errors import Lost, Malformed
from brokerkit_rabbitmq.frames import Assembler, Method

__all__ = ["Stream"]

_ROOM: Final = 128 * 1024
_NOTHING_NOW: Final = (BlockingIOError, InterruptedError)


@final
class Stream:
    """A socket and what waits to be sent on it. Not thread-safe; a TLS session must not be read and written at once.

    Nothing here raises for a connection that fails: it is told by `failure`, behind all that came before.

    Args:
        connected: is the stream's from now on.
        server: its name, for texts.
        frame_max: that was agreed on.
        early: bytes that were read from the socket before.

    Attributes:
        failure: why nothing comes any more, or None.
        write_failure: why nothing can be sent any more, or None; something may still be there to be read.
        unsent: bytes that wait to be sent.
        sent: bytes that the socket took, ever.
        received: bytes that came, ever.
    """

    __slots__ = (
        "_assembler",
        "_early",
        "_is_tls",
        "_outbox",
        "_read_wants_write",
        "_socket",
        "_write_wants_read",
        "failure",
        "received",
        "sent",
        "server",
        "unsent",
        "write_failure",
    )

    def __init__(self, connected: socket.socket, server: str, frame_max: int, early: bytes = b"") -> None:
        connected.setblocking(False)
        self._socket = connected
        self._is_tls = isinstance(connected, ssl.SSLSocket)
        self._assembler = Assembler(frame_max)
        self._early = early
        self._outbox: deque[memoryview] = deque()
        self._read_wants_write = False
        self._write_wants_read = False
        self.server = server
        self.failure: Exception | None = None
        self.write_failure: Exception | None = None
        self.unsent = 0
        self.sent = 0
        self.received = 0

    def fileno(self) -> int:
        """The socket's number, for poll."""
        return self._socket.fileno()

    @property
    def awaited(self) -> int:
        """The events of poll that let it go on."""
        wants_write = self._read_wants_write or (self.unsent and not self._write_wants_read)
        return select.POLLIN | select.POLLOUT if wants_write else select.POLLIN

    def send(self, frames: Sequence[bytes]) -> None:
        """Send as much as the socket takes now, and keep the rest for `flush`."""
        joined = frames[0] if len(frames) == 1 else b"".join(frames)
        if joined:
            self._outbox.append(memoryview(joined))
            self.unsent += len(joined)
            if len(self._outbox) == 1:
                self.flush()

    def flush(self) -> None:
        """Send on what waits, as much as the socket takes."""
        outbox = self._outbox
        try:
            while outbox and self.write_failure is None:
                size = self._socket.send(outbox[0])
                self._write_wants_read = False
                self.sent += size
                self.unsent -= size
                if size == len(outbox[0]):
                    outbox.popleft()
                else:
                    outbox[0] = outbox[0][size:]
        except (*_NOTHING_NOW, ssl.SSLWantWriteError):
            self._write_wants_read = False
        except ssl.SSLWantReadError:
            self._write_wants_read = True
        except OSError as error:
            self.write_failure = self._broke(error)

    def read(self, *, everything: bool) -> list[Method]:
        """Return the methods that are complete.

        Args:
            everything: read until nothing is left, instead of until it seems so; the connection's end may stand behind.
        """
        methods: list[Method] = []
        try:
            if self._early:
                early, self._early = self._early, b""
                methods += self._assembler.feed(early)
            while self.failure is None:
                received = self._socket.recv(_ROOM)
                self._read_wants_write = False
                if not received:
                    self.failure = Lost(f"{self.server} closed the connection")
                    break
                self.received += len(received)
                methods += self._assembler.feed(received)
                if not everything and not self._is_tls and len(received) < _ROOM:
                    break
        except (*_NOTHING_NOW, ssl.SSLWantReadError):
            self._read_wants_write = False
        except ssl.SSLWantWriteError:
            self._read_wants_write = True
        except Malformed as error:
            self.failure = error
        except OSError as error:
            self.failure = self._broke(error)
        self.failure = self.failure or self.write_failure
        return methods

    def abort(self) -> None:
        """Break the connection, while another thread may be in poll."""
        with contextlib.suppress(OSError):  # it is broken already
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # not ssl's, which would say goodbye first

    def close(self) -> None:
        """Close the socket; nobody may be in poll."""
        self._outbox.clear()
        self.unsent = 0
        self._socket.close()

    def _broke(self, error: OSError) -> Lost:
        lost = Lost(f"the connection to {self.server} broke: {error}")
        lost.__cause__ = error
        return lost
