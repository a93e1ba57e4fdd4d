"""A message as a row of the table, and back. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from brokerkit.models import Message, Queue, Received, pack_headers, unpack_headers
from brokerkit_sqlalchemy.statements import DELAYED, READY

__all__ = ["delivery_of", "row_of", "settings_of"]


def settings_of(asked: Queue, row: Sequence[Any]) -> Queue:
    """Return a queue's settings as the database has them; it does not keep `max_attempts`."""
    _, expires, message_ttl, max_length, max_priority = row
    return Queue(
        name=asked.name,
        max_attempts=asked.max_attempts,
        expires=expires,
        message_ttl=message_ttl,
        max_length=max_length,
        max_priority=max_priority,
    )


def row_of(queue_id: int, message: Message, now: float, message_ttl: float | None) -> tuple[Any, ...]:
    """Return a message as a row of the table."""
    ttl = message_ttl if message.ttl is None else message.ttl
    return (
        queue_id,
        message.id,
        DELAYED if message.delay > 0 else READY,
        message.priority,
        now + message.delay,
        None if ttl is None else now + ttl,
        pack_headers(message.headers) if message.headers else None,
        message.body,
    )


def delivery_of(row: Sequence[Any], queue: str, deadline: float, now: float) -> Received:
    """Return a claimed row, as it was before its claim, as a delivery.

    A row that somebody else wrote or changed comes with the header `bk-malformed`, by which the core dead-letters it.
    """
    seq, message_id, body, headers, priority, attempt, claim, expires_at = row
    if headers is None and body is not None:
        message = Message(id=message_id, body=body, priority=priority)
    else:
        read = _read_headers(headers) if body is not None else _malformed("it has no body")
        message = Message(id=message_id, body=body or b"", headers=read, priority=priority)
    expired = expires_at is not None and expires_at <= now
    return Received(message, queue, (seq, claim + 1), attempt + 1, deadline, expired)


@lru_cache(maxsize=1024)
def _read_headers(packed: bytes | None) -> Mapping[str, str]:
    try:
        headers = unpack_headers(packed)
    except (ValueError, TypeError, RecursionError):
        return _malformed("its headers are no JSON object")
    if not all(isinstance(value, str) for value in headers.values()):
        return _malformed("its headers are not all text")
    return headers


def _malformed(why: str) -> Mapping[str, str]:
    return MappingProxyType({"bk-malformed": why})
