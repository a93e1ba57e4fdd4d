"""Waiting for a change of keys without polling: the server tracks what we read, and says what has changed since.

Redis tells a tracking client of every key that it has read and that was then changed, deleted, evicted or expired
(https://redis.io/docs/latest/develop/reference/client-side-caching/). In RESP2 the messages go to a second connection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, final

from brokerkit.abc import Clock
from brokerkit_redis.client import Client

__all__ = ["Watcher"]

_CHANNEL: Final = "__redis__:invalidate"
_STEP: Final = (
    0.02  # seconds between two looks where tracking is not to be had: in a cluster, each node tracks for itself
)
_TURN: Final = 1.0  # seconds after which we look though nothing was heard: the reading connection may have broken
_MESSAGE: Final = b"message"


@final
class Watcher:
    """Two connections: one reads keys, the other hears of their changes. Not thread-safe: one wait at a time."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._reading = client.line()
        self._hearing = client.line()
        self._told: tuple[int | None, int | None] | None = None

    def wait(
        self, differs: Callable[[bytes, bytes | None], bool], names: Sequence[bytes], *, timeout: float
    ) -> list[bytes]:
        """Return the names of keys whose value `differs`; empty on time-out."""
        end = self._clock.monotonic() + timeout
        if self._client.cluster:
            return self._poll(differs, names, end)
        some = names
        while some:
            known = self._told
            values = self._read(some, max(end - self._clock.monotonic(), 0.05))
            if self._told != known and some is not names:
                some = names  # what was read over the connection before is tracked no more
                continue
            if changed := [name for name, value in zip(some, values, strict=True) if differs(name, value)]:
                return changed
            some = self._heard(names, end)
        return []

    def _heard(self, names: Sequence[bytes], end: float) -> Sequence[bytes]:
        """Return names to look at: those that the server spoke of, or after a while all; none when the time is over.

        It may speak of what was read and changed before, and of other databases.
        """
        until = min(end, self._clock.monotonic() + _TURN)
        while (left := until - self._clock.monotonic()) > 0:
            message = self._hearing.poll(left)
            if message is not None and message[0] == _MESSAGE:
                # all keys were flushed if it names none
                some = names if message[2] is None else [name for name in names if name in message[2]]
                if some:
                    return some
        return names if until < end else ()

    def close(self) -> None:
        """Close both connections."""
        self._reading.close()
        self._hearing.close()

    def _read(self, names: Sequence[bytes], patience: float) -> Sequence[bytes | None]:
        """Read keys over a connection whose reading is tracked."""
        while True:
            self._track(patience)
            values: Sequence[bytes | None] = self._reading.run([("MGET", *names)], timeout=patience)[0]
            if self._told == (self._reading.id, self._hearing.id):  # else one of them was opened anew
                return values

    def _track(self, patience: float) -> None:
        """Make sure that both connections are still those that were introduced to each other."""
        if self._told is not None and self._told == (self._reading.id, self._hearing.id):
            return
        (_,) = self._hearing.run([("SUBSCRIBE", _CHANNEL)], timeout=patience)
        self._reading.run([("CLIENT", "TRACKING", "ON", "REDIRECT", int(self._hearing.id or 0))], timeout=patience)
        self._told = (self._reading.id, self._hearing.id)

    def _poll(self, differs: Callable[[bytes, bytes | None], bool], names: Sequence[bytes], end: float) -> list[bytes]:
        while True:
            left = end - self._clock.monotonic()
            values = self._client.run_keys({name: ("GET", name) for name in names}, timeout=max(left, 0.05))
            changed = [name for name, value in zip(names, values, strict=True) if differs(name, value)]
            if changed or left <= 0:
                return changed
            self._client.pause(min(_STEP, max(left, 0.001)))
