"""A TCP proxy that makes faults, controlled by ordinary, synchronous code.

It needs no rights, no plugin's help and nothing but the standard library. One thread runs the event loop; what the proxy
does is in `links`, the listening in `lanes`, the faults in `plans` (as values) and `biting` (at work).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self, overload

from brokerkit_conformance.faults.biting import Holding, injection_of
from brokerkit_conformance.faults.doors import Address
from brokerkit_conformance.faults.injections import Effect, Injection
from brokerkit_conformance.faults.lanes import Lane, Traffic
from brokerkit_conformance.faults.loop import HANG, LoopThread
from brokerkit_conformance.faults.plans import Ending, Fault, HoldReply, KillConnections, Way
from brokerkit_conformance.model import Inconclusive

__all__ = ["Mark", "Proxy", "ProxyBroken"]

_KEEP: Final = 1 << 20


class ProxyBroken(Exception):
    """Something failed in the proxy itself: what ran through it shows nothing."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment in the traffic: how many bytes went by in each direction of each connection."""

    offsets: Mapping[tuple[int, Way], int]


class Proxy:
    """Passes everything between clients and one server, until faults are injected. Thread-safe.

    A server of several nodes has a door for each of them, and the faults are at work behind all doors together.

    Example:
        with Proxy("127.0.0.1", 6379) as proxy:
            held = proxy.inject(HoldReply(containing=message_id))
            ...                      # connect to 127.0.0.1, proxy.port
            held.wait()              # the claim was made, and nobody knows

    Args:
        host: of the server, or its unix socket's path, with `port` 0. None for a proxy that has no door yet: see `door`.
        port: of the server.
        listen: path of a unix socket to listen on, instead of a free port of 127.0.0.1.
        keep: bytes of each direction of each connection that are remembered for searching.
        beside: a proxy whose thread is shared, so that what is shown of one holds of the other.
    """

    def __init__(
        self,
        host: str | None = None,
        port: int = 0,
        *,
        listen: str | None = None,
        keep: int = _KEEP,
        beside: Proxy | None = None,
    ) -> None:
        self._owns_thread = beside is None
        self._thread: LoopThread = LoopThread(f"proxy-to-{host}:{port}") if beside is None else beside._thread  # noqa: SLF001
        self._lane = Lane(keep)
        self._closed = False
        try:
            if host is not None:
                self.door(host, port, listen=listen)
        except BaseException:
            self._close_thread()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def door(self, host: str, port: int = 0, *, listen: Address | None = None, spared: Collection[str] = ()) -> Address:
        """Open one more door, and return the address that clients connect to there.

        Args:
            host: of the server behind it, or its unix socket's path, with `port` 0.
            port: of the server behind it.
            listen: where; None for a free port of 127.0.0.1.
            spared: hosts that watch the server and are no clients of it: what comes from there passes unharmed, and is not
                counted.

        Raises:
            OSError: nobody can listen there.
        """
        return self._thread.call(self._lane.open((host, port) if port else host, listen, spared))

    @property
    def address(self) -> Address:
        """Where clients connect to, at the first door: host and port, or a path."""
        return self._lane.doors[0].address

    @property
    def host(self) -> str:
        """The host, or the path, that clients connect to."""
        return self.address if isinstance(self.address, str) else self.address[0]

    @property
    def port(self) -> int:
        """The port that clients connect to; 0 on a unix socket."""
        return 0 if isinstance(self.address, str) else self.address[1]

    def close(self) -> None:
        """Reset all connections, and stop; idempotent.

        Raises:
            ProxyBroken: something had failed in the proxy.
        """
        if self._closed:
            return
        self._closed = True
        self._thread.call(self._lane.close())
        self._close_thread()
        if self._lane.failures:
            raise ProxyBroken(f"{len(self._lane.failures)} failures, the first of them above") from self._lane.failures[
                0
            ]

    # -- faults ----------------------------------------------------------------------------------------------------

    @overload
    def inject(self, fault: HoldReply) -> Holding: ...
    @overload
    def inject(self, fault: Fault) -> Injection: ...
    def inject(self, fault: Fault) -> Injection:
        """Put a fault to work; it is when this returns. Faults work in the order of their injection."""
        return self._thread.call(self._inject(fault))

    def kill_connections(self, ending: Ending = Ending.RST) -> Effect:
        """End all connections that stand, and say which."""
        return self.inject(KillConnections(ending=ending)).effect()

    def turn(self) -> None:
        """Return when the proxy has done all that it can do with what it had read before."""
        for _ in range(3):  # reader, queue, writer
            self._thread.call(_nothing())

    # -- what was seen ---------------------------------------------------------------------------------------------

    def traffic(self) -> Traffic:
        """Return what went through so far."""
        return self._lane.traffic()

    def mark(self) -> Mark:
        """Return this moment, to count from."""
        with self._lane.news:
            streams = [stream for link in self._lane.links for stream in (link.up, link.down)]
            return Mark({(stream.link.number, stream.way): stream.seen.total for stream in streams})

    def seen(self, needle: bytes, way: Way = Way.UP, *, since: Mark | None = None) -> int:
        """Return how often these bytes came in, before any fault, on connections together."""
        with self._lane.news:
            return self._count(needle, way, since)

    def wait_until_seen(
        self, needle: bytes, way: Way = Way.UP, *, count: int = 1, since: Mark | None = None, within: float = HANG
    ) -> None:
        """Return when these bytes came in so often.

        Raises:
            Inconclusive: they did not in time.
        """
        with self._lane.news:
            if not self._lane.news.wait_for(lambda: self._count(needle, way, since) >= count, within):
                raise Inconclusive(
                    f"{needle[:80]!r} did not come {way} through the proxy {count} times in {within:g} s"
                )

    def wait_for_connections(self, count: int, *, open_now: bool = True, within: float = HANG) -> None:
        """Return when exactly so many connections stand, or (`open_now` false) at least so many were accepted.

        Raises:
            Inconclusive: not in time.
        """

        def reached() -> bool:
            traffic = self._lane.traffic()
            return traffic.open == count if open_now else traffic.connections >= count

        with self._lane.news:
            if not self._lane.news.wait_for(reached, within):
                raise Inconclusive(f"{self._lane.traffic()}, and not {count} connections within {within:g} s")

    # -- inside ----------------------------------------------------------------------------------------------------

    async def _inject(self, fault: Fault) -> Injection:
        injection = injection_of(fault, self._lane, self._thread)
        await injection.begin()
        return injection

    def _count(self, needle: bytes, way: Way, since: Mark | None) -> int:
        offsets = {} if since is None else since.offsets
        return sum(
            stream.seen.count(needle, offsets.get((link.number, stream.way), 0))
            for link in self._lane.links
            for stream in (link.up, link.down)
            if way.covers(stream.way)
        )

    def _close_thread(self) -> None:
        if self._owns_thread:
            self._thread.close()


async def _nothing() -> None:
    pass
