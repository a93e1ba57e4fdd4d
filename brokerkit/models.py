"""The nouns that pass between the portable core and the plugins: Message, Received, Queue, Depth, Record, Outcome.

They hold bytes and plain values only; nothing here does I/O.
"""

from __future__ import annotations

import itertools
import json
import os
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from brokerkit.errors import InvalidName

__all__ = [
    "Depth",
    "Message",
    "Outcome",
    "Queue",
    "Received",
    "Record",
    "check_name",
    "new_id",
    "pack_headers",
    "sent_at",
    "topic_matches",
    "unpack_headers",
]

Outcome: TypeAlias = Exception | None
"""What became of one message or record of a batch: None, stored; an `OutcomeUnknown`, it may still arrive; any other
exception, refused and certainly not stored."""

_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})


def _no_headers() -> Mapping[str, str]:
    return _NO_HEADERS


@dataclass(slots=True, eq=False, kw_only=True)
class Message:
    """One message as the transport sees it: opaque bytes, text headers and its sending options.

    Not to be changed after it was handed to a transport.

    Attributes:
        id: 32 hexadecimal digits, a UUIDv7 (RFC 9562) made by the core: unique, and carries the time of sending.
        body: the encoded payload.
        headers: text to text. Names that start with "bk-" are the core's own; a "bk-version" other than "1" says that
            the message is from a later brokerkit, whose messages this one cannot read.
        priority: 0 (default) to 9; higher is sooner, FIFO within one.
        delay: seconds, from 0, until it may be received; by the server's clock where it has one.
        ttl: seconds, above 0, after which it is dead-lettered instead of delivered; None for never.
        ordering_key: messages of one key are delivered in order, where the engine has that power.
        dedup_key: a second message of one key is dropped, where the engine has that power.
    """

    id: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=_no_headers)
    priority: int = 0
    delay: float = 0.0
    ttl: float | None = None
    ordering_key: str | None = None
    dedup_key: str | None = None

    @property
    def sent_at(self) -> float:
        """When it was sent: seconds since the epoch by the sender's clock, to the millisecond."""
        return sent_at(self.id)

    @property
    def topic(self) -> str | None:
        """The topic it was published to, or None if it was sent to a queue."""
        return self.headers.get("bk-topic")

    @property
    def routing_key(self) -> str:
        """The routing key it was published with; empty if none."""
        return self.headers.get("bk-routing-key", "")


