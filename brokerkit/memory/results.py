"""The memory result backend: `memory://` for results, and the executable specification of `ResultBackend`.

Each law is one small method, so that it can be read, and broken one at a time by the suite's mutants.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Final, Self

from brokerkit.abc import Clock, ResultBackend, SupportsWait
from brokerkit.capabilities import Absence, Durability, ResultCapabilities
from brokerkit.errors import AlreadyFinal, Closed, ErrorTable, InvalidOption
from brokerkit.memory.options import server_name
from brokerkit.models import Outcome, Record
from brokerkit.options import Options, setting
from brokerkit.url import URL

__all__ = [
    "CAPABILITIES",
    "Address",
    "MemoryResultBackend",
    "MemoryResultOptions",
    "MemoryResults",
    "StoredRecord",
    "results_named",
]

CAPABILITIES: Final = ResultCapabilities(
    product="memory",
    shared="process",
    embedded=True,
    readers="any",
    wait="push",
    expires=True,
    ttl_late=0.0,
    # expired: for `remember_expired` seconds. Somebody else's delete and our own eviction leave no trace.
    absence=Absence(expired="exact", forgotten="unknown", evicted="unknown"),
    durability=Durability(restart=False, kill=False, power_loss="no"),
    max_value=256 * 1024 * 1024,
    max_key=4096,
    max_batch=100_000,
    evictable=False,
)

Address = tuple[str, str]
"""A record's virtual host and key. A pair, not a joined text: no key can reach into another virtual host."""


@dataclass(frozen=True, kw_only=True, repr=False)
class MemoryResultOptions(Options):
    """Options of the memory result backend."""

    max_records: int | None = setting(
        None, "Records that the server holds; beyond, it drops the least recently used. None for no bound.", min=1
    )
    remember_expired: float = setting(
        3600.0, "Seconds for which an expired record still reads as expired; then as if it had never been.", min=0
    )


@dataclass(slots=True, eq=False)
class StoredRecord:
    """A record in the store. `value` is None once it has expired: only the fact is remembered."""

    value: bytes | None
    final: bool
    expires_at: float | None


@dataclass(slots=True, eq=False)
class MemoryResults:
    """All records of one memory server, the least recently used first. Not thread-safe by itself: hold `condition`."""

    clock: Clock
    condition: threading.Condition = field(default_factory=lambda: threading.Condition(threading.Lock()))
    records: OrderedDict[Address, StoredRecord] = field(default_factory=OrderedDict)
    puts_since_sweep: int = 0


# By process as well: a forked child starts empty, whatever of brokerkit is set up first in it. No lock that a fork could
# catch held: `setdefault` is one step.
_servers: dict[tuple[int, str], MemoryResults] = {}


def results_named(name: str, clock: Clock) -> MemoryResults:
    """Return this process's result server of a name, made on first use; it lives as long as the process.

    Raises:
        InvalidOption: it runs by another clock.
    """
    server = _servers.setdefault((os.getpid(), name), MemoryResults(clock))
    if server.clock is not clock:
        raise InvalidOption(f"option 'clock': memory://{name} already runs by another clock; use another name")
    return server


