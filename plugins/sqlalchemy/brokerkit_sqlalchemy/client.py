"""The client: one database with its engine, one held connection behind a lock, and transactions on it.

SQLAlchemy does what it does best: the URL, the engine, its pool and the tables. The hot statements run on the driver's
own cursor of a connection that is borrowed from the pool once and held. SQLite has one writer anyway, so all threads of
a transport share it; nobody holds the lock while waiting for messages.
"""

from __future__ import annotations

import math
import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar, final

import sqlalchemy
from sqlalchemy.pool import PoolProxiedConnection

from brokerkit.abc import Clock
from brokerkit.errors import Closed, InconsistencyError, StorageBroken
from brokerkit_sqlalchemy import forks
from brokerkit_sqlalchemy.engine import MEMORY, TURN, make_engine
from brokerkit_sqlalchemy.errors import is_busy, is_fatal
from brokerkit_sqlalchemy.hosttime import HostTime
from brokerkit_sqlalchemy.layout import LAYOUT_VERSION, Layout, layout_for
from brokerkit_sqlalchemy.options import DatabaseOptions

__all__ = ["Cursor", "Database", "change_each"]

Cursor: TypeAlias = sqlite3.Cursor
_Row: TypeAlias = Sequence[Any]
_Identity: TypeAlias = tuple[int, int]
T = TypeVar("T")


