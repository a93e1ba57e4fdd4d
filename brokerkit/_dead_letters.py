"""Dead letters: how a message gets to `<queue>.dead`, and what it carries there."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from brokerkit.abc import Receiver
from brokerkit.errors import BrokerkitError, QueueNotFound, SendFailed
from brokerkit.models import Message, Queue, Received

if TYPE_CHECKING:
    from brokerkit.broker import Broker

__all__ = ["DeadLetter", "bury", "dead_queue", "is_dead_queue", "letter_for", "peek", "redrive"]

SUFFIX: Final = ".dead"
_MAX_DETAIL: Final = 1000
_PEEK_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 1.0
_BATCH: Final = 100
_MAX_DIGITS: Final = 18  # of a count; `int` refuses texts of thousands of digits
_OWN_HEADERS: Final = frozenset({"bk-dead-reason", "bk-dead-detail", "bk-dead-at", "bk-origin-queue", "bk-attempts"})


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message in a dead queue, as `Broker.dead_letters` shows it.

    Attributes:
        id: the message's id, the same as it had.
        body: its raw bytes, untouched.
        headers: all its headers.
        reason: "failed", "crashed", "expired", "undecodable", or the word that a handler gave.
        detail: for people: the exception, or the text that a handler gave.
        origin: the queue it came from.
        attempts: how often it was delivered; None where the server does not count.
        dead_at: when, in seconds since the epoch; not a number if the letter does not say, as those of other programs.
    """

    id: str
    body: bytes
    headers: Mapping[str, str]
    reason: str
    detail: str
    origin: str
    attempts: int | None
    dead_at: float


def dead_queue(name: str) -> str:
    """Return the name of a queue's dead queue."""
    return name + SUFFIX


def is_dead_queue(name: str) -> bool:
    """Tell whether a queue holds dead letters; these are never dead-lettered again."""
    return name.endswith(SUFFIX)


def letter_for(received: Received, *, reason: str, detail: str, now: float) -> Message:
    """Return the message as it goes to the dead queue: same id, body and headers, and why, whence and when."""
    headers = dict(received.message.headers)
    headers |= {
        "bk-dead-reason": reason,
        "bk-dead-detail": detail if len(detail) <= _MAX_DETAIL else detail[: _MAX_DETAIL - 1] + "…",
        "bk-dead-at": f"{now:.3f}",
        "bk-origin-queue": received.queue,
        "bk-attempts": "" if received.attempt is None else str(received.attempt),
    }
    return replace(received.message, headers=headers, delay=0.0, ttl=None)


def bury(
    send: Callable[[str, Sequence[Message]], None], declare: Callable[[Queue], None], origin: str, letter: Message
) -> None:
    """Store a letter in the dead queue of `origin`, which is declared when it is first needed."""
    name = dead_queue(origin)
    try:
        send(name, [letter])
    except QueueNotFound:
        declare(Queue(name=name, max_attempts=None))
        send(name, [letter])


def peek(broker: Broker, queue: str, limit: int) -> list[DeadLetter]:
    """Look at dead letters: claim them, and give them back uncounted."""
    claimed: list[Received] = []
    with _receiver(broker, queue, prefetch=limit) as receiver:
        try:
            for batch in _claims(broker, receiver, queue, limit):
                claimed += batch
            return [_read(received) for received in claimed]
        finally:
            if claimed:
                receiver.release(claimed, counted=False)


def redrive(broker: Broker, queue: str, limit: int | None) -> int:
    """Move dead letters back: send first, ack after, so that a crash in between repeats and never loses.

    They go to the queue whose dead queue this is, whatever a letter of another program names as its origin.
    """
    moved = 0
    with _receiver(broker, queue, prefetch=_BATCH) as receiver:
        for batch in _claims(broker, receiver, queue, limit):
            moved += _move(broker, receiver, queue, batch)
    return moved


def _move(broker: Broker, receiver: Receiver, queue: str, letters: Sequence[Received]) -> int:
    stored = list(letters)
    try:
        broker.send_messages(queue, [_revived(received.message) for received in letters])
    except SendFailed as error:
        stored = [r for r, (_, failed) in zip(letters, error.outcomes, strict=True) if failed is None]
        raise
    except BrokerkitError:
        stored = []
        raise
    finally:
        if stored:
            receiver.ack(stored)
    return len(stored)


@contextlib.contextmanager
def _receiver(broker: Broker, queue: str, *, prefetch: int) -> Iterator[Receiver]:
    """Open a receiver of a dead queue; what it still holds at the end goes back by its close."""
    receiver = broker.transport.open_receiver([dead_queue(queue)], prefetch=prefetch, visibility_timeout=_PEEK_SECONDS)
    try:
        yield receiver
    finally:
        receiver.close(timeout=broker.options.timeout)


def _claims(broker: Broker, receiver: Receiver, queue: str, limit: int | None) -> Iterator[Sequence[Received]]:
    # each engine looks at least once; what was just given back to a server may still be on its way into the queue
    seconds = 0.0 if broker.capabilities.embedded else _LOOK_SECONDS

    def claim(most: int) -> Sequence[Received]:
        looking = f"receive from {dead_queue(queue)!r}"
        claimed, _ = broker.caller.call(looking, lambda _: receiver.receive(limit=most, timeout=seconds))
        return claimed

    left = limit
    while left is None or left > 0:
        try:
            claimed = claim(_BATCH if left is None else min(left, _BATCH))
        except QueueNotFound:
            return  # nothing ever died
        if not claimed:
            return
        left = None if left is None else left - len(claimed)
        yield claimed


def _read(received: Received) -> DeadLetter:
    headers = received.message.headers
    return DeadLetter(
        id=received.message.id,
        body=received.message.body,
        headers=headers,
        reason=headers.get("bk-dead-reason", ""),
        detail=headers.get("bk-dead-detail", ""),
        origin=headers.get("bk-origin-queue", received.queue.removesuffix(SUFFIX)),
        attempts=_count(headers.get("bk-attempts", "")),
        dead_at=_moment(headers.get("bk-dead-at", "")),
    )


def _count(text: str) -> int | None:
    """Return a header as a number of attempts, if it is one."""
    return int(text) if text.isdecimal() and len(text) <= _MAX_DIGITS else None


def _moment(text: str) -> float:
    """Return a header as seconds since the epoch; not a number where some other program wrote something else."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _revived(message: Message) -> Message:
    """Return a dead letter as it was before: same id and body, without the headers of its death."""
    return replace(message, headers={k: v for k, v in message.headers.items() if k not in _OWN_HEADERS})
