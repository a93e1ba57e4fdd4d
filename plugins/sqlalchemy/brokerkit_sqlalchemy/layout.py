"""How our nouns are laid out in a database: tables and indexes; the SQL texts are in `statements`. Pure: nothing here does I/O.

A message is one row from send to ack. `state` and `due` say where it stands; the two partial indexes hold each row once:
`ready` in the order of claims, `due` in the order in which delays and leases end. What a claim changes keeps its size
(ready and leased are the numbers that SQLite stores in no byte, `due` is always a float), so SQLite overwrites it in
place and never rewrites a body; hence bodies of any size stand in the same table, last.

`seq` may come back once its row is gone, which spares a write per message; so `claim`, which tells each handing-over
from all others, begins with a random number. A queue's number never comes back: a message whose queue was deleted
belongs to nobody. A deleted queue is first made nameless, which is one step; its messages go in bounded steps after that.

Every dialect's differences belong here and in `statements`. SQLite is the only one so far.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from sqlalchemy import (
    BLOB,
    INTEGER,
    REAL,
    TEXT,
    Column,
    Index,
    MetaData,
    Table,
    UniqueConstraint,
    text,
)

from brokerkit_sqlalchemy.statements import SQLITE, Statements, with_prefix

__all__ = ["LAYOUT_VERSION", "Layout", "layout_for"]

LAYOUT_VERSION: Final = "2"
"""Rises when older code cannot work with the tables; kept in the table `meta`."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Tables and statements under one table prefix."""

    metadata: MetaData
    sql: Statements

    def probe_for(self, names: int) -> str:
        """Return the probe for a number of queues."""
        return self.sql.probe.replace("(names)", _places(names))

    def get_for(self, keys: int) -> str:
        """Return the look-up of a number of results."""
        return self.sql.get.replace("(keys)", _places(keys))


@lru_cache(maxsize=64)
def layout_for(prefix: str) -> Layout:
    """Return the layout under a table prefix."""
    return Layout(_tables(prefix), with_prefix(SQLITE, prefix))


def _places(count: int) -> str:
    return f"({', '.join('?' * count)})"


def _tables(prefix: str) -> MetaData:
    metadata = MetaData()
    Table(
        f"{prefix}meta",
        metadata,
        Column("name", TEXT, primary_key=True),
        Column("value", TEXT, nullable=False),
        sqlite_strict=True,
    )
    _queue_tables(prefix, metadata)
    _message_table(prefix, metadata)
    _result_table(prefix, metadata)
    return metadata


def _queue_tables(prefix: str, metadata: MetaData) -> None:
    queues = Table(
        f"{prefix}queues",
        metadata,
        Column("id", INTEGER, primary_key=True),
        Column("vhost", TEXT, nullable=False),
        Column("name", TEXT, comment="NULL: deleted, its messages are being removed"),
        Column("expires", REAL),
        Column("message_ttl", REAL),
        Column("max_length", INTEGER),
        Column("max_priority", INTEGER, nullable=False),
        Column("expires_at", REAL),
        Column("dropped", INTEGER, nullable=False, server_default=text("0")),
        Column("bound", TEXT, comment="its bindings once more, as JSON: by them the loss of one is seen"),
        UniqueConstraint("vhost", "name"),
        sqlite_autoincrement=True,
        sqlite_strict=True,
    )
    Index(f"{prefix}queues_unused", queues.c.expires_at, sqlite_where=queues.c.expires_at.is_not(None))
    Index(f"{prefix}queues_dropped", queues.c.id, sqlite_where=queues.c.name.is_(None))
    bindings = Table(
        f"{prefix}bindings",
        metadata,
        Column("id", INTEGER, primary_key=True),
        Column("queue_id", INTEGER, nullable=False),
        Column("vhost", TEXT, nullable=False),
        Column("kind", TEXT, nullable=False),
        Column("scope", TEXT, nullable=False),
        Column("topic", TEXT, nullable=False),
        Column("patterns", INTEGER, nullable=False),
        Column("pattern", TEXT, nullable=False),
        UniqueConstraint("queue_id", "kind", "scope", "topic", "pattern"),
        sqlite_strict=True,
    )
    Index(f"{prefix}bindings_scope", bindings.c.topic, bindings.c.kind, bindings.c.scope, bindings.c.patterns)
    Index(f"{prefix}bindings_vhost", bindings.c.topic, bindings.c.vhost, bindings.c.kind)


def _message_table(prefix: str, metadata: MetaData) -> None:
    messages = Table(
        f"{prefix}messages",
        metadata,
        Column("seq", INTEGER, primary_key=True),
        Column("queue_id", INTEGER, nullable=False),
        Column("id", TEXT, nullable=False),
        Column("state", INTEGER, nullable=False),
        Column("priority", INTEGER, nullable=False),
        Column("due", REAL, nullable=False),
        Column("attempt", INTEGER, nullable=False, server_default=text("0")),
        Column("claim", INTEGER, nullable=False),
        Column("expires_at", REAL),
        Column("headers", BLOB),
        Column("body", BLOB),
        sqlite_strict=True,
    )
    columns = messages.c
    Index(f"{prefix}messages_id", columns.queue_id, columns.id, unique=True)
    Index(
        f"{prefix}messages_ready",
        columns.queue_id,
        columns.priority.desc(),
        columns.seq,
        sqlite_where=text("state = 0"),
    )
    Index(f"{prefix}messages_due", columns.queue_id, columns.due, sqlite_where=text("state <> 0"))


def _result_table(prefix: str, metadata: MetaData) -> None:
    results = Table(
        f"{prefix}results",
        metadata,
        Column("id", INTEGER, primary_key=True),
        Column("vhost", TEXT, nullable=False),
        Column("key", TEXT, nullable=False),
        Column("value", BLOB, nullable=False),
        Column("final", INTEGER, nullable=False),
        Column("expires_at", REAL),
        UniqueConstraint("vhost", "key"),
        sqlite_strict=True,
    )
    Index(f"{prefix}results_expired", results.c.expires_at, sqlite_where=results.c.expires_at.is_not(None))
