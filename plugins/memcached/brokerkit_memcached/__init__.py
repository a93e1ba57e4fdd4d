"""brokerkit on memcached: results in a store that may forget."""

from brokerkit_memcached.options import MemcachedResultOptions
from brokerkit_memcached.results import MemcachedResultBackend

__all__ = ["MemcachedResultBackend", "MemcachedResultOptions"]
