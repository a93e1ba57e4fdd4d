"""What memcached can do, as capabilities."""

from __future__ import annotations

from brokerkit.capabilities import Absence, Durability, ResultCapabilities
from brokerkit_memcached.layout import OVERHEAD
from brokerkit_memcached.options import MemcachedResultOptions

__all__ = ["MAX_BATCH", "result_capabilities"]

MAX_BATCH = 1000


def result_capabilities(options: MemcachedResultOptions) -> ResultCapabilities:
    """Return the promises of the result backend, by what its servers are said to be."""
    return ResultCapabilities(
        product="memcached",
        shared="network",
        embedded=False,
        readers="any",
        wait="poll",
        expires=True,
        ttl_late=4.0,  # its clock ticks once a second, at times late; who writes and who reads allow for that, each for itself
        absence=Absence(
            expired="exact" if options.remember_expired else "unknown", forgotten="unknown", evicted="unknown"
        ),
        durability=Durability(restart=False, kill=False, power_loss="no"),
        max_value=options.item_size_max - OVERHEAD,
        max_key=4096,
        max_batch=MAX_BATCH,
        evictable=options.evictions,
    )
