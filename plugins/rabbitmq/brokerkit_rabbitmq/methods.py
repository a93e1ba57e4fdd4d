"""What we say: each method of AMQP 0-9-1 that we need, as the bytes of its frame. Pure."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from brokerkit_rabbitmq.tables import encode_table, short_text

__all__ = [
    "basic_ack",
    "basic_cancel",
    "basic_consume",
    "basic_get",
    "basic_give_back",
    "basic_publish",
    "basic_qos",
    "basic_reject",
    "channel_close",
    "channel_close_ok",
    "channel_open",
    "confirm_select",
    "connection_close",
    "connection_close_ok",
    "exchange_bind",
    "exchange_declare",
    "exchange_delete",
    "queue_bind",
    "queue_declare",
    "queue_delete",
    "queue_purge",
    "queue_unbind",
]


_EMPTY: Final[Mapping[str, Any]] = {}
_SETTLEMENT: Final = struct.Struct(">BHIHHQBB")


def connection_close(code: int = 200, text: str = "") -> bytes:
    """Ask the server to close the connection."""
    return _frame(0, 10, 50, _short(code), short_text(text), b"\0\0\0\0")


def connection_close_ok() -> bytes:
    """Tell the server that we know."""
    return _frame(0, 10, 51)


def channel_open(channel: int) -> bytes:
    """Open a channel."""
    return _frame(channel, 20, 10, b"\0")


def channel_close(channel: int, code: int = 200, text: str = "") -> bytes:
    """Ask the server to close a channel."""
    return _frame(channel, 20, 40, _short(code), short_text(text), b"\0\0\0\0")


def channel_close_ok(channel: int) -> bytes:
    """Tell the server that we know."""
    return _frame(channel, 20, 41)


def confirm_select(channel: int) -> bytes:
    """Let the server confirm what is published on a channel."""
    return _frame(channel, 85, 10, b"\0")


def exchange_declare(
    channel: int,
    name: str,
    kind: str,
    *,
    passive: bool = False,
    durable: bool = True,
    auto_delete: bool = False,
    internal: bool = False,
    arguments: Mapping[str, Any] = _EMPTY,
) -> bytes:
    """Make an exchange of a kind ("topic", "fanout", "direct"), or with `passive` ask whether it is there."""
    bits = _bits(passive, durable, auto_delete, internal)
    return _frame(channel, 40, 10, b"\0\0", short_text(name), short_text(kind), bits, encode_table(arguments))


def exchange_delete(channel: int, name: str, *, if_unused: bool = False) -> bytes:
    """Delete an exchange; nothing happens if there is none."""
    return _frame(channel, 40, 20, b"\0\0", short_text(name), _bits(if_unused))


def exchange_bind(
    channel: int, destination: str, source: str, key: str, arguments: Mapping[str, Any] = _EMPTY
) -> bytes:
    """Let what goes to one exchange go on to another."""
    names = short_text(destination) + short_text(source) + short_text(key)
    return _frame(channel, 40, 30, b"\0\0", names, b"\0", encode_table(arguments))


def queue_declare(
    channel: int,
    name: str,
    *,
    passive: bool = False,
    durable: bool = True,
    exclusive: bool = False,
    auto_delete: bool = False,
    arguments: Mapping[str, Any] = _EMPTY,
) -> bytes:
    """Make a queue, or with `passive` ask whether it is there and how much is in it."""
    bits = _bits(passive, durable, exclusive, auto_delete)
    return _frame(channel, 50, 10, b"\0\0", short_text(name), bits, encode_table(arguments))


def queue_bind(channel: int, queue: str, exchange: str, key: str, arguments: Mapping[str, Any] = _EMPTY) -> bytes:
    """Let what goes to an exchange with a routing key go on to a queue."""
    names = short_text(queue) + short_text(exchange) + short_text(key)
    return _frame(channel, 50, 20, b"\0\0", names, b"\0", encode_table(arguments))


def queue_unbind(channel: int, queue: str, exchange: str, key: str, arguments: Mapping[str, Any] = _EMPTY) -> bytes:
    """Undo `queue_bind`."""
    names = short_text(queue) + short_text(exchange) + short_text(key)
    return _frame(channel, 50, 50, b"\0\0", names, encode_table(arguments))


def queue_purge(channel: int, queue: str) -> bytes:
    """Remove what is ready in a queue."""
    return _frame(channel, 50, 30, b"\0\0", short_text(queue), b"\0")


def queue_delete(channel: int, queue: str, *, if_unused: bool = False, if_empty: bool = False) -> bytes:
    """Delete a queue; nothing happens if there is none."""
    return _frame(channel, 50, 40, b"\0\0", short_text(queue), _bits(if_unused, if_empty))


def basic_qos(channel: int, prefetch: int, *, is_global: bool = False) -> bytes:
    """Set how many deliveries each further consumer of a channel may hold; 0 for any number."""
    return _frame(channel, 60, 10, b"\0\0\0\0", _short(prefetch), _bits(is_global))


def basic_consume(
    channel: int,
    queue: str,
    tag: str,
    *,
    exclusive: bool = False,
    nowait: bool = False,
    arguments: Mapping[str, Any] = _EMPTY,
) -> bytes:
    """Begin to consume a queue; with `nowait` there is no answer, unless the channel is closed for it."""
    bits = _bits(False, False, exclusive, nowait)  # the first: no_local, no_ack
    return _frame(channel, 60, 20, b"\0\0", short_text(queue), short_text(tag), bits, encode_table(arguments))


def basic_cancel(channel: int, tag: str) -> bytes:
    """End a consumer; what it holds stays held."""
    return _frame(channel, 60, 30, short_text(tag), b"\0")


def basic_get(channel: int, queue: str, *, no_ack: bool = False) -> bytes:
    """Ask for one message."""
    return _frame(channel, 60, 70, b"\0\0", short_text(queue), _bits(no_ack))


@lru_cache(maxsize=4096)
def basic_publish(channel: int, exchange: str, key: str, *, mandatory: bool = False) -> bytes:
    """Publish the content that follows; `mandatory` lets it come back if no queue wants it."""
    return _frame(channel, 60, 40, b"\0\0", short_text(exchange), short_text(key), _bits(mandatory))


def basic_ack(channel: int, tag: int, *, multiple: bool = False) -> bytes:
    """Settle a delivery, or with `multiple` all up to it."""
    return _SETTLEMENT.pack(1, channel, 13, 60, 80, tag, multiple, 0xCE)


def basic_reject(channel: int, tag: int, *, requeue: bool) -> bytes:
    """Give a delivery back, or away."""
    return _SETTLEMENT.pack(1, channel, 13, 60, 90, tag, requeue, 0xCE)


def basic_give_back(channel: int, tag: int, *, multiple: bool, requeue: bool) -> bytes:
    """Give a delivery back, or away; with `multiple` all up to it."""
    return _SETTLEMENT.pack(1, channel, 13, 60, 120, tag, multiple | requeue << 1, 0xCE)


def _short(number: int) -> bytes:
    return number.to_bytes(2)


def _bits(*flags: bool) -> bytes:
    return bytes((sum(flag << place for place, flag in enumerate(flags)),))


def _frame(channel: int, group: int, method: int, *parts: bytes) -> bytes:
    args = b"".join(parts)
    return struct.pack(">BHIHH", 1, channel, 4 + len(args), group, method) + args + b"\xce"
