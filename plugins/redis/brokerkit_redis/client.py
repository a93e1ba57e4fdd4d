"""The client: calls in one round trip, by whatever connection leads to the right server. No retries of its own."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar, final
from weakref import WeakSet

from brokerkit.abc import Clock
from brokerkit.errors import Closed
from brokerkit_redis.addresses import Address, Host
from brokerkit_redis.calls import Call, Script
from brokerkit_redis.cluster import Cluster, Key
from brokerkit_redis.connecting import Connector
from brokerkit_redis.line import Line, LineId
from brokerkit_redis.options import RedisOptions
from brokerkit_redis.pool import Pool
from brokerkit_redis.risk import risk_of

__all__ = ["Call", "Client", "Line", "LineId", "Script"]

K = TypeVar("K", bound=Key)

_ANY: Final = b""
_UNBLOCK_TIMEOUT: Final = 1.0


@final
class Client:
    """Calls to one Redis, whatever its form. Thread-safe; connects at the first call.

    Args:
        address: where it is.
        options: how to talk to it.
        clock: for waiting and deadlines.

    Raises:
        InvalidOption: the `credential_provider` cannot be had.
    """

    def __init__(self, address: Address, options: RedisOptions, *, clock: Clock) -> None:
        if (address.tls and not options.tls_verify) or (
            options.sentinel_kwargs.ssl and not options.sentinel_kwargs.tls_verify
        ):
            warnings.warn(
                "tls_verify=false: anyone on the way to Redis can read and change everything", UserWarning, stacklevel=2
            )
        connector = Connector(address, options, clock)
        self._clock = clock
        self._cluster: Cluster | None = None
        self._pool = Pool(connector.open, options, clock)
        if address.kind == "cluster":

            def pool(host: Host, gone: Any) -> Pool:
                return Pool(lambda deadline: connector.open_node(host, deadline), options, clock, gone=gone)

            self._cluster = Cluster(address.hosts, pool, clock)
        self._lines: WeakSet[Line] = WeakSet()
        self._closing = threading.Lock()
        self._closed = False

    @property
    def cluster(self) -> bool:
        """Whether it is a cluster."""
        return self._cluster is not None

    def run(
        self, calls: Sequence[Call], *, timeout: float, slot_key: Key | None = None, raising: bool = True
    ) -> list[Any]:
        """Send calls in one round trip, and return their answers.

        Args:
            calls: what to do, in order. A script that the server does not have is sent again in full, behind the others.
            timeout: seconds for all of it, connecting included.
            slot_key: a key of the slot that all keys of the calls are in; for a cluster. None for any node.
            raising: raise the first answer that is an error, when all were read; else errors stand among the answers.

        Raises:
            RedisError: the server's error; `errors.ERRORS` says which of ours it is.
            Closed: after `close`.
        """
        deadline = self._clock.monotonic() + timeout
        if self._cluster is None:
            answers, refused = self._pool.run(calls, deadline)
        else:
            answers, refused = self._cluster.run(calls, deadline, _ANY if slot_key is None else slot_key), True
        if refused and raising:
            _raise_first(answers)
        return answers

    def run_keys(self, calls: Mapping[Key, Call], *, timeout: float, raising: bool = True) -> list[Any]:
        """Send one call for each key, of any slots, in one round trip, or in a cluster in one for each node.

        Args:
            calls: by the key that they are about.
            timeout: as of `run`.
            raising: as of `run`.
        """
        deadline = self._clock.monotonic() + timeout
        if self._cluster is None:
            answers, _ = self._pool.run(list(calls.values()), deadline)
        else:
            answers = self._cluster.run_keys(calls, deadline)
        if raising:
            _raise_first(answers)
        return answers

    def line(self, slot_key: Key | None = None) -> Line:
        """Return a connection of its own, beside those that `max_connections` counts. It is opened at its first use."""
        line = Line(lambda deadline: self._pool_for(slot_key, deadline), self._clock)
        with self._closing:
            self._lines.add(line)
        return line

    def keys_by_node(self, keys: Sequence[K], *, timeout: float) -> Mapping[Host | None, Sequence[K]]:
        """Return which keys are on which node; None is whatever is no cluster."""
        if self._cluster is None:
            return {None: keys}
        deadline = self._clock.monotonic() + timeout
        found: dict[Host | None, list[K]] = {}
        for key in keys:
            found.setdefault(self._cluster.node_of(key, deadline), []).append(key)
        return found

    def unblock(self, line_id: int | None) -> bool:
        """End the blocking call of a line; tell whether there was one. Never raises: the user may not be allowed to."""
        if line_id is None:
            return False
        deadline = self._clock.monotonic() + _UNBLOCK_TIMEOUT
        try:
            pool = self._pool
            if self._cluster is not None and isinstance(line_id, LineId):
                host, _, port = line_id.server.rpartition(":")
                pool = self._cluster.pool_at((host, int(port)))
            (answer,), _ = pool.run([("CLIENT", "UNBLOCK", int(line_id))], deadline)
        except Exception:  # noqa: BLE001 - whoever waits comes back by itself, only later
            return False
        return bool(answer == 1)

    def server_risk(self, timeout: float) -> tuple[str, ...]:
        """What the server may drop by itself, in words; empty if nothing. In a cluster, any node of it."""
        if self._cluster is None:
            return risk_of(lambda call: self.run([call], timeout=timeout, raising=False)[0])
        deadline = self._clock.monotonic() + timeout
        found: dict[str, None] = {}
        for host in self._cluster.nodes(deadline):
            pool = self._cluster.pool_at(host)
            found |= dict.fromkeys(risk_of(lambda call, pool=pool: pool.run([call], deadline)[0][0]))  # type: ignore[misc]
        return tuple(found)

    def close(self, timeout: float = 0.0) -> None:  # noqa: ARG002 - closing waits for nothing
        """Close all connections; idempotent. Calls under way end first, and their connections with them."""
        self._pool.close()
        if self._cluster is not None:
            self._cluster.close()
        with self._closing:
            self._closed = True
            lines = list(self._lines)
        for line in lines:
            line.close()

    def _pool_for(self, slot_key: Key | None, deadline: float) -> Pool:
        if self._closed:
            raise Closed("the connection to Redis was closed")
        if self._cluster is None:
            return self._pool
        return self._cluster.pool_at(self._cluster.node_of(_ANY if slot_key is None else slot_key, deadline))


def _raise_first(answers: Sequence[Any]) -> None:
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
