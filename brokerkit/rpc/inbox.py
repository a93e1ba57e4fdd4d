"""What a process has received, or waits for: the memory result backend, bounded so that nothing unread is dropped unsaid.

A record is owed from its reservation until its final state was read. Owed records are never dropped, so there is a bound
to them: `reserve` is refused. All others make room for newer ones, oldest first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Final, final

from brokerkit.abc import Clock
from brokerkit.errors import InconsistencyError, StorageFull
from brokerkit.memory import MemoryResultBackend, MemoryResultOptions
from brokerkit.memory.results import MemoryResults, StoredRecord
from brokerkit.models import Record

__all__ = ["Inbox"]

_MAX_DROPPED: Final = 1000
_MAX_ASKED: Final = 10_000
_SLACK: Final = 100  # keys that may be noted beyond those that are there


@final
class Inbox(MemoryResultBackend):
    """The records of one process. Thread-safe; `server.condition` is notified of every change.

    Attributes:
        losses: how often results were lost before they were received.
    """

    def __init__(self, clock: Clock, max_records: int) -> None:
        super().__init__(MemoryResults(clock), "", MemoryResultOptions(max_records=max_records))
        self.losses = 0
        self._max_records = max_records
        self._owed: set[str] = set()
        self._spare: OrderedDict[str, bool] = OrderedDict()  # all others, and whether they were read
        self._dropped: OrderedDict[str, None] = OrderedDict()
        self._asked: OrderedDict[str, int] = OrderedDict()  # what was not there, and how many losses there were then

    def check_room(self) -> None:
        """Refuse one more reservation where the bound is reached.

        Raises:
            StorageFull: so many are reserved and unread.
        """
        with self.server.condition:
            if len(self._owed) >= self._max_records:
                self._settle_ended()
            if len(self._owed) >= self._max_records:
                raise StorageFull(
                    f"this process waits for max_records={self._max_records} results; read or forget some, or raise it"
                )

    def has_ended(self, keys: Iterable[str]) -> bool:
        """Tell whether all of these records are there and final."""
        with self.server.condition:
            return all((stored := self._find(key)) is not None and stored.final for key in keys)

    def raise_lost(self, keys: Iterable[str], losses: int) -> None:
        """Raise what befell, or may have befallen, one of these keys that nobody reserved; until it has a record again.

        Args:
            keys: that are asked for.
            losses: how many there were when the call began.
        """
        with self.server.condition:
            for key in keys:
                if self._read(key) is not None:
                    continue
                if key in self._dropped:
                    raise StorageFull(f"{key!r} was dropped unread: nobody had reserved it, and there was no room")
                if self._asked.setdefault(key, losses) < self.losses:
                    raise InconsistencyError(
                        f"the reply queue was gone, and maybe {key!r} with it; what is reserved is told to be lost or not"
                    )
                if len(self._asked) > _MAX_ASKED:
                    self._asked.popitem(last=False)

    def lose(self, losses: int) -> None:
        """Note that results which were under way are gone, and with them the records of all that are not final.

        Args:
            losses: how many there were when the call began that found it: two threads may find the same one.
        """
        with self.server.condition:
            if self.losses != losses:
                return
            self.losses += 1
            for (_, key), stored in list(self.server.records.items()):
                if not stored.final and not self._is_expired(stored):
                    self._remove(key)
                    self._asked[key] = self.losses  # it was there, so that its absence tells
            self.server.condition.notify_all()

    # -- callers hold `server.condition` -----------------------------------------------------------------------------

    def differing(self, seen: Mapping[str, Record | None]) -> list[str]:
        """Return the keys whose records are not what was seen."""
        return [key for key, record in seen.items() if self._differs(record, self._read(key))]

    def next_end(self, seen: Mapping[str, Record | None]) -> float:
        """Return when the next of these records expires."""
        return min(self._ends(seen), default=float("inf"))

    def maybe_lost(self, seen: Mapping[str, Record | None]) -> list[str]:
        """Return which of these keys, asked for and never there, a loss may concern: reading them tells it."""
        return [
            key for key, record in seen.items() if record is None and self._asked.get(key, self.losses) < self.losses
        ]

    # -- the laws of the memory backend that differ here -------------------------------------------------------------

    def _store(self, record: Record, ttl: float | None) -> None:
        expires_at = None if ttl is None else self.server.clock.monotonic() + ttl
        self.server.records[self._address(record.key)] = StoredRecord(record.value, record.final, expires_at)
        self._dropped.pop(record.key, None)
        self._asked.pop(record.key, None)
        if record.if_absent:
            self._owed.add(record.key)
            self._spare.pop(record.key, None)
        elif record.key not in self._owed:
            self._spare[record.key] = False
            self._spare.move_to_end(record.key)

    def _touch(self, key: str) -> None:
        """Note that somebody reads a record: what is final and read is owed no longer."""
        stored = self.server.records.get(self._address(key))
        if stored is None:
            return
        if key in self._owed and (stored.final or self._is_expired(stored)):
            self._owed.discard(key)
            self._spare[key] = True
        elif key in self._spare:
            self._spare[key] = True

    def _remove(self, key: str) -> None:
        super()._remove(key)
        self._owed.discard(key)
        self._spare.pop(key, None)

    def _sweep(self, puts: int) -> None:
        super()._sweep(puts)
        if len(self._owed) + len(self._spare) > 2 * len(self.server.records) + _SLACK:
            self._owed = {key for key in self._owed if self._address(key) in self.server.records}
            gone = [key for key in self._spare if self._address(key) not in self.server.records]
            for key in gone:
                del self._spare[key]

    def _evict(self) -> None:
        while len(self.server.records) > self._max_records:
            if not self._spare:
                self._settle_ended()
            if not self._spare:
                return
            key, was_read = self._spare.popitem(last=False)
            stored = self.server.records.pop(self._address(key), None)
            if stored is not None and stored.final and not was_read:
                self._dropped[key] = None
                if len(self._dropped) > _MAX_DROPPED:
                    self._dropped.popitem(last=False)

    def _settle_ended(self) -> None:
        """Let what has expired be owed no longer."""
        for key in list(self._owed):
            stored = self.server.records.get(self._address(key))
            if stored is None or self._is_expired(stored):
                self._owed.discard(key)
                self._spare[key] = True
