"""How our nouns lie in RabbitMQ: names, arguments of queues, and what a message carries beside its body. Pure.

A queue is a queue of its own name; all else of ours begins with `bk.`. A message is one of AMQP, persistent, with its id as
`message_id` and its headers as headers, so that other clients read and write them. Headers of ours on the wire:

    x-bk-attempt    how often it was delivered before this copy was made, by a release with a delay
    x-bk-expires    when its time to live ends, in ms since the epoch
    x-bk-headers    headers whose names AMQP or RabbitMQ would not take, as a JSON object
    bk-delay-N      where it goes from the exchange `bk.delay.N`; see `delays`
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from brokerkit.errors import InvalidName, MessageTooLarge
from brokerkit.models import Message, Queue, pack_headers, unpack_headers
from brokerkit_rabbitmq.errors import Malformed
from brokerkit_rabbitmq.properties import Properties, decode_properties, encode_stored

__all__ = ["OWN", "Stored", "check_name", "encode", "expiry_of", "oversized", "queue_arguments", "short", "stored"]

OWN: Final = "bk."
"""What the names of our own queues and exchanges begin with."""

_ATTEMPT: Final = "x-bk-attempt"
_EXPIRES: Final = "x-bk-expires"
_ODD: Final = "x-bk-headers"
_HOP: Final = "bk-delay-"
_COUNT: Final = "x-delivery-count"
_LONGEST: Final = 255
_DEAD: Final = ".dead"
_ID_DIGITS: Final = 32
_MOST_HEADERS: Final = 120_000  # bytes; a content header has to fit into one frame of 131,072
_SURELY_FIT: Final = 15_000  # signs, each of which has 6 bytes at most
_AROUND: Final = 8  # bytes, of one header
_PLAIN: Final = b"\x10\x80\x02\x20"  # persistent, an id of 32 signs, and nothing else
_LONGEST_TTL: Final = 4_294_967_295


class Stored(NamedTuple):
    """What a delivery says.

    Attributes:
        message: the message.
        claims: how often it was delivered before.
        expires: when its time to live ends, in ms since the epoch; None for never.
    """

    message: Message
    claims: int
    expires: int | None


def check_name(name: str) -> None:
    """Refuse a queue's name that the server keeps for itself, or that would be one of our own.

    Raises:
        InvalidName: and the text says why.
    """
    if name.startswith(("amq.", OWN)):
        whose = "RabbitMQ" if name.startswith("amq.") else "brokerkit"
        raise InvalidName(f"queue name {name!r}: names that begin with {name.split('.', 1)[0]!r}. are {whose}'s own")


def oversized(message: Message) -> MessageTooLarge | None:
    """Return why the headers of a message do not fit into a frame, if so: it must not fail those beside it."""
    if sum(len(name) + len(value) + _AROUND for name, value in message.headers.items()) < _SURELY_FIT:
        return None
    try:
        encode(message)
    except MessageTooLarge as error:
        return error
    return None


def short(name: str) -> str:
    """Return a name that AMQP takes: a longer one is cut, and has a hash of the whole at its end."""
    raw = name.encode()
    if len(raw) <= _LONGEST:
        return name
    digest = hashlib.blake2b(raw, digest_size=16).hexdigest()
    return f"{raw[:200].decode(errors='ignore')}…{digest}"


def queue_arguments(queue: Queue, kind: str) -> dict[str, Any]:
    """Return the arguments of a queue: always the same for the same settings, as the server compares them.

    Args:
        queue: its settings.
        kind: "quorum" or "classic".
    """
    arguments: dict[str, Any] = {"x-queue-type": kind}
    if kind == "classic" and queue.max_priority:
        arguments["x-max-priority"] = queue.max_priority
    if queue.expires is not None:
        arguments["x-expires"] = _ms(queue.expires)
    if queue.message_ttl is not None:
        arguments["x-message-ttl"] = _ms(queue.message_ttl)
        if not queue.name.endswith(_DEAD):  # dead letters have no dead letters
            arguments |= {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue.name + _DEAD}
            if kind == "quorum":
                arguments |= {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}
    if queue.max_length is not None:
        arguments |= {"x-max-length": queue.max_length, "x-overflow": "reject-publish"}
    return arguments


def expiry_of(message: Message, now: float) -> int | None:
    """Return when a message's time to live ends, in ms since the epoch, if it is sent now."""
    return None if message.ttl is None else round((now + message.ttl) * 1000)


def encode(
    message: Message, *, claims: int = 0, expires: int | None = None, hops: Mapping[str, str] | None = None
) -> bytes:
    """Return what stands beside a message's body.

    Args:
        message: to be stored.
        claims: how often it was delivered before.
        expires: when its time to live ends, in ms since the epoch.
        hops: its way through the delay exchanges.

    Raises:
        MessageTooLarge: its headers do not fit.
    """
    if not (message.headers or claims or expires or hops):
        return encode_stored(message.id, {}, message.priority)
    headers = _wired(message.headers)
    if claims:
        headers[_ATTEMPT] = claims
    if expires is not None:
        headers[_EXPIRES] = expires
    if hops:
        headers |= hops
    encoded = encode_stored(message.id, headers, message.priority)
    if len(encoded) > _MOST_HEADERS:
        raise MessageTooLarge(f"the message has {len(encoded)} bytes of headers; RabbitMQ takes {_MOST_HEADERS}")
    return encoded


