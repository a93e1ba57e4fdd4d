"""Storing records by compare and set: `add` where nothing is, else `gets` and `cas`, until nobody comes between.

A new record takes one round trip. One that replaces another takes three, since most results are stored once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, final

from pymemcache.exceptions import MemcacheError, MemcacheServerError

from brokerkit.errors import AlreadyFinal, BrokerkitError, OutcomeUnknown, ResultTooLarge
from brokerkit.models import Outcome, Record
from brokerkit_memcached.errors import Denied, Halfway, Late, TimeUp, Unreachable
from brokerkit_memcached.layout import FINAL, OPEN, OVERHEAD, exptime_of, pack, unpack
from brokerkit_memcached.options import MemcachedResultOptions
from brokerkit_memcached.wire import Item, Wire

__all__ = ["Storing", "settled"]

_ADD: Final = b""
_AT_A_TIME: Final = 100
_BYTES_AT_A_TIME: Final = 256 * 1024
_KNOWN: Final = (b"STORED", b"NOT_STORED", b"EXISTS", b"NOT_FOUND")


@final
class Storing:
    """One batch of records for one server.

    Args:
        wire: a connection to it.
        options: what it takes, and for how long what has expired is remembered.
        ttl: seconds to keep the records from now; None for ever.
        deadline: of all of it.
    """

    def __init__(self, wire: Wire, options: MemcachedResultOptions, ttl: float | None, deadline: float) -> None:
        now = wire.not_after()
        self._wire = wire
        self._deadline = deadline
        self._ends_at = None if ttl is None else now + ttl
        self._exptime = exptime_of(None if ttl is None else ttl + options.remember_expired, now)
        self._limit = min(options.item_size_max, wire.item_size_max) - OVERHEAD
        self._keys: Sequence[bytes] = ()
        self._records: Sequence[Record] = ()
        self._outcomes: list[Outcome] = []
        self._begun = False

    def run(self, keys: Sequence[bytes], records: Sequence[Record]) -> Sequence[Outcome]:
        """Store records under their items' keys, and return what became of each."""
        self._keys, self._records = keys, records
        self._outcomes = [self._too_large(record) for record in records]
        tokens = {n: _ADD for n, outcome in enumerate(self._outcomes) if outcome is None}
        try:
            while tokens:
                refused = [n for some in self._slices(tokens) for n in self._try(some)]
                tokens = {n: token for some in _parts(refused) for n, token in self._look(some).items()}
        except (Late, MemcacheServerError) as error:
            if len(records) > 1 and self._begun:
                raise _halfway(error) from error
            raise
        return self._outcomes

    def _too_large(self, record: Record) -> Outcome:
        if len(record.value) <= self._limit:
            return None
        return ResultTooLarge(
            f"the record of {record.key!r} has {len(record.value)} bytes; {self._wire.server} takes {self._limit} (its -I, "
            "and the option item_size_max)"
        )

    def _slices(self, tokens: Mapping[int, bytes]) -> Iterator[Mapping[int, bytes]]:
        """Cut into what is sent before answers are read: little enough not to keep anybody waiting for the first."""
        some: dict[int, bytes] = {}
        size = 0
        for n, token in tokens.items():
            some[n] = token
            size += len(self._records[n].value)
            if len(some) == _AT_A_TIME or size >= _BYTES_AT_A_TIME:
                yield some
                some, size = {}, 0
        if some:
            yield some

    def _try(self, tokens: Mapping[int, bytes]) -> list[int]:
        """Store some, and return the numbers of those where something else is than was thought."""
        content = b"".join([self._command(n, token) for n, token in tokens.items()])
        refused = []
        answers = self._wire.lines(content, len(tokens), _KNOWN, self._deadline)
        self._begun = True
        for n, answer in zip(tokens, answers, strict=True):
            if isinstance(answer, MemcacheError):
                if type(answer) is not MemcacheServerError:
                    raise answer  # the server has lost the thread
                self._outcomes[n] = answer
            elif answer != b"STORED":
                refused.append(n)
        return refused

    def _command(self, n: int, token: bytes) -> bytes:
        record = self._records[n]
        value = pack(record.value, self._ends_at)
        flags = FINAL if record.final else OPEN
        if token is _ADD:
            return b"add %b %d %d %d\r\n%b\r\n" % (self._keys[n], flags, self._exptime, len(value), value)
        return b"cas %b %d %d %d %b\r\n%b\r\n" % (self._keys[n], flags, self._exptime, len(value), token, value)

    def _look(self, numbers: Sequence[int]) -> Mapping[int, bytes]:
        """Look at what is there, and return how to try again with those that it does not keep out."""
        names = [self._keys[n] for n in numbers]
        found = self._wire.items(b"gets " + b" ".join(names) + b"\r\n", self._deadline)
        now = self._wire.not_before()
        tokens = {}
        for n, name in zip(numbers, names, strict=True):
            item = found.get(name)
            if item is not None and self._keeps_out(item, self._records[n], now):
                self._outcomes[n] = AlreadyFinal(f"{self._records[n].key!r} has a record that is kept")
            else:
                tokens[n] = _ADD if item is None else item.cas
        return tokens

    def _keeps_out(self, item: Item, record: Record, now: float) -> bool:
        _, final, ends_at = unpack(item.flags, item.value)
        expired = ends_at is not None and ends_at <= now
        return not expired and (final or record.if_absent)


def settled(outcomes: Sequence[Outcome]) -> Sequence[Outcome]:
    """Return what became of records; where a server failed after something was sent to it, nobody knows.

    Raises:
        Exception: there is one record, and its server failed.
    """
    if len(outcomes) == 1 and outcomes[0] is not None and not _is_certain(outcomes[0]):
        raise outcomes[0]
    return [each if each is None or _is_certain(each) else _unknown(each) for each in outcomes]


def _is_certain(error: Exception) -> bool:
    """Tell whether an error says that nothing was stored."""
    return isinstance(error, BrokerkitError | Unreachable | Denied) or type(error) is MemcacheServerError


def _halfway(error: MemcacheError) -> MemcacheError:
    """Return what to raise in place of an error that would say that nothing was stored, when some of a batch was."""
    return TimeUp(str(error), 0.0) if isinstance(error, Late) else Halfway(str(error))


def _unknown(error: Exception) -> OutcomeUnknown:
    unknown = OutcomeUnknown(f"the record may or may not have been stored: {error}")
    unknown.__cause__ = error
    return unknown


def _parts(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(numbers), _AT_A_TIME):
        yield numbers[start : start + _AT_A_TIME]
