"""The memcached result backend: one item a record, replaced only while it is not final."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, ClassVar, Final, Self, final

from brokerkit.abc import Clock, ResultBackend, SupportsEvictionCheck, SupportsParts
from brokerkit.capabilities import ResultCapabilities
from brokerkit.errors import ErrorTable
from brokerkit.models import Outcome, Record
from brokerkit.options import Options
from brokerkit.url import URL
from brokerkit_memcached.addresses import address_of
from brokerkit_memcached.client import Client
from brokerkit_memcached.errors import ERRORS
from brokerkit_memcached.layout import item_key, slices, unpack
from brokerkit_memcached.options import MemcachedResultOptions
from brokerkit_memcached.promises import result_capabilities
from brokerkit_memcached.storing import Storing, settled
from brokerkit_memcached.wire import Item, Wire

__all__ = ["MemcachedResultBackend"]

_RISK: Final = "results, when the memory of a server is full (its evictions are on; -M turns them off)"


@final
class MemcachedResultBackend(ResultBackend, SupportsParts, SupportsEvictionCheck):
    """`memcached://host:11211;host2:11211`: results in memcached, each in one of the servers. Thread-safe."""

    options_type: ClassVar[type[Options]] = MemcachedResultOptions
    errors: ClassVar[ErrorTable] = ERRORS
    capabilities: ResultCapabilities = result_capabilities(MemcachedResultOptions())

    def __init__(self, client: Client, options: MemcachedResultOptions) -> None:
        self.capabilities = result_capabilities(options)
        self._client = client
        self._options = options
        self._key = functools.partial(item_key, options.key_prefix)

    @classmethod
    def from_url(cls, url: URL, options: MemcachedResultOptions, *, clock: Clock) -> Self:
        """Build from a URL; see `ResultBackend.from_url`."""
        return cls(Client(address_of(url, options), options, clock=clock), options)

    def put(self, records: Sequence[Record], *, ttl: float | None, timeout: float) -> Sequence[Outcome]:
        """See `ResultBackend.put`."""
        keys = [self._key(record.key) for record in records]

        def work(wire: Wire, numbers: Sequence[int], deadline: float) -> Sequence[Outcome]:
            storing = Storing(wire, self._options, ttl, deadline)
            return storing.run([keys[n] for n in numbers], [records[n] for n in numbers])

        return settled(self._client.run(keys, work, timeout=timeout))

    def get(self, keys: Sequence[str], *, timeout: float) -> Sequence[Record | None]:
        """See `ResultBackend.get`."""
        return _all_of(self.get_parts(keys, timeout=timeout))

    def get_parts(self, keys: Sequence[str], *, timeout: float) -> Sequence[Record | Exception | None]:
        """See `SupportsParts.get_parts`."""
        names = [self._key(key) for key in keys]

        def work(wire: Wire, numbers: Sequence[int], deadline: float) -> Sequence[Record | None]:
            found: dict[bytes, Item] = {}
            for some in slices([names[n] for n in numbers]):
                found |= wire.items(b"get " + b" ".join(some) + b"\r\n", deadline)
            now = wire.not_before()
            return [_record(keys[n], found.get(names[n]), now) for n in numbers]

        return self._client.run(names, work, timeout=timeout)

    def delete(self, keys: Sequence[str], *, timeout: float) -> None:
        """See `ResultBackend.delete`."""
        names = [self._key(key) for key in keys]

        def work(wire: Wire, numbers: Sequence[int], deadline: float) -> Sequence[Any]:
            answers: list[Any] = []
            for some in slices([names[n] for n in numbers]):
                content = b"".join(b"delete %b\r\n" % name for name in some)
                answers += _all_of(wire.lines(content, len(some), (b"DELETED", b"NOT_FOUND"), deadline))
            return answers

        _all_of(self._client.run(names, work, timeout=timeout))

    def evictable(self, *, timeout: float) -> Sequence[str]:
        """See `SupportsEvictionCheck.evictable`. Where the capabilities say that all is, nobody is asked."""
        if self._options.evictions:
            return ()
        evicting = self._client.ask_each(lambda wire: wire.evicts, timeout=timeout)
        return (_RISK,) if any(evicting) else ()

    def close(self, *, timeout: float) -> None:  # noqa: ARG002 - nothing here waits
        """See `ResultBackend.close`."""
        self._client.close()


def _record(key: str, item: Item | None, now: float) -> Record | None:
    if item is None:
        return None
    value, final, ends_at = unpack(item.flags, item.value)
    if ends_at is not None and ends_at <= now:
        return Record(key=key, value=b"", final=final, expired=True)
    return Record(key=key, value=value, final=final)


def _all_of(found: Sequence[Any]) -> Sequence[Any]:
    """Return what was found, unless there is an error in it."""
    for each in found:
        if isinstance(each, Exception):
            raise each
    return found
