"""What other hands took out of the file: it is told, and made good where it can be."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from brokerkit_sqlalchemy import SQLAlchemyTransport

from brokerkit.errors import InconsistencyError
from brokerkit.models import Message, Queue

Make = Callable[..., Message]


def by_hand(path: Path, *statements: str) -> list[object]:
    connection = sqlite3.connect(path, isolation_level=None)
    rows = [connection.execute(statement).fetchone() for statement in statements]
    connection.close()
    return rows


def error_of(transport: SQLAlchemyTransport, call: Callable[[], object]) -> Exception:
    with pytest.raises(Exception) as caught:
        call()
    return transport.errors.translate(caught.value, doing="test")


@pytest.mark.parametrize("index", ["bk_messages_id", "bk_messages_due", "bk_messages_ready", "bk_bindings_scope"])
def test_a_new_connection_makes_a_missing_index(
    tmp_path: Path, open_transport: Callable[..., SQLAlchemyTransport], message: Make, index: str
) -> None:
    open_transport().declare(Queue(name="q"), timeout=5)
    by_hand(tmp_path / "broker.db", f"DROP INDEX {index}")
    other = open_transport()
    assert other.send("q", [message()], timeout=5) == [None]
    assert by_hand(tmp_path / "broker.db", f"SELECT count(*) FROM sqlite_master WHERE name = '{index}'") == [(1,)]


def test_a_missing_unique_index_is_told_and_made_anew(
    tmp_path: Path, open_transport: Callable[..., SQLAlchemyTransport], message: Make
) -> None:
    transport = open_transport()
    transport.declare(Queue(name="q"), timeout=5)
    by_hand(tmp_path / "broker.db", "DROP INDEX bk_messages_id")
    assert isinstance(error_of(transport, lambda: transport.send("q", [message()], timeout=5)), InconsistencyError)
    assert transport.send("q", [message()], timeout=5) == [None]


def test_a_lost_layout_row_is_written_again(tmp_path: Path, open_transport: Callable[..., SQLAlchemyTransport]) -> None:
    open_transport().declare(Queue(name="q"), timeout=5)
    by_hand(tmp_path / "broker.db", "DELETE FROM bk_meta")
    open_transport().declare(Queue(name="q"), timeout=5)
    assert by_hand(tmp_path / "broker.db", "SELECT value FROM bk_meta WHERE name = 'layout'") == [("2",)]


def test_a_publish_past_a_queue_that_is_gone_is_refused_once(
    tmp_path: Path, open_transport: Callable[..., SQLAlchemyTransport], message: Make
) -> None:
    transport = open_transport()
    for name in ("gone", "there"):
        transport.declare(Queue(name=name), timeout=5)
        transport.bind(name, "topic", "#", timeout=5)
    by_hand(tmp_path / "broker.db", "DELETE FROM bk_queues WHERE name = 'gone'")
    (outcome,) = transport.publish("topic", [message()], timeout=5)
    assert isinstance(outcome, InconsistencyError)
    assert "'topic': 1 bound queues are gone" in str(outcome)
    assert transport.depth("there", timeout=5).ready == 0
    assert transport.publish("topic", [message()], timeout=5) == [None]
    assert transport.depth("there", timeout=5).ready == 1


def test_a_replaced_file_is_watched_anew(
    tmp_path: Path, open_transport: Callable[..., SQLAlchemyTransport], message: Make
) -> None:
    transport = open_transport()
    transport.declare(Queue(name="q"), timeout=5)
    receiver = transport.open_receiver(["q"], prefetch=1, visibility_timeout=30)
    assert receiver.receive(limit=1, timeout=0.05) == ([], [])
    for suffix in ("", "-wal", "-shm"):
        (tmp_path / f"broker.db{suffix}").unlink(missing_ok=True)
    assert isinstance(error_of(transport, lambda: receiver.receive(limit=1, timeout=0.05)), InconsistencyError)
    transport.declare(Queue(name="q"), timeout=5)
    transport.send("q", [message()], timeout=5)
    (received,), _ = receiver.receive(limit=1, timeout=5)
    assert receiver.ack([received]) == []
    receiver.close(timeout=5)