@dataclass(slots=True, eq=False)
class Received:
    """One handing-over of a message by a receiver.

    Attributes:
        message: what was sent.
        queue: the queue it came from.
        receipt: opaque to the core, unique per delivery; whoever settles must show it.
        attempt: 1 for the first delivery, or None where the server does not count.
        deadline: the end of the lease by this process's monotonic clock, set by the plugin on the safe side.
        expired: it is past its `ttl`; the core dead-letters it instead of handing it over.
        gap: how many copies its bounded subscriber queue had to drop since the last delivery.
    """

    message: Message
    queue: str
    receipt: Any
    attempt: int | None
    deadline: float
    expired: bool = False
    gap: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A queue's settings. Two declarations of one name must agree in all but `max_attempts`.

    Attributes:
        name: 1 to the engine's `max_name` bytes of UTF-8 without control characters.
        max_attempts: failed deliveries before the core dead-letters a message; None for no limit. The consumers' own
            policy, kept by the core: plugins may ignore it.
        expires: seconds without a consumer after which the queue vanishes with its messages; None for never. A send
            does not renew it.
        message_ttl: seconds after which a message is dead-lettered unless it says otherwise itself; None for never. Where
            the server takes the shorter of both, the plugin's page says so.
        max_length: messages that it holds, at most; None for no bound. A send to a full queue is refused with
            `QueueFull`; a publish drops the oldest waiting copy and reports the gap to the consumer.
        max_priority: the highest priority that it accepts, 0 to 9.
    """

    name: str
    max_attempts: int | None = 5
    expires: float | None = None
    message_ttl: float | None = None
    max_length: int | None = None
    max_priority: int = 9


@dataclass(frozen=True, slots=True)
class Depth:
    """How many messages a queue holds, by kind; None where the server cannot say."""

    ready: int | None
    in_flight: int | None
    delayed: int | None


@dataclass(slots=True, eq=False, kw_only=True)
class Record:
    """One record of a result backend.

    Attributes:
        key: the result's id.
        value: opaque bytes, encoded by the core.
        final: once stored, a final record is never replaced: the backend compares and sets in the server.
        if_absent: store only if no record of the key is there.
        expired: set by `get` on a record past its time to live that the store still remembers.
    """

    key: str
    value: bytes
    final: bool = False
    if_absent: bool = False
    expired: bool = False


def check_name(name: object, *, what: str, max_bytes: int) -> None:
    """Refuse a name that is no text, empty, too long, or has control characters or lone surrogates.

    Raises:
        InvalidName: and the text names the limit.
    """
    if not isinstance(name, str) or not name:
        raise InvalidName(f"{what} name {name!r} must be a non-empty text")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise InvalidName(f"{what} name {name!r} has a lone surrogate; use valid unicode") from None
    if size > max_bytes:
        raise InvalidName(f"{what} name {name[:40]!r}… has {size} bytes; at most {max_bytes} are allowed")
    if not name.isprintable():
        raise InvalidName(f"{what} name {name!r} has a control or unprintable character; use printable ones")


# UUIDv7 by RFC 9562: 48 bits of milliseconds, then here 30 bits of a counter (12 + 18) and 44 random bits that are
# this process's own. A counter instead of fresh randomness keeps ids of one process in order, and is 5 times cheaper.
_VERSION_AND_VARIANT: Final = (7 << 76) | (2 << 62)
_counter = itertools.count(random.SystemRandom().getrandbits(29))
_process = random.SystemRandom().getrandbits(44)


def _after_fork() -> None:
    global _process, _counter  # noqa: PLW0603 - a child must not repeat its parent's ids
    _process = random.SystemRandom().getrandbits(44)
    _counter = itertools.count(random.SystemRandom().getrandbits(29))


os.register_at_fork(after_in_child=_after_fork)


def new_id(now: float) -> str:
    """Return a new message id: a UUIDv7 as 32 hexadecimal digits. Thread-safe, and distinct after a fork.

    Ids of one process are in order, as far as its clock is: one that is set back gives earlier ids.

    Args:
        now: seconds since the epoch, 0 or more, by the injected clock.
    """
    n = next(_counter)
    value = (
        (int(now * 1000) << 80) | _VERSION_AND_VARIANT | (((n >> 18) & 0xFFF) << 64) | ((n & 0x3FFFF) << 44) | _process
    )
    return f"{value:032x}"


def sent_at(message_id: str) -> float:
    """Return the time within a message id: seconds since the epoch."""
    return int(message_id[:12], 16) / 1000


def pack_headers(headers: Mapping[str, str]) -> bytes | None:
    """Encode headers for engines that have none of their own: None if empty, else a JSON object in UTF-8."""
    return _pack(tuple(headers.items())) if headers else None


@lru_cache(maxsize=1024)
def _pack(items: tuple[tuple[str, str], ...]) -> bytes:
    return json.dumps(dict(items), ensure_ascii=False, separators=(",", ":")).encode()


def unpack_headers(packed: bytes | None) -> Mapping[str, str]:
    """Decode what `pack_headers` made. The mapping is shared, hence read-only.

    Raises:
        ValueError: it is no JSON object. (RecursionError: it is nested too deeply.)
    """
    return _unpack(packed) if packed else _NO_HEADERS


@lru_cache(maxsize=1024)
def _unpack(packed: bytes) -> Mapping[str, str]:
    headers = json.loads(packed)
    if not isinstance(headers, dict):  # a proxy of a text would look like a mapping for a while
        raise ValueError("the packed headers are no JSON object")  # noqa: TRY004 - the bytes are wrong, not their type
    return MappingProxyType(headers)


def topic_matches(pattern: str, routing_key: str) -> bool:
    """Tell whether an AMQP topic pattern matches: words between dots, `*` is one word, `#` any number of them.

    The rule is section 3.1.3.3 of the AMQP 0-9-1 specification. An empty word is a word.
    """
    return _match(tuple(pattern.split(".")) if pattern else (), tuple(routing_key.split(".")) if routing_key else ())


@lru_cache(maxsize=4096)
def _match(pattern: tuple[str, ...], words: tuple[str, ...]) -> bool:
    # reachable[i]: the pattern so far matches the first i words; linear in pattern × words, whatever the `#`s
    reachable = [True] + [False] * len(words)
    for part in pattern:
        if part == "#":
            for i in range(len(words)):
                reachable[i + 1] = reachable[i + 1] or reachable[i]
        else:
            hits = [here and part in ("*", word) for here, word in zip(reachable, words, strict=False)]
            reachable = [False, *hits]
    return reachable[-1]
