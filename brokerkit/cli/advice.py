"""What one should know of an engine before relying on it, read from its capabilities."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeAlias

from brokerkit.capabilities import Capabilities, Durability, ResultCapabilities

__all__ = ["Advice", "of_broker", "of_results"]

Advice: TypeAlias = tuple[Literal["warning", "note"], str]


def of_broker(given: Capabilities) -> Iterator[Advice]:
    """Yield what is worth knowing of a broker."""
    yield from _reach(given.shared)
    yield from _durability(given.durability)
    if given.evictable:
        yield (
            "warning",
            f"the server may drop by itself: {', '.join(given.evictable)}; strict=true refuses such a server",
        )
    if given.lease.scope == "connection":
        yield "note", "a delivery is claimed for as long as the consumer's connection lives"
    if given.settle == "sent":
        yield "note", "the server does not confirm acks: one may be lost with the connection, and its message repeated"
    if given.attempts != "exact":
        yield "note", f"attempts are counted as: {given.attempts}"
    if given.max_message is not None:
        yield "note", f"a message has at most {given.max_message:,} bytes"


def of_results(given: ResultCapabilities) -> Iterator[Advice]:
    """Yield what is worth knowing of a result store."""
    yield from _reach(given.shared)
    yield from _durability(given.durability)
    if given.evictable:
        yield "warning", "the server may drop records by itself; who waits for such a one gets ResultLost"
    vague = [name for name in ("expired", "forgotten", "evicted") if getattr(given.absence, name) == "unknown"]
    if vague:
        yield "note", f"why a record is gone cannot be told when it was: {', '.join(vague)}"
    if given.max_value is not None:
        yield "note", f"a record has at most {given.max_value:,} bytes"


def _reach(shared: str) -> Iterator[Advice]:
    if shared == "process":
        yield "warning", "it lives in one process: no other process sees it, and all is gone when it ends"
    elif shared == "host":
        yield "note", "it is for the processes of one machine"


def _durability(given: Durability) -> Iterator[Advice]:
    if not given.kill:
        yield "warning", "what is stored does not survive a kill"
    elif not given.restart:
        yield "warning", "what is stored does not survive a restart"
    elif given.power_loss == "no":
        yield "note", "the latest messages may not survive a loss of power"
    elif given.power_loss == "option":
        yield "note", "whether the latest survive a loss of power depends on an option"