class MemoryResultBackend(ResultBackend, SupportsWait):
    """`memory://[name][/virtual host]`: results within this process; stores of one name share them.

    For tests, examples, and as the specification of what every other backend does. A forked child starts empty.
    """

    options_type: ClassVar[type[Options]] = MemoryResultOptions
    errors: ClassVar[ErrorTable] = ErrorTable()

    def __init__(self, server: MemoryResults, virtual_host: str, options: MemoryResultOptions) -> None:
        self.server = server
        self.virtual_host = virtual_host
        self.options = options
        self.capabilities = replace(CAPABILITIES, evictable=options.max_records is not None)
        self._closed = False

    @classmethod
    def from_url(cls, url: URL, options: MemoryResultOptions, *, clock: Clock) -> Self:
        """Build from `memory://name/virtual-host`."""
        return cls(results_named(server_name(url), clock), url.virtual_host, options)

    def put(self, records: Sequence[Record], *, ttl: float | None, timeout: float) -> Sequence[Outcome]:  # noqa: ARG002 - nothing here waits
        """See `ResultBackend.put`."""
        with self._open().condition:
            outcomes = [self._put_one(record, ttl) for record in records]
            self._sweep(len(records))
            self._evict()
            self.server.condition.notify_all()
            return outcomes

    def get(self, keys: Sequence[str], *, timeout: float) -> Sequence[Record | None]:  # noqa: ARG002
        """See `ResultBackend.get`."""
        with self._open().condition:
            for key in keys:
                self._touch(key)
            return [self._read(key) for key in keys]

    def delete(self, keys: Sequence[str], *, timeout: float) -> None:  # noqa: ARG002
        """See `ResultBackend.delete`."""
        with self._open().condition:
            for key in keys:
                self._remove(key)
            self.server.condition.notify_all()

    def wait(self, seen: Mapping[str, Record | None], *, timeout: float) -> Sequence[str]:
        """See `SupportsWait.wait`."""
        clock = self.server.clock
        with self._open().condition:
            deadline = clock.monotonic() + timeout
            while True:
                changed = [key for key, record in seen.items() if self._differs(record, self._read(key))]
                if changed or clock.monotonic() >= deadline:
                    return changed
                wake_at = min([deadline, *self._ends(seen)])
                clock.wait(self.server.condition, max(wake_at - clock.monotonic(), 0.0))
                self._open()

    def close(self, *, timeout: float) -> None:  # noqa: ARG002
        """See `ResultBackend.close`."""
        with self.server.condition:
            self._closed = True
            self.server.condition.notify_all()

    # -- the laws; callers hold the lock -----------------------------------------------------------------------------

    def _put_one(self, record: Record, ttl: float | None) -> Outcome:
        there = self._find(record.key)
        if there is not None and self._keeps_out(there, record):
            return AlreadyFinal(f"{record.key!r} has a record that is kept")
        self._store(record, ttl)
        return None

    def _keeps_out(self, there: StoredRecord, record: Record) -> bool:
        """Tell whether what is there stays: the compare of compare-and-set."""
        return there.final or record.if_absent

    def _store(self, record: Record, ttl: float | None) -> None:
        """Replace what is there, as the most recently used. Each put sets the time to live anew."""
        expires_at = None if ttl is None else self.server.clock.monotonic() + ttl
        self.server.records[self._address(record.key)] = StoredRecord(record.value, record.final, expires_at)
        self._touch(record.key)

    def _find(self, key: str) -> StoredRecord | None:
        """Return a record that lives."""
        stored = self.server.records.get(self._address(key))
        return None if stored is None or self._is_expired(stored) else stored

    def _is_expired(self, stored: StoredRecord) -> bool:
        return stored.expires_at is not None and stored.expires_at <= self.server.clock.monotonic()

    def _is_forgotten(self, stored: StoredRecord) -> bool:
        """Tell whether even the memory of an expired record is over."""
        if stored.expires_at is None:
            return False
        return stored.expires_at + self.options.remember_expired <= self.server.clock.monotonic()

    def _read(self, key: str) -> Record | None:
        """Return what a reader gets to see. Reading changes nothing: neither the record nor its time to live."""
        stored = self.server.records.get(self._address(key))
        if stored is None or self._is_forgotten(stored):
            return None
        expired = self._is_expired(stored)
        return Record(key=key, value=b"" if expired else stored.value or b"", final=stored.final, expired=expired)

    def _touch(self, key: str) -> None:
        """Note a use, for eviction."""
        if self._address(key) in self.server.records:
            self.server.records.move_to_end(self._address(key))

    def _remove(self, key: str) -> None:
        self.server.records.pop(self._address(key), None)

    def _sweep(self, puts: int) -> None:
        """Let go of expired values, and of the memory of old ones: one look at all records for half as many puts."""
        self.server.puts_since_sweep += puts
        if 2 * self.server.puts_since_sweep <= len(self.server.records):
            return
        self.server.puts_since_sweep = 0
        for address, stored in list(self.server.records.items()):
            if self._is_forgotten(stored):
                del self.server.records[address]
            elif self._is_expired(stored):
                stored.value = None

    def _evict(self) -> None:
        """Drop the least recently used records that are over the bound: a server under memory pressure."""
        while self.options.max_records is not None and len(self.server.records) > self.options.max_records:
            self.server.records.popitem(last=False)

    def _differs(self, seen: Record | None, now: Record | None) -> bool:
        if seen is None or now is None:
            return seen is not now
        return (seen.value, seen.expired) != (now.value, now.expired)

    def _ends(self, seen: Mapping[str, Record | None]) -> list[float]:
        """Return when the records that live now expire: a waiter is told of that as well."""
        found = [self._find(key) for key in seen]
        return [stored.expires_at for stored in found if stored is not None and stored.expires_at is not None]

    def _address(self, key: str) -> Address:
        return self.virtual_host, key

    def _open(self) -> MemoryResults:
        if self._closed:
            raise Closed("the memory result backend is closed")
        return self.server
