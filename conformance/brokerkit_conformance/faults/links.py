"""One connection through the proxy: two streams, each read and written by a task of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Protocol, TypeAlias

from brokerkit_conformance.faults.loop import HANG
from brokerkit_conformance.faults.plans import Ending, Way
from brokerkit_conformance.faults.transcript import Transcript

__all__ = ["Carrier", "EndLink", "Forward", "Link", "Piece", "Road", "Stream"]

_READ: Final = 65536
_AHEAD: Final = 16  # pieces read ahead of the writer, so that a slow line delays, and does not add up


class EndLink(Exception):
    """Raised by a fault: end this connection now."""

    def __init__(self, client: Ending, server: Ending = Ending.FIN) -> None:
        super().__init__(f"client: {client}, server: {server}")
        self.client = client
        self.server = server


@dataclass(frozen=True, slots=True)
class Piece:
    """What one read gave.

    Attributes:
        offset: of its first byte in the stream.
        body: the bytes; empty at the end of the stream.
        at: when it was read, by the loop's clock.
        reset: the end came by a reset.
    """

    offset: int
    body: bytes
    at: float
    reset: bool = False

    @property
    def end(self) -> int:
        """The offset just behind it."""
        return self.offset + len(self.body)

    def until(self, offset: int) -> Piece:
        """What of it lies before an offset."""
        return replace(self, body=self.body[: max(0, offset - self.offset)])


Forward: TypeAlias = Callable[[Piece], Awaitable[None]]


class Carrier(Protocol):
    """What a fault at work does to passing bytes."""

    async def before_read(self, stream: Stream) -> None:
        """Return when the stream may be read."""
        ...

    async def carry(self, stream: Stream, piece: Piece, forward: Forward) -> None:
        """Forward a piece: whole, in parts, changed, later or never."""
        ...


class Road(Protocol):
    """What a connection needs of the proxy that it goes through."""

    @property
    def carriers(self) -> Sequence[Carrier]:
        """The faults at work now."""
        ...

    def told(self, stream: Stream) -> contextlib.AbstractContextManager[None]:
        """Guard a change of what others may look at, and tell them."""
        ...


class Stream:
    """One direction.

    Attributes:
        link: the connection.
        way: UP or DOWN.
        seen: what was read, before any fault.
        passed: how many bytes were written to the other side.
        read_out: nothing more is read.
    """

    def __init__(self, link: Link, way: Way, source: socket.socket, sink: socket.socket, keep: int) -> None:
        self.link = link
        self.way = way
        self.seen = Transcript(keep)
        self.passed = 0
        self.read_out = False
        self._source = source
        self._sink = sink
        self._pieces: asyncio.Queue[Piece] = asyncio.Queue(_AHEAD)

    async def read(self) -> None:
        """Read to the end."""
        loop = asyncio.get_running_loop()
        while not self.read_out:
            for carrier in self.link.road.carriers:
                await carrier.before_read(self)
            reset = False
            try:
                chunk = await loop.sock_recv(self._source, _READ)
            except OSError:
                chunk, reset = b"", True
            offset = self.seen.total
            with self.link.road.told(self):
                self.seen.append(chunk)
                self.read_out = not chunk
            await self._pieces.put(Piece(offset, chunk, loop.time(), reset=reset or (not chunk and self.link.broken)))

    async def write(self) -> None:
        """Pass on what is read, through all faults at work, to the end."""
        while True:
            piece = await self._pieces.get()
            forward: Forward = self._send
            for carrier in reversed(self.link.road.carriers):
                forward = partial(carrier.carry, self, forward=forward)
            await forward(piece)
            if not piece.body:
                return

    async def _send(self, piece: Piece) -> None:
        if piece.reset:
            raise EndLink(Ending.RST, Ending.RST)
        if not piece.body:
            with contextlib.suppress(OSError):
                self._sink.shutdown(socket.SHUT_WR)
            return
        try:
            await asyncio.get_running_loop().sock_sendall(self._sink, piece.body)
        except OSError:
            self.link.broken = True  # whoever reads from that side will find out, unless it has ended already
            if self.link.other(self).read_out:
                raise EndLink(Ending.RST, Ending.RST) from None
            return
        with self.link.road.told(self):
            self.passed += len(piece.body)


class Link:
    """A client's connection and ours to the server.

    Attributes:
        number: counted from 0.
        road: the proxy it goes through.
        up: from the client to the server.
        down: from the server to the client.
        broken: one side could no longer be written to.
        gone: set when both peers were told of the end.
    """

    def __init__(self, number: int, road: Road, client: socket.socket, server: socket.socket, keep: int) -> None:
        self.number = number
        self.road = road
        self.broken = False
        self.gone = asyncio.Event()
        self.up = Stream(self, Way.UP, client, server, keep)
        self.down = Stream(self, Way.DOWN, server, client, keep)
        self._client = client
        self._server = server
        self._told_to_end: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def other(self, stream: Stream) -> Stream:
        """Return the other direction."""
        return self.down if stream is self.up else self.up

    def end(self, ending: Ending) -> None:
        """End it for both sides, soon."""
        if not self._told_to_end.done():
            self._told_to_end.set_exception(EndLink(ending, ending))

    async def run(self) -> None:
        """Carry bytes until both sides have ended, or a fault ends it. Closing the sockets is the caller's work.

        Raises:
            Exception: something failed that is none of the peers' doing.
        """
        work = (self.up.read(), self.up.write(), self.down.read(), self.down.write())
        tasks: list[asyncio.Future[None]] = [asyncio.ensure_future(one) for one in work]
        client = server = Ending.FIN
        try:
            await _first_trouble(tasks, self._told_to_end)
        except EndLink as end:
            client, server = end.client, end.server
        except asyncio.CancelledError:
            client = server = Ending.RST
            raise
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._told_to_end.cancel()
            with contextlib.suppress(EndLink, asyncio.CancelledError):
                self._told_to_end.exception()
            _end(self._client, client)
            _end(self._server, server)
            self.gone.set()

    async def linger(self) -> None:
        """Read what the peers still send to nobody, as unread bytes would turn an orderly end into a reset."""
        await asyncio.gather(*(_discard(sock) for sock in (self._client, self._server)))


async def _first_trouble(tasks: Sequence[asyncio.Future[None]], told_to_end: asyncio.Future[None]) -> None:
    """Return when all tasks are done; raise what the first of them raises, or what `told_to_end` holds."""
    pending = set(tasks)
    while pending:
        done, _ = await asyncio.wait([*pending, told_to_end], return_when=asyncio.FIRST_COMPLETED)
        for one in done:
            one.result()
        pending -= done


def _end(sock: socket.socket, ending: Ending) -> None:
    with contextlib.suppress(OSError):  # the peer was first; or a unix socket, which knows no reset
        if ending is Ending.FIN:
            sock.shutdown(socket.SHUT_WR)
            return
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


async def _discard(sock: socket.socket) -> None:
    if sock.fileno() < 0:
        return
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(HANG):
            while await asyncio.get_running_loop().sock_recv(sock, _READ):
                pass
