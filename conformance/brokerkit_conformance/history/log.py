"""Logs of actors: JSON, a line an event, on the disk before the next thing happens."""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from brokerkit_conformance.history.events import Event, FaultRecord, Phase, Verb

__all__ = [
    "EventLog",
    "FaultLog",
    "Lines",
    "Operation",
    "Parsed",
    "parse_events",
    "parse_faults",
    "read_events",
    "read_faults",
]


class Lines:
    """Appends lines to a file; each is synced to the disk. Thread-safe."""

    def __init__(self, path: Path | str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, record: dict[str, Any]) -> None:
        """Write one line, in one piece; when this returns, it survives whatever happens to this process."""
        line = json.dumps(record, ensure_ascii=False).encode() + b"\n"
        while line:
            line = line[os.write(self._file, line) :]
        os.fsync(self._file)

    def close(self) -> None:
        """Close the file; idempotent."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class EventLog:
    """One actor's log. Thread-safe.

    Args:
        path: where; one file for each actor.
        actor: whose.
    """

    def __init__(self, path: Path | str, actor: str) -> None:
        self._lines = Lines(path)
        self._actor = actor
        self._lock = threading.Lock()
        self._seq = self._op = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._lines.close()

    def begin(self, verb: Verb, **fields: Any) -> Operation:
        """Write down that something is about to be done, with fields of `Event`."""
        with self._lock:
            op = self._op = self._op + 1
            self._write(verb, Phase.INVOKE, op, fields)
        return Operation(self, verb, op, fields)

    def note(self, verb: Verb, **fields: Any) -> None:
        """Write down what happened without a call of ours."""
        self.end(verb, Phase.NOTE, 0, fields)

    def end(self, verb: Verb, phase: Phase, op: int, fields: dict[str, Any]) -> None:
        """Write down what became of an operation."""
        with self._lock:
            self._write(verb, phase, op, fields)

    def _write(self, verb: Verb, phase: Phase, op: int, fields: dict[str, Any]) -> None:
        event = Event(
            actor=self._actor,
            seq=self._seq,
            pid=os.getpid(),
            mono=time.monotonic(),
            wall=time.time(),
            verb=verb,
            phase=phase,
            op=op,
            **fields,
        )
        self._seq += 1
        self._lines.write(event.to_json())


class Operation:
    """Something that is being done; say once what became of it. If nobody does, its outcome is unknown."""

    def __init__(self, log: EventLog, verb: Verb, op: int, fields: dict[str, Any]) -> None:
        self._log = log
        self._verb = verb
        self._op = op
        self._fields = fields

    def ok(self, **more: Any) -> None:
        """It is done."""
        self._log.end(self._verb, Phase.OK, self._op, {**self._fields, **more})

    def fail(self, error: object, **more: Any) -> None:
        """It is certainly not done."""
        self._log.end(self._verb, Phase.FAIL, self._op, {**self._fields, **more, "error": str(error)})

    def unknown(self, error: object, **more: Any) -> None:
        """It is done, or not, or later."""
        self._log.end(self._verb, Phase.UNKNOWN, self._op, {**self._fields, **more, "error": str(error)})


class FaultLog:
    """The log of the faults that were made, each written down when it is over and its proof is there. Thread-safe."""

    def __init__(self, path: Path | str) -> None:
        self._lines = Lines(path)
        self._lock = threading.Lock()

    def write(self, fault: FaultRecord) -> None:
        """Write down one fault."""
        with self._lock:
            self._lines.write(fault.to_json())

    def close(self) -> None:
        """Close the file; idempotent."""
        self._lines.close()


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a log holds.

    Attributes:
        name: of the log, for people.
        events: its lines.
        torn: the last line is cut off, as a kill leaves it.
        damage: what else is wrong, in words.
    """

    name: str
    events: tuple[Event, ...]
    torn: bool
    damage: tuple[str, ...]


def read_events(path: Path | str) -> Parsed:
    """Read an actor's log from a file."""
    return parse_events(Path(path).name, Path(path).read_bytes())


def parse_events(name: str, content: bytes) -> Parsed:
    """Read an actor's log. A last line without its end is left out, and told; any other broken line is damage."""
    whole, _, rest = content.rpartition(b"\n")
    events: list[Event] = []
    damage: list[str] = []
    for number, line in enumerate(whole.split(b"\n") if whole else [], 1):
        try:
            events.append(Event.from_json(json.loads(line)))
        except (ValueError, AttributeError) as error:
            damage.append(f"{name}: line {number} is broken: {error}")
    return Parsed(name, tuple(events), bool(rest), tuple(damage))


def read_faults(path: Path | str) -> tuple[FaultRecord, ...]:
    """Read a fault log from a file. See `parse_faults`."""
    return parse_faults(Path(path).read_bytes())


def parse_faults(content: bytes) -> tuple[FaultRecord, ...]:
    """Read a fault log.

    Raises:
        ValueError: a line is broken. It is the suite's own, and no kill excuses that.
    """
    return tuple(FaultRecord.from_json(json.loads(line)) for line in content.splitlines())
