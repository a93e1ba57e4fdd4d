"""Frames over sockets, and a client's connections: what stands between the served memory engine and those who use it.

A frame has a length, a number and a checksum. Whatever does not fit is an error of the protocol, and ends the connection
before anything of it is unpickled. Pickle is fine behind the checksum: both ends are the suite's own.
"""

from __future__ import annotations

import contextlib
import pickle
import socket
import ssl
import struct
import threading
import time
import zlib
from collections.abc import Sequence
from multiprocessing.reduction import ForkingPickler
from types import MappingProxyType
from typing import Any, Final

from brokerkit.errors import AccessDenied, Closed, ConnectionLost, NotConnected, OperationTimeout

__all__ = ["SILENCE", "Garbage", "Line", "Lines", "hang_up", "read_frame", "secured", "write_frame"]

SILENCE: Final = 4.0
"""Seconds without a byte after which a connection counts as lost."""

_CONNECT: Final = 2.0  # seconds for the connection and the first answer on it
_HEAD: Final = struct.Struct(">4sIQI")
_MAGIC: Final = b"bkw1"
_MOST: Final = 1 << 30
_PIECE: Final = 1 << 18

# headers are read-only mappings, which pickle does not know
ForkingPickler.register(MappingProxyType, lambda mapping: (dict, (dict(mapping),)))


class Garbage(Exception):
    """What came is no frame, or not the one that was due."""


class Lines:
    """A client's connections: each call has one for itself, so that none waits for another. Thread-safe.

    Args:
        addresses: of the hosts; the first that answers is used.
        hello: what is said first on each connection.
        tls: what certificates are checked by; None without TLS.

    Attributes:
        generation: rises whenever a connection is lost, as what the server knew by it may be gone.
    """

    def __init__(self, addresses: Sequence[Any], hello: Any, tls: ssl.SSLContext | None = None) -> None:
        self.generation = 0
        self._addresses = addresses
        self._tls = tls
        self._hello = hello
        self._lock = threading.Lock()
        self._idle: list[Line] = []
        self._busy: set[Line] = set()
        self._closed = False

    def call(self, order: Any, timeout: float, *, silence: float = SILENCE) -> Any:
        """Perform one call there, within so many seconds.

        Raises:
            NotConnected: nothing was sent.
            ConnectionLost: it may have been done.
            OperationTimeout: as above.
            Closed: the lines were closed.
        """
        end = time.monotonic() + timeout
        line = self._take(timeout)
        try:
            fine, answer = line.ask(order, end - time.monotonic(), silence)
        except (ConnectionLost, OperationTimeout) as error:
            self._lost(line)
            if self._closed:
                raise Closed("the connection was closed") from error
            raise
        self._put(line)
        if not fine:
            raise answer
        return answer

    def close(self) -> None:
        """End all connections, those in use as well."""
        with self._lock:
            self._closed = True
            lines, self._idle = [*self._idle, *self._busy], []
        for line in lines:
            line.close()

    def _take(self, timeout: float) -> Line:
        with self._lock:
            if self._closed:
                raise Closed("the connection was closed")
            if self._idle:
                line = self._idle.pop()
                self._busy.add(line)
                return line
        line = self._connected(min(timeout, _CONNECT))
        with self._lock:
            self._busy.add(line)
        return line

    def _connected(self, timeout: float) -> Line:
        """Return a connection to the first host that answers. Each gets its share of the time."""
        end = time.monotonic() + timeout
        hosts = len(self._addresses)
        for number, address in enumerate(self._addresses[:-1]):
            with contextlib.suppress(NotConnected):
                return Line(address, self._hello, (end - time.monotonic()) / (hosts - number), self._tls)
        return Line(self._addresses[-1], self._hello, end - time.monotonic(), self._tls)

    def _put(self, line: Line) -> None:
        with self._lock:
            self._busy.discard(line)
            if not self._closed:
                self._idle.append(line)
                return
        line.close()

    def _lost(self, line: Line) -> None:
        """Let go of a line, and of those that rest: they lead to the same server, and are likely to be dead as well."""
        with self._lock:
            self.generation += 1
            self._busy.discard(line)
            resting, self._idle = self._idle, []
        for each in (line, *resting):
            each.close()


