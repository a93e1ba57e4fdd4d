"""How the conformance suite reaches SQLite: one file for all cases, a second virtual host in it, and SQLite's own client."""

from __future__ import annotations

import contextlib
import itertools
import random
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from brokerkit_conformance import Admin, FullServer, Harness, Role, StorageMap, key

from brokerkit.capabilities import Impossible
from brokerkit.models import new_id, pack_headers

__all__ = ["SQLiteAdmin", "SQLiteHarness"]

_STORAGE: Final[StorageMap] = {
    Role.TOPOLOGY: "queues/[^/]*/{name}",
    Role.BODY: "messages/[^/]*/{name}/.*",
    Role.HELD: "messages/[^/]*/{name}/leased/.*",
    Role.IN_FLIGHT: "index/bk_messages_due",
    Role.SCHEDULE: "index/bk_messages_due",
    Role.PRIORITY: "index/bk_messages_ready",
    Role.MUTEX: Impossible("SQLite has one writer at a time, and each claim ripens what is due"),
    Role.DEDUPE: "index/bk_messages_id",
    Role.BINDING: "bindings/[^/]*/[^/]*/{name}/.*",
    Role.RESULT: "results/[^/]*/{name}",
    Role.BOOKKEEPING: "meta/(layout|clock)|sqlite_sequence/bk_queues|index/bk_(queues|bindings|results)_.*",
}
_KEPT: Final = ("journal_mode", "page_size", "encoding", "auto_vacuum")
_STATES: Final = ("ready", "leased", "delayed")
_NAMED: Final = {
    "bk_queues": "SELECT rowid, 'queues', vhost, coalesce(name, '?') FROM bk_queues",
    "bk_messages": "SELECT m.rowid, 'messages', coalesce(q.vhost, '?'), coalesce(q.name, '?'), m.state, m.priority, m.seq "
    "FROM bk_messages AS m LEFT JOIN bk_queues AS q ON q.id = m.queue_id",
    "bk_bindings": "SELECT b.rowid, 'bindings', b.vhost, coalesce(q.name, '?'), b.topic, b.kind, b.scope, b.pattern "
    "FROM bk_bindings AS b LEFT JOIN bk_queues AS q ON q.id = b.queue_id",
    "bk_results": "SELECT rowid, 'results', vhost, key FROM bk_results",
    "bk_meta": "SELECT rowid, 'meta', name FROM bk_meta",
    "sqlite_sequence": "SELECT rowid, 'sqlite_sequence', name FROM sqlite_sequence",
}


class SQLiteHarness(Harness):
    """A database file of its own, in a folder that is removed at the end."""

    server = f"SQLite {sqlite3.sqlite_version}"
    emulator = False

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="brokerkit-sqlite-"))
        self._numbers = itertools.count(1)

    def stop(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self._folder)

    def urls(self) -> Sequence[str]:
        """Two virtual hosts of one file."""
        return _two_hosts(f"sqlite:///{self._folder}/broker.db")

    def results_urls(self) -> Sequence[str]:
        """Two virtual hosts of one file; a new one each time, so that its first use by many at once is tested (RES-16)."""
        return _two_hosts(f"db+{self._new_file('results')}")

    def private_urls(self) -> tuple[Sequence[str], Sequence[str]]:
        """A new file for both."""
        url = self._new_file("private")
        return _two_hosts(url), _two_hosts(f"db+{url}")

    def admin(self, url: str, *, clock: Any = None) -> Admin:  # noqa: ARG002 - SQLite goes by the machine's
        """SQLite's own client."""
        path, _, query = url.partition(":///")[2].partition("?")
        return SQLiteAdmin(Path(path), query.removeprefix("virtual_host="))

    def server_settings(self) -> Mapping[str, str]:
        """What the library was compiled with, and how the file is kept."""
        with contextlib.closing(sqlite3.connect(f"file:{self._folder}/broker.db?mode=ro", uri=True)) as connection:
            run = connection.execute
            compiled = " ".join(option for (option,) in run("PRAGMA compile_options"))
            kept = {name: str(run(f"PRAGMA {name}").fetchone()[0]) for name in _KEPT}
        return {"compile_options": compiled, **kept}

    def storage_map(self) -> StorageMap:
        """Every row of every table, and every index."""
        return _STORAGE

    @contextlib.contextmanager
    def full_server(self) -> Iterator[FullServer]:
        """A file that may not grow, for as long as it is to be full: a bound that SQLite keeps for each connection."""

        class Bounded(sqlite3.Connection):
            """A connection that can be bounded."""

        connections: list[sqlite3.Connection] = []

        def connect(*args: Any, **kwargs: Any) -> sqlite3.Connection:
            connections.append(made := Bounded(*args, **kwargs))
            return made

        def bound(full: bool) -> None:  # noqa: FBT001 - one of two states
            for each in connections:
                with contextlib.suppress(sqlite3.ProgrammingError):  # it was closed
                    pages = each.execute("PRAGMA page_count").fetchone()[0] if full else 2**30
                    each.execute(f"PRAGMA max_page_count = {pages}")

        yield FullServer(self._new_file("full"), {"engine_options": {"connect_args": {"factory": connect}}}, bound)

    def _new_file(self, name: str) -> str:
        return f"sqlite:///{self._folder}/{name}{next(self._numbers)}.db"


