"""What kombu and Celery promise, in the words of brokerkit's capabilities: from their documentation and source, no more.

Versions read: kombu 5.7.0, celery 5.7.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from brokerkit.capabilities import (
    Absence,
    Absent,
    Capabilities,
    Durability,
    Fanout,
    Impossible,
    Lease,
    Priority,
    Redelivery,
    ResultCapabilities,
)

__all__ = ["CELERY_REDIS", "TRANSPORTS"]

_YEAR: Final = 31_536_000.0

# The lease of a virtual transport is AMQP's: an unacked message of a consumer that is gone comes back. kombu's QoS emulates
# it ("restore unacked" at shutdown). `kill` says what a user of acks expects of it, as on AMQP itself; with None, VIS-08
# would be called not run, and the loss would stay out of sight.
_CONNECTION: Final = Lease(
    scope="connection", min=0.001, max=_YEAR, max_hold=None, extend=False, resolution=1.0, time_source="host"
)
_NOT_KEPT: Final = "kombu has no such option for virtual transports"

_MEMORY: Final = Capabilities(
    product="kombu's memory transport",
    shared="process",
    embedded=True,
    lease=_CONNECTION,
    redelivery=Redelivery(release=0.5, close=0.5, lease_end=None, kill=None),
    attempts="flag",
    uncounted_release=False,
    settle="sent",
    idempotent_send=False,
    order="none",  # nothing is promised; without faults a queue is first in, first out
    delay=Absent("kombu leaves an ETA to Celery's worker"),
    release_delay=Absent("requeue is at once"),
    priority=Absent("its memory transport keeps no priorities"),
    message_ttl=Absent("`expiration` is written down, and nobody looks at it"),
    queue_expires=Absent(_NOT_KEPT),
    max_length=Absent(_NOT_KEPT),
    dedup=Absent(_NOT_KEPT),
    fanout=Fanout(durable=True, patterns=True, copies="one", overflow="gap", vanish=None),
    depth=("ready",),
    durability=Durability(restart=False, kill=False, power_loss="no"),
    one_claim=False,
    max_message=None,
    max_batch=1000,
    max_name=200,
    evictable=(),
    group_commit=False,
    failover=Impossible("there is no host"),
    tls=Impossible("nothing leaves the machine"),
)

TRANSPORTS: Final[Mapping[str, Capabilities]] = {
    "memory": _MEMORY,
    "redis": replace(
        _MEMORY,
        product="kombu's redis transport",
        shared="network",
        embedded=False,
        # `visibility_timeout`; judged by the consumers' clocks (the index holds the time of receipt by the client's clock)
        lease=replace(_CONNECTION, scope="message", resolution=0.1),
        # With `unacked_restore_throttle=1` and a drained connection it looks each second or oftener. By default it is each
        # `unacked_restore_interval` × `unacked_restore_throttle` = 100 s.
        redelivery=Redelivery(release=0.5, close=0.5, lease_end=1.5, kill=1.5),
        settle="confirmed",
        priority=Priority(levels=4),  # priority_steps 0, 3, 6, 9
        queue_expires=Absent("its x-expires counts from the last publish, not from the last use"),
        durability=Durability(restart=True, kill=False, power_loss="option"),  # Redis' own, as it comes
        one_claim=True,  # one BRPOP over all queues
        failover=True,
        tls=Absent("kombu's rediss:// is not bridged"),
    ),
    "sqlite": replace(
        _MEMORY,
        product="kombu's sqlalchemy transport on SQLite",
        shared="host",
        lease=_CONNECTION,
        redelivery=Redelivery(release=2.0, close=2.0, lease_end=None, kill=2.0),
        # kombu's own table of transports says so; bindings are kept by each process for itself
        fanout=Absent("kombu has no fanout on SQL"),
        durability=Durability(restart=True, kill=True, power_loss="yes"),
    ),
}

CELERY_REDIS: Final = ResultCapabilities(
    product="Celery's redis result backend",
    shared="network",
    embedded=False,
    readers="any",
    wait="poll",  # it has pub/sub for AsyncResult; the bridge asks
    expires=True,
    ttl_late=1.0,  # whole seconds
    absence=Absence(expired="unknown", forgotten="unknown", evicted="unknown"),
    durability=Durability(restart=True, kill=False, power_loss="option"),  # Redis' own, as it comes
    max_value=512_000_000,  # RedisBackend._MAX_STR_VALUE_SIZE is 536870912 characters, envelope included
    max_key=1024,
    max_batch=1000,
    evictable=False,  # as `maxmemory-policy` says, which it does not look at; noeviction here
)
