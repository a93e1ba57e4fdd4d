"""How each fault bites."""

from __future__ import annotations

import asyncio
import contextlib
import random
from dataclasses import replace
from typing import Final

from brokerkit_conformance.faults.doors import connect_to
from brokerkit_conformance.faults.injections import Injection
from brokerkit_conformance.faults.lanes import Lane
from brokerkit_conformance.faults.links import EndLink, Forward, Link, Piece, Stream
from brokerkit_conformance.faults.loop import LoopThread
from brokerkit_conformance.faults.plans import (
    Blackhole,
    Chunks,
    Cut,
    Ending,
    Fault,
    Garble,
    HalfOpen,
    HoldReply,
    KillConnections,
    Refuse,
    Slow,
    Way,
)

__all__ = ["Holding", "injection_of"]


def injection_of(fault: Fault, lane: Lane, thread: LoopThread) -> Injection:
    """Return the injection that makes a fault, not yet at work. To be called inside the loop."""
    return _KINDS[type(fault)](fault, lane, thread)


class Holding(Injection):
    """Holds one reply, and can lose it."""

    fault: HoldReply

    def __init__(self, fault: Fault, lane: Lane, thread: LoopThread) -> None:
        super().__init__(fault, lane, thread)
        self._held: tuple[Link, bytes] | None = None
        self._lost = False

    def held(self) -> bytes:
        """Return the held bytes; empty if none were caught. More may have gathered behind them."""
        with self._lane.news:
            return b"" if self._held is None else self._held[1]

    def drop(self) -> None:
        """Lose what is held: reset its connection, and lift."""
        self._lost = True
        self.lift()

    async def carry(self, stream: Stream, piece: Piece, forward: Forward) -> None:
        """Hold the reply that is meant, and with it all that follows."""
        if stream.way is Way.DOWN and self._held is None and self._is_meant(stream, piece):
            with self._lane.news:
                self._held = (stream.link, piece.body)
            self._bite(stream.link, len(piece.body))
            await self._lifted.wait()
            if self._lost:
                raise EndLink(Ending.RST)
        await forward(piece)

    def _is_meant(self, stream: Stream, piece: Piece) -> bool:
        start = self._armed_from(stream, piece, self.fault.once)
        if start is None or not piece.body:
            return False
        if self.fault.containing is None:
            return True
        found = stream.seen.end_of(self.fault.containing, start)
        return found is not None and piece.offset < found <= piece.end


class _Cutting(Injection):
    fault: Cut

    async def carry(self, stream: Stream, piece: Piece, forward: Forward) -> None:
        start = self._armed_from(stream, piece, self.fault.once) if stream.way is self.fault.way else None
        limit = None if start is None else start + self.fault.after
        done = self.fault.times is not None and self._times >= self.fault.times
        if done or limit is None or piece.end <= limit:
            await forward(piece)
            return
        if piece.offset < limit:
            await forward(piece.until(limit))
        self._bite(stream.link, piece.end - max(limit, piece.offset))
        raise EndLink(self.fault.ending)


class _Swallowing(Injection):
    fault: Blackhole

    async def carry(self, stream: Stream, piece: Piece, forward: Forward) -> None:
        concerned = self.fault.way.covers(stream.way) and (self.fault.new or self._is_old(stream.link))
        start = self._armed_from(stream, piece, self.fault.once) if concerned else None
        if start is None:
            await forward(piece)
            return
        if piece.offset < start:
            await forward(piece.until(start))
        self._bite(stream.link, piece.end - max(start, piece.offset))
        if not piece.body:  # the end of a stream is told again and again by real networks
            await self._lifted.wait()
            await forward(piece)


class _Freezing(Injection):
    fault: HalfOpen

    async def before_read(self, stream: Stream) -> None:
        if self.fault.new or self._is_old(stream.link):
            if not self._is_old(stream.link):
                self._bite(stream.link)
            await self._lifted.wait()

    async def carry(self, stream: Stream, piece: Piece, forward: Forward) -> None:
        if self.fault.new or self._is_old(stream.link):
            self._bite(stream.link, len(piece.body))
            await self._lifted.wait()
        await forward(piece)


