"""The cells: what is timed, and the checks that each contender really did the work."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time
from typing import Final

from brokerkit.bench.contract import Contender

__all__ = ["BATCH", "CELLS", "THREADS", "Cell", "Entrant", "Sample", "WorkNotDone", "bodies", "timed"]

BATCH: Final = 100
THREADS: Final = 32


class WorkNotDone(Exception):
    """A contender lost, repeated or changed messages; its figures would mean nothing."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One timing.

    Attributes:
        messages: how many were moved.
        seconds: by the wall.
        cpu: seconds of this process's processor time, all its threads.
    """

    messages: int
    seconds: float
    cpu: float

    @property
    def rate(self) -> float:
        """Messages a second."""
        return self.messages / self.seconds

    @property
    def cpu_us(self) -> float:
        """Microseconds of processor time a message."""
        return self.cpu / self.messages * 1e6


@dataclass(slots=True)
class Entrant:
    """An open contender.

    Attributes:
        contender: the one that measures.
        mode: of the engine; None if it knows none.
        folder: where its queue is.
        another: makes a contender of the same kind, not yet open.
    """

    contender: Contender
    mode: str | None
    folder: Path
    another: Callable[[], Contender]

    @property
    def name(self) -> str:
        """The contender's, with its mode."""
        return f"{self.contender.name} {self.mode}" if self.mode else self.contender.name


@dataclass(frozen=True, slots=True)
class Cell:
    """One kind of work.

    Attributes:
        name: for goals and reports.
        title: for people.
        work: does it with some bodies, and returns the timing.
        fit: whether a contender can do it.
    """

    name: str
    title: str
    work: Callable[[Entrant, Sequence[bytes]], Sample]
    fit: Callable[[Contender], bool] = lambda _: True


def bodies(count: int, size: int) -> list[bytes]:
    """Return different bodies of one size, from 12 bytes up."""
    filler = b"." * (size - 12)
    return [f"{number:012d}".encode("ascii") + filler for number in range(count)]


def _send(entrant: Entrant, given: Sequence[bytes]) -> Sample:
    def work() -> None:
        send = entrant.contender.send
        for body in given:
            send(body)

    return _sending(entrant, given, work)


def _send_many(entrant: Entrant, given: Sequence[bytes]) -> Sample:
    def work() -> None:
        for first in range(0, len(given), BATCH):
            entrant.contender.send_many(given[first : first + BATCH])

    return _sending(entrant, given, work)


def _send_in_threads(entrant: Entrant, given: Sequence[bytes]) -> Sample:
    own = entrant.contender.threads == "own"
    contenders = [entrant.another() if own else entrant.contender for _ in range(THREADS)]
    for contender in contenders if own else ():
        contender.open(entrant.folder)
    failures: list[BaseException] = []

    def send(contender: Contender, share: Sequence[bytes]) -> None:
        try:
            for body in share:
                contender.send(body)
        except BaseException as error:  # noqa: BLE001 - raised again below
            failures.append(error)

    threads = [
        threading.Thread(target=send, args=(one, given[number::THREADS])) for number, one in enumerate(contenders)
    ]

    def work() -> None:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    try:
        sample = _sending(entrant, given, work)
    finally:
        for contender in contenders if own else ():
            contender.close()
    if failures:
        raise failures[0]
    return sample


def _consume(prefetch: int) -> Callable[[Entrant, Sequence[bytes]], Sample]:
    def consume(entrant: Entrant, given: Sequence[bytes]) -> Sample:
        for first in range(0, len(given), BATCH):
            entrant.contender.send_many(given[first : first + BATCH])
        came: list[tuple[int, int]] = []
        sample = timed(len(given), lambda: came.append(entrant.contender.consume(len(given), prefetch=prefetch)))
        expected = (len(given), sum(map(len, given)))
        if came != [expected]:
            raise WorkNotDone(f"{entrant.name} consumed {came[0]} (messages, bytes) in place of {expected}")
        _expect_depth(entrant, 0, "after consuming all")
        return sample

    return consume


def _sending(entrant: Entrant, given: Sequence[bytes], work: Callable[[], None]) -> Sample:
    sample = timed(len(given), work)
    _expect_depth(entrant, len(given), "after sending")
    entrant.contender.purge()
    _expect_depth(entrant, 0, "after a purge")
    return sample


def _expect_depth(entrant: Entrant, expected: int, when: str) -> None:
    depth = entrant.contender.depth()
    if depth != expected:
        raise WorkNotDone(f"{entrant.name} has {depth} messages {when}, in place of {expected}")


def timed(messages: int, work: Callable[[], None]) -> Sample:
    """Run work that moves so many messages, and return its timing."""
    gc.collect()  # the collector stays on, as in users' programs; only what others left is taken away first
    begun, used = perf_counter(), process_time()
    work()
    return Sample(messages, perf_counter() - begun, process_time() - used)


CELLS: Final = (
    Cell("send", "send singly", _send),
    Cell("send_many", f"send_many({BATCH})", _send_many),
    Cell("consume_100", "consume and ack, prefetch 100", _consume(100)),
    Cell("consume_1", "consume and ack, prefetch 1", _consume(1)),
    Cell("threads", f"send singly, {THREADS} threads", _send_in_threads, lambda one: one.threads != "no"),
)
