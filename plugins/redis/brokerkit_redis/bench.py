"""What this plugin is measured against by `brokerkit bench redis`. Nothing else imports this."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar, Final, final

from brokerkit.bench.contract import Contender, Extra, Goal
from brokerkit.bench.kombu_peer import KOMBU
from brokerkit_redis.bench_extras import EXTRAS, ONE_QUEUE
from brokerkit_redis.bench_rivals import RawRedis, kombu, server_url

__all__ = ["REDIS", "RedisBenchmark"]

_MODE: Final = "TCP"
_OURS: Final = 0  # the database


@final
class RedisBenchmark:
    """See `brokerkit.bench.contract.Benchmark`."""

    title: str = "Redis"
    modes: Sequence[str] = (_MODE,)
    driver: str = RawRedis.name
    peer: str = KOMBU
    where: str = "against one private Redis on this machine, by TCP"
    modules: Sequence[str] = ("kombu.connection", "redis")
    extras: Sequence[Extra] = EXTRAS
    goals: ClassVar[Sequence[Goal]] = (
        Goal("send", None, "kombu", "at least", 4.5),
        Goal("send", None, "redis-py", "at least", 0.85),
        Goal("consume_100", None, "kombu", "at least", 80),
        Goal("consume_1", None, "kombu", "at least", 4.5),
        Goal("send_many", None, "kombu", "at least", 40),
        Goal("latency", None, "kombu", "at most", 0.3),
        Goal("import", None, "", "at most", 0),
        Goal("large", None, "kombu", "at least", 15),
        Goal("idle_p50", None, "kombu", "at most", 0.3),
        Goal("queues", None, ONE_QUEUE, "at most", 1.2),
        Goal("memory", None, "kombu", "at most", 0.45),
        Goal("store", None, "Celery", "at least", 2),
        Goal("fetch", None, "Celery", "at least", 1.2),
        Goal("wait", None, "Celery", "at most", 0.6),
    )

    def url(self, folder: Path, mode: str) -> str:  # noqa: ARG002 - there is one
        """Return brokerkit's URL."""
        return f"{server_url(folder, _OURS)}?key_prefix={folder.name}:"

    def rivals(self, mode: str) -> Sequence[Contender]:  # noqa: ARG002
        """Return the other contenders."""
        return [RawRedis(), kombu()]

    def versions(self) -> Mapping[str, str]:
        """Return what is measured."""
        return {name: version(name) for name in ("brokerkit-redis", "redis", "hiredis", "kombu", "celery")}


REDIS: Final = RedisBenchmark()
"""What the entry point gives."""
