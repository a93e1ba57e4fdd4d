"""One table: an error of SQLite or SQLAlchemy → ours.

SQLite's result codes: https://www.sqlite.org/rescode.html. The low byte is the primary code.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import exc

from brokerkit.errors import (
    AccessDenied,
    ErrorTable,
    InconsistencyError,
    MessageTooLarge,
    Rule,
    StorageBroken,
    StorageFull,
    Throttled,
)

__all__ = ["ERRORS", "is_busy", "is_fatal"]

_FULL: Final = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_NOMEM)
# the connection may be in a bad state after these: open a new one
_FATAL: Final = (
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_PROTOCOL,
)


def _code_of(error: BaseException) -> int:
    """Return SQLite's extended result code behind an error, or 0."""
    return int(getattr(getattr(error, "orig", None) or error, "sqlite_errorcode", 0) or 0)


def is_busy(error: BaseException) -> bool:
    """Tell whether another connection holds a lock that was needed."""
    return _code_of(error) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def is_fatal(error: BaseException) -> bool:
    """Tell whether the connection should not be used again."""
    return _code_of(error) & 0xFF in _FATAL or _lacks_tables(error)


def _lacks_tables(error: BaseException) -> bool:
    """Tell whether our tables or indexes are gone or were changed. SQLite has no code of its own for it."""
    texts = ("no such table", "no such column", "no such index", "has no column", "ON CONFLICT clause does not match")
    return any(text in str(error) for text in texts)


def _code(*codes: int) -> Callable[[Any], bool]:
    """Return a test on the extended code, or on the primary one where a primary one is given."""
    return lambda error: _code_of(error) in codes or _code_of(error) & 0xFF in codes


def _rules(catches: type[Exception]) -> tuple[Rule, ...]:
    """The rules on the result code, which hold for the driver's error and for SQLAlchemy's wrapper of it."""
    return (
        Rule(catches, Throttled, is_busy, "another connection holds the lock of the file for longer than we may wait"),
        Rule(catches, StorageFull, _code(*_FULL), "the disk, or max_page_count, leaves no room; free some and go on"),
        Rule(catches, StorageBroken, _code(sqlite3.SQLITE_READONLY), "the file or its folder cannot be written to"),
        Rule(
            catches,
            StorageBroken,
            _code(sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB),
            "the file is damaged or is no SQLite database; restore a copy",
        ),
        Rule(
            catches,
            StorageBroken,
            _code(sqlite3.SQLITE_CANTOPEN),
            "does the folder exist, and may we write to it? SQLite needs two more files beside the database",
        ),
        Rule(
            catches,
            StorageBroken,
            _code(sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PROTOCOL),
            "the disk or its file system failed",
        ),
        Rule(catches, AccessDenied, _code(sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH)),
        Rule(catches, MessageTooLarge, _code(sqlite3.SQLITE_TOOBIG)),
        Rule(
            catches,
            InconsistencyError,
            _lacks_tables,
            "our tables are gone or were changed; with create_tables=true a new connection makes missing ones",
        ),
    )


ERRORS: Final = ErrorTable(
    *_rules(sqlite3.Error),
    *_rules(exc.DBAPIError),
    Rule(exc.TimeoutError, Throttled, None, "all connections of the pool are taken"),
)
"""An error that is in no row becomes a `TransportError`, which is not retried."""
