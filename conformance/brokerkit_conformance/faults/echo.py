"""The smallest server: it sends back what it gets, and remembers it."""

from __future__ import annotations

import socket
import threading
from types import TracebackType
from typing import Self

from brokerkit_conformance.faults.loop import HANG

__all__ = ["Client", "EchoServer"]


class EchoServer:
    """Echoes on a free port of 127.0.0.1, a thread for each connection.

    Attributes:
        port: where.
    """

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._news = threading.Condition()
        self._got = bytearray()
        self._ends = 0
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, name=f"echo-{self.port}", daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for sock in [self._listener, *self._sockets]:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # it has ended
        for thread in self._threads:
            thread.join(HANG)
        for sock in [self._listener, *self._sockets]:
            sock.close()

    def got(self) -> bytes:
        """Return what came so far."""
        with self._news:
            return bytes(self._got)

    def wait_for(self, size: int) -> bytes:
        """Return what came so far, when it is at least so much, or after a while that is long enough."""
        with self._news:
            self._news.wait_for(lambda: len(self._got) >= size, HANG)
            return bytes(self._got)

    def wait_for_ends(self, count: int) -> bool:
        """Return whether so many connections end, with or without good order."""
        with self._news:
            return self._news.wait_for(lambda: self._ends >= count, HANG)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return  # closed
            self._sockets.append(sock)
            thread = threading.Thread(target=self._echo, args=(sock,), name=f"echo-{self.port}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _echo(self, sock: socket.socket) -> None:
        try:
            while chunk := sock.recv(65536):
                with self._news:
                    self._got += chunk
                    self._news.notify_all()
                sock.sendall(chunk)
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # reset: an end like others
        finally:
            with self._news:
                self._ends += 1
                self._news.notify_all()


class Client:
    """A connection that never waits longer than the hang limit."""

    def __init__(self, host: str, port: int) -> None:
        if port:
            self._socket = socket.create_connection((host, port), timeout=HANG)
        else:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._socket.settimeout(HANG)
            try:
                self._socket.connect(host)
            except OSError:
                self._socket.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._socket.close()

    def send(self, content: bytes) -> None:
        """Send all of it."""
        self._socket.sendall(content)

    def receive(self, size: int) -> bytes:
        """Return exactly so many bytes, or fewer if the stream ends.

        Raises:
            OSError: a reset, or nothing within the hang limit.
        """
        got = b""
        while len(got) < size and (chunk := self._socket.recv(size - len(got))):
            got += chunk
        return got

    def read_to_end(self) -> tuple[bytes, bool]:
        """Return all that comes, and whether a reset ended it.

        Raises:
            TimeoutError: it did not end within the hang limit.
        """
        got = b""
        try:
            while chunk := self._socket.recv(65536):
                got += chunk
        except TimeoutError:
            raise
        except OSError:
            return got, True
        return got, False

    def nothing_there(self) -> bool:
        """Whether there is nothing to read at this moment, neither bytes nor an end."""
        self._socket.setblocking(False)
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        finally:
            self._socket.settimeout(HANG)
        return False
