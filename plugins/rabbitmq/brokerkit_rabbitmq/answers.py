"""What the server says: the numbers of its methods, and their arguments read. Pure."""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from brokerkit_rabbitmq.errors import Malformed
from brokerkit_rabbitmq.tables import read_text

__all__ = [
    "BASIC_ACK",
    "BASIC_CANCEL",
    "BASIC_CANCEL_OK",
    "BASIC_CONSUME_OK",
    "BASIC_DELIVER",
    "BASIC_GET_EMPTY",
    "BASIC_GET_OK",
    "BASIC_QOS_OK",
    "BASIC_RETURN",
    "BASIC_UNSTORED",
    "CHANNEL_CLOSE",
    "CHANNEL_CLOSE_OK",
    "CHANNEL_OPEN_OK",
    "CONFIRM_SELECT_OK",
    "CONNECTION_BLOCKED",
    "CONNECTION_CLOSE",
    "CONNECTION_CLOSE_OK",
    "CONNECTION_UNBLOCKED",
    "EXCHANGE_BIND_OK",
    "EXCHANGE_DECLARE_OK",
    "EXCHANGE_DELETE_OK",
    "EXCHANGE_UNBIND_OK",
    "QUEUE_BIND_OK",
    "QUEUE_DECLARE_OK",
    "QUEUE_DELETE_OK",
    "QUEUE_PURGE_OK",
    "QUEUE_UNBIND_OK",
    "Closing",
    "Declared",
    "Delivered",
    "Returned",
    "read_closing",
    "read_confirmed",
    "read_count",
    "read_declared",
    "read_deliver",
    "read_reason",
    "read_returned",
    "read_tag",
]


def _id(group: int, method: int) -> int:
    return group << 16 | method


CONNECTION_CLOSE: Final = _id(10, 50)
CONNECTION_CLOSE_OK: Final = _id(10, 51)
CONNECTION_BLOCKED: Final = _id(10, 60)
CONNECTION_UNBLOCKED: Final = _id(10, 61)
CHANNEL_OPEN_OK: Final = _id(20, 11)
CHANNEL_CLOSE: Final = _id(20, 40)
CHANNEL_CLOSE_OK: Final = _id(20, 41)
EXCHANGE_DECLARE_OK: Final = _id(40, 11)
EXCHANGE_DELETE_OK: Final = _id(40, 21)
EXCHANGE_BIND_OK: Final = _id(40, 31)
EXCHANGE_UNBIND_OK: Final = _id(40, 51)
QUEUE_DECLARE_OK: Final = _id(50, 11)
QUEUE_BIND_OK: Final = _id(50, 21)
QUEUE_PURGE_OK: Final = _id(50, 31)
QUEUE_DELETE_OK: Final = _id(50, 41)
QUEUE_UNBIND_OK: Final = _id(50, 51)
BASIC_QOS_OK: Final = _id(60, 11)
BASIC_CONSUME_OK: Final = _id(60, 21)
BASIC_CANCEL: Final = _id(60, 30)
BASIC_CANCEL_OK: Final = _id(60, 31)
BASIC_RETURN: Final = _id(60, 50)
BASIC_DELIVER: Final = _id(60, 60)
BASIC_GET_OK: Final = _id(60, 71)
BASIC_GET_EMPTY: Final = _id(60, 72)
BASIC_ACK: Final = _id(60, 80)
BASIC_UNSTORED: Final = _id(60, 120)
"""What the server answers to a publish that it could not store; from us, it gives deliveries back."""
CONFIRM_SELECT_OK: Final = _id(85, 11)

_SHORT_INT: Final = struct.Struct(">H")
_COUNT: Final = struct.Struct(">I")
_TAG: Final = struct.Struct(">Q")
_CONFIRMED: Final = struct.Struct(">Q?")


class Delivered(NamedTuple):
    """What `basic.deliver` says."""

    consumer_tag: str
    delivery_tag: int
    redelivered: bool
    exchange: str
    key: str


class Returned(NamedTuple):
    """What `basic.return` says: a message that no queue wanted."""

    code: int
    text: str
    exchange: str
    key: str


class Declared(NamedTuple):
    """What `queue.declare-ok` says: the queue's name, its ready messages and its consumers."""

    name: str
    messages: int
    consumers: int


class Closing(NamedTuple):
    """Why the server closes a channel or the connection, and for which method, if for any."""

    code: int
    text: str
    method: tuple[int, int]


def read_deliver(args: bytes) -> Delivered:
    """Return what `basic.deliver` says."""
    try:
        consumer, at = read_text(args, 0)
        (tag,) = _TAG.unpack_from(args, at)
        exchange, after = read_text(args, at + 9)
        key, _ = read_text(args, after)
        return Delivered(consumer, tag, args[at + 8] & 1 == 1, exchange, key)
    except (struct.error, IndexError) as error:
        raise Malformed(f"a delivery cannot be read: {error}") from error


def read_returned(args: bytes) -> Returned:
    """Return what `basic.return` says."""
    code = _number(_SHORT_INT, args)
    text, at = read_text(args, 2)
    exchange, at = read_text(args, at)
    key, _ = read_text(args, at)
    return Returned(code, text, exchange, key)


def read_confirmed(args: bytes) -> tuple[int, bool]:
    """Return the tag of a confirm, and whether it is about all up to it."""
    try:
        tag, multiple = _CONFIRMED.unpack_from(args)
    except struct.error as error:
        raise Malformed(f"a confirm cannot be read: {error}") from error
    return tag, multiple


def read_declared(args: bytes) -> Declared:
    """Return what `queue.declare-ok` says."""
    name, at = read_text(args, 0)
    return Declared(name, _number(_COUNT, args, at), _number(_COUNT, args, at + 4))


def read_count(args: bytes) -> int:
    """Return how many messages `queue.purge-ok` or `queue.delete-ok` is about."""
    return _number(_COUNT, args)


def read_tag(args: bytes) -> str:
    """Return the consumer's tag of `basic.consume-ok`, `basic.cancel-ok` or the server's `basic.cancel`."""
    return read_text(args, 0)[0]


def read_reason(args: bytes) -> str:
    """Return the text of `connection.blocked`."""
    return read_text(args, 0)[0]


def read_closing(args: bytes) -> Closing:
    """Return why the server closes a channel or the connection."""
    code = _number(_SHORT_INT, args)
    text, at = read_text(args, 2)
    return Closing(code, text, (_number(_SHORT_INT, args, at), _number(_SHORT_INT, args, at + 2)))


def _number(form: struct.Struct, args: bytes, at: int = 0) -> int:
    try:
        return int(form.unpack_from(args, at)[0])
    except struct.error as error:
        raise Malformed(f"the arguments of a method end too early: {error}") from error
