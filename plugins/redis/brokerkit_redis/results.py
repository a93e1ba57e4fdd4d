"""The Redis result backend: one key a record, replaced only while it is not final."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Self, final

from brokerkit.abc import Clock, ResultBackend, SupportsEvictionCheck, SupportsWait
from brokerkit.capabilities import ResultCapabilities
from brokerkit.errors import AlreadyFinal, ErrorTable
from brokerkit.models import Outcome, Record
from brokerkit.options import Options
from brokerkit.url import URL
from brokerkit_redis.addresses import address_of
from brokerkit_redis.client import Client
from brokerkit_redis.errors import ERRORS
from brokerkit_redis.options import RedisResultOptions
from brokerkit_redis.promises import result_capabilities
from brokerkit_redis.scripts import PUT
from brokerkit_redis.watch import Watcher

__all__ = ["RedisResultBackend"]

_FINAL: Final = b"F"
_OPEN: Final = b"N"


@final
class RedisResultBackend(ResultBackend, SupportsWait, SupportsEvictionCheck):
    """`redis://host:port/db` and its kin: results in a Redis server, Sentinel group or cluster. Thread-safe."""

    options_type: ClassVar[type[Options]] = RedisResultOptions
    errors: ClassVar[ErrorTable] = ERRORS
    capabilities: ResultCapabilities = result_capabilities(persistence="none")

    def __init__(self, client: Client, options: RedisResultOptions, *, clock: Clock) -> None:
        self.capabilities = result_capabilities(persistence=options.persistence)
        self._client = client
        self._prefix = f"{options.key_prefix}result:"
        self._clock = clock
        self._watchers: list[Watcher] = []
        self._lock = threading.Lock()

    @classmethod
    def from_url(cls, url: URL, options: RedisResultOptions, *, clock: Clock) -> Self:
        """Build from a URL; see `ResultBackend.from_url`."""
        return cls(Client(address_of(url, options), options, clock=clock), options, clock=clock)

    def put(self, records: Sequence[Record], *, ttl: float | None, timeout: float) -> Sequence[Outcome]:
        """See `ResultBackend.put`."""
        ms = b"" if ttl is None else b"%d" % max(round(ttl * 1000), 1)
        calls: dict[str | bytes, Any] = {
            self._key(each.key): PUT.call(
                (self._key(each.key),), (_FINAL if each.final else _OPEN, each.value, ms, int(each.if_absent))
            )
            for each in records
        }
        stored = self._client.run_keys(calls, timeout=timeout)
        return [
            None if done else AlreadyFinal(f"result {r.key!r} is there")
            for r, done in zip(records, stored, strict=True)
        ]

    def get(self, keys: Sequence[str], *, timeout: float) -> Sequence[Record | None]:
        """See `ResultBackend.get`."""
        names = [self._key(key) for key in keys]
        if self._client.cluster:
            values = self._client.run_keys({name: ("GET", name) for name in names}, timeout=timeout)
        else:
            (values,) = self._client.run([("MGET", *names)], timeout=timeout)
        return [_record(key, value) for key, value in zip(keys, values, strict=True)]

    def delete(self, keys: Sequence[str], *, timeout: float) -> None:
        """See `ResultBackend.delete`."""
        self._client.run_keys({name: ("UNLINK", name) for name in map(self._key, keys)}, timeout=timeout)

    def wait(self, seen: Mapping[str, Record | None], *, timeout: float) -> Sequence[str]:
        """See `SupportsWait.wait`."""
        names = {self._key(key): key for key in seen}
        before = {self._key(key): record for key, record in seen.items()}
        with self._lock:
            watcher = self._watchers.pop() if self._watchers else Watcher(self._client, self._clock)
        try:
            changed = watcher.wait(lambda name, value: _differs(before[name], value), list(before), timeout=timeout)
        except BaseException:
            watcher.close()
            raise
        with self._lock:
            self._watchers.append(watcher)
        return [names[name] for name in changed]

    def evictable(self, *, timeout: float) -> Sequence[str]:
        """See `SupportsEvictionCheck.evictable`."""
        return self._client.server_risk(timeout)

    def close(self, *, timeout: float) -> None:
        """See `ResultBackend.close`."""
        with self._lock:
            watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            watcher.close()
        self._client.close(timeout=timeout)

    def _key(self, key: str) -> bytes:
        return f"{self._prefix}{key}".encode()


def _record(key: str, value: bytes | None) -> Record | None:
    return None if value is None else Record(key=key, value=value[1:], final=value.startswith(_FINAL))


def _differs(seen: Record | None, value: bytes | None) -> bool:
    if seen is None or value is None:
        return (seen is None) is not (value is None)
    return seen.value != value[1:] or seen.final is not value.startswith(_FINAL)
