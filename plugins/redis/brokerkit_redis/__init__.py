"""brokerkit on Redis: transport and result backend."""

from brokerkit_redis.options import RedisResultOptions, RedisTransportOptions
from brokerkit_redis.results import RedisResultBackend
from brokerkit_redis.transport import RedisTransport

__all__ = ["RedisResultBackend", "RedisResultOptions", "RedisTransport", "RedisTransportOptions"]
