"""Field tables, as arguments and headers of AMQP 0-9-1 have them: pure, bounded, and strict about what comes in."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from brokerkit_rabbitmq.errors import Malformed

__all__ = ["decode_table", "encode_table", "read_table", "read_text", "short_text"]

_SHORT: Final = 255
_DEEPEST: Final = 32
"""Tables in tables: more is nobody's header, and would end in Python's own limit."""

_INT: Final = struct.Struct(">I")
_FIXED: Final[Mapping[int, struct.Struct]] = {
    ord(sign): struct.Struct(form)
    for sign, form in {
        "b": ">b",
        "B": ">B",
        "s": ">h",
        "u": ">H",
        "I": ">i",
        "i": ">I",
        "l": ">q",
        "L": ">q",
        "f": ">f",
        "d": ">d",
        "T": ">Q",
    }.items()
}
_TEXT, _BYTES, _TABLE, _ARRAY, _BOOL, _NOTHING, _DECIMAL, _TIME = b"SxFAtVDT"
_DECIMALS: Final = struct.Struct(">Bi")


def encode_table(fields: Mapping[str, Any]) -> bytes:
    """Return a table with its length in front.

    Raises:
        ValueError: a name is longer than 255 bytes, or a value has no form in AMQP.
    """
    parts = [short_text(name) + _encoded(value) for name, value in fields.items()]
    return _sized(b"".join(parts))


def decode_table(encoded: bytes) -> dict[str, Any]:
    """Return what a table with its length in front says; nothing may follow it.

    Raises:
        Malformed: it is none.
    """
    fields, end = read_table(encoded, 0)
    if end != len(encoded):
        raise Malformed(f"{len(encoded) - end} bytes behind the end of a table")
    return fields


def read_table(encoded: bytes, at: int) -> tuple[dict[str, Any], int]:
    """Return the table that begins at a place, and where it ends."""
    try:
        return _read_table(encoded, at, 0)
    except (
        struct.error,
        OSError,
        OverflowError,
        ValueError,
        IndexError,
    ) as error:  # OSError: of a time that is too large
        raise Malformed(f"no table of AMQP: {error}") from error


def short_text(text: str) -> bytes:
    """Return a text of at most 255 bytes with its length in front."""
    raw = text.encode("utf-8", "surrogatepass")
    if len(raw) > _SHORT:
        raise ValueError(f"{text[:40]!r}… has {len(raw)} bytes; AMQP takes {_SHORT}")
    return bytes((len(raw),)) + raw


def read_text(encoded: bytes, at: int) -> tuple[str, int]:
    """Return the short text that begins at a place, and where it ends."""
    end = at + 1 + encoded[at] if at < len(encoded) else len(encoded) + 1
    if end > len(encoded):
        raise Malformed("a text goes on behind the end of its frame")
    return encoded[at + 1 : end].decode("utf-8", "replace"), end


def _sized(raw: bytes) -> bytes:
    return _INT.pack(len(raw)) + raw


def _encoded(value: Any) -> bytes:
    if isinstance(value, str):
        return b"S" + _sized(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, bool):
        return b"t\1" if value else b"t\0"
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise ValueError(f"{value} has more than 64 bits")
        return b"I" + struct.pack(">i", value) if -(2**31) <= value < 2**31 else b"l" + struct.pack(">q", value)
    if isinstance(value, float):
        return b"d" + struct.pack(">d", value)
    for kind, encode in _ENCODERS:
        if isinstance(value, kind):
            return encode(value)
    raise ValueError(f"a {type(value).__name__} has no form in AMQP")


def _encoded_decimal(value: Decimal) -> bytes:
    sign, digits, exponent = value.as_tuple()
    number = int("".join(map(str, digits)) or "0") * (-1 if sign else 1)
    if not isinstance(exponent, int) or not -_SHORT <= exponent <= 0 or not -(2**31) <= number < 2**31:
        raise ValueError(f"{value} has no form in AMQP")
    return b"D" + _DECIMALS.pack(-exponent, number)


def _encoded_time(value: datetime) -> bytes:
    return b"T" + struct.pack(">Q", int(value.timestamp()))


_ENCODERS: Final[Sequence[tuple[Any, Callable[[Any], bytes]]]] = (
    (type(None), lambda _: b"V"),
    (bytes, lambda value: b"x" + _sized(value)),
    (Mapping, lambda value: b"F" + encode_table(value)),
    (Sequence, lambda value: b"A" + _sized(b"".join(map(_encoded, value)))),
    (Decimal, _encoded_decimal),
    (datetime, _encoded_time),
)


def _read_table(encoded: bytes, at: int, depth: int) -> tuple[dict[str, Any], int]:
    at, end = _limits(encoded, at, depth)
    fields = {}
    while at < end:
        name, at = read_text(encoded, at)
        fields[name], at = _read_value(encoded, at, end, depth)
    return fields, end


def _read_array(encoded: bytes, at: int, depth: int) -> tuple[list[Any], int]:
    at, end = _limits(encoded, at, depth)
    values = []
    while at < end:
        value, at = _read_value(encoded, at, end, depth)
        values.append(value)
    return values, end


def _limits(encoded: bytes, at: int, depth: int) -> tuple[int, int]:
    (size,) = _INT.unpack_from(encoded, at)
    end = at + 4 + size
    if end > len(encoded) or depth > _DEEPEST:
        raise ValueError("it goes on behind the end of its frame, or is too deep")
    return at + 4, end


def _read_value(encoded: bytes, at: int, end: int, depth: int) -> tuple[Any, int]:
    sign = encoded[at]
    at += 1
    value: Any
    if sign in (_TEXT, _BYTES):
        start, after = _limits(encoded, at, 0)
        value = _text_of(encoded[start:after]) if sign == _TEXT else encoded[start:after]
    elif sign == _TABLE:
        value, after = _read_table(encoded, at, depth + 1)
    elif sign == _ARRAY:
        value, after = _read_array(encoded, at, depth + 1)
    elif sign == _NOTHING:
        value, after = None, at
    elif sign == _BOOL:
        value, after = encoded[at] != 0, at + 1
    elif sign == _DECIMAL:
        scale, number = _DECIMALS.unpack_from(encoded, at)
        value, after = Decimal(number).scaleb(-scale), at + _DECIMALS.size
    elif sign in _FIXED:
        (value,) = _FIXED[sign].unpack_from(encoded, at)
        value, after = datetime.fromtimestamp(value, UTC) if sign == _TIME else value, at + _FIXED[sign].size
    else:
        raise ValueError(f"{sign:#x} is no type of a value")
    if after > end:
        raise ValueError("a value goes on behind the end of its table")
    return value, after


def _text_of(raw: bytes) -> str | bytes:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw  # RabbitMQ allows any bytes here
