"""What SQLite can do, as capabilities."""

from __future__ import annotations

from brokerkit.capabilities import (
    Absence,
    Absent,
    Capabilities,
    Delay,
    Durability,
    Fanout,
    Impossible,
    Lease,
    Priority,
    Redelivery,
    ResultCapabilities,
)

__all__ = ["result_capabilities", "transport_capabilities"]

_LATE = 0.25  # seconds: a poll of at most polling_interval, a transaction, and a busy machine
_LONGEST = 315_360_000.0  # ten years


def _durability(synchronous: str, *, in_memory: bool) -> Durability:
    lasting = not in_memory
    return Durability(restart=lasting, kill=lasting, power_loss="yes" if lasting and synchronous == "FULL" else "no")


def transport_capabilities(*, in_memory: bool, synchronous: str) -> Capabilities:
    """Return the promises of the transport."""
    return Capabilities(
        product="SQLite in memory" if in_memory else "SQLite",
        shared="process" if in_memory else "host",
        embedded=True,
        lease=Lease(
            scope="message", min=0.1, max=_LONGEST, max_hold=None, extend=True, resolution=0.001, time_source="host"
        ),
        redelivery=Redelivery(release=_LATE, close=_LATE, lease_end=_LATE, kill=None if in_memory else _LATE),
        attempts="exact",
        uncounted_release=True,
        settle="confirmed",
        idempotent_send=True,
        order="queue",
        delay=Delay(max=_LONGEST, late=_LATE, survives=not in_memory),
        release_delay=_LONGEST,
        priority=Priority(levels=10),
        message_ttl=True,
        queue_expires=True,
        max_length=True,
        dedup=Absent("no history of dedup keys is kept"),
        fanout=Fanout(durable=True, patterns=True, copies="one", overflow="gap", vanish=0.0),
        depth=("ready", "in_flight", "delayed"),
        durability=_durability(synchronous, in_memory=in_memory),
        one_claim=True,
        max_message=256 * 1024 * 1024,
        max_batch=10_000,
        max_name=255,
        evictable=(),
        # at FULL a commit waits for the disk, so the sends of many threads are worth joining
        group_commit=synchronous == "FULL" and not in_memory,
        failover=Impossible("it is embedded: there is no host"),
        tls=Impossible("it is embedded: nothing leaves the machine"),
    )


def result_capabilities(*, in_memory: bool, synchronous: str) -> ResultCapabilities:
    """Return the promises of the result backend."""
    return ResultCapabilities(
        product="SQLite in memory" if in_memory else "SQLite",
        shared="process" if in_memory else "host",
        embedded=True,
        readers="any",
        wait="poll",
        expires=True,
        ttl_late=0.0,
        absence=Absence(expired="exact", forgotten="unknown", evicted="unknown"),
        durability=_durability(synchronous, in_memory=in_memory),
        max_value=256 * 1024 * 1024,
        max_key=1024,
        max_batch=10_000,
        evictable=False,
    )
