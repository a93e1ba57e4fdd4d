"""What the parts of the transport share: the client, the names of keys, and the server's time."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final, final

from brokerkit.abc import Clock
from brokerkit_redis.client import Client
from brokerkit_redis.layout import queue_key, queue_keys
from brokerkit_redis.options import RedisOptions

__all__ = ["Server"]

_TRIES_OF_SILENCE: Final = 6


@final
class Server:
    """One server as a transport and its receivers see it. Thread-safe.

    Attributes:
        client: the connections.
        clock: monotonic time of this process.
        patience: seconds that one claim may take on a slow line, where no silence is longer than `socket_timeout`.
        key: returns what the keys of a queue begin with.
        keys: returns the keys of a queue that a script is told, "m" first.
        mend_bindings: puts a queue's lost bindings back; takes the queue and a `timeout`.
    """

    def __init__(
        self,
        client: Client,
        clock: Clock,
        options: RedisOptions,
        mend_bindings: Callable[..., None],
    ) -> None:
        self.client = client
        self.clock = clock
        self.mend_bindings = mend_bindings
        self.key = lru_cache(maxsize=4096)(lambda name: queue_key(options.key_prefix, name))
        self.keys = lru_cache(maxsize=4096)(lambda name: queue_keys(options.key_prefix, name, cluster=client.cluster))
        self.patience = _TRIES_OF_SILENCE * options.socket_timeout
        self._ahead = float("inf")

    def deadline(self, now: int, lease: float, began: float | None, ended: float) -> float:
        """Return when a lease ends by this process's monotonic clock, on the safe side.

        Args:
            now: the server's time of the claim, in ms.
            lease: seconds.
            began: monotonic time when the claim was sent; None if it may have waited in the server.
            ended: monotonic time when its answer came.
        """
        if began is not None:
            # the server's clock is ahead of ours by at most this, if the claim was made when it was sent
            self._ahead = now / 1000 - began
            return began + lease
        return min(now / 1000 + lease - self._ahead, ended + lease)
