"""The serving side of the memory engine: one thread for each connection performs the calls that come over it."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import brokerkit
from brokerkit.errors import AccessDenied, ConnectionLost
from brokerkit.memory import MemoryReceiver, MemoryResultBackend, MemoryTransport
from brokerkit.memory.results import results_named
from brokerkit.memory.transport import server_named
from brokerkit_conformance.mutants.wire import Garbage, hang_up, read_frame, write_frame

__all__ = ["Answering", "Hello"]

_SHAKE: Final = 5.0  # seconds for the handshake of TLS
_RECEIVING: Final = ("ack", "extend", "release")


@dataclass(frozen=True, slots=True)
class Hello:
    """Who connects.

    Attributes:
        session: the same for all connections of one client, and nobody else's.
        user: name and password.
        kind: "transport" or "results".
        vhost: the virtual host.
        options: the plugin's own.
    """

    session: str
    user: tuple[str | None, str | None]
    kind: str
    vhost: str
    options: Any


@dataclass(slots=True)
class _Session:
    """What the server knows of one client, until the last of its connections has gone."""

    target: Any
    connections: int = 0
    receivers: dict[int, MemoryReceiver] = field(default_factory=dict)


class Answering:
    """Listens, and lets others use the memory engine of one name in this process.

    Args:
        address: where: a path, or host and port.
        name: of the engine.
        user: name and password that are asked for; None for nobody's.
        gone: called with each receiver whose client has gone without a word.
        tls: speak it, with this certificate.

    Attributes:
        address: where it really listens.
        refusing: what every call is answered with; None to perform it.
    """

    def __init__(
        self,
        address: Any,
        name: str,
        *,
        user: tuple[str, str] | None,
        gone: Callable[[MemoryReceiver], object],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._name, self._user, self._gone, self._tls = name, user, gone, tls
        self._clock = _clock()
        self.refusing: Exception | None = None
        self._lock = threading.Lock()
        self._sessions: dict[str, _Session] = {}
        self._sockets: dict[socket.socket, threading.Thread] = {}
        self._listener = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        self._listener.bind(address)
        self._listener.listen(128)
        self.address: Any = self._listener.getsockname()
        self._thread = threading.Thread(target=self._accept, name="served-memory", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End all connections, and let nobody else in."""
        hang_up(self._listener)
        self._thread.join()
        with self._lock:
            sockets = dict(self._sockets)
        for sock in sockets:
            hang_up(sock)
        for thread in sockets.values():
            thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            if sock.family == socket.AF_INET:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            thread = threading.Thread(target=self._serve, args=(sock,), name="served-connection", daemon=True)
            with self._lock:
                self._sockets[sock] = thread
            thread.start()

    def _serve(self, accepted: socket.socket) -> None:
        sock = accepted
        try:
            with suppress(EOFError, OSError, Garbage):
                sock = self._secured(accepted)
                number, hello = read_frame(sock, None)
                if self._user is not None and hello.user != self._user:
                    write_frame(sock, number, (False, AccessDenied(f"user {hello.user[0]!r} is not let in")))
                    return
                session = self._enter(hello)
                try:
                    write_frame(sock, number, (True, None))
                    self._talk(sock, session)
                finally:
                    self._leave(hello, session)
        finally:
            with self._lock:
                self._sockets.pop(sock, None)
            hang_up(sock)

    def _secured(self, accepted: socket.socket) -> socket.socket:
        if self._tls is None:
            return accepted
        accepted.settimeout(_SHAKE)
        sock = self._tls.wrap_socket(accepted, server_side=True)
        with self._lock:
            self._sockets[sock] = self._sockets.pop(accepted)
        return sock

    def _talk(self, sock: socket.socket, session: _Session) -> None:
        while True:
            number, order = read_frame(sock, None)
            try:
                answer = (True, _perform(session, *order)) if self.refusing is None else (False, self.refusing)
            except Exception as error:  # noqa: BLE001 - goes to the other side
                answer = False, error
            write_frame(sock, number, answer)

    def _enter(self, hello: Hello) -> _Session:
        with self._lock:
            session = self._sessions.get(hello.session)
            if session is None:
                session = self._sessions[hello.session] = _Session(self._target(hello))
            session.connections += 1
            return session

    def _leave(self, hello: Hello, session: _Session) -> None:
        with self._lock:
            session.connections -= 1
            if session.connections:
                return
            del self._sessions[hello.session]
        for receiver in session.receivers.values():
            self._gone(receiver)

    def _target(self, hello: Hello) -> Any:
        made: Any
        if hello.kind == "transport":
            made = MemoryTransport(server_named(self._name, self._clock), hello.vhost, hello.options)
        else:
            made = MemoryResultBackend(results_named(self._name, self._clock), hello.vhost, hello.options)
        made.remote = hello.session
        return made


def _perform(session: _Session, number: int | None, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if number is not None and number not in session.receivers:
        raise ConnectionLost("this receiver has ended with the connection that opened it")
    target = session.target if number is None else session.receivers[number]
    answer = getattr(target, method)(*args, **kwargs)
    if method == "open_receiver":
        session.receivers[id(answer)] = answer
        return id(answer)
    if method == "receive":
        claimed, lost = answer
        return claimed, [r.receipt for r in lost]
    if method in _RECEIVING:
        return [r.receipt for r in answer], {r.receipt: r.deadline for r in args[0]}
    return answer


def _clock() -> Any:
    """Return the clock of the core, by which the engines of this process run."""
    with brokerkit.connect("memory://") as broker:
        return broker.clock
