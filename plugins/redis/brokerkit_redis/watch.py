"""Waiting for a change of keys without polling: servers track what we read, and say what has changed since.

Redis tells a tracking client of every key that it has read and that was then changed, deleted, evicted or expired
(https://redis.io/docs/latest/develop/reference/client-side-caching/). In RESP2 the messages go to a second connection.
In a cluster each node tracks for itself.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, final

from brokerkit.abc import Clock
from brokerkit_redis.addresses import Host
from brokerkit_redis.client import Call, Client

__all__ = ["Watcher"]

_CHANNEL: Final = "__redis__:invalidate"
_TURN: Final = 1.0  # seconds after which we look though nothing was heard: the reading connection may have broken
_LEAST: Final = 0.05  # seconds that a look may take, whatever is left
_MESSAGE: Final = b"message"


@final
class Watcher:
    """Waits for changes of keys of any nodes. Not thread-safe: one wait at a time. After an error it must be closed."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._ears: dict[Host | None, _Ear] = {}

    def wait(
        self, differs: Callable[[bytes, bytes | None], bool], names: Sequence[bytes], *, timeout: float
    ) -> list[bytes]:
        """Return the names of keys whose value `differs`; empty on time-out."""
        end = self._clock.monotonic() + timeout
        by_node = self._client.keys_by_node(names, timeout=max(timeout, _LEAST))
        by_ear = {self._ear(node, some[0]): some for node, some in by_node.items()}
        some: Mapping[_Ear, Sequence[bytes]] = by_ear
        while some:
            changed: list[bytes] = []
            for ear, its in some.items():
                values = ear.look(its, by_ear[ear], max(end - self._clock.monotonic(), _LEAST))
                changed += [name for name, value in values.items() if differs(name, value)]
            if changed:
                return changed
            some = self._heard(by_ear, end)
        return []

    def close(self) -> None:
        """Close all connections."""
        for ear in self._ears.values():
            ear.close()

    def _ear(self, node: Host | None, name: bytes) -> _Ear:
        if node not in self._ears:
            self._ears[node] = _Ear(self._client, name)
        return self._ears[node]

    def _heard(self, by_ear: Mapping[_Ear, Sequence[bytes]], end: float) -> Mapping[_Ear, Sequence[bytes]]:
        """Return names to look at: those that servers spoke of, or after a while all; none when the time is over.

        They may speak of what was read and changed before, and of other databases.
        """
        until = min(end, self._clock.monotonic() + _TURN)
        while (left := until - self._clock.monotonic()) > 0:
            for ear in by_ear if len(by_ear) == 1 else _readable(by_ear, left):
                told = ear.heard(left)
                some = [name for name in by_ear[ear] if told is None or name in told]
                if some:
                    return {ear: some}
        return by_ear if until < end else {}


class _Ear:
    """Two connections to one node: one reads keys, the other hears of their changes."""

    def __init__(self, client: Client, name: bytes) -> None:
        self._together = not client.cluster
        self._reading = client.line(name)
        self._hearing = client.line(name)
        self._told: tuple[int | None, int | None] | None = None

    def look(self, some: Sequence[bytes], every: Sequence[bytes], patience: float) -> Mapping[bytes, bytes | None]:
        """Read some keys, or every one if what was read before is tracked no more: over connections that are gone."""
        while True:
            known = self._told
            self._track(patience)
            names = some if known == self._told else every
            # keys of one node may be of many slots
            calls: list[Call] = [("MGET", *names)] if self._together else [("GET", name) for name in names]
            answers = self._reading.run(calls, timeout=patience)
            if self._told == (self._reading.id, self._hearing.id):  # else one of them was opened anew
                return dict(zip(names, answers[0] if self._together else answers, strict=True))

    def heard(self, timeout: float) -> Sequence[bytes] | None:
        """Return what the node speaks of next, with all else that has come: names; none after the timeout; None for all keys."""
        names: list[bytes] = []
        message = self._hearing.poll(timeout)
        while message is not None:
            if message[0] == _MESSAGE:
                if message[2] is None:  # all keys were flushed
                    return None
                names += message[2]
            message = self._hearing.poll(0.0)
        return names

    def fileno(self) -> int:
        """What the system calls the connection that hears."""
        return self._hearing.fileno()

    def close(self) -> None:
        """Close both connections."""
        self._reading.close()
        self._hearing.close()

    def _track(self, patience: float) -> None:
        """Make sure that both connections are still those that were introduced to each other."""
        if self._told is not None and self._told == (self._reading.id, self._hearing.id):
            return
        (_,) = self._hearing.run([("SUBSCRIBE", _CHANNEL)], timeout=patience)
        self._reading.run([("CLIENT", "TRACKING", "ON", "REDIRECT", int(self._hearing.id or 0))], timeout=patience)
        self._told = (self._reading.id, self._hearing.id)


def _readable(ears: Collection[_Ear], timeout: float) -> Sequence[_Ear]:
    """Return those whose nodes say something, or are gone."""
    by_number = {ear.fileno(): ear for ear in ears}
    poll = select.poll()
    for number in by_number:
        poll.register(number, select.POLLIN)
    return [by_number[number] for number, _ in poll.poll(timeout * 1000)]
