"""Redis Cluster: which node has which slot, and following its redirections."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from redis import exceptions
from redis.crc import key_slot

from brokerkit.abc import Clock
from brokerkit.errors import Closed
from brokerkit_redis.addresses import Host
from brokerkit_redis.calls import Call, again_with, in_full
from brokerkit_redis.connecting import first_of
from brokerkit_redis.pool import Pool

__all__ = ["Cluster", "Key"]

Key = str | bytes

_REDIRECTIONS: Final = 4
_SLOTS: Final[Call] = ("CLUSTER", "SLOTS")
_ASKING: Final[Call] = ("ASKING",)


@dataclass(frozen=True, slots=True)
class _Table:
    """Who has which slots: ranges in order, by their first slot."""

    firsts: list[int]
    ranges: list[tuple[int, Host]]
    """The last slot of each range, and its node."""

    @property
    def hosts(self) -> tuple[Host, ...]:
        return tuple(dict.fromkeys(host for _, host in self.ranges))

    def owner(self, slot: int) -> Host | None:
        place = bisect_right(self.firsts, slot) - 1
        last, host = self.ranges[place] if place >= 0 else (-1, None)
        return host if slot <= last else None


@final
class Cluster:
    """The nodes of one cluster, with a pool for each. Thread-safe.

    Args:
        seeds: nodes to ask first.
        pool: makes the pool of a node; it gets the node, and what to call when the node is gone or redirects.
        clock: for deadlines.
    """

    def __init__(self, seeds: Sequence[Host], pool: Callable[[Host, Callable[[], None]], Pool], clock: Clock) -> None:
        self._seeds = tuple(seeds)
        self._make = pool
        self._clock = clock
        self._lock = threading.Lock()
        self._pools: dict[Host, Pool] = {}
        self._table: _Table | None = None
        self._known: tuple[Host, ...] = ()
        self._closed = False

    def run(self, calls: Sequence[Call], deadline: float, key: Key) -> list[Any]:
        """Send calls on keys of one slot to its node, and follow redirections. Errors stand among the answers."""
        host = self.node_of(key, deadline)
        answers, refused = self.pool_at(host).run(calls, deadline)
        for _ in range(_REDIRECTIONS if refused else 0):
            first = next((answer for answer in answers if isinstance(answer, exceptions.AskError)), None)
            if first is None:
                break
            host = self._follow(first, host, calls, answers, deadline)
        return answers

    def run_keys(self, calls: Mapping[Key, Call], deadline: float) -> list[Any]:
        """Send one call for each key, with one round trip for each node. Errors stand among the answers."""
        by_host: dict[Host, list[Key]] = {}
        for key in calls:
            by_host.setdefault(self.node_of(key, deadline), []).append(key)
        found: dict[Key, Any] = {}
        for host, keys in by_host.items():
            answers, _ = self.pool_at(host).run([calls[key] for key in keys], deadline)
            for key, answer in zip(keys, answers, strict=True):
                sent_on = isinstance(answer, exceptions.AskError)
                found[key] = self.run([calls[key]], deadline, key)[0] if sent_on else answer
        return [found[key] for key in calls]

    def nodes(self, deadline: float) -> tuple[Host, ...]:
        """All masters that have slots."""
        return self._current(deadline).hosts

    def node_of(self, key: Key, deadline: float) -> Host:
        """The node that has a key's slot.

        Raises:
            ClusterDownError: none has.
        """
        slot = key_slot(key.encode() if isinstance(key, str) else key)
        host = self._current(deadline).owner(slot)
        if host is None:
            self.forget()
            raise exceptions.ClusterDownError(f"no node has slot {slot}", status_code="CLUSTERDOWN")
        return host

    def pool_at(self, host: Host) -> Pool:
        """The pool of a node."""
        with self._lock:
            if self._closed:
                raise Closed("the connection to Redis was closed")
            pool = self._pools.get(host)
            if pool is None:
                pool = self._pools[host] = self._make(host, self.forget)
            return pool

    def forget(self) -> None:
        """Ask for the slots again before the next call."""
        self._table = None

    def close(self) -> None:
        """Close all connections; idempotent."""
        with self._lock:
            self._closed = True
            pools = list(self._pools.values())
        for pool in pools:
            pool.close()

    def _follow(
        self, sent_on: exceptions.AskError, host: Host, calls: Sequence[Call], answers: list[Any], deadline: float
    ) -> Host:
        """Repeat at another node what was sent on to it; nothing of it was done. Puts the answers into their places."""
        target = (sent_on.host or host[0], sent_on.port)
        places = [
            place
            for place, answer in enumerate(answers)
            if type(answer) is type(sent_on) and (answer.host, answer.port) == (sent_on.host, sent_on.port)
        ]
        places = again_with(places, calls)
        again = [calls[place] for place in places]
        if isinstance(sent_on, exceptions.MovedError):
            self._learn(target, deadline)
            found, _ = self.pool_at(target).run(again, deadline)
        else:  # this once only; in full, since a script that is sent again would need the permission again
            asked = [part for call in again for part in (_ASKING, in_full(call) or call)]
            found = self.pool_at(target).run(asked, deadline)[0][1::2]
        for place, answer in zip(places, found, strict=True):
            answers[place] = answer
        return target

    def _current(self, deadline: float) -> _Table:
        table = self._table
        if table is None:
            hosts = tuple(dict.fromkeys((*self._known, *self._seeds)))
            table = first_of(hosts, deadline, self._learn, self._clock)
        return table

    def _learn(self, host: Host, deadline: float) -> _Table:
        """Ask a node who has which slots."""
        (answer,), refused = self.pool_at(host).run([_SLOTS], deadline)
        if refused:
            raise answer
        ranges = sorted((first, last, _host(node, host)) for first, last, node, *_ in answer)
        if not ranges:
            raise exceptions.ClusterDownError(f"{host[0]}:{host[1]} knows no slots", status_code="CLUSTERDOWN")
        table = _Table([first for first, _, _ in ranges], [(last, owner) for _, last, owner in ranges])
        with self._lock:
            self._table = table
            self._known = table.hosts
            gone = [self._pools.pop(one) for one in list(self._pools) if one not in (*table.hosts, *self._seeds)]
        for pool in gone:
            pool.close()
        return table


def _host(node: Sequence[Any], asked: Host) -> Host:
    """A node's address; one that does not know its own is the one that we asked."""
    return (node[0].decode() if node[0] else asked[0], int(node[1]))
