"""The client: work on keys, brought to the servers that have them. No retries of its own."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import TypeVar, final

from brokerkit.abc import Clock
from brokerkit_memcached.addresses import Address
from brokerkit_memcached.connecting import Connector
from brokerkit_memcached.layout import Ring
from brokerkit_memcached.options import MemcachedResultOptions
from brokerkit_memcached.pool import Pool
from brokerkit_memcached.wire import Wire

__all__ = ["Client", "Work"]

T = TypeVar("T")
Work = Callable[[Wire, Sequence[int], float], Sequence[T]]
"""Does something with some of the keys, by their numbers, and returns what came of each; the last is the deadline."""


@final
class Client:
    """Calls to all servers of one address. Thread-safe; connects at the first call.

    A key belongs to one server, whether that one is there or not: what another would say of it is not known to be so.

    Args:
        address: where the servers are.
        options: how to talk to them.
        clock: for waiting and deadlines.
    """

    def __init__(self, address: Address, options: MemcachedResultOptions, *, clock: Clock) -> None:
        if not options.tls_verify:
            warnings.warn(
                "tls_verify=false: anyone on the way to memcached can read and change everything",
                UserWarning,
                stacklevel=2,
            )
        connector = Connector(address, options, clock)
        self._clock = clock
        self._ring = Ring(tuple(map(str, address.servers)))
        self._pools = [Pool(functools.partial(connector.open, each), options, clock) for each in address.servers]

    def run(self, keys: Sequence[bytes], work: Work[T], *, timeout: float) -> list[T | Exception]:
        """Do some work on each key at its server, and return what came of it, or the error of the server.

        One after the other; a server that failed the last time comes last, and none takes the time of those behind it.

        Raises:
            Exception: there is one server, and that is its error.
        """
        deadline = self._clock.monotonic() + timeout
        if len(self._pools) == 1:
            return list(self._do(self._pools[0], range(len(keys)), work, deadline))
        parts: dict[int, list[int]] = {}
        for number, key in enumerate(keys):
            parts.setdefault(self._ring.owner(key), []).append(number)
        found: list[T | Exception] = [NotImplementedError()] * len(keys)
        owners = sorted(parts, key=lambda owner: self._pools[owner].failing)
        for place, owner in enumerate(owners):
            now = self._clock.monotonic()
            share = now + (deadline - now) / (len(owners) - place)
            for number, result in zip(parts[owner], self._at(owner, parts[owner], work, share), strict=True):
                found[number] = result
        return found

    def ask_each(self, ask: Callable[[Wire], T], *, timeout: float) -> list[T]:
        """Ask every server something.

        Raises:
            Exception: a server's error.
        """
        deadline = self._clock.monotonic() + timeout
        told: list[T] = []
        for pool in self._pools:
            told += self._do(pool, (), lambda wire, *_: [ask(wire)], deadline)
        return told

    def close(self) -> None:
        """Let go of all connections; idempotent."""
        for pool in self._pools:
            pool.close()

    def _at(self, owner: int, numbers: Sequence[int], work: Work[T], deadline: float) -> Sequence[T | Exception]:
        try:
            return self._do(self._pools[owner], numbers, work, deadline)
        except Exception as error:  # noqa: BLE001 - the core's table decides what it is
            return [error] * len(numbers)

    def _do(self, pool: Pool, numbers: Sequence[int], work: Work[T], deadline: float) -> Sequence[T]:
        wire = pool.take(deadline)
        try:
            done = work(wire, numbers, deadline)
        except BaseException as error:
            pool.lose(wire, error)
            raise
        pool.give(wire)
        return done
