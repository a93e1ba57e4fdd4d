"""The contenders of `brokerkit bench redis`: redis-py at its best, and kombu's Redis transport.

All use one private server, each a database of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal, final

import redis

from brokerkit import servers
from brokerkit.bench.kombu_peer import Kombu

__all__ = ["RawRedis", "kombu", "server_url"]

_QUEUE: Final = "bench"
_HELD: Final = "bench-held"
_LONGEST: Final = 60.0
_RAW, _KOMBU = 1, 2  # databases
_TOLD: Final = "redis.url"

_server: servers.Redis | None = None


def server_url(folder: Path, database: int) -> str:
    """Return the URL of a database of the run's server, which the first caller starts. Other processes find it by the folder.

    Args:
        folder: one of the run's folders, each of which stands in the one that all share.
        database: its number.
    """
    global _server  # noqa: PLW0603 - it lives as long as the process: its reaper ends it
    told = folder.parent / _TOLD
    if not told.exists():
        if _server is None:
            _server = servers.Redis().start()
        told.write_text(_server.url(), encoding="ascii")
    return f"{told.read_text('ascii').rpartition('/')[0]}/{database}"


@final
class RawRedis:
    """redis-py alone: a list, and a second one for what is held; pipelines where there is more than one."""

    name: str = "redis-py"
    threads: Literal["shared", "own", "no"] = "own"
    note: str = "LPUSH, LMOVE and LREM: what a dead consumer held stays where it is; no ids, attempts, delays or checks"

    def open(self, folder: Path) -> None:
        """See `Contender.open`."""
        self._redis: Any = redis.Redis.from_url(server_url(folder, _RAW), socket_timeout=_LONGEST)

    def send(self, body: bytes) -> None:
        """See `Contender.send`."""
        self._redis.lpush(_QUEUE, body)

    def send_many(self, bodies: Sequence[bytes]) -> None:
        """See `Contender.send_many`."""
        with self._redis.pipeline(transaction=False) as pipeline:
            for body in bodies:
                pipeline.lpush(_QUEUE, body)
            pipeline.execute()

    def consume(self, count: int, *, prefetch: int) -> tuple[int, int]:
        """See `Contender.consume`."""
        came = size = 0
        while came < count:
            some = self._take(min(prefetch, count - came))
            came += len(some)
            size += sum(map(len, some))
        return came, size

    def receive(self, timeout: float) -> bytes | None:
        """See `Contender.receive`."""
        body: bytes | None = self._redis.blmove(_QUEUE, _HELD, timeout, "RIGHT", "LEFT")
        if body is not None:
            self._redis.lrem(_HELD, 1, body)
        return body

    def depth(self) -> int:
        """See `Contender.depth`."""
        return int(self._redis.llen(_QUEUE) + self._redis.llen(_HELD))

    def purge(self) -> None:
        """See `Contender.purge`."""
        self._redis.delete(_QUEUE, _HELD)

    def close(self) -> None:
        """See `Contender.close`."""
        self._redis.close()

    def used_memory(self) -> int:
        """Return the bytes that the server's data take."""
        return int(self._redis.info("memory")["used_memory"])

    def _take(self, limit: int) -> list[bytes]:
        if limit == 1:
            body = self.receive(_LONGEST)
            return [] if body is None else [body]
        with self._redis.pipeline(transaction=False) as pipeline:
            for _ in range(limit):
                pipeline.lmove(_QUEUE, _HELD, "RIGHT", "LEFT")
            some = [body for body in pipeline.execute() if body is not None]
            for body in some:
                pipeline.lrem(_HELD, -1, body)
            pipeline.execute()
        return some


def kombu() -> Kombu:
    """Return kombu's Redis transport."""
    return Kombu(
        lambda folder: server_url(folder, _KOMBU),
        note="no batches; bodies are base64 in JSON; each publish reads the bindings first, but to the unnamed exchange",
        exchange=True,
        depth=lambda channel: int(channel.client.llen(_QUEUE) + channel.client.hlen(channel.unacked_key)),
    )