def stored(properties: bytes, body: bytes, queue: str) -> Stored:
    """Read a delivery. What cannot be read has a header `bk-malformed`, for which the core dead-letters it."""
    if properties[:4] == _PLAIN and len(properties) == 4 + _ID_DIGITS:  # the common case
        try:
            message_id = properties[4:].decode("ascii")
            int(message_id, 16)
            return Stored(Message(id=message_id, body=body), 0, None)
        except ValueError:
            pass
    try:
        read = decode_properties(properties)
        return _stored(read, body, queue)
    except (Malformed, _Unreadable, ValueError, TypeError, RecursionError) as error:
        headers = {"bk-malformed": f"it cannot be read: {error}"}
        return Stored(Message(id=_id(None, properties + body), body=body, headers=headers), _count(properties), None)


class _Unreadable(Exception):
    """A header that is none of ours, and none of text."""


def _stored(read: Properties, body: bytes, queue: str) -> Stored:
    wired = dict(read.headers or {})
    claims = _number(wired.pop(_COUNT, 0), _COUNT) + _number(wired.pop(_ATTEMPT, 0), _ATTEMPT)
    expires = wired.pop(_EXPIRES, None)
    odd = wired.pop(_ODD, None)
    headers = {name: _text(name, value) for name, value in wired.items() if not _is_servers(name)}
    if odd is not None:
        headers |= _odd(odd)
    if queue.endswith(_DEAD) and "bk-dead-reason" not in headers:
        headers |= _death(wired.get("x-death"), queue)
    for name, value in (("content-type", read.content_type), ("content-encoding", read.content_encoding)):
        if value is not None:
            headers.setdefault(name, value)
    message = Message(
        id=_id(read.message_id, body),
        body=body,
        headers=MappingProxyType(headers),
        priority=min(read.priority or 0, 9),
    )
    return Stored(message, claims, None if expires is None else _number(expires, _EXPIRES))


def _wired(headers: Mapping[str, str]) -> dict[str, Any]:
    odd = {name: value for name, value in headers.items() if _is_odd(name)}
    if not odd:
        return dict(headers)
    plain: dict[str, Any] = {name: value for name, value in headers.items() if name not in odd}
    plain[_ODD] = (pack_headers(odd) or b"").decode()
    return plain


@lru_cache(maxsize=1024)
def _is_odd(name: str) -> bool:
    """Tell whether the server would take a header's name for its own, or not at all."""
    return name in ("CC", "BCC") or name.startswith(("x-", _HOP)) or not name or len(name.encode()) > _LONGEST


def _is_servers(name: str) -> bool:
    return name in ("CC", "BCC") or name.startswith(("x-death", "x-first-death", "x-last-death", _HOP))


def _odd(packed: Any) -> Mapping[str, str]:
    headers = unpack_headers(packed.encode()) if isinstance(packed, str) else None
    if headers is None or not all(isinstance(value, str) for value in headers.values()):
        raise _Unreadable(f"its header {_ODD!r} is none of ours")
    return {name: _text(name, value) for name, value in headers.items()}


def _text(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, bytes):
        return value.decode()
    if not isinstance(value, str):
        raise _Unreadable(f"its header {name!r} is no text")
    value.encode()  # a lone surrogate is no text either
    return value


def _number(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _Unreadable(f"its header {name!r} is no count")
    return value


def _count(properties: bytes) -> int:
    """Return how often something was delivered that cannot be read otherwise."""
    try:
        return _number((decode_properties(properties).headers or {}).get(_COUNT, 0), _COUNT)
    except (Malformed, _Unreadable):
        return 0


def _death(deaths: Any, queue: str) -> dict[str, str]:
    """Return, as the core writes them, why and whence the server moved a message to a dead queue."""
    for death in deaths if isinstance(deaths, list) else []:
        if isinstance(death, dict) and str(death.get("queue")) + _DEAD == queue:
            at = death.get("time")
            seconds = at.timestamp() if isinstance(at, datetime) else 0.0
            return {
                "bk-dead-reason": str(death.get("reason")),
                "bk-dead-detail": "by the server, at the end of the queue's message_ttl",
                "bk-dead-at": f"{seconds:.3f}",
                "bk-origin-queue": str(death.get("queue")),
                "bk-attempts": "",
            }
    return {}


def _id(given: str | None, body: bytes) -> str:
    """Return 32 digits: the id, if it is a UUID in any form; else always the same ones for the same message."""
    digits = (given or "").replace("-", "").lower()
    if len(digits) == _ID_DIGITS and all(digit in "0123456789abcdef" for digit in digits):
        return digits
    return hashlib.blake2b((given or "").encode(errors="replace") or body, digest_size=16).hexdigest()


def _ms(seconds: float) -> int:
    return min(max(round(seconds * 1000), 1), _LONGEST_TTL)
