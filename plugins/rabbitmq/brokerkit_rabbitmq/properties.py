"""The properties of a message, as they stand in the header of its content."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeAlias

from brokerkit_rabbitmq.errors import Malformed
from brokerkit_rabbitmq.tables import encode_table, read_table, read_text, short_text

__all__ = ["Properties", "decode_properties", "encode_properties", "encode_stored", "message_id_of"]

_STORED: Final = b"\2"
_MESSAGE_ID: Final = 0x0080
_HEADERS: Final = 0x2000
_DELIVERY_MODE: Final = 0x1000


class Properties(NamedTuple):
    """Those of AMQP 0-9-1, in its order; None for one that is not given.

    Attributes:
        delivery_mode: 2 for a message that survives a restart.
        expiration: milliseconds, as a text.
        timestamp: seconds since the epoch.
    """

    content_type: str | None = None
    content_encoding: str | None = None
    headers: Mapping[str, Any] | None = None
    delivery_mode: int | None = None
    priority: int | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    expiration: str | None = None
    message_id: str | None = None
    timestamp: int | None = None
    type: str | None = None
    user_id: str | None = None
    app_id: str | None = None
    cluster_id: str | None = None


def encode_properties(properties: Properties) -> bytes:
    """Return them as a content header has them, flags first.

    Raises:
        ValueError: a text is longer than 255 bytes, or a header has no form in AMQP.
    """
    flags = 0
    parts = [b""]
    for (bit, encode, _), value in zip(_FIELDS, properties, strict=True):
        if value is not None:
            flags |= bit
            parts.append(encode(value))
    parts[0] = flags.to_bytes(2)
    return b"".join(parts)


def encode_stored(message_id: str, headers: Mapping[str, str], priority: int = 0, expiration: str = "") -> bytes:
    """Return what most messages have, quicker: persistent, with an id; headers, priority and expiration if given."""
    if not headers and not priority and not expiration:
        return b"\x10\x80\2" + short_text(message_id)
    flags = _DELIVERY_MODE | _MESSAGE_ID
    parts = [b"", b"", _STORED]
    if headers:
        flags |= _HEADERS
        parts[1] = encode_table(headers)
    if priority:
        flags |= 0x0800
        parts.append(bytes((priority,)))
    if expiration:
        flags |= 0x0100
        parts.append(short_text(expiration))
    parts.append(short_text(message_id))
    parts[0] = flags.to_bytes(2)
    return b"".join(parts)


def decode_properties(encoded: bytes) -> Properties:
    """Return what a content header says, from its flags on.

    Raises:
        Malformed: it says nothing that can be understood.
    """
    if len(encoded) < 2:  # noqa: PLR2004 - the flags
        raise Malformed("a content header has no flags")
    flags = encoded[0] << 8 | encoded[1]
    if flags & 3:
        raise Malformed(f"a content header has the flags {flags:#06x}, which AMQP does not know")
    values: list[Any] = [None] * len(_FIELDS)
    at = 2
    try:
        for place in _places(flags):
            values[place], at = _FIELDS[place][2](encoded, at)
    except (struct.error, IndexError) as error:
        raise Malformed(f"a content header ends too early: {error}") from error
    if at != len(encoded):
        raise Malformed(f"{len(encoded) - at} bytes behind the properties of a content header")
    return Properties(*values)


def message_id_of(encoded: bytes) -> str | None:
    """Return the id of a message by its encoded properties; None if it has none, or they cannot be read."""
    try:
        return decode_properties(encoded).message_id
    except Malformed:
        return None


def _octet(value: int) -> bytes:
    return bytes((value,))


def _read_octet(encoded: bytes, at: int) -> tuple[int, int]:
    return encoded[at], at + 1


def _long(value: int) -> bytes:
    return value.to_bytes(8)


def _read_long(encoded: bytes, at: int) -> tuple[int, int]:
    return struct.unpack_from(">Q", encoded, at)[0], at + 8


_Field: TypeAlias = tuple[int, Callable[[Any], bytes], Callable[[bytes, int], tuple[Any, int]]]

_OTHERS: Final[Mapping[str, tuple[Callable[[Any], bytes], Callable[[bytes, int], tuple[Any, int]]]]] = {
    "headers": (encode_table, read_table),
    "delivery_mode": (_octet, _read_octet),
    "priority": (_octet, _read_octet),
    "timestamp": (_long, _read_long),
}
_FIELDS: Final[tuple[_Field, ...]] = tuple(
    (0x8000 >> place, *_OTHERS.get(name, (short_text, read_text))) for place, name in enumerate(Properties._fields)
)


@lru_cache(maxsize=256)
def _places(flags: int) -> tuple[int, ...]:
    return tuple(place for place, (bit, _, _) in enumerate(_FIELDS) if flags & bit)
