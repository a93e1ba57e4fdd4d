"""What was published on a confirm channel and not confirmed yet. Pure bookkeeping: nothing is done for each message."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeAlias, final

from brokerkit_rabbitmq.properties import message_id_of

__all__ = ["Batch", "Item", "Window"]

Item: TypeAlias = tuple[str, bytes, bytes]
"""A routing key, the encoded properties, and the body."""

_OPEN: Final = 1


@final
class Batch:
    """The messages of one call.

    Attributes:
        items: all of them.
        written: how many were given to the link, from the first on.
        left: how many of these are not confirmed.
        errors: why a message was not stored, by its place; all others that are confirmed were.
    """

    __slots__ = ("errors", "items", "left", "written")

    def __init__(self, items: Sequence[Item]) -> None:
        self.items = items
        self.written = 0
        self.left = 0
        self.errors: dict[int, Exception] = {}


@final
class Window:
    """The unconfirmed messages of one channel, by the tags that the server counts. Not thread-safe; the link locks.

    Attributes:
        open: how many there are.
        proven: exchanges to which something was confirmed.
    """

    __slots__ = ("_next", "_runs", "open", "proven")

    def __init__(self) -> None:
        self._runs: deque[_Run] = deque()
        self._next = 1
        self.open = 0
        self.proven: set[str] = set()

    def add(self, batch: Batch, count: int, exchange: str) -> None:
        """Take the next messages of a batch, which are written now."""
        self._runs.append(_Run(batch, batch.written, self._next, count, exchange))
        self._next += count
        self.open += count
        batch.written += count
        batch.left += count

    def open_to(self, exchange: str) -> int:
        """How many messages to an exchange are not confirmed."""
        return sum(run.left for run in self._runs if run.exchange == exchange)

    def confirm(self, tag: int, error: Callable[[], Exception] | None, *, multiple: bool) -> None:
        """Take a confirm: of one tag, or of all up to it; with an error for each that was not stored."""
        runs = self._runs
        for run in runs:
            if run.first > tag:
                break
            if multiple or tag <= run.last:
                self._close(run, run.first if multiple else tag, min(tag, run.last), error)
        while runs and not runs[0].left:
            runs.popleft()

    def give_back(self, exchange: str, key: str, properties: bytes, error: Exception) -> None:
        """Take a message that no queue wanted: the first unconfirmed one that it can be. Its confirm comes behind."""
        for alike in (_is_same, _has_same_id):
            for run in self._runs:
                if run.exchange == exchange and (place := run.find(key, properties, alike)) is not None:
                    run.batch.errors[place] = error
                    return

    def unconfirmed(self, batch: Batch) -> Iterator[int]:
        """The places in a batch of what was written and is not confirmed."""
        for run in self._runs:
            if run.batch is batch:
                yield from run.places()

    def _close(self, run: _Run, first: int, last: int, error: Callable[[], Exception] | None) -> None:
        start, end = first - run.first, last - run.first + 1
        count = run.marks.count(_OPEN, start, end)
        if not count:
            return
        if error is not None:
            for index in range(start, end):
                if run.marks[index]:
                    run.batch.errors[run.place + index] = error()
        run.marks[start:end] = bytes(end - start)
        run.left -= count
        run.batch.left -= count
        self.open -= count
        self.proven.add(run.exchange)


@final
class _Run:
    """Messages of one batch with tags in a row."""

    __slots__ = ("_seen", "batch", "exchange", "first", "last", "left", "marks", "place")

    def __init__(self, batch: Batch, place: int, first: int, count: int, exchange: str) -> None:
        self.batch = batch
        self.place = place
        self.first = first
        self.last = first + count - 1
        self.exchange = exchange
        self.left = count
        self.marks = bytearray(b"\1" * count)
        self._seen = 0

    def find(self, key: str, properties: bytes, alike: Callable[[bytes, bytes], bool]) -> int | None:
        """Return the place of the first open message that came not back before; they come back in order, as a rule."""
        count = len(self.marks)
        for step in range(count):
            index = (self._seen + step) % count
            place = self.place + index
            item = self.batch.items[place]
            if self.marks[index] and item[0] == key and place not in self.batch.errors and alike(item[1], properties):
                self._seen = index + 1
                return place
        return None

    def places(self) -> Iterator[int]:
        return (self.place + index for index, mark in enumerate(self.marks) if mark)


def _is_same(ours: bytes, theirs: bytes) -> bool:
    return ours == theirs


def _has_same_id(ours: bytes, theirs: bytes) -> bool:
    return (wanted := message_id_of(theirs)) is not None and message_id_of(ours) == wanted
