"""How a queue lies in Redis: the names of its keys, and how a message is packed.

All keys of a queue have one hash tag, so that a cluster keeps them together. Behind the prefix and `{queue}:` stand

    m   hash    the settings, and what is known of the queue; there while the queue is
    b   hash    id → message; the truth, all else is an index that can be built anew. "" → "", to be told from nothing
    r0…r9 list  ids that nobody has received yet, by priority, the head is next
    z   zset    tokens that came back or whose delay is over, 9 - priority → token; by age among those of the list
    t   zset    end of the lease in ms → token of the current claim; one entry at +inf, as in b
    s   zset    due time in ms → token of a delayed message
    w   list    at most a few wake tokens, while something may be ready

and behind `{topic}:` stands `T`, a hash of bindings, in database 0 for all databases. The fields of m: u priorities in use,
e expires (ms), x when it expires, t message_ttl (ms), l max_length, p max_priority, o 1 if t or l is there, v shortest
visibility timeout seen (ms), d copies dropped, n count of bindings, gone what was found gone, and
`B…` for each binding, h 1 if someone subscribes to the channel `w`, on which a new wake token is told then (ADR 0017).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Final, NamedTuple

from brokerkit.models import Message, Received, pack_headers, unpack_headers

__all__ = ["Packed", "Token", "delivery_of", "pack", "queue_key", "queue_keys", "slices", "token_of", "topic_key"]

_EXPIRES: Final = 16
_DUE: Final = 32
_HEADERS: Final = 64
_TAIL: Final = struct.Struct(">BII")
_MOMENT: Final = 8
_LENGTH: Final = 4
_SUFFIXES: Final = (b"m", b"b", b"t", b"s", b"z", b"w", *(b"r%d" % priority for priority in range(10)))
_MOST_BYTES: Final = 64 * 1024 * 1024  # of the bodies in one call, unless a single one is larger
_PLAIN: Final = tuple(bytes([priority]) for priority in range(10))


class Packed(NamedTuple):
    """A message as the scripts take it; `ttl` and `delay` in ms, or empty."""

    id: bytes
    value: bytes
    ttl: bytes
    delay: bytes


class Token(NamedTuple):
    """What a receipt says."""

    id: bytes
    priority: int
    claims: int
    uncounted: int


def queue_key(prefix: str, name: str) -> bytes:
    """Return what the keys of a queue begin with."""
    return f"{prefix}{{{_escaped(name)}}}:".encode()


def queue_keys(prefix: str, name: str, *, cluster: bool) -> tuple[bytes, ...]:
    """Return the keys to name to a script that works on a queue; "m" comes first.

    A cluster that moves a slot moves one key after the other, and refuses a script while keys that it named are at two
    places. Hence all are named to it; a script that knew of "m" only would take those that are gone for lost.
    """
    key = queue_key(prefix, name)
    return tuple(key + suffix for suffix in (_SUFFIXES if cluster else _SUFFIXES[:1]))


def topic_key(prefix: str, topic: str) -> bytes:
    """Return the key of a topic's bindings."""
    return f"{prefix}{{{_escaped(topic)}}}:T".encode()


def _escaped(name: str) -> str:
    """Return a name that has no brace, and is no other's."""
    return name.replace("%", "%25").replace("{", "%7B").replace("}", "%7D")


def pack(message: Message) -> Packed:
    """Pack a message: flags, then what the flags announce, then the body. The scripts add the moments."""
    headers = pack_headers(message.headers)
    if headers is None:
        value = _PLAIN[message.priority] + message.body
    else:
        head = bytes([message.priority | _HEADERS]) + len(headers).to_bytes(_LENGTH, "big")
        value = head + headers + message.body
    ttl = b"" if message.ttl is None else b"%d" % max(round(message.ttl * 1000), 1)
    delay = b"%d" % round(message.delay * 1000) if message.delay > 0 else b""
    return Packed(bytes.fromhex(message.id), value, ttl, delay)


def slices(messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
    """Divide a batch, so that no call is more than the server takes from a client at a time.

    Redis ends a connection that has sent more than client-query-buffer-limit, 1 GiB by default, in one piece.
    """
    start = size = 0
    for i, message in enumerate(messages):
        size += len(message.body)
        if size > _MOST_BYTES and i > start:
            yield messages[start:i]
            start, size = i, len(message.body)
    yield messages[start:]


def token_of(token: bytes) -> Token:
    """Read a token.

    Raises:
        ValueError: it is none.
    """
    if len(token) < _TAIL.size:
        raise ValueError(f"{token!r} is no token")
    return Token(token[: -_TAIL.size], *_TAIL.unpack_from(token, len(token) - _TAIL.size))


def delivery_of(token: bytes, value: bytes, queue: str, deadline: float, now: int) -> Received:
    """Build a delivery from a claim's token and the packed message.

    What cannot be read is delivered with a header `bk-malformed`, for which the core dead-letters it.
    """
    priority, claims, uncounted = _TAIL.unpack_from(token, len(token) - _TAIL.size)
    attempt = claims - uncounted
    if value and value[0] < len(_PLAIN):  # the common case: no headers, no moments
        return Received(
            Message(id=token[: -_TAIL.size].hex(), body=value[1:], priority=priority), queue, token, attempt, deadline
        )
    message, expires_at = _read(token[: -_TAIL.size], value, priority)
    return Received(message, queue, token, attempt, deadline, expires_at is not None and expires_at <= now)


def _read(message_id: bytes, value: bytes, priority: int) -> tuple[Message, int | None]:
    flags = value[0] if value else 0x80
    at = 1
    expires_at = None
    if flags & _EXPIRES:
        expires_at = int.from_bytes(value[at : at + _MOMENT], "big")
        at += _MOMENT
    if flags & _DUE:
        at += _MOMENT
    headers: bytes | None = None
    broken = flags & 0x80 or (flags & 0x0F) >= len(_PLAIN) or len(value) < at
    if flags & _HEADERS and not broken:
        length = int.from_bytes(value[at : at + _LENGTH], "big")
        at += _LENGTH + length
        headers = value[at - length : at]
        broken = len(value) < at
    if broken:
        return Message(id=message_id.hex(), body=value, priority=priority, headers=_malformed("it is not packed")), None
    if headers is None:
        return Message(id=message_id.hex(), body=value[at:], priority=priority), expires_at
    return Message(id=message_id.hex(), body=value[at:], priority=priority, headers=_headers(headers)), expires_at


@lru_cache(maxsize=1024)
def _headers(packed: bytes) -> MappingProxyType[str, str]:
    try:
        headers = unpack_headers(packed)
    except (ValueError, TypeError, RecursionError):
        return _malformed("its headers are no JSON object")
    if not all(isinstance(value, str) for value in headers.values()):
        return _malformed("its headers are not all text")
    return MappingProxyType(dict(headers))


def _malformed(why: str) -> MappingProxyType[str, str]:
    return MappingProxyType({"bk-malformed": why})
