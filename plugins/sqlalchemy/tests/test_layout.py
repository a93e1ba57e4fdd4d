"""The layout: names, texts, and that each hot statement goes by its index."""

from __future__ import annotations

import sqlite3
from dataclasses import fields

import pytest
import sqlalchemy
from brokerkit_sqlalchemy.layout import Layout, layout_for
from brokerkit_sqlalchemy.statements import Statements


@pytest.fixture
def database() -> sqlite3.Connection:
    """A database in memory that has our tables."""
    connection = sqlite3.connect(":memory:")
    engine = sqlalchemy.create_engine("sqlite://", creator=lambda: connection)
    layout_for("bk_").metadata.create_all(engine)
    return connection


def texts(layout: Layout) -> dict[str, str]:
    found = {f.name: getattr(layout.sql, f.name) for f in fields(Statements)}
    return found | {"probe": layout.probe_for(3), "get": layout.get_for(2)}


def plan(database: sqlite3.Connection, name: str) -> str:
    text = texts(layout_for("bk_"))[name]
    rows = database.execute(f"EXPLAIN QUERY PLAN {text}", [0] * text.count("?"))
    return "\n".join(row[3] for row in rows)


def test_every_table_and_index_has_the_prefix() -> None:
    metadata = layout_for("shop_").metadata
    names = [*metadata.tables] + [str(index.name) for table in metadata.tables.values() for index in table.indexes]
    assert len(names) == 13
    assert [name for name in names if not name.startswith("shop_")] == []


def test_no_placeholder_is_left_in_any_statement() -> None:
    for name, text in texts(layout_for("shop_")).items():
        assert "@" not in text, name
        assert "$" not in text, name
        assert "bk_" not in text, name


def test_every_statement_fits_the_tables(database: sqlite3.Connection) -> None:
    for name in texts(layout_for("bk_")):
        plan(database, name)


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("claim", "bk_messages_ready"),
        ("probe", "bk_messages_ready"),
        ("probe", "bk_messages_due"),
        ("ripen", "bk_messages_due"),
        ("count_messages", "COVERING INDEX bk_messages_id"),
        ("purge_ready", "bk_messages_ready"),
        ("purge_delayed", "bk_messages_due"),
        ("hearing", "bk_bindings_scope"),
        ("drop_unused_queues", "bk_queues_unused"),
        ("dropped_queues", "bk_queues_dropped"),
        ("forget_expired", "bk_results_expired"),
    ],
)
def test_a_statement_goes_by_its_index(database: sqlite3.Connection, name: str, index: str) -> None:
    assert index in plan(database, name)


@pytest.mark.parametrize("name", ["claim", "probe", "ripen", "lease", "ack", "extend", "release", "send_one"])
def test_no_hot_statement_scans_or_sorts(database: sqlite3.Connection, name: str) -> None:
    shown = plan(database, name)
    assert "SCAN" not in shown
    assert "TEMP B-TREE" not in shown


def test_tables_refuse_values_of_a_wrong_type(database: sqlite3.Connection) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="cannot store TEXT"):
        database.execute(
            "INSERT INTO bk_messages (queue_id, id, state, priority, due, claim) VALUES (1, 'a', 'x', 0, 0, 0)"
        )
