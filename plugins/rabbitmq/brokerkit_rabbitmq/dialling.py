"""py-amqp's connection, made to end by a deadline, and its socket handed over when the server knows us."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import select
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final, TypeVar, final

import amqp
from amqp import sasl
from amqp.transport import SSLTransport, TCPTransport

from brokerkit.abc import Clock
from brokerkit.errors import Closed
from brokerkit_rabbitmq.addresses import Host
from brokerkit_rabbitmq.errors import Unreachable
from brokerkit_rabbitmq.stream import Stream

__all__ = ["Dialled", "login"]

_NO_HOST: Final = "localhost"
"""What py-amqp is told first: in an IPv6 address it would look for a port."""
_GLANCE: Final = 0.25
"""Seconds between two looks whether a connection that is being made is still wanted."""
_T = TypeVar("_T")
_USER_TIMEOUT: Final = getattr(socket, "TCP_USER_TIMEOUT", None)


@final
class Dialled(amqp.Connection):  # type: ignore[misc] # py-amqp has no types
    """A connection that is good for its handshake only.

    Args:
        host: where to.
        context: for TLS; None for none.
        deadline: by the clock, for all of it.
        clock: tells what is left.
        unwanted: tells that nobody waits for it any more.
        settings: further ones, of py-amqp.
    """

    def __init__(
        self,
        host: Host,
        context: ssl.SSLContext | None,
        deadline: float,
        clock: Clock,
        *,
        unwanted: Callable[[], bool],
        **settings: Any,
    ) -> None:
        self._place = host
        self._context = context
        self._left = _countdown(deadline, clock, unwanted)
        super().__init__(host=f"{host[0]}:{host[1]}", **settings)

    def Transport(self, *_: Any, **__: Any) -> TCPTransport | SSLTransport:  # noqa: N802 - py-amqp's hook
        """Return the transport that py-amqp is to use."""
        if self._context is None:
            return _Plain(self._place, self._left)
        return _Secure(self._place, self._left, self._context)

    def _on_tune(self, channel_max: int, frame_max: int, server_heartbeat: int, argsig: str = "BlB") -> None:
        """Agree on the smaller ones; py-amqp takes the server's."""
        channels, frames = _smaller(channel_max, self.channel_max), _smaller(frame_max, self.frame_max)
        super()._on_tune(channels, frames, server_heartbeat, argsig)

    def handed_over(self, server: str) -> Stream:
        """Return its socket, and whatever was read from it too early, as a stream. This object is dead then."""
        transport = self.transport
        connected, transport.sock = transport.sock, None
        early = bytes(transport._read_buffer)  # noqa: SLF001 - py-amqp has no other name for it
        return Stream(connected, server, self.frame_max, early)

    def hang_up(self) -> None:
        """Close the socket, if there is one, without a word."""
        if self._transport is not None and self._transport.sock is not None:
            self._transport.sock.close()
            self._transport.sock = None


def login(method: str, username: str, password: str) -> sasl.SASL:
    """Return py-amqp's object for a way to log in."""
    if method == "EXTERNAL":
        return sasl.EXTERNAL()
    return (sasl.AMQPLAIN if method == "AMQPLAIN" else sasl.PLAIN)(username, password)


class _Plain(TCPTransport):  # type: ignore[misc] # py-amqp has no types
    """py-amqp's, each of whose waits would have the whole time for itself."""

    def __init__(self, place: Host, left: Callable[[], float]) -> None:
        super().__init__(_NO_HOST, socket_settings={} if _USER_TIMEOUT is None else {_USER_TIMEOUT: 0})
        self.host, self.port = place
        self._left = left

    def _connect(self, host: str, port: int, timeout: object) -> None:  # noqa: ARG002 - there is a deadline instead
        self.sock = _connected(host, port, self._left)

    def _setup_transport(self) -> None:
        super()._setup_transport()
        self._quick_recv = _bounded(self.sock, self._left)


class _Secure(SSLTransport):  # type: ignore[misc] # py-amqp has no types
    """Likewise. py-amqp would load the certificates anew for each connection."""

    def __init__(self, place: Host, left: Callable[[], float], context: ssl.SSLContext) -> None:
        super().__init__(_NO_HOST, socket_settings={} if _USER_TIMEOUT is None else {_USER_TIMEOUT: 0})
        self.host, self.port = place
        self._left = left
        self._context = context

    def _connect(self, host: str, port: int, timeout: object) -> None:  # noqa: ARG002 - there is a deadline instead
        self.sock = _connected(host, port, self._left)

    def _setup_transport(self) -> None:
        self.sock.settimeout(self._left())
        self.sock = self._context.wrap_socket(self.sock, server_hostname=self.host, do_handshake_on_connect=False)
        _in_glances(self.sock, self._left, self.sock.do_handshake)
        self._quick_recv = _bounded(self.sock, self._left)

    def _shutdown_transport(self) -> None:
        """Say no goodbye: it would wait for an answer behind the deadline."""


def _connected(host: str, port: int, left: Callable[[], float]) -> socket.socket:
    """Return a socket that is connected to the first of a host's addresses that answers in its share of the time."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise Unreachable(f"{host!r} can be no host's name: {error}") from error
    for place, (family, kind, protocol, _, address) in enumerate(found, 1):
        dialled = socket.socket(family, kind, protocol)
        try:
            _reach(dialled, address, left, left() / (len(found) - place + 1))
        except OSError:
            dialled.close()
            if place == len(found):
                raise
        except BaseException:
            dialled.close()
            raise
        else:
            return dialled
    raise Unreachable(f"{host} has no address")


def _reach(dialled: socket.socket, address: Any, left: Callable[[], float], seconds: float) -> None:
    """Connect a socket to one address in its share of the time."""
    until = left() - seconds
    dialled.setblocking(False)
    code = dialled.connect_ex(address)
    if code == errno.EINPROGRESS:
        poll = select.poll()
        poll.register(dialled, select.POLLOUT)
        while not poll.poll(math.ceil(min(left(), _GLANCE) * 1000)):
            if left() <= until:
                raise TimeoutError("no answer came in time")
        code = dialled.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))
    dialled.settimeout(left())


def _in_glances(connected: socket.socket, left: Callable[[], float], step: Callable[[], _T]) -> _T:
    """Wait for something, and look from time to time whether anybody still wants it."""
    while True:
        connected.settimeout(min(left(), _GLANCE))
        with contextlib.suppress(TimeoutError):  # `left` raises when it is over
            return step()


def _bounded(connected: socket.socket, left: Callable[[], float]) -> Callable[[int], bytes]:
    """Let each reading have what is left, whatever time-out py-amqp has set before."""

    def receive(size: int) -> bytes:
        return _in_glances(connected, left, lambda: connected.recv(size))

    return receive


def _countdown(deadline: float, clock: Clock, unwanted: Callable[[], bool]) -> Callable[[], float]:
    def left() -> float:
        if unwanted():
            raise Closed("it was closed while it connected")
        seconds = deadline - clock.monotonic()
        if seconds <= 0:
            raise TimeoutError("no answer came in time")
        return seconds

    return left


def _smaller(theirs: int, ours: int) -> int:
    return min(theirs, ours) if theirs else ours
