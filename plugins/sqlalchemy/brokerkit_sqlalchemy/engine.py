"""From a URL to SQLAlchemy's engine: which file it is, and how its connections are set up."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import sqlalchemy
from sqlalchemy.pool import StaticPool

from brokerkit.errors import InvalidOption, InvalidURL, StorageBroken
from brokerkit.url import URL
from brokerkit_sqlalchemy.options import DatabaseOptions

__all__ = ["MEMORY", "TURN", "database_name", "make_engine"]

MEMORY: Final = ":memory:"
TURN: Final = 0.005
"""Seconds of SQLite's own waiting for a lock. It waits in steps that grow to 100 ms and cannot be ended from outside, so
it gets short turns, and the client counts them."""
_OLDEST_SQLITE: Final = (3, 37, 0)  # STRICT tables; upserts are older


def database_name(url: URL) -> str:
    """Return the file of a URL as SQLite opens it: an absolute path, `file:…` for SQLite's own URIs, or `:memory:`.

    Raises:
        InvalidURL: it names no database, or one that this plugin does not drive.
    """
    driver = url.full_scheme.removeprefix("sqlalchemy").removeprefix("sqla").removeprefix("db").removeprefix("+")
    if driver not in ("sqlite", "sqlite+pysqlite"):
        what = f"{driver}:// is not built yet" if driver else f"{url.scheme}:// names no database"
        raise InvalidURL(f"{what}; this plugin drives SQLite: {url.scheme}+sqlite:///file.db")
    if url.hosts or url.username or url.password:
        raise InvalidURL(
            f"SQLite has no server: write {url.full_scheme}:///file.db or, absolute, {url.full_scheme}:////dir/file.db"
        )
    name = url.path.removeprefix("/")
    if name in ("", MEMORY):
        return MEMORY
    if "\0" in name:
        raise InvalidURL("the path has a NUL, which no file name can hold")
    if not name.startswith("file:"):
        return str(Path(name).absolute())
    path, mark, query = name.removeprefix("file:").partition("?")
    if "mode=memory" in query or path.startswith(":memory:"):
        raise InvalidURL(f"a database in memory is {url.full_scheme}:///:memory:")
    return f"file:{Path(path).absolute()}{mark}{query}"


def make_engine(name: str, options: DatabaseOptions) -> sqlalchemy.Engine:
    """Return an engine for a `database_name`. Does no I/O.

    Raises:
        InvalidOption: SQLAlchemy refuses the `engine_options`.
    """
    arguments: dict[str, Any] = {
        "check_same_thread": False,  # a lock guards it
        "isolation_level": None,  # the driver begins no transactions behind our back
        "timeout": TURN,
        "cached_statements": 256,
    }
    if name.startswith("file:"):
        arguments["uri"] = True
    given = dict(options.engine_options or {})
    arguments |= given.pop("connect_args", {})
    settings = {"pool_reset_on_return": None} | ({"poolclass": StaticPool} if name == MEMORY else {}) | given
    url = sqlalchemy.URL.create("sqlite", database=name, query={"uri": "true"} if "uri" in arguments else {})
    try:
        engine = sqlalchemy.create_engine(url, connect_args=arguments, **settings)
    except (TypeError, sqlalchemy.exc.ArgumentError) as error:
        raise InvalidOption(f"option 'engine_options': {error}") from error
    if engine.dialect.dbapi.sqlite_version_info < _OLDEST_SQLITE:  # type: ignore[union-attr] # it has one
        raise StorageBroken(f"SQLite {sqlite3.sqlite_version} is too old: 3.37 or newer is needed")
    sqlalchemy.event.listen(engine, "connect", _set_up(options.synchronous))
    return engine


def _set_up(synchronous: str) -> Callable[[sqlite3.Connection, Any], None]:
    def set_up(connection: sqlite3.Connection, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA synchronous = {synchronous}")
        cursor.execute("PRAGMA secure_delete = FAST")  # Debian's default would write each deleted page once more
        cursor.execute("PRAGMA temp_store = MEMORY")
        cursor.close()

    return set_up
