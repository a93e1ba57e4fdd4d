"""The listening side of a proxy, inside the event loop: it accepts, connects to the server, and keeps the books."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias

from brokerkit_conformance.faults.links import Carrier, Link, Stream
from brokerkit_conformance.faults.plans import Ending, Way

__all__ = ["Address", "Lane", "Traffic", "connect_to"]

Address: TypeAlias = tuple[str, int] | str
"""Host and port, or the path of a unix socket."""

_BACKLOG: Final = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What went through a proxy so far.

    Attributes:
        connections: accepted from clients.
        open: of those, still standing.
        unreachable: of those, for which the server could not be reached.
        requests: bursts of bytes from a client, each counted from the last byte that came down before it.
        up: bytes read from clients.
        down: bytes read from the server.
        passed_up: bytes written to the server.
        passed_down: bytes written to clients.
    """

    connections: int
    open: int
    unreachable: int
    requests: int
    up: int
    down: int
    passed_up: int
    passed_down: int


class Lane:
    """Lives in one event loop; `news` guards what other threads look at.

    Attributes:
        address: where clients connect to.
        news: notified after every change.
        carriers: the faults at work.
        links: every connection that ever stood.
        failures: what went wrong in the proxy itself.
    """

    def __init__(self, target: Address, listen: str | None, keep: int) -> None:
        self.news = threading.Condition()
        self.carriers: Sequence[Carrier] = ()
        self.links: list[Link] = []
        self.failures: list[BaseException] = []
        self.address: Address = listen or ("127.0.0.1", 0)
        self._target = target
        self._keep = keep
        self._accepted = self._unreachable = self._requests = 0
        self._last: dict[int, Way] = {}
        self._open: dict[int, Link] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._socket: socket.socket | None = None
        self._holder: socket.socket | None = None

    # -- listening -------------------------------------------------------------------------------------------------

    async def listen(self) -> None:
        """Accept connections; the address stays the same for the lane's life."""
        self._stop_accepting()
        listener = self._bind()
        listener.listen(_BACKLOG)
        asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    async def refuse(self) -> None:
        """Let new connections be refused, and keep the port."""
        self._stop_accepting()
        if isinstance(self.address, str):
            self._bind()

    async def close(self) -> None:
        """End everything."""
        self._stop_accepting()
        if self._holder is not None:
            self._holder.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
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
            self._socket.close()
            self._socket = None

    def _accept(self, listener: socket.socket) -> None:
        # not `sock_accept`: cancelled at the wrong moment, it loses a connection
        while True:
            try:
                client, _ = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            client.setblocking(False)
            with self._changed():
                self._accepted += 1
            task = asyncio.ensure_future(self._serve(client))
            self._tasks.add(task)
            task.add_done_callback(partial(self._served, client))

    def _served(self, client: socket.socket, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        client.close()  # a task that was cancelled early has not done it
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failures.append(error)

    # -- connections -----------------------------------------------------------------------------------------------

    async def _serve(self, client: socket.socket) -> None:
        try:
            server = await connect_to(self._target)
        except OSError:
            with self._changed():
                self._unreachable += 1
            return
        with contextlib.closing(server):
            _hurry(client)
            link = Link(len(self.links), self, client, server, self._keep)
            with self._changed():
                self.links.append(link)
                self._open[link.number] = link
            try:
                await link.run()
            finally:
                with self._changed():
                    del self._open[link.number]
            await link.linger()

    async def kill(self, ending: Ending) -> list[Link]:
        """End all connections, wait until both peers were told, and return them."""
        links = list(self._open.values())
        for link in links:
            link.end(ending)
        for link in links:
            await link.gone.wait()
        return links

    # -- the books -------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def told(self, stream: Stream) -> Iterator[None]:
        """See `Road.told`."""
        before = stream.seen.total
        with self._changed():
            yield
            if stream.seen.total > before:
                if stream.way is Way.UP and self._last.get(stream.link.number) is not Way.UP:
                    self._requests += 1
                self._last[stream.link.number] = stream.way

    def traffic(self) -> Traffic:
        """Return the sums."""
        with self.news:
            return Traffic(
                connections=self._accepted,
                open=len(self._open),
                unreachable=self._unreachable,
                requests=self._requests,
                up=sum(link.up.seen.total for link in self.links),
                down=sum(link.down.seen.total for link in self.links),
                passed_up=sum(link.up.passed for link in self.links),
                passed_down=sum(link.down.passed for link in self.links),
            )

    @contextlib.contextmanager
    def _changed(self) -> Iterator[None]:
        with self.news:
            yield
            self.news.notify_all()


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
    _hurry(sock)
    return sock


def _bound(address: Address) -> socket.socket:
    made = _new_socket(address)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(address)
    return made


def _new_socket(address: Address) -> socket.socket:
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setblocking(False)
    return sock


def _hurry(sock: socket.socket) -> None:
    sock.setblocking(False)
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
