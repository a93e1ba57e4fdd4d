"""What Redis can do, as capabilities."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from brokerkit.capabilities import (
    Absence,
    Absent,
    Capabilities,
    Delay,
    Durability,
    Fanout,
    Lease,
    Priority,
    Redelivery,
    ResultCapabilities,
)

__all__ = ["MAX_BATCH", "Persistence", "result_capabilities", "transport_capabilities"]

MAX_BATCH: Final = 1000  # what a script can hand to one command
_LATE: Final = 0.35  # seconds: Redis ends a wait at its next tick, by default 0.1 s, and a busy machine
_LONGEST: Final = 315_360_000.0  # ten years
Persistence: TypeAlias = Literal["none", "rdb", "aof"]


def _durability(persistence: Persistence) -> Durability:
    """Return what survives, by what the server is said to write down."""
    return Durability(
        restart=persistence != "none",
        kill=persistence == "aof",
        power_loss="option" if persistence == "aof" else "no",
    )


def transport_capabilities(*, cluster: bool, persistence: Persistence) -> Capabilities:
    """Return the promises of the transport."""
    return Capabilities(
        product="Redis Cluster" if cluster else "Redis",
        shared="network",
        embedded=False,
        lease=Lease(
            scope="message", min=0.1, max=_LONGEST, max_hold=None, extend=True, resolution=0.001, time_source="server"
        ),
        redelivery=Redelivery(release=_LATE, close=_LATE, lease_end=_LATE, kill=_LATE),
        attempts="exact",
        uncounted_release=True,
        settle="confirmed",
        idempotent_send=True,
        order="queue",
        delay=Delay(max=_LONGEST, late=_LATE, survives=True),
        release_delay=_LONGEST,
        priority=Priority(levels=10),
        message_ttl=True,
        queue_expires=True,
        max_length=True,
        dedup=Absent("no history of dedup keys is kept"),
        fanout=Fanout(durable=True, patterns=True, copies="one", overflow="gap", vanish=0.1),
        depth=("ready", "in_flight", "delayed"),
        durability=_durability(persistence),
        one_claim=not cluster,
        max_message=256 * 1024 * 1024,
        max_batch=MAX_BATCH,
        max_name=255,
        evictable=(),
        group_commit=False,
        failover=True,
        tls=True,
    )


def result_capabilities(*, persistence: Persistence) -> ResultCapabilities:
    """Return the promises of the result backend."""
    return ResultCapabilities(
        product="Redis",
        shared="network",
        embedded=False,
        readers="any",
        wait="push",
        expires=True,
        ttl_late=0.0,
        absence=Absence(expired="unknown", forgotten="unknown", evicted="unknown"),
        durability=_durability(persistence),
        max_value=256 * 1024 * 1024,
        max_key=1024,
        max_batch=MAX_BATCH,
        evictable=False,
    )
