"""Writing, and waiting for replicas to have what was written."""

from __future__ import annotations

from typing import Any, final

from brokerkit.errors import OutcomeUnknown
from brokerkit_redis.client import Call, Client
from brokerkit_redis.cluster import Key
from brokerkit_redis.options import RedisTransportOptions

__all__ = ["Writer"]


@final
class Writer:
    """Stores messages as `wait_replicas` asks. Thread-safe."""

    def __init__(self, client: Client, options: RedisTransportOptions) -> None:
        self._client = client
        self._replicas = options.wait_replicas
        self._longest = options.wait_replicas_timeout

    def run(self, call: Call, *, timeout: float, slot_key: Key, what: str) -> Any:
        """Do one call on the master, and return its answer.

        Raises:
            OutcomeUnknown: fewer replicas have it than `wait_replicas` asks for.
        """
        calls = [call]
        if self._replicas:
            # the master counts all that it wrote before this, so that a repeat waits for what the first try has stored
            calls.append(("WAIT", self._replicas, max(round(min(self._longest, timeout / 2) * 1000), 1)))
        reply, *seen = self._client.run(calls, timeout=timeout, slot_key=slot_key)
        if seen and seen[0] < self._replicas:
            raise OutcomeUnknown(f"{what}: {seen[0]} of {self._replicas} replicas have it so far; it may still be lost")
        return reply
