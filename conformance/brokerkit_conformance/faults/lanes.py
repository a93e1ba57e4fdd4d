"""What a proxy does with connections, inside the event loop: it connects each to its server, and keeps the books."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from brokerkit_conformance.faults.doors import Address, Door, connect_to, hurry
from brokerkit_conformance.faults.links import Carrier, Link, Stream
from brokerkit_conformance.faults.plans import Ending, Way

__all__ = ["Lane", "Traffic"]

_ANYWHERE: Final = ("127.0.0.1", 0)
_NOBODY: Final = -1


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
        doors: where clients connect to, the first one first.
        news: notified after every change.
        carriers: the faults at work.
        links: every connection that ever stood.
        failures: what went wrong in the proxy itself.
    """

    def __init__(self, keep: int) -> None:
        self.news = threading.Condition()
        self.carriers: Sequence[Carrier] = ()
        self.links: list[Link] = []
        self.failures: list[BaseException] = []
        self.doors: list[Door] = []
        self._keep = keep
        self._accepted = self._unreachable = self._requests = 0
        self._last: dict[int, Way] = {}
        self._open: dict[int, Link] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    # -- listening -------------------------------------------------------------------------------------------------

    async def open(self, target: Address, listen: Address | None, spared: Collection[str]) -> Address:
        """Open one more door, and return its address.

        Raises:
            OSError: nobody can listen there.
        """
        door = Door(target, listen or _ANYWHERE, spared, self._come)
        try:
            await door.listen()
        except BaseException:
            door.close()
            raise
        self.doors.append(door)
        return door.address

    async def listen(self) -> None:
        """Accept connections at all doors; their addresses stay the same for the lane's life."""
        for door in self.doors:
            await door.listen()

    async def refuse(self) -> None:
        """Let new connections be refused, and keep the ports."""
        for door in self.doors:
            await door.refuse()

    async def close(self) -> None:
        """End everything."""
        for door in self.doors:
            door.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _come(self, door: Door, client: socket.socket, spared: bool) -> None:  # noqa: FBT001 - called by a door alone
        if not spared:
            with self._changed():
                self._accepted += 1
        task = asyncio.ensure_future(self._pass_by(door, client) if spared else self._serve(door, client))
        self._tasks.add(task)
        task.add_done_callback(partial(self._served, client))

    def _served(self, client: socket.socket, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        client.close()  # a task that was cancelled early has not done it
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failures.append(error)

    # -- connections -----------------------------------------------------------------------------------------------

    async def _serve(self, door: Door, client: socket.socket) -> None:
        try:
            server = await connect_to(door.target)
        except OSError:
            with self._changed():
                self._unreachable += 1
            return
        with contextlib.closing(server):
            hurry(client)
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

    async def _pass_by(self, door: Door, client: socket.socket) -> None:
        """Serve one who is spared: no fault bites, and nothing is counted."""
        with contextlib.suppress(OSError), contextlib.closing(await connect_to(door.target)) as server:
            hurry(client)
            link = Link(_NOBODY, _Untouched(), client, server, 0)
            await link.run()
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


class _Untouched:
    """A road without faults, of which no books are kept."""

    carriers: Sequence[Carrier] = ()

    def told(self, stream: Stream) -> contextlib.AbstractContextManager[None]:  # noqa: ARG002 - see `Road.told`
        return contextlib.nullcontext()
