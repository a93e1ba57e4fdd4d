"""What this plugin is measured against by `brokerkit bench sqlite`: the raw driver at its best, and kombu's SQL transport.

Nothing else imports this. Each contender does the same work on a file of its own.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar, Final, Literal, final

from brokerkit.bench.contract import Contender, Goal
from brokerkit.bench.kombu_peer import KOMBU, Kombu

__all__ = ["SQLITE", "RawSQLite", "SQLiteBenchmark"]

_LEASE: Final = 30.0
_POLL: Final = 0.001
_BUSY: Final = 60.0
_FILE: Final = "queue.db"
_KOMBUS_NOTE: Final = (
    "SQLite's own defaults in all modes (rollback journal, FULL); no batches; at most once: its ack does nothing, and "
    "delivered rows stay; bodies are base64 in JSON"
)


@final
class RawSQLite:
    """The driver alone: write-ahead log, one table, claims by a lease, acks with the next claim.

    Args:
        synchronous: FULL or NORMAL, as the plugin's option.
    """

    name: str = "sqlite3"
    threads: Literal["shared", "own", "no"] = "own"
    note: str = "no attempts, priorities, delays or checks; an idle consumer polls each millisecond"

    def __init__(self, synchronous: str) -> None:
        self._synchronous = synchronous
        self._napping = threading.Condition()

    def open(self, folder: Path) -> None:
        """See `Contender.open`."""
        self._connection = sqlite3.connect(folder / _FILE, isolation_level=None, timeout=_BUSY, check_same_thread=False)
        for pragma in ("journal_mode = WAL", f"synchronous = {self._synchronous}", "secure_delete = FAST"):
            self._connection.execute(f"PRAGMA {pragma}")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS m (seq INTEGER PRIMARY KEY, due REAL NOT NULL, body BLOB NOT NULL)"
        )
        self._connection.execute("CREATE INDEX IF NOT EXISTS m_due ON m (due, seq)")
        self._cursor = self._connection.cursor()

    def send(self, body: bytes) -> None:
        """See `Contender.send`."""
        self._cursor.execute("INSERT INTO m (due, body) VALUES (0, ?)", (body,))

    def send_many(self, bodies: Sequence[bytes]) -> None:
        """See `Contender.send_many`."""
        self._cursor.execute("BEGIN IMMEDIATE")
        self._cursor.executemany("INSERT INTO m (due, body) VALUES (0, ?)", [(body,) for body in bodies])
        self._cursor.execute("COMMIT")

    def consume(self, count: int, *, prefetch: int) -> tuple[int, int]:
        """See `Contender.consume`."""
        came = size = 0
        acks: list[tuple[int]] = []
        while came < count or acks:
            rows = self._claim(min(prefetch, count - came), acks)
            acks = [(row[0],) for row in rows]
            came += len(rows)
            size += sum(len(row[1]) for row in rows)
        return came, size

    def receive(self, timeout: float) -> bytes | None:
        """See `Contender.receive`."""
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            if self._cursor.execute("SELECT 1 FROM m WHERE due <= ? LIMIT 1", (time.monotonic(),)).fetchone():
                rows = self._claim(1, ())
                if rows:
                    self._claim(0, [(rows[0][0],)])
                    return rows[0][1]
            with self._napping:
                self._napping.wait(_POLL)
        return None

    def depth(self) -> int:
        """See `Contender.depth`."""
        return int(self._cursor.execute("SELECT count(*) FROM m").fetchone()[0])

    def purge(self) -> None:
        """See `Contender.purge`."""
        self._cursor.execute("DELETE FROM m")

    def close(self) -> None:
        """See `Contender.close`."""
        self._connection.close()

    def _claim(self, limit: int, acks: Sequence[tuple[int]]) -> list[tuple[int, bytes]]:
        rows: list[tuple[int, bytes]] = []
        now = time.monotonic()
        self._cursor.execute("BEGIN IMMEDIATE")
        if acks:
            self._cursor.executemany("DELETE FROM m WHERE seq = ?", acks)
        if limit:
            rows = self._cursor.execute(
                "UPDATE m SET due = ? WHERE seq IN (SELECT seq FROM m WHERE due <= ? ORDER BY due, seq LIMIT ?) "
                "RETURNING seq, body",
                (now + _LEASE, now, limit),
            ).fetchall()
        self._cursor.execute("COMMIT")
        return rows


@final
class SQLiteBenchmark:
    """See `brokerkit.bench.contract.Benchmark`."""

    title: str = "SQLite"
    modes: Sequence[str] = ("FULL", "NORMAL")
    driver: str = RawSQLite.name
    peer: str = KOMBU
    where: str = "on files of their own on one disk"
    modules: Sequence[str] = ("kombu.connection", "sqlalchemy")
    goals: ClassVar[Sequence[Goal]] = (
        Goal("send", "FULL", "kombu", "at least", 10),
        Goal("send_many", "FULL", "kombu", "at least", 100),
        Goal("consume_100", "FULL", "kombu", "at least", 60),
        Goal("send", "NORMAL", "kombu", "at least", 35),
        Goal("deep", "FULL", "", "at most", 1.5),
        Goal("latency", "FULL", "", "at most", 0.020),
        Goal("import", None, "", "at most", 0),
    )

    def url(self, folder: Path, mode: str) -> str:
        """Return brokerkit's URL."""
        return f"sqlite:///{folder / _FILE}?synchronous={mode}"

    def rivals(self, mode: str) -> Sequence[Contender]:
        """Return the other contenders."""
        return [RawSQLite(mode), Kombu(_kombus_url, note=_KOMBUS_NOTE)]

    def versions(self) -> Mapping[str, str]:
        """Return what is measured."""
        names = ("brokerkit-sqlalchemy", "sqlalchemy", "kombu")
        return {"SQLite": sqlite3.sqlite_version, **{name: version(name) for name in names}}


def _kombus_url(folder: Path) -> str:
    return f"sqlalchemy+sqlite:///{folder / _FILE}"


SQLITE: Final = SQLiteBenchmark()
"""What the entry point gives."""
