"""The workers' logs: how a line is written, and what the demonstration reads out of all of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

__all__ = ["DONE", "LATE", "LOST", "READY", "STARTED", "Entry", "Logbook", "line"]

READY: Final = "ready"
STARTED: Final = "started"
DONE: Final = "done"
LATE: Final = "late"
"""An ack was refused, since it came too late."""
LOST: Final = "lost"
"""A lease was found lost."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One step of one delivery.

    Attributes:
        worker: which one, from 0.
        step: what it did.
        message_id: with which message.
        order: the order's number; -1 where it is not known.
        attempt: of the delivery; 0 where it is not known.
    """

    worker: int
    step: str
    message_id: str
    order: int
    attempt: int


def line(step: str, message_id: str, order: int, attempt: int | None) -> bytes:
    """Return one line of a log."""
    return f"{step} {message_id} {order} {attempt or 0}\n".encode("ascii")


@final
class Logbook:
    """Reads the logs while they grow. Not thread-safe.

    Attributes:
        entries: all that was read.
        done: orders that some worker has finished.
    """

    def __init__(self, paths: list[Path]) -> None:
        self.entries: list[Entry] = []
        self.done: set[int] = set()
        self._paths = paths
        self._offsets = [0] * len(paths)
        self._open: list[dict[int, None]] = [{} for _ in paths]

    def read(self) -> None:
        """Read what was written since the last time; a line that is not whole yet waits for the next."""
        for worker, path in enumerate(self._paths):
            for entry in self._new(worker, path):
                self.entries.append(entry)
                if entry.step == STARTED:
                    self._open[worker][entry.order] = None
                elif entry.step == DONE:
                    self._open[worker].pop(entry.order, None)
                    self.done.add(entry.order)

    def at_work(self, worker: int) -> int | None:
        """Return the order that a worker started last and has not finished; None if it is between two."""
        mine = [entry for entry in self.entries if entry.worker == worker and entry.step in (STARTED, DONE)]
        return mine[-1].order if mine and mine[-1].step == STARTED else None

    def ready(self) -> int:
        """Return how many workers have begun."""
        return sum(entry.step == READY for entry in self.entries)

    def _new(self, worker: int, path: Path) -> Iterator[Entry]:
        if not path.exists():
            return
        with path.open("rb") as file:
            file.seek(self._offsets[worker])
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._offsets[worker] += len(whole)
        for written in whole.decode("ascii").splitlines():
            step, message_id, order, attempt = written.split()
            yield Entry(worker, step, message_id, int(order), int(attempt))
