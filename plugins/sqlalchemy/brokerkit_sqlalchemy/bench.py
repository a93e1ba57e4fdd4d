"""What this plugin is measured against by `brokerkit bench sqlite`: the raw driver at its best, and kombu's SQL transport.

Nothing else imports this. Each contender does the same work on a file of its own; kombu is imported when its contender opens.
"""

from __future__ import annotations

import importlib
import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, final

__all__ = ["SQLITE", "Goal", "KombuSQL", "RawSQLite", "SQLiteBenchmark"]

_QUEUE: Final = "bench"
_LEASE: Final = 30.0
_POLL: Final = 0.001
_BUSY: Final = 60.0
_FILE: Final = "queue.db"


@dataclass(frozen=True, slots=True)
class Goal:
    """One goal; see `brokerkit.bench.contract.Goal`."""

    cell: str
    mode: str | None
    versus: str
    bound: Literal["at least", "at most"]
    value: float


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
class KombuSQL:
    """kombu's `sqlalchemy+sqlite` transport, acking each message."""

    name: str = "kombu"
    threads: Literal["shared", "own", "no"] = "no"
    note: str = (
        "SQLite's own defaults in all modes (rollback journal, FULL); no batches; at most once: its ack does nothing, and "
        "delivered rows stay; bodies are base64 in JSON"
    )

    def open(self, folder: Path) -> None:
        """See `Contender.open`."""
        kombu = importlib.import_module("kombu")
        self._connection: Any = kombu.Connection(f"sqlalchemy+sqlite:///{folder / _FILE}")
        self._queue: Any = kombu.Queue(_QUEUE, channel=self._connection.channel())
        self._queue.declare()
        self._producer = self._connection.Producer()
        self._received: list[bytes] = []
        self._consumer = self._connection.Consumer([self._queue], callbacks=[self._on_message], accept=None)
        self._consuming = False

    def send(self, body: bytes) -> None:
        """See `Contender.send`."""
        self._producer.publish(
            body, routing_key=_QUEUE, content_type="application/octet-stream", content_encoding="binary"
        )

    def send_many(self, bodies: Sequence[bytes]) -> None:
        """See `Contender.send_many`; it has no batches."""
        for body in bodies:
            self.send(body)

    def consume(self, count: int, *, prefetch: int) -> tuple[int, int]:
        """See `Contender.consume`."""
        self._received.clear()
        self._consumer.qos(prefetch_count=prefetch)
        with self._consumer:
            while len(self._received) < count:
                self._connection.drain_events(timeout=_BUSY)
        return len(self._received), sum(map(len, self._received))

    def receive(self, timeout: float) -> bytes | None:
        """See `Contender.receive`."""
        if not self._consuming:
            self._consumer.consume()
            self._consuming = True
        self._received.clear()
        try:
            self._connection.drain_events(timeout=timeout)
        except TimeoutError:
            return None
        return self._received[0]

    def depth(self) -> int:
        """See `Contender.depth`."""
        return int(self._queue.queue_declare(passive=True).message_count)

    def purge(self) -> None:
        """See `Contender.purge`."""
        self._queue.purge()

    def close(self) -> None:
        """See `Contender.close`."""
        self._connection.release()

    def _on_message(self, body: bytes, message: Any) -> None:
        message.ack()
        self._received.append(body)


@final
class SQLiteBenchmark:
    """See `brokerkit.bench.contract.Benchmark`."""

    title: str = "SQLite"
    modes: Sequence[str] = ("FULL", "NORMAL")
    driver: str = RawSQLite.name
    peer: str = KombuSQL.name
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

    def rivals(self, mode: str) -> Sequence[Any]:
        """Return the other contenders."""
        return [RawSQLite(mode), KombuSQL()]

    def versions(self) -> Mapping[str, str]:
        """Return what is measured."""
        names = ("brokerkit-sqlalchemy", "sqlalchemy", "kombu")
        return {"SQLite": sqlite3.sqlite_version, **{name: version(name) for name in names}}


SQLITE: Final = SQLiteBenchmark()
"""What the entry point gives."""
