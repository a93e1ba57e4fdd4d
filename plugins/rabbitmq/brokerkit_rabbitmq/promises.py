"""What RabbitMQ can do, as capabilities."""

from __future__ import annotations

import math
from typing import Final

from brokerkit.capabilities import (
    Absent,
    Capabilities,
    Delay,
    Durability,
    Fanout,
    Impossible,
    Lease,
    Priority,
    Redelivery,
)
from brokerkit_rabbitmq.delays import LONGEST
from brokerkit_rabbitmq.tender import TICK

__all__ = ["MAX_BATCH", "SHORTEST_LEASE", "heartbeat_for", "max_hold", "transport_capabilities"]

MAX_BATCH: Final = 1000
SHORTEST_LEASE: Final = 2.0
"""Seconds: below, the heartbeat would have to be shorter than a second, which AMQP cannot say."""

_LATE: Final = 0.5  # seconds: the tender's tick, and a busy machine
_FROZEN: Final = 1.5  # seconds after its lease within which the server gives up on a frozen consumer: three heartbeats
_LONGEST_HEARTBEAT: Final = 3600
_YEAR: Final = 31_536_000.0


def max_hold(consumer_timeout: float | None) -> float | None:
    """Return how long a delivery may be held, by the server's limit: we let go before it closes the channel."""
    return None if consumer_timeout is None else 0.9 * consumer_timeout


def transport_capabilities(
    *, queue_type: str, consumer_timeout: float | None, heartbeat: int | None = None
) -> Capabilities:
    """Return the promises of the transport."""
    quorum = queue_type == "quorum"
    hold = max_hold(consumer_timeout)
    return Capabilities(
        product="RabbitMQ",
        shared="network",
        embedded=False,
        lease=Lease(
            scope="connection",
            min=SHORTEST_LEASE,
            max=_YEAR if hold is None else max(hold, SHORTEST_LEASE),
            max_hold=hold,
            extend=True,
            resolution=TICK,
            time_source="host",
        ),
        redelivery=Redelivery(release=_LATE, close=_LATE, lease_end=_frozen(heartbeat), kill=_LATE),
        attempts="exact" if quorum else "flag",
        uncounted_release=False,
        settle="sent",
        idempotent_send=False,
        order="queue",
        delay=Delay(max=LONGEST, late=_LATE, survives=True),
        release_delay=LONGEST,
        priority=Absent("quorum queues of RabbitMQ 3.10 have none; classic ones do: queue_type=classic")
        if quorum
        else Priority(levels=10),
        message_ttl=True,
        queue_expires=True,
        max_length=True,
        dedup=Impossible("RabbitMQ compares no messages"),
        fanout=Fanout(durable=True, patterns=True, copies="one", overflow="refuse", vanish=1.0),
        depth=("ready",),
        durability=Durability(restart=True, kill=True, power_loss="yes" if quorum else "no"),
        one_claim=False,
        max_message=128 * 1024 * 1024,
        max_batch=MAX_BATCH,
        max_name=255,
        evictable=(),
        group_commit=False,
        failover=True,
        tls=True,
    )


def heartbeat_for(visibility_timeout: float) -> int:
    """Return the heartbeat by which the server notices a frozen consumer within its lease, about: in three of them."""
    return min(max(1, math.floor((visibility_timeout + 1) / 3)), _LONGEST_HEARTBEAT)


def _frozen(heartbeat: int | None) -> float:
    """Return how long after its lease, at most, the server gives up on a frozen consumer."""
    return _FROZEN if heartbeat is None else max(_FROZEN, 3 * heartbeat - SHORTEST_LEASE + _LATE)
