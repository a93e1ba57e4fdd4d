"""The listening side of a proxy, inside the event loop: each door is one address to connect to, with one server behind it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Collection
from typing import Final, TypeAlias

__all__ = ["Address", "Door", "connect_to", "hurry"]

Address: TypeAlias = tuple[str, int] | str
"""Host and port, or the path of a unix socket."""

_BACKLOG: Final = 128


class Door:
    """Lives in one event loop.

    Args:
        target: the server behind it.
        listen: where to listen; with port 0, at any that is free.
        spared: hosts whose connections are no clients' of the server.
        come: called with the door, a new connection, and whether it is spared.

    Attributes:
        address: where clients connect to; the same for the door's life.
        target: the server behind it.
    """

    def __init__(
        self,
        target: Address,
        listen: Address,
        spared: Collection[str],
        come: Callable[[Door, socket.socket, bool], None],
    ) -> None:
        self.address: Address = listen
        self.target = target
        self._spared = spared
        self._come = come
        self._socket: socket.socket | None = None
        self._holder: socket.socket | None = None

    async def listen(self) -> None:
        """Accept connections."""
        self._stop_accepting()
        listener = self._bind()
        listener.listen(_BACKLOG)
        asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    async def refuse(self) -> None:
        """Let new connections be refused, and keep the port."""
        self._stop_accepting()
        if isinstance(self.address, str):
            self._bind()

    def close(self) -> None:
        """Listen no more, and let others have the address. Connections that stand are not the door's."""
        self._stop_accepting()
        if self._holder is not None:
            self._holder.close()
        if isinstance(self.address, str):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.address)  # noqa: PTH108 - beside socket calls, a path is a string

    def _bind(self) -> socket.socket:
        if isinstance(self.address, str):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.address)  # noqa: PTH108 - as above
        elif self._holder is None:
            # bound and never listening, so that nobody takes the port while connections are refused
            self._holder = _bound(self.address)
            self.address = self._holder.getsockname()[:2]
        self._socket = _bound(self.address)
        return self._socket

    def _stop_accepting(self) -> None:
        if self._socket is not None:
            if asyncio.get_running_loop().remove_reader(self._socket):
                self._accept(self._socket)  # for these clients the connection stands already
            with contextlib.suppress(OSError):  # it does not listen
                # a child that was forked and is not yet another program has it too, and would go on listening
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()
            self._socket = None

    def _accept(self, listener: socket.socket) -> None:
        # not `sock_accept`: cancelled at the wrong moment, it loses a connection
        while True:
            try:
                client, peer = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            client.setblocking(False)
            self._come(self, client, isinstance(peer, tuple) and peer[0] in self._spared)


async def connect_to(address: Address) -> socket.socket:
    """Connect to an address, and return the socket.

    Raises:
        OSError: nobody listens there.
    """
    sock = _new_socket(address)
    try:
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    hurry(sock)
    return sock


def hurry(sock: socket.socket) -> None:
    """Let what is written go out at once."""
    sock.setblocking(False)
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _bound(address: Address) -> socket.socket:
    made = _new_socket(address)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
    except BaseException:
        made.close()
        raise
    return made


def _new_socket(address: Address) -> socket.socket:
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setblocking(False)
    return sock
