"""How a result is laid out in memcached: one item a record. Pure; no I/O here.

    key     key_prefix, "result:", and the id; or in place of an id that memcached does not take, "#" and its SHA-256
    flags   what is ours, and whether the record is final
    value   8 bytes: when the time to live ends, by the server's clock in milliseconds since the epoch, 0 for never;
            then the record

An item outlives its record by the option `remember_expired`: until then the record reads as expired.
"""

from __future__ import annotations

import bisect
import hashlib
import math
import re
import struct
from collections.abc import Iterator, Sequence
from typing import Final

__all__ = ["FINAL", "MAX_KEY", "OPEN", "OVERHEAD", "Ring", "exptime_of", "item_key", "pack", "slices", "unpack"]

MAX_KEY: Final = 250
"""Bytes of an item's key that memcached takes."""

OPEN: Final = 0xBB00
FINAL: Final = 0xBB01
OVERHEAD: Final = 512
"""Bytes by which an item may be larger than the record in it: the server's header, the key, and our 8 bytes."""

_RESULT: Final = "result:"
_STAMP: Final = struct.Struct(">Q")
_PLAIN: Final = re.compile(r"[!-~]+")
_HASHED: Final = "#"
_RELATIVE: Final = 30 * 86_400  # what is more than so many seconds is a moment in Unix time to memcached
_LAST: Final = 2**31 - 1  # the last moment that it knows; what is to live longer is for ever to it
_TICKS: Final = 2  # seconds: its clock ticks once a second, and may stand just before a tick that is late
_POINTS: Final = 160
_REQUEST: Final = 32 * 1024


def item_key(prefix: str, key: str) -> bytes:
    """Return the key of a result's item. Two pairs of prefix and id never share one.

    An id with "result:" in it is hashed, too: it could be what follows a longer prefix.
    """
    odd = not _PLAIN.fullmatch(key) or key.startswith(_HASHED) or _RESULT in key
    if odd or len(prefix) + len(_RESULT) + len(key) > MAX_KEY:
        key = _HASHED + hashlib.sha256(key.encode()).hexdigest()
    return f"{prefix}{_RESULT}{key}".encode()


def pack(record: bytes, ends_at: float | None) -> bytes:
    """Return an item's value.

    Args:
        record: of the core.
        ends_at: seconds since the epoch by the server's clock; None for never.
    """
    return _STAMP.pack(0 if ends_at is None else math.ceil(ends_at * 1000)) + record


def unpack(flags: int, value: bytes) -> tuple[bytes, bool, float | None]:
    """Return a record, whether it is final, and when its time to live ends. What is not ours is returned as it is, open."""
    if flags not in (OPEN, FINAL) or len(value) < _STAMP.size:
        return value, False, None
    (stamp,) = _STAMP.unpack_from(value)
    return value[_STAMP.size :], flags == FINAL, stamp / 1000 if stamp else None


def exptime_of(ttl: float | None, now: float) -> int:
    """Return what to tell memcached so that an item lives at least `ttl` seconds, and hardly longer.

    Args:
        ttl: seconds; None for ever.
        now: a moment that the server's clock has not yet passed, seconds since the epoch.
    """
    if ttl is None:
        return 0
    seconds = math.ceil(ttl) + _TICKS
    if seconds <= _RELATIVE:
        return seconds
    moment = math.ceil(now + seconds)
    return moment if moment <= _LAST else 0


def slices(keys: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Cut keys into those of one `get`: a request must fit into the buffers on its way, as the server answers meanwhile."""
    some: list[bytes] = []
    size = 0
    for key in keys:
        some.append(key)
        size += len(key) + 1
        if size >= _REQUEST:
            yield some
            some, size = [], 0
    if some:
        yield some


class Ring:
    """Consistent hashing: which of several servers has a key. One more or one less moves only its own share of the keys.

    Args:
        names: of the servers; their order does not matter.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        points = sorted((_hash(f"{name} {n}".encode()), i) for i, name in enumerate(names) for n in range(_POINTS))
        self._hashes = [point for point, _ in points]
        self._owners = [owner for _, owner in points]
        self._only = len(names) == 1

    def owner(self, key: bytes) -> int:
        """Return the number of the server that has a key."""
        if self._only:
            return 0
        return self._owners[bisect.bisect(self._hashes, _hash(key)) % len(self._owners)]


def _hash(key: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest())
