"""From a URL to a file, and opening it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from brokerkit_sqlalchemy import SQLAlchemyTransport, SQLAlchemyTransportOptions
from brokerkit_sqlalchemy.engine import database_name

from brokerkit._clock import SYSTEM_CLOCK
from brokerkit.errors import Closed, InconsistencyError, InvalidOption, InvalidURL, QueueNotFound, StorageBroken
from brokerkit.models import Message, Queue
from brokerkit.url import URL

Open = Callable[..., SQLAlchemyTransport]


@pytest.mark.parametrize("scheme", ["sqlite", "sqlalchemy+sqlite", "sqla+sqlite", "db+sqlite", "sqlite+pysqlite"])
def test_all_spellings_name_the_same_file(scheme: str) -> None:
    assert database_name(URL.parse(f"{scheme}:////var/x/f.db")) == "/var/x/f.db"
    assert database_name(URL.parse(f"{scheme}:///f.db")) == str(Path.cwd() / "f.db")
    assert database_name(URL.parse(f"{scheme}:///:memory:")) == ":memory:"
    assert database_name(URL.parse(f"{scheme}://")) == ":memory:"


def test_a_uri_of_sqlite_is_handed_on() -> None:
    assert database_name(URL.parse("sqlite:///file:/x/f.db%3Fmode=ro")) == "file:/x/f.db?mode=ro"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sqlite://f.db", "three|///"),
        ("sqlite://user@/f.db", "no server"),
        ("sqlalchemy:///f.db", "names no database"),
        ("sqlalchemy+postgresql://h/d", "not built yet"),
        ("sqlite+aiosqlite:///f.db", "not built yet"),
        ("sqlite:///a%00b", "NUL"),
        ("sqlite:///file:x%3Fmode=memory", ":memory:"),
    ],
)
def test_a_url_that_makes_no_sense_is_refused(url: str, says: str) -> None:
    with pytest.raises(InvalidURL, match=says):
        database_name(URL.parse(url))


@pytest.mark.parametrize("prefix", ["", "1x", "a b", "x;--", "ü_", "x" * 32])
def test_a_table_prefix_is_a_plain_name(prefix: str) -> None:
    with pytest.raises(InvalidOption, match="table_prefix"):
        SQLAlchemyTransportOptions(table_prefix=prefix)


def test_engine_options_reach_sqlalchemy(url: str, open_transport: Open) -> None:
    transport = open_transport(engine_options={"echo_pool": False, "connect_args": {"cached_statements": 9}})
    transport.declare(Queue(name="q"), timeout=5)
    with pytest.raises(InvalidOption, match=r"engine_options.*no_such_thing"):
        open_transport(engine_options={"no_such_thing": 1})


def test_building_a_transport_touches_no_file(tmp_path: Path, open_transport: Open) -> None:
    open_transport()
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(("synchronous", "level", "loses"), [("FULL", 2, "yes"), ("NORMAL", 1, "no")])
def test_the_file_has_a_write_ahead_log_and_the_chosen_safety(
    open_transport: Open, synchronous: str, level: int, loses: str
) -> None:
    transport = open_transport(synchronous=synchronous)

    def pragmas(cursor: sqlite3.Cursor) -> list[object]:
        return [
            cursor.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous", "secure_delete")
        ]

    assert transport._database.look(pragmas, timeout=5) == ["wal", level, 2]
    assert transport.capabilities.durability.power_loss == loses
    assert transport.capabilities.group_commit is (synchronous == "FULL")


def test_two_prefixes_in_one_file_know_nothing_of_each_other(
    open_transport: Open, message: Callable[..., Message]
) -> None:
    one, other = open_transport(), open_transport(table_prefix="x_")
    one.declare(Queue(name="q"), timeout=5)
    other.declare(Queue(name="q"), timeout=5)
    one.send("q", [message()], timeout=5)
    assert one.depth("q", timeout=5).ready == 1
    assert other.depth("q", timeout=5).ready == 0


def test_two_virtual_hosts_in_one_file_know_nothing_of_each_other(
    open_transport: Open, message: Callable[..., Message]
) -> None:
    one, other = open_transport(), open_transport(virtual_host="v")
    one.declare(Queue(name="q"), timeout=5)
    with pytest.raises(QueueNotFound):
        other.send("q", [message()], timeout=5)


def test_each_object_of_memory_is_a_database_of_its_own(open_transport: Open) -> None:
    one, other = open_transport("sqlite://"), open_transport("sqlite:///:memory:")
    one.declare(Queue(name="q"), timeout=5)
    assert one.depth("q", timeout=5).ready == 0
    with pytest.raises(QueueNotFound):
        other.depth("q", timeout=5)
    assert one.capabilities.shared == "process"
    assert one.capabilities.durability.restart is False


def test_without_create_tables_missing_ones_are_an_error(open_transport: Open) -> None:
    transport = open_transport(create_tables=False)
    with pytest.raises(sqlite3.OperationalError, match="no such table") as caught:
        transport.declare(Queue(name="q"), timeout=5)
    assert isinstance(transport.errors.translate(caught.value, doing="declare"), InconsistencyError)


def test_tables_of_another_layout_are_refused(tmp_path: Path, open_transport: Open) -> None:
    open_transport().declare(Queue(name="q"), timeout=5)
    with sqlite3.connect(tmp_path / "broker.db") as connection:
        connection.execute("UPDATE bk_meta SET value = '99'")
    connection.close()
    with pytest.raises(StorageBroken, match=r"'99'.*table_prefix"):
        open_transport().declare(Queue(name="q"), timeout=5)


def test_after_close_everything_says_closed(open_transport: Open, message: Callable[..., Message]) -> None:
    transport = open_transport()
    transport.declare(Queue(name="q"), timeout=5)
    transport.close(timeout=5)
    transport.close(timeout=5)
    with pytest.raises(Closed):
        transport.send("q", [message()], timeout=5)


def test_close_leaves_no_file_but_the_database(tmp_path: Path, open_transport: Open) -> None:
    transport = open_transport()
    transport.declare(Queue(name="q"), timeout=5)
    receiver = transport.open_receiver(["q"], prefetch=1, visibility_timeout=5)
    receiver.receive(limit=1, timeout=0.1)
    receiver.close(timeout=5)
    transport.close(timeout=5)
    assert [path.name for path in tmp_path.iterdir()] == ["broker.db"]


def test_from_url_takes_the_options_of_the_contract(url: str) -> None:
    transport = SQLAlchemyTransport.from_url(URL.parse(url), SQLAlchemyTransportOptions(), clock=SYSTEM_CLOCK)
    transport.close(timeout=5)
    assert transport.options_type is SQLAlchemyTransportOptions
