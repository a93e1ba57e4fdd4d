"""What an engine can do, as typed promises with numbers.

A plugin answers every field; there are no defaults, so that nothing is promised by accident. The core refuses what is
not claimed before any I/O; the conformance suite measures what is. A power that is not there is `Absent` (nobody built
it) or `Impossible` (the product cannot), with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal, TypeAlias

from brokerkit.errors import Unsupported

__all__ = [
    "Absence",
    "Absent",
    "Capabilities",
    "Delay",
    "Durability",
    "Fanout",
    "Impossible",
    "Lease",
    "Missing",
    "Order",
    "Priority",
    "Redelivery",
    "ResultCapabilities",
    "is_missing",
    "promises",
    "require",
]


@dataclass(frozen=True, slots=True)
class Absent:
    """The engine lacks this power because nobody built it; it could be built."""

    reason: str


@dataclass(frozen=True, slots=True)
class Impossible:
    """The product behind the engine cannot do this."""

    reason: str


Missing: TypeAlias = Absent | Impossible


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The exclusive claim on a delivery.

    Attributes:
        scope: "message", it ends at its own deadline; "connection", the consumer's connection holds it, and it ends with that.
            Where `Redelivery.lease_end` is a number, the plugin ends it at its deadline all the same.
        min: the shortest visibility timeout, in seconds.
        max: the longest, in seconds.
        max_hold: how long one delivery may be held over all extensions, in seconds; None for no bound.
        extend: whether it can be prolonged.
        resolution: deadlines are exact to this, in seconds.
        time_source: whose clock decides: "server", or "host" for engines embedded in the clients of one machine.
    """

    scope: Literal["message", "connection"]
    min: float
    max: float
    max_hold: float | None
    extend: bool
    resolution: float
    time_source: Literal["server", "host"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Redelivery:
    """Seconds until a message is ready again, by what happened to its delivery; None: not by this trigger.

    Attributes:
        release: it was released without a delay.
        close: its receiver was closed cleanly.
        lease_end: after the end of its lease; None: it has none of its own (scope "connection").
        kill: its process was killed, counted from the end of the lease (scope "message") or from the death.
    """

    release: float
    close: float
    lease_end: float | None
    kill: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delay:
    """Delivery at a later time.

    Attributes:
        max: the longest delay, in seconds.
        late: how much later than asked it may be in an idle system, in seconds. It is never early.
        survives: whether waiting messages are as durable as others.
    """

    max: float
    late: float
    survives: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Priority:
    """Higher is sooner, FIFO within one level.

    Attributes:
        levels: how many are really distinct; values from 0 to 9 are mapped onto them.
    """

    levels: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fanout:
    """Topics.

    Attributes:
        durable: a bound queue keeps its copies while its consumer is away.
        patterns: AMQP topic patterns are matched.
        copies: how many copies a queue gets that is bound by several matching patterns.
        overflow: what a bounded queue does when it is full: "gap", drops the oldest copy and says how many; "refuse", takes no
            more: the publisher is told, and what other queues got of that publish they keep.
        vanish: seconds after its `expires` within which an unused queue is gone; None if it never goes by itself.
    """

    durable: bool
    patterns: bool
    copies: Literal["one", "each"]
    overflow: Literal["gap", "refuse"]
    vanish: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Durability:
    """What survives.

    Attributes:
        restart: an orderly restart of the server.
        kill: a killed server (or, for an embedded engine, killed clients).
        power_loss: loss of power; "option" where a setting decides.
    """

    restart: bool
    kill: bool
    power_loss: Literal["yes", "no", "option"]


Order: TypeAlias = Literal["queue", "group", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """The promises of one transport.

    Attributes:
        product: what runs behind it, for people.
        shared: who sees the same queues: "process" (one process only), "host" (one machine), "network".
        embedded: no server of its own and no socket, so network faults are impossible.
        lease: see `Lease`.
        redelivery: see `Redelivery`.
        attempts: how deliveries are counted: "exact", "approximate" (may be too high), "flag" (first or not).
        uncounted_release: whether `release(counted=False)` gives the attempt back.
        settle: "confirmed", the server has confirmed when `ack` returns; "sent", it was handed to the server.
        idempotent_send: a repeated send of a message whose first copy still waits is recognised by its id.
        order: what stays in order with one consumer: "queue", "group" (per ordering_key), "none".
        delay: see `Delay`.
        release_delay: the longest delay of a release, in seconds.
        priority: see `Priority`.
        message_ttl: messages can expire.
        queue_expires: unused queues vanish.
        max_length: queues can be bounded.
        dedup: `dedup_key` is honoured.
        fanout: see `Fanout`.
        depth: which of ready, in_flight, delayed the server can tell.
        durability: see `Durability`.
        one_claim: `receive` claims from all its queues in one step.
        max_message: bytes of body and headers together; None for no bound of ours.
        max_batch: messages that one call takes.
        max_name: bytes of a queue's or topic's name.
        evictable: which state the server may drop by itself.
        group_commit: single sends of many threads are worth combining, as each commit costs a disk's flush.
        failover: a URL may name several hosts of one server; the next is used when one is away.
        tls: connections can be encrypted; a server without a trusted certificate for its host is refused.
    """

    product: str
    shared: Literal["process", "host", "network"]
    embedded: bool
    lease: Lease
    redelivery: Redelivery
    attempts: Literal["exact", "approximate", "flag"]
    uncounted_release: bool
    settle: Literal["confirmed", "sent"]
    idempotent_send: bool
    order: Order
    delay: Delay | Missing
    release_delay: float | Missing
    priority: Priority | Missing
    message_ttl: Literal[True] | Missing
    queue_expires: Literal[True] | Missing
    max_length: Literal[True] | Missing
    dedup: Literal[True] | Missing
    fanout: Fanout | Missing
    depth: tuple[Literal["ready", "in_flight", "delayed"], ...]
    durability: Durability
    one_claim: bool
    max_message: int | None
    max_batch: int
    max_name: int
    evictable: tuple[str, ...]
    group_commit: bool
    failover: Literal[True] | Missing
    tls: Literal[True] | Missing


@dataclass(frozen=True, slots=True, kw_only=True)
class Absence:
    """How well a store can say why a record is not there: "exact" or "unknown" for each reason.

    Attributes:
        expired: its time to live ended.
        forgotten: somebody deleted it.
        evicted: the server dropped it, or someone behind our back.
    """

    expired: Literal["exact", "unknown"]
    forgotten: Literal["exact", "unknown"]
    evicted: Literal["exact", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultCapabilities:
    """The promises of one result backend.

    Attributes:
        product: what runs behind it, for people.
        shared: as in `Capabilities`.
        embedded: as in `Capabilities`.
        readers: who may read a result: "any", whoever has its id; "requester", only the process that made the id, and its
            time to live begins when that receives it.
        wait: "push", a waiter is woken by the store; "poll", the core looks, all awaited keys in one get.
        expires: whether records have a time to live.
        ttl_late: seconds after its time to live within which a record reads as gone.
        absence: see `Absence`.
        durability: see `Durability`.
        max_value: bytes of one encoded record; None for no bound of ours.
        max_key: bytes of one key.
        max_batch: records that one call takes.
        evictable: whether the server may drop records by itself.
    """

    product: str
    shared: Literal["process", "host", "network"]
    embedded: bool
    readers: Literal["any", "requester"]
    wait: Literal["push", "poll"]
    expires: Literal[True] | Missing
    ttl_late: float
    absence: Absence
    durability: Durability
    max_value: int | None
    max_key: int
    max_batch: int
    evictable: bool


def is_missing(value: object) -> bool:
    """Tell whether a capability's value says that the power is not there."""
    return isinstance(value, Absent | Impossible)


def require(capabilities: Capabilities | ResultCapabilities, name: str, *, asked: str) -> Any:
    """Return the capability's value, or refuse.

    Args:
        capabilities: the engine's.
        name: the field's name.
        asked: what the caller asked for, for the text: "delay=5".

    Raises:
        Unsupported: the power is absent; the text says why.
    """
    value = getattr(capabilities, name)
    if isinstance(value, Absent | Impossible):
        raise Unsupported(f"{asked}: {capabilities.product} has no {name} ({value.reason})")
    return value


def promises(capabilities: Capabilities | ResultCapabilities) -> Iterator[tuple[str, str]]:
    """Yield every promise as (dotted name, text), in the order of declaration; for tables and reports."""
    yield from _flatten("", capabilities)


def _flatten(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    for f in fields(value):
        inner = getattr(value, f.name)
        name = f"{prefix}{f.name}"
        if isinstance(inner, Absent | Impossible):
            yield name, f"{type(inner).__name__.lower()}: {inner.reason}"
        elif is_dataclass(inner):
            yield from _flatten(f"{name}.", inner)
        else:
            yield name, _NONE.get(name, "no bound") if inner is None else _text(inner)


_NONE = {"redelivery.lease_end": "not by this", "redelivery.kill": "not by this", "fanout.vanish": "never"}


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(value) or "none"
    return f"{value:.12g}" if isinstance(value, float) else str(value)