class SQLiteAdmin(Admin):
    """Foreign access to a file by a connection of its own, which knows the tables and nothing of the plugin's code."""

    def __init__(self, path: Path, vhost: str) -> None:
        self._path = path
        self._vhost = vhost
        self._connection = sqlite3.connect(path, isolation_level=None, timeout=30.0, check_same_thread=False)

    def keys(self) -> Collection[str]:
        """See `Admin.keys`: every row of every table, and every index."""
        return self._all()

    def remove(self, keys: Collection[str]) -> None:
        """See `Admin.remove`."""
        run = self._connection.execute
        run("BEGIN IMMEDIATE")
        there = self._all()
        for each in keys:
            kind, where = there[each]
            if kind == "index":
                run(f'DROP INDEX "{where}"')
            else:
                run(f'DELETE FROM "{kind}" WHERE rowid = ?', (where,))  # noqa: S608 - a table of ours
        run("COMMIT")

    def put_raw(self, queue: str, body: bytes, headers: Mapping[str, str]) -> None:
        """See `Admin.put_raw`."""
        self._insert(queue, body, pack_headers(headers) if headers else None)

    def put_damaged(self, queue: str) -> int:
        """See `Admin.put_damaged`: no body, and headers that are no JSON, or no object of texts, or cut off."""
        texts = ["{", "[]", "null", "1", '"text"', '{"a": 1}', '{"a": null}', '{"a": {"b": "c"}}', "[" * 20_000]
        seeds = random.Random(1)  # noqa: S311 - the same damage each time
        bodies = [(b"x", text.encode()) for text in texts] + [(b"x", b"\xff\xfe"), (b"x", b"\0"), (None, None)]
        bodies += [(None, b"{}")] + [(b"x", b"\xff" + seeds.randbytes(40)) for _ in range(60)]
        for body, headers in bodies:
            self._insert(queue, body, headers)
        return len(bodies)

    def disasters(self) -> Mapping[str, Callable[[], object]]:
        """See `Admin.disasters`."""
        return {
            "all rows deleted": self._delete_rows,
            "all tables dropped": self._drop_tables,
            "the file deleted": self._delete_file,
        }

    def forget_statements(self) -> None:
        """Change the schema: every prepared statement of every connection is void then."""
        self._connection.execute("CREATE TABLE passing (x)")
        self._connection.execute("DROP TABLE passing")
        self._connection.execute("VACUUM")

    def close(self) -> None:
        """See `Admin.close`."""
        self._connection.close()

    def _all(self) -> dict[str, tuple[str, Any]]:
        """Return every key, with its table and row, or with "index" and its name."""
        run = self._connection.execute
        found: dict[str, tuple[str, Any]] = {}
        objects = run("SELECT type, name FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
        for _, name in [(kind, name) for kind, name in objects if kind != "table"]:
            found[key("index", name)] = ("index", name)
        for _, table in [(kind, name) for kind, name in objects if kind == "table"]:
            sql = _NAMED.get(table, f'SELECT rowid, "{table}", rowid FROM "{table}"')  # noqa: S608 - from the file itself
            for rowid, *parts in run(sql).fetchall():
                if parts[0] == "messages":
                    parts[3] = _STATES[parts[3]]
                found[key(*parts)] = (table, rowid)
        return found

    def _insert(self, queue: str, body: bytes | None, headers: bytes | None) -> None:
        done = self._connection.execute(
            "INSERT INTO bk_messages (queue_id, id, state, priority, due, claim, headers, body) "
            "SELECT id, ?, 0, 0, 0.0, 1073741824, ?, ? FROM bk_queues WHERE vhost = ? AND name = ?",
            (new_id(0.0), headers, body, self._vhost, queue),
        )
        if done.rowcount != 1:
            raise LookupError(f"there is no queue {queue!r} to put something into")

    def _tables(self) -> list[str]:
        rows = self._connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'bk_%'")
        return [name for (name,) in rows.fetchall()]

    def _delete_rows(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        for table in [*self._tables(), "sqlite_sequence"]:
            self._connection.execute(f'DELETE FROM "{table}"')  # noqa: S608 - a table of ours
        self._connection.execute("COMMIT")

    def _drop_tables(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        for table in self._tables():
            self._connection.execute(f'DROP TABLE "{table}"')
        self._connection.execute("COMMIT")

    def _delete_file(self) -> None:
        self._connection.close()
        for suffix in ("", "-wal", "-shm"):
            Path(f"{self._path}{suffix}").unlink(missing_ok=True)


def _two_hosts(url: str) -> tuple[str, str]:
    return url, f"{url}?virtual_host=other"