class _Slowing(Injection):
    fault: Slow

    def __init__(self, fault: Fault, lane: Lane, thread: LoopThread) -> None:
        super().__init__(fault, lane, thread)
        self._chance = random.Random(self.fault.seed)  # noqa: S311 - reproducible, not secret
        self._buckets: dict[tuple[int, Way], tuple[float, float]] = {}

    async def carry(self, stream: Stream, piece: Piece, forward: Forward) -> None:
        if not self.fault.way.covers(stream.way):
            await forward(piece)
            return
        delay = self.fault.latency + self._chance.uniform(0.0, self.fault.jitter)
        if delay > 0:
            await self._pause(piece.at + delay - self._thread.loop.time())
            self._bite(stream.link, len(piece.body))
        if self.fault.rate is None or not piece.body:
            await forward(piece)
            return
        step = max(1, min(self.fault.burst, 4096))
        for first in range(0, len(piece.body), step):
            body = piece.body[first : first + step]
            await self._take(stream, len(body), self.fault.rate)
            await forward(replace(piece, offset=piece.offset + first, body=body))

    async def _take(self, stream: Stream, size: int, rate: float) -> None:
        now = self._thread.loop.time()
        key = (stream.link.number, stream.way)
        tokens, since = self._buckets.get(key, (float(self.fault.burst), now))
        tokens = min(float(self.fault.burst), tokens + (now - since) * rate) - size
        self._buckets[key] = (tokens, now)
        if tokens < 0:
            await self._pause(-tokens / rate)
            self._bite(stream.link, size)

    async def _pause(self, seconds: float) -> None:
        if seconds > 0 and not self._lifted.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._lifted.wait()


class _Garbling(Injection):
    fault: Garble

    async def carry(self, stream: Stream, piece: Piece, forward: Forward) -> None:
        if stream.way is Way.DOWN and piece.body and self._times < self.fault.times and self._is_meant(stream, piece):
            chance = random.Random(self.fault.seed + self._times)  # noqa: S311 - reproducible, not secret
            body = bytearray(piece.body)
            others = range(1, len(body))
            for at in {0, *chance.sample(others, min(self.fault.flips - 1, len(others)))}:
                body[at] ^= 0xFF
            self._bite(stream.link, len(body))
            piece = replace(piece, body=bytes(body))
        await forward(piece)

    def _is_meant(self, stream: Stream, piece: Piece) -> bool:
        armed = self._armed_from(stream, piece, self.fault.once) is not None
        return armed and (self.fault.containing is None or self.fault.containing in piece.body)


class _Chopping(Injection):
    fault: Chunks

    async def carry(self, stream: Stream, piece: Piece, forward: Forward) -> None:
        if not self.fault.way.covers(stream.way) or len(piece.body) <= self.fault.size:
            await forward(piece)
            return
        for first in range(0, len(piece.body), self.fault.size):
            body = piece.body[first : first + self.fault.size]
            await forward(replace(piece, offset=piece.offset + first, body=body))
            self._bite(stream.link, len(body))
            await _turn()


class _Refusing(Injection):
    async def begin(self) -> None:
        await self._lane.refuse()
        for door in self._lane.doors:
            try:
                (await connect_to(door.address)).close()
            except ConnectionRefusedError:
                self._bite(None)

    async def end(self) -> None:
        await super().end()
        await self._lane.listen()


class _Killing(Injection):
    fault: KillConnections

    async def begin(self) -> None:
        for link in await self._lane.kill(self.fault.ending):
            self._bite(link)


async def _turn() -> None:
    """Let everything else of the loop have its turn."""
    loop = asyncio.get_running_loop()
    turn = loop.create_future()
    loop.call_soon(turn.set_result, None)
    await turn


_KINDS: Final[dict[type[Fault], type[Injection]]] = {
    HoldReply: Holding,
    Cut: _Cutting,
    Blackhole: _Swallowing,
    HalfOpen: _Freezing,
    Slow: _Slowing,
    Garble: _Garbling,
    Refuse: _Refusing,
    Chunks: _Chopping,
    KillConnections: _Killing,
}