class Line:
    """One connection of a client. Not thread-safe, but for `close`."""

    def __init__(self, address: Any, hello: Any, timeout: float, tls: ssl.SSLContext | None = None) -> None:
        """Connect, and say who we are.

        Raises:
            NotConnected: nobody answers.
            AccessDenied: its certificate is not to be trusted.
            BrokerkitError: the server does not want us.
        """
        end = time.monotonic() + timeout
        self._number = 0
        self._socket = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        try:
            self._socket.settimeout(timeout)
            self._socket.connect(address)
            if self._socket.family == socket.AF_INET:
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls is not None:
                self._socket = secured(self._socket, tls, address[0])
            fine, answer = self.ask(hello, end - time.monotonic(), timeout)
        except ssl.SSLCertVerificationError as error:
            self.close()
            raise AccessDenied(f"the certificate: {error.verify_message}; is tls_ca whom to trust?") from error
        except (OSError, ConnectionLost, OperationTimeout) as error:
            self.close()
            raise NotConnected(f"nobody answers: {error}") from error
        if not fine:
            self.close()
            raise answer

    def ask(self, order: Any, timeout: float, silence: float) -> tuple[bool, Any]:
        """Send an order, and return whether it was done, with the answer or the error; when it raises, we are closed."""
        end = time.monotonic() + max(timeout, 0.001)
        self._number += 1
        try:
            write_frame(self._socket, self._number, order, end)
            fine, answer = read_frame(self._socket, self._number, end, silence)
        except BaseException as error:
            self.close()
            if isinstance(error, TimeoutError) and time.monotonic() >= end:
                raise OperationTimeout(f"no answer within {timeout:g} s") from error
            if isinstance(error, OSError | EOFError | Garbage):
                raise ConnectionLost(f"the connection broke: {type(error).__name__}: {error}") from error
            raise
        return fine, answer

    def close(self) -> None:
        """End it; idempotent."""
        hang_up(self._socket)


def secured(sock: socket.socket, tls: ssl.SSLContext, host: str) -> socket.socket:
    """Return a socket that speaks TLS, with a peer whose certificate was checked. Mutants replace this."""
    return tls.wrap_socket(sock, server_hostname=host)


def hang_up(sock: socket.socket) -> None:
    """Close a socket; also for a thread that reads it, and for a forked child that has it too."""
    with contextlib.suppress(OSError):  # it is not connected any more
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()


def write_frame(sock: socket.socket, number: int, content: Any, end: float | None = None) -> None:
    """Send one frame until a moment of the monotonic clock, or as long as it takes.

    Raises:
        OSError: not in time, or the connection is broken.
    """
    payload = bytes(ForkingPickler.dumps(content))
    sock.settimeout(None if end is None else _left(end))
    sock.sendall(_head(number, payload) + payload)


def read_frame(sock: socket.socket, number: int | None, end: float | None = None, silence: float | None = None) -> Any:
    """Return the content of the next frame, which has to have this number.

    Args:
        sock: to read from.
        number: None for any: then the number is returned as well, before the content.
        end: moment of the monotonic clock until which it has to be there.
        silence: seconds without a byte that are too many.

    Raises:
        EOFError: the peer has closed.
        OSError: not in time, or the connection is broken.
        Garbage: it is none.
    """
    head = _read(sock, _HEAD.size, end, silence)
    magic, length, numbered, _ = _HEAD.unpack(head)
    if magic != _MAGIC or length > _MOST:
        raise Garbage(f"{head[:8].hex()} begins no frame")
    payload = _read(sock, length, end, silence)
    if _head(numbered, payload) != head:
        raise Garbage("the checksum is wrong")
    if number is not None and numbered != number:
        raise Garbage(f"frame {numbered} came instead of {number}")
    content = pickle.loads(payload)  # noqa: S301 - behind a checksum, from the suite's own other end
    return content if number is not None else (numbered, content)


def _head(number: int, payload: bytes) -> bytes:
    checksum = zlib.crc32(payload, zlib.crc32(f"{number} {len(payload)}".encode()))
    return _HEAD.pack(_MAGIC, len(payload), number, checksum)


def _read(sock: socket.socket, size: int, end: float | None, silence: float | None) -> bytes:
    got = bytearray()
    while len(got) < size:
        sock.settimeout(silence if end is None else min(_left(end), silence or _left(end)))
        piece = sock.recv(min(size - len(got), _PIECE))
        if not piece:
            raise EOFError(f"the peer closed after {len(got)} of {size} bytes")
        got += piece
    return bytes(got)


def _left(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError("the time is up")
    return left
