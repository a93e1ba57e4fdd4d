"""Faults at work: each bites connections, and takes down that it did."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from brokerkit_conformance.faults.lanes import Lane
from brokerkit_conformance.faults.links import Forward, Link, Piece, Stream
from brokerkit_conformance.faults.loop import HANG, LoopThread
from brokerkit_conformance.faults.plans import Fault, Way
from brokerkit_conformance.model import Inconclusive

__all__ = ["Effect", "Injection"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """The proof that a fault bit.

    Attributes:
        fault: which.
        times: how often it bit: pieces swallowed or delayed, connections ended, replies held or garbled.
        size: bytes concerned.
        connections: the numbers of those that it bit.
        first: monotonic time of the first bite; None if there was none.
        last: of the last.
    """

    fault: Fault
    times: int
    size: int
    connections: frozenset[int]
    first: float | None
    last: float | None

    @property
    def bit(self) -> bool:
        """Whether it had any effect."""
        return self.times > 0

    def __str__(self) -> str:
        if not self.bit:
            return f"{self.fault} had no effect"
        return f"{self.fault} bit {self.times} times, {self.size} bytes, on connections {sorted(self.connections)}"


class Injection:
    """A fault at work in one proxy. Its public methods are for any thread, except those of `Carrier`.

    As a context manager it is lifted at the end of the block.

    Attributes:
        fault: which.
    """

    def __init__(self, fault: Fault, lane: Lane, thread: LoopThread) -> None:
        self.fault = fault
        self._lane = lane
        self._thread = thread
        self._lifted = asyncio.Event()
        self._times = self._size = 0
        self._connections: set[int] = set()
        self._first: float | None = None
        self._last: float | None = None
        self._starts: dict[int, tuple[int, int]] = {}
        self._first_reply: dict[int, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.lift()

    # -- for any thread --------------------------------------------------------------------------------------------

    def effect(self) -> Effect:
        """Return what it did so far."""
        with self._lane.news:
            return Effect(
                fault=self.fault,
                times=self._times,
                size=self._size,
                connections=frozenset(self._connections),
                first=self._first,
                last=self._last,
            )

    def wait(self, *, times: int = 1, size: int = 0, within: float = HANG) -> Effect:
        """Return when it bit so many times and bytes.

        Raises:
            Inconclusive: it did not in time; a test that relied on it shows nothing.
        """
        with self._lane.news:
            self._lane.news.wait_for(lambda: self._times >= times and self._size >= size, within)
        effect = self.effect()
        if effect.times < times or effect.size < size:
            raise Inconclusive(f"{effect}, and not {times} times and {size} bytes within {within:g} s")
        return effect

    def lift(self) -> None:
        """End it, and let go of what it holds; idempotent."""
        if not self._lifted.is_set():
            self._thread.call(self.end())

    # -- inside the loop -------------------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Start to work."""
        for link in self._lane.links:
            self._starts[link.number] = (link.up.seen.total, link.down.seen.total)
        self._lane.carriers = (*self._lane.carriers, self)

    async def end(self) -> None:
        """Stop to work."""
        self._lane.carriers = tuple(one for one in self._lane.carriers if one is not self)
        self._lifted.set()

    async def before_read(self, stream: Stream) -> None:
        """See `Carrier`: streams are read at once."""

    async def carry(self, stream: Stream, piece: Piece, forward: Forward) -> None:  # noqa: ARG002 - for the heirs
        """See `Carrier`: pieces pass unharmed."""
        await forward(piece)

    # -- for the heirs ---------------------------------------------------------------------------------------------

    def _bite(self, link: Link | None, size: int = 0) -> None:
        now = self._thread.loop.time()
        with self._lane.news:
            self._times += 1
            self._size += size
            self._first = now if self._first is None else self._first
            self._last = now
            if link is not None:
                self._connections.add(link.number)
            self._lane.news.notify_all()

    def _is_old(self, link: Link) -> bool:
        """Whether a connection stood when the fault was injected."""
        return link.number in self._starts

    def _armed_from(self, stream: Stream, piece: Piece, once: bytes | None) -> int | None:
        """Return from which offset of a stream the fault works, or None if the piece lies before."""
        up, down = self._starts.get(stream.link.number, (0, 0))
        start = up if stream.way is Way.UP else down
        if once is not None:
            mark = stream.link.up.seen.end_of(once, up)
            if mark is None:
                return None
            if stream.way is Way.UP:
                start = mark
            elif stream.link.up.passed < mark:
                return None
            else:
                start = self._first_reply.setdefault(stream.link.number, piece.offset)
        return start if piece.end > start or (not piece.body and piece.offset >= start) else None
