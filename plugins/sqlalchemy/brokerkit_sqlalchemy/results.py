"""The SQL result backend: one row a record, replaced only while it is not final."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final, Self, final

from brokerkit.abc import Clock, ResultBackend
from brokerkit.capabilities import ResultCapabilities
from brokerkit.errors import AlreadyFinal, ErrorTable
from brokerkit.models import Outcome, Record
from brokerkit.options import Options
from brokerkit.url import URL
from brokerkit_sqlalchemy.client import Cursor, Database, change_each
from brokerkit_sqlalchemy.engine import database_name
from brokerkit_sqlalchemy.errors import ERRORS
from brokerkit_sqlalchemy.options import SQLAlchemyResultOptions
from brokerkit_sqlalchemy.promises import result_capabilities

__all__ = ["SQLAlchemyResultBackend"]

_PURGE_EVERY: Final = 1.0  # seconds
_PURGE_STEP: Final = 200  # rows, so that no put waits long for it
_GET_SIZES: Final = (1, 16, 256)  # few different texts, so that each stays prepared


@final
class SQLAlchemyResultBackend(ResultBackend):
    """`db+sqlite:///file.db`, `sqlite:///file.db`: results in a database that all processes of a host share.

    Thread-safe. Each object of `sqlite:///:memory:` has a database of its own.
    """

    options_type: ClassVar[type[Options]] = SQLAlchemyResultOptions
    errors: ClassVar[ErrorTable] = ERRORS
    capabilities: ResultCapabilities = result_capabilities(in_memory=False, synchronous="FULL")

    def __init__(self, database: Database, options: SQLAlchemyResultOptions, *, clock: Clock) -> None:
        self.capabilities = result_capabilities(in_memory=database.in_memory, synchronous=options.synchronous)
        self._database = database
        self._sql = database.layout.sql
        self._gets = {size: database.layout.get_for(size) for size in _GET_SIZES}
        self._vhost = options.virtual_host
        self._remember = options.remember
        self._clock = clock
        self._purge_at = float("-inf")

    @classmethod
    def from_url(cls, url: URL, options: SQLAlchemyResultOptions, *, clock: Clock) -> Self:
        """Build from a URL; see `ResultBackend.from_url`."""
        return cls(Database(database_name(url), options, clock), options, clock=clock)

    def put(self, records: Sequence[Record], *, ttl: float | None, timeout: float) -> Sequence[Outcome]:
        """See `ResultBackend.put`."""
        now = self._database.now(timeout=timeout)
        if len(records) == 1 and self._clock.monotonic() < self._purge_at:
            sql, row = self._statement(records[0]), self._row(records[0], ttl, now)
            kept_out = [] if self._database.execute(sql, row, timeout=timeout) else [0]
        else:
            kept_out = self._database.write(lambda cursor: self._put(cursor, records, ttl, now), timeout=timeout)
        outcomes: list[Outcome] = [None] * len(records)
        for i in kept_out:
            outcomes[i] = AlreadyFinal(f"{records[i].key!r} has a record that is kept")
        return outcomes

    def get(self, keys: Sequence[str], *, timeout: float) -> Sequence[Record | None]:
        """See `ResultBackend.get`."""
        found: dict[str, Record] = {}

        def work(cursor: Cursor) -> None:
            now = self._database.time.now()
            for size, some in _slices(keys):
                rows = cursor.execute(self._gets[size], (self._vhost, *some))
                for key, value, is_final, expires_at in rows:
                    expired = expires_at is not None and expires_at <= now
                    found[key] = Record(key=key, value=value, final=bool(is_final), expired=expired)

        self._database.look(work, timeout=timeout)
        return [found.get(key) for key in keys]

    def delete(self, keys: Sequence[str], *, timeout: float) -> None:
        """See `ResultBackend.delete`."""
        rows = [(self._vhost, key) for key in keys]
        self._database.write(lambda cursor: cursor.executemany(self._sql.delete, rows), timeout=timeout)

    def close(self, *, timeout: float) -> None:
        """See `ResultBackend.close`."""
        self._database.close(timeout=timeout)

    def _put(self, cursor: Cursor, records: Sequence[Record], ttl: float | None, now: float) -> list[int]:
        """Store all, and return the positions of those that were kept out."""
        self._purge(cursor, now)
        kept_out: list[int] = []
        for absent in (False, True):
            places = [i for i, record in enumerate(records) if record.if_absent is absent]
            if places:
                rows = [self._row(records[i], ttl, now) for i in places]
                kept_out += [places[i] for i in change_each(cursor, self._statement(records[places[0]]), rows)]
        return kept_out

    def _statement(self, record: Record) -> str:
        return self._sql.put_if_absent if record.if_absent else self._sql.put

    def _row(self, record: Record, ttl: float | None, now: float) -> tuple[object, ...]:
        expires_at = None if ttl is None else now + ttl
        return (self._vhost, record.key, record.value, int(record.final), expires_at, now)

    def _purge(self, cursor: Cursor, now: float) -> None:
        """Forget some of the records that have been expired for long, not more than once a second unless there are many."""
        if self._clock.monotonic() < self._purge_at:
            return
        forgotten = cursor.execute(self._sql.forget_expired, (now - self._remember, _PURGE_STEP)).rowcount
        self._purge_at = self._clock.monotonic() + (_PURGE_EVERY if forgotten < _PURGE_STEP else 0.0)


def _slices(keys: Sequence[str]) -> list[tuple[int, Sequence[str]]]:
    """Cut into slices of the sizes that have a statement; the last one is filled up with its own first key."""
    slices: list[tuple[int, Sequence[str]]] = []
    largest = _GET_SIZES[-1]
    for start in range(0, len(keys), largest):
        some = keys[start : start + largest]
        size = next(size for size in _GET_SIZES if size >= len(some))
        slices.append((size, [*some, *[some[0]] * (size - len(some))]))
    return slices
