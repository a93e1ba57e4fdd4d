"""Events: what happened to messages that the caller's code did not ask for by itself."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["Event", "EventName", "Listener", "emit"]

logger = logging.getLogger("brokerkit")

EventName: TypeAlias = Literal[
    "handler_failed",  # a handler raised; the message was released or dead-lettered
    "dead_lettered",
    "lease_lost",  # found on extending, or by an ack that came too late
    "fanout_gap",
    "retrying",  # a call failed and is repeated
    "receiver_failed",  # a consumer lost its connection or a queue, and goes on
]

_LEVELS: dict[EventName, int] = {
    "handler_failed": logging.ERROR,
    "dead_lettered": logging.ERROR,
    "lease_lost": logging.WARNING,
    "fanout_gap": logging.WARNING,
    "retrying": logging.INFO,
    "receiver_failed": logging.WARNING,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened.

    Attributes:
        name: what.
        queue: where, if in one queue.
        message_id: to which message, if to one.
        attempt: of its delivery.
        reason: why, in words.
        error: the exception behind it.
    """

    name: EventName
    queue: str | None = None
    message_id: str | None = None
    attempt: int | None = None
    reason: str = ""
    error: BaseException | None = None


Listener: TypeAlias = Callable[[Event], None]


def emit(listener: Listener | None, event: Event) -> None:
    """Log an event, and tell the listener. A listener that raises is logged, and harms nobody."""
    where = " ".join(part for part in (event.queue, event.message_id) if part)
    logger.log(
        _LEVELS[event.name],
        "%s %s: %s",
        event.name,
        where,
        event.reason,
        exc_info=event.error if event.name == "handler_failed" else None,
    )
    if listener is not None:
        try:
            listener(event)
        except Exception:
            logger.exception("an event listener failed on %s", event.name)
