"""Dead letters: how a message gets to `<queue>.dead`, and what it carries there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from brokerkit.abc import Receiver
from brokerkit.errors import BrokerkitError, QueueNotFound
from brokerkit.models import Message, Queue, Received

if TYPE_CHECKING:
    from brokerkit.broker import Broker

__all__ = ["DeadLetter", "bury", "dead_queue", "is_dead_queue", "letter_for", "peek", "redrive"]

SUFFIX: Final = ".dead"
_MAX_DETAIL: Final = 1000
_PEEK_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 0.05
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
        dead_at: when, in seconds since the epoch.
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
    receiver = broker.transport.open_receiver([dead_queue(queue)], prefetch=limit, visibility_timeout=_PEEK_SECONDS)
    claimed: list[Received] = []
    try:
        for received in _claims(broker, receiver, queue, limit):
            claimed.append(received)  # noqa: PERF402 - what was claimed before an error must be given back
        return [_read(received) for received in claimed]
    finally:
        if claimed:
            receiver.release(claimed, counted=False)
        receiver.close(timeout=broker.options.timeout)


def redrive(broker: Broker, queue: str, limit: int | None) -> int:
    """Move dead letters back: send first, ack after, so that a crash in between repeats and never loses."""
    receiver = broker.transport.open_receiver([dead_queue(queue)], prefetch=1, visibility_timeout=_PEEK_SECONDS)
    moved = 0
    try:
        for received in _claims(broker, receiver, queue, limit):
            try:
                broker.send_messages(_read(received).origin, [_revived(received.message)])
            except BrokerkitError:
                receiver.release([received], counted=False)
                raise
            receiver.ack([received])
            moved += 1
    finally:
        receiver.close(timeout=broker.options.timeout)
    return moved


def _claims(broker: Broker, receiver: Receiver, queue: str, limit: int | None) -> Iterator[Received]:
    taken = 0
    while limit is None or taken < limit:
        doing = f"receive from {dead_queue(queue)!r}"
        try:
            claimed, _ = broker.caller.call(doing, lambda _: receiver.receive(limit=1, timeout=_LOOK_SECONDS))
        except QueueNotFound:
            return  # nothing ever died
        if not claimed:
            return
        taken += 1
        yield claimed[0]


def _read(received: Received) -> DeadLetter:
    headers = received.message.headers
    attempts = headers.get("bk-attempts", "")
    return DeadLetter(
        id=received.message.id,
        body=received.message.body,
        headers=headers,
        reason=headers.get("bk-dead-reason", ""),
        detail=headers.get("bk-dead-detail", ""),
        origin=headers.get("bk-origin-queue", received.queue.removesuffix(SUFFIX)),
        attempts=int(attempts) if attempts.isdecimal() else None,
        dead_at=float(headers.get("bk-dead-at", "nan")),
    )


def _revived(message: Message) -> Message:
    """Return a dead letter as it was before: same id and body, without the headers of its death."""
    return replace(message, headers={k: v for k, v in message.headers.items() if k not in _OWN_HEADERS})