@final
class Database:
    """One database. Thread-safe; opens its connection on first use, and again after an error that broke it.

    Attributes:
        name: what SQLite opens, as by `engine.database_name`.
        path: the file, or None where there is none.
        layout: its tables and statements.
        time: by which everything in it is stored; agreed as soon as it is open.
        lock: held by the one thread that is at work on it.
    """

    def __init__(self, name: str, options: DatabaseOptions, clock: Clock) -> None:
        self.name = name
        self.path = None if name == MEMORY else name.removeprefix("file:").partition("?")[0]
        self.layout: Layout = layout_for(options.table_prefix)
        self._options = options
        self._clock = clock
        self.time = HostTime(clock)
        self._engine = make_engine(name, options)
        self.lock = threading.Lock()
        self._held: PoolProxiedConnection | None = None
        self._cursor: Cursor | None = None
        self._file: _Identity | None = None
        self._closed = False
        if not self.in_memory:  # that would be gone with its connection, and no other process has it
            forks.watch(self)

    @property
    def in_memory(self) -> bool:
        """Whether the database lives and dies with its connection."""
        return self.name == MEMORY

    def now(self, *, timeout: float) -> float:
        """Return the `time`, for those who are not at work on a cursor; the first use opens the database."""
        if not self.time.agreed:
            self.look(lambda _: None, timeout=timeout)
        return self.time.now()

    def write(self, work: Callable[[Cursor], T], *, timeout: float) -> T:
        """Run `work` in one transaction that holds SQLite's write lock from the start.

        Args:
            work: what to do; its result is returned once all is committed.
            timeout: seconds to wait for other threads and processes, together.

        Raises:
            sqlite3.Error: nothing was stored.
        """

        def transaction(cursor: Cursor) -> T:
            cursor.execute("BEGIN IMMEDIATE")
            try:
                result = work(cursor)
                cursor.execute("COMMIT")
            except BaseException:
                self._roll_back(cursor)
                raise
            return result

        return self._run(transaction, timeout)

    def execute(self, sql: str, row: _Row, *, timeout: float) -> int:
        """Run one statement in a transaction of its own, and return how many rows it changed."""
        return self._run(lambda cursor: cursor.execute(sql, row).rowcount, timeout)

    def look(self, work: Callable[[Cursor], T], *, timeout: float) -> T:
        """Run `work`, which only reads, outside of any transaction."""
        return self._run(work, timeout)

    def extra_connection(self) -> PoolProxiedConnection:
        """Return a connection of the caller's own, outside of the pool: to be closed by the caller."""
        connection = self._engine.raw_connection()
        connection.detach()
        return connection

    def close(self, *, timeout: float) -> None:
        """Close the connection and the pool; idempotent. A call under way comes to its end first."""
        self._closed = True
        if self.lock.acquire(timeout=timeout):
            try:
                self._drop()
            finally:
                self.lock.release()

    def rest(self) -> None:
        """See `forks`."""
        self._drop()

    # -- one at a time ---------------------------------------------------------------------------------------------

    def _run(self, work: Callable[[Cursor], T], timeout: float) -> T:
        lock = self.lock
        if not lock.acquire(blocking=False):
            began = self._clock.monotonic()
            if not lock.acquire(timeout=timeout):
                raise _busy("other threads of this process kept the connection busy")
            timeout -= self._clock.monotonic() - began
        try:
            return work(self._open_cursor())
        except (sqlite3.Error, sqlalchemy.exc.DBAPIError) as error:
            return self._again(work, timeout, error)
        finally:
            lock.release()

    def _again(self, work: Callable[[Cursor], T], timeout: float, error: Exception) -> T:
        """Try again while the file is locked, for as many turns of SQLite's own waiting as fit the timeout."""
        turns = math.ceil(max(timeout, 0.0) / TURN)
        while is_busy(error) and (turns := turns - 1) > 0:
            try:
                return work(self._open_cursor())
            except (sqlite3.Error, sqlalchemy.exc.DBAPIError) as another:
                error = another
        if is_fatal(error):
            self._drop()
        raise error

    def _open_cursor(self) -> Cursor:
        """Return the cursor, if its file still is the one that stands under the name.

        Raises:
            InconsistencyError: it was deleted or replaced; what is written now would be read by nobody.
        """
        if self._closed:
            raise Closed(f"the database {self.name} is closed")
        if self._cursor is None:
            return self._open()
        if self.path is not None and self._file != _identity(self.path):
            self._drop()
            raise InconsistencyError(
                f"the database file {self.path} was deleted or replaced while it was in use; what it held is gone for us"
            )
        return self._cursor

    def _open(self) -> Cursor:
        held = self._engine.raw_connection()
        try:
            cursor: Cursor = held.driver_connection.cursor()  # type: ignore[union-attr] # it is not detached
            self._prepare(cursor)
        except BaseException:
            held.invalidate()
            self._engine.dispose()
            raise
        self._held, self._cursor = held, cursor
        self._file = None if self.path is None else _identity(self.path)
        return cursor

    def _prepare(self, cursor: Cursor) -> None:
        """Turn on write-ahead logging, make the tables that are missing, and check that they are of our layout."""
        mode = cursor.execute("PRAGMA journal_mode").fetchone()[0]
        if mode not in ("wal", "memory"):
            mode = cursor.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode not in ("wal", "memory"):
            raise StorageBroken(f"{self.name}: SQLite cannot keep a write-ahead log there (journal mode {mode!r})")
        if self._options.create_tables and not self._is_complete(cursor):
            self._create_tables()
        self._check_version(cursor)
        self.time.agree(cursor, self.layout.sql)

    def _is_complete(self, cursor: Cursor) -> bool:
        """Tell whether all is there: tables, indexes, and the row that says of which layout they are."""
        tables = self.layout.metadata.tables
        names = [*tables, *(str(index.name) for table in tables.values() for index in table.indexes)]
        found = cursor.execute(
            f"SELECT count(*) FROM sqlite_master WHERE name IN ({', '.join('?' * len(names))})",  # noqa: S608 - only question marks
            names,
        ).fetchone()[0]
        return bool(found == len(names)) and cursor.execute(self.layout.sql.read_version).fetchone() is not None

    def _create_tables(self) -> None:
        """Make what is missing, in one step among all processes that do the same."""
        with self._engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            self.layout.metadata.create_all(connection, checkfirst=True)
            for table in self.layout.metadata.tables.values():
                for index in table.indexes:  # of tables that were there
                    index.create(connection, checkfirst=True)
            connection.exec_driver_sql(self.layout.sql.write_version, (LAYOUT_VERSION,))
            connection.commit()

    def _check_version(self, cursor: Cursor) -> None:
        row = cursor.execute(self.layout.sql.read_version).fetchone()
        version = row[0] if row else None
        if version != LAYOUT_VERSION:
            raise StorageBroken(
                f"{self.name}: the tables {self._options.table_prefix}* have layout {version!r}, this version of "
                f"brokerkit-sqlalchemy has {LAYOUT_VERSION!r}; use another table_prefix, or the version that made them"
            )

    def _roll_back(self, cursor: Cursor) -> None:
        try:
            if cursor.connection.in_transaction:
                cursor.execute("ROLLBACK")
        except sqlite3.Error:
            self._drop()

    def _drop(self) -> None:
        held, self._held, self._cursor, self._file = self._held, None, None, None
        if held is not None:
            held.invalidate()
        self._engine.dispose()  # what the pool has was opened on the same file


def change_each(cursor: Cursor, sql: str, rows: Sequence[_Row]) -> list[int]:
    """Run a statement that changes one row at most for each of `rows`; return the positions of those that changed none.

    It runs within a transaction. All rows go to the driver at once; only if one changed nothing is it done again singly.
    """
    if len(rows) == 1:
        return [] if cursor.execute(sql, rows[0]).rowcount else [0]
    cursor.execute("SAVEPOINT each_row")
    if cursor.executemany(sql, rows).rowcount == len(rows):
        cursor.execute("RELEASE each_row")
        return []
    cursor.execute("ROLLBACK TO each_row")
    cursor.execute("RELEASE each_row")
    return [i for i, row in enumerate(rows) if not cursor.execute(sql, row).rowcount]


def _busy(text: str) -> sqlite3.OperationalError:
    """Return what SQLite raises when a lock cannot be had, for waits of our own."""
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
    error.sqlite_errorname = "SQLITE_BUSY"
    return error


def _identity(path: str) -> _Identity:
    """Return what tells a file from another one under the same name."""
    try:
        found = os.stat(path)  # noqa: PTH116 - this is in every call, and a Path costs more than the call
    except OSError:
        return 0, 0
    return found.st_dev, found.st_ino
