"""Whom a result goes to, and how it looks on its way.

An id is the address of a process, a dot, and a text of any kind: "0d8c…f2.order 17". The address names the reply queue,
so that whoever has the id can store the result, and nothing else need be handed over. A bridge to a system that sends
the two apart (such as `reply_to` and `correlation_id`) joins them by `full_id`.

A record on its way is one message:

    1 byte    version, 1
    1 byte    flags: 1 final, 2 only if no record is there, 4 no record but a mark (see `Replies.look`)
    2 bytes   length of the id, big-endian
    8 bytes   time to live in seconds, a big-endian double; infinity for none
    the id    in UTF-8
    the rest  the record, as the core encoded it
"""

from __future__ import annotations

import math
import re
import secrets
import struct
from typing import Final

from brokerkit.errors import InvalidName
from brokerkit.models import Record

__all__ = [
    "MAX_ID",
    "OVERHEAD",
    "address_of",
    "decode",
    "encode",
    "encode_mark",
    "full_id",
    "has_address",
    "new_address",
    "queue_name",
]

MAX_ID: Final = 4096
_VERSION: Final = 1
_FINAL: Final = 1
_IF_ABSENT: Final = 2
_MARK: Final = 4
_FRAME: Final = struct.Struct(">BBHd")
_ADDRESSED: Final = re.compile(r"([0-9a-f]{32})\..+", re.DOTALL)

OVERHEAD: Final = _FRAME.size + MAX_ID
"""Bytes that a message has more than its record, at most."""


def new_address() -> str:
    """Return a new address: 32 hexadecimal digits that nobody can guess."""
    return secrets.token_hex(16)


def queue_name(address: str) -> str:
    """Return the name of an address's reply queue."""
    return f"bk-reply-{address}"


def full_id(address: str, rest: str) -> str:
    """Return the id of a result that goes to an address."""
    return f"{address}.{rest}"


def has_address(key: str) -> bool:
    """Tell whether an id says whom its result goes to."""
    return _ADDRESSED.fullmatch(key) is not None


def address_of(key: str) -> str:
    """Return whom an id's result goes to.

    Raises:
        InvalidName: it does not say.
    """
    found = _ADDRESSED.fullmatch(key)
    if found is None:
        raise InvalidName(
            f"result id {key[:80]!r} does not say whose it is: results travel to the reply queue of the process that asked "
            "for them; use the id of reserve(), PendingResult.id, on both sides"
        )
    return found[1]


def encode(record: Record, ttl: float | None) -> bytes:
    """Return a record as a message's body."""
    key = record.key.encode()
    flags = _FINAL * record.final | _IF_ABSENT * record.if_absent
    return _FRAME.pack(_VERSION, flags, len(key), math.inf if ttl is None else ttl) + key + record.value


def encode_mark() -> bytes:
    """Return a mark: it shows that what was sent before it has come."""
    return _FRAME.pack(_VERSION, _MARK, 0, math.inf)


def decode(body: bytes) -> tuple[Record | None, float | None]:
    """Return a message's record and its time to live; a mark has none.

    Raises:
        ValueError: something else wrote it.
    """
    if len(body) < _FRAME.size:
        raise ValueError("it is too short")
    version, flags, size, ttl = _FRAME.unpack_from(body)
    end = _FRAME.size + size
    if body == encode_mark():
        return None, None
    if version != _VERSION or flags & ~(_FINAL | _IF_ABSENT) or len(body) < end or not ttl > 0:
        raise ValueError("its frame is not ours")
    record = Record(
        key=body[_FRAME.size : end].decode(),
        value=body[end:],
        final=bool(flags & _FINAL),
        if_absent=bool(flags & _IF_ABSENT),
    )
    return record, None if math.isinf(ttl) else ttl
