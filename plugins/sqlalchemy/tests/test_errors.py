"""A file that is locked, full, read-only, damaged or gone: a clear error, and nothing lost. All with real files."""

from __future__ import annotations

import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy
from brokerkit_sqlalchemy import SQLAlchemyResultBackend, SQLAlchemyTransport
from brokerkit_sqlalchemy.errors import ERRORS

import brokerkit
from brokerkit.errors import (
    BrokerkitError,
    InconsistencyError,
    QueueNotFound,
    StorageBroken,
    StorageFull,
    Throttled,
    TransportError,
)
from brokerkit.models import Message, Queue, Record

Open = Callable[..., SQLAlchemyTransport]
Make = Callable[..., Message]


def error_of(call: Callable[[], object]) -> BrokerkitError:
    """Return what the core would make of the error that a call raises."""
    with pytest.raises(Exception) as caught:
        call()
    return ERRORS.translate(caught.value, doing="test")


@pytest.fixture
def transport(open_transport: Open, message: Make) -> SQLAlchemyTransport:
    """A transport with a queue q of three messages."""
    opened = open_transport()
    opened.declare(Queue(name="q"), timeout=5)
    opened.send("q", [message() for _ in range(3)], timeout=5)
    return opened


@pytest.fixture
def locked(
    transport: SQLAlchemyTransport, actor: Callable[[str], subprocess.Popen[str]], tmp_path: Path
) -> Iterator[None]:
    """Another process holds the write lock."""
    holder = actor(f"""
        import sqlite3
        connection = sqlite3.connect({str(tmp_path / "broker.db")!r}, isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        tell("held")
        sys.stdin.readline()
    """)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    yield
    holder.kill()
    holder.wait()


def test_a_locked_file_is_throttled_in_time_and_loses_nothing(
    transport: SQLAlchemyTransport, locked: None, message: Make
) -> None:
    began = time.monotonic()
    for call in (
        lambda: transport.send("q", [message()], timeout=0.2),
        lambda: transport.send("q", [message(), message()], timeout=0.2),
        lambda: transport.declare(Queue(name="r"), timeout=0.2),
    ):
        error = error_of(call)
        assert isinstance(error, Throttled)
        assert error.retryable
        assert "lock" in str(error)
    assert time.monotonic() - began < 10
    assert transport.depth("q", timeout=5).ready == 3  # reading goes on


def test_receiving_from_a_locked_file_never_says_that_there_is_nothing(
    transport: SQLAlchemyTransport, locked: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver = transport.open_receiver(["q"], prefetch=9, visibility_timeout=30)
    for timeout in (0, 0.1, 1):
        assert isinstance(error_of(lambda timeout=timeout: receiver.receive(limit=1, timeout=timeout)), Throttled)
    monkeypatch.setattr("brokerkit_sqlalchemy.receiver._LOCKED_FOR", 0.1)
    assert isinstance(error_of(lambda: receiver.receive(limit=1, timeout=0.3)), Throttled)


def test_dead_letters_of_a_locked_file_are_found_when_the_lock_is_let_go(
    url: str,
    transport: SQLAlchemyTransport,
    actor: Callable[[str], subprocess.Popen[str]],
    tmp_path: Path,
    message: Make,
) -> None:
    transport.declare(Queue(name="q.dead"), timeout=5)
    transport.send("q.dead", [message(), message()], timeout=5)
    holder = actor(f"""
        import sqlite3
        connection = sqlite3.connect({str(tmp_path / "broker.db")!r}, isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        tell("held")
        sys.stdin.readline()
        connection.execute("COMMIT")
    """)
    assert holder.stdout is not None
    assert holder.stdin is not None
    assert holder.stdout.readline() == "held\n"
    retrying = threading.Event()
    with (
        brokerkit.connect(url, timeout=60, on_event=lambda _: retrying.set()) as broker,
        ThreadPoolExecutor(1) as pool,
    ):
        looking = pool.submit(broker.dead_letters, "q")
        assert retrying.wait(60)  # it was told of the lock, and not that there is nothing
        holder.stdin.write("\n")
        holder.stdin.flush()
        assert len(looking.result(60)) == 2
        assert broker.redrive("q") == 2


def test_acks_of_a_locked_file_are_an_error_and_can_be_repeated(
    transport: SQLAlchemyTransport, open_transport: Open, actor: Callable[[str], subprocess.Popen[str]], tmp_path: Path
) -> None:
    receiver = transport.open_receiver(["q"], prefetch=9, visibility_timeout=30)
    claimed, _ = receiver.receive(limit=9, timeout=1)
    other = sqlite3.connect(tmp_path / "broker.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert isinstance(error_of(lambda: receiver.receive(limit=1, timeout=0.1, acks=claimed)), Throttled)
    other.execute("ROLLBACK")
    other.close()
    assert receiver.receive(limit=1, timeout=0, acks=claimed) == ([], [])
    assert transport.depth("q", timeout=5).in_flight == 0


def test_a_lock_that_is_let_go_in_time_is_no_error(
    transport: SQLAlchemyTransport, actor: Callable[[str], subprocess.Popen[str]], tmp_path: Path, message: Make
) -> None:
    holder = actor(f"""
        import sqlite3
        connection = sqlite3.connect({str(tmp_path / "broker.db")!r}, isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        tell("held")
        sys.stdin.readline()
        connection.execute("COMMIT")
    """)
    assert holder.stdout is not None
    assert holder.stdin is not None
    assert holder.stdout.readline() == "held\n"
    begun = threading.Event()
    transport._database.look(lambda c: c.connection.set_trace_callback(lambda _: begun.set()), timeout=5)
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(transport.send, "q", [message()], timeout=20)
        assert begun.wait(20)  # SQLite has its statement, and waits for the lock
        assert not sending.done()
        holder.stdin.write("\n")
        holder.stdin.flush()
        assert sending.result(20) == [None]


def test_a_full_file_says_so_keeps_what_it_has_and_goes_on_when_there_is_room(
    transport: SQLAlchemyTransport, message: Make
) -> None:
    def limit(pages: int) -> None:
        transport._database.look(lambda c: c.execute(f"PRAGMA max_page_count = {pages}").fetchall(), timeout=5)

    limit(1)  # SQLite takes the present size
    big = [message(b"x" * 100_000) for _ in range(10)]
    error = error_of(lambda: transport.send("q", big, timeout=5))
    assert isinstance(error, StorageFull)
    assert isinstance(error_of(lambda: transport.send("q", big[:1], timeout=5)), StorageFull)
    assert transport.depth("q", timeout=5).ready == 3
    receiver = transport.open_receiver(["q"], prefetch=9, visibility_timeout=30)
    claimed, _ = receiver.receive(limit=1, timeout=1)
    assert receiver.ack(claimed) == []  # consuming still works
    limit(1_000_000)
    assert transport.send("q", big, timeout=5) == [None] * 10
    assert transport.depth("q", timeout=5).ready == 12


def test_a_read_only_file_can_be_looked_at_and_not_changed(
    transport: SQLAlchemyTransport, open_transport: Open, tmp_path: Path, message: Make
) -> None:
    reader = open_transport(f"sqlite:///file:{tmp_path}/broker.db%3Fmode=ro")
    assert reader.depth("q", timeout=5).ready == 3
    error = error_of(lambda: reader.send("q", [message()], timeout=5))
    assert isinstance(error, StorageBroken)
    assert "cannot be written" in str(error)
    assert transport.depth("q", timeout=5).ready == 3


@pytest.mark.parametrize("content", [b"this is no database" * 500, b"SQLite format 3\0" + b"\xff" * 9000])
def test_a_file_that_is_no_database_is_said_to_be_damaged(tmp_path: Path, open_transport: Open, content: bytes) -> None:
    (tmp_path / "broker.db").write_bytes(content)
    error = error_of(lambda: open_transport().declare(Queue(name="q"), timeout=5))
    assert isinstance(error, StorageBroken)
    assert (tmp_path / "broker.db").read_bytes() == content  # not touched


def test_damage_in_the_middle_is_told_and_healed_by_a_copy(
    tmp_path: Path, transport: SQLAlchemyTransport, open_transport: Open, message: Make
) -> None:
    transport.send("q", [message(b"x" * 3000) for _ in range(200)], timeout=5)
    transport.close(timeout=5)
    file = tmp_path / "broker.db"
    copy = file.read_bytes()
    file.write_bytes(copy[: 4096 * 20] + b"\xff" * (len(copy) - 4096 * 20))
    broken = open_transport()
    receiver = broken.open_receiver(["q"], prefetch=999, visibility_timeout=30)
    error = error_of(lambda: [receiver.receive(limit=999, timeout=0), broken.purge("q", timeout=5)])
    assert isinstance(error, StorageBroken)
    broken.close(timeout=5)
    for rest in tmp_path.glob("broker.db-*"):
        rest.unlink()
    file.write_bytes(copy)
    assert open_transport().depth("q", timeout=5).ready == 203


def test_a_missing_folder_is_named(tmp_path: Path, open_transport: Open) -> None:
    transport = open_transport(f"sqlite:///{tmp_path}/nowhere/f.db")
    error = error_of(lambda: transport.declare(Queue(name="q"), timeout=5))
    assert isinstance(error, StorageBroken)
    assert "folder" in str(error)
    (tmp_path / "nowhere").mkdir()
    transport.declare(Queue(name="q"), timeout=5)


def test_a_file_that_was_deleted_in_use_is_told_before_anything_is_written_to_nowhere(
    tmp_path: Path, transport: SQLAlchemyTransport, message: Make
) -> None:
    receiver = transport.open_receiver(["q"], prefetch=9, visibility_timeout=30)
    for path in tmp_path.iterdir():
        path.unlink()
    error = error_of(lambda: transport.send("q", [message()], timeout=5))
    assert isinstance(error, InconsistencyError)
    assert "deleted or replaced" in str(error)
    with pytest.raises(QueueNotFound):
        receiver.receive(limit=1, timeout=5)
    transport.declare(Queue(name="q"), timeout=5)
    assert transport.send("q", [message()], timeout=5) == [None]
    assert len(receiver.receive(limit=1, timeout=5)[0]) == 1


def test_dropped_tables_are_told_and_made_anew(tmp_path: Path, transport: SQLAlchemyTransport, message: Make) -> None:
    connection = sqlite3.connect(tmp_path / "broker.db", isolation_level=None)
    for table in ("queues", "messages", "bindings"):
        connection.execute(f"DROP TABLE bk_{table}")
    connection.close()
    error = error_of(lambda: transport.send("q", [message()], timeout=5))
    assert isinstance(error, InconsistencyError)
    assert "tables are gone" in str(error)
    transport.declare(Queue(name="q"), timeout=5)
    assert transport.send("q", [message()], timeout=5) == [None]


def test_a_failed_transaction_leaves_nothing_behind(
    transport: SQLAlchemyTransport, message: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = message(), message(b"x")
    bad.body = object()  # type: ignore[assignment] # the driver refuses it in the middle of the batch
    with pytest.raises(sqlite3.Error):
        transport.send("q", [good, bad], timeout=5)
    assert transport.depth("q", timeout=5).ready == 3
    assert transport.send("q", [good], timeout=5) == [None]


def test_results_have_the_same_errors(tmp_path: Path, open_results: Callable[..., SQLAlchemyResultBackend]) -> None:
    backend = open_results()
    record = Record(key="k", value=b"v")
    backend.put([record], ttl=None, timeout=5)
    other = sqlite3.connect(tmp_path / "broker.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert isinstance(error_of(lambda: backend.put([record], ttl=None, timeout=0.1)), Throttled)
    assert [found.value for found in backend.get(["k"], timeout=5) if found] == [b"v"]
    other.execute("ROLLBACK")
    other.execute("DROP TABLE bk_results")
    other.close()
    assert isinstance(error_of(lambda: backend.get(["k"], timeout=5)), InconsistencyError)


def of_code(code: int, kind: type[sqlite3.Error] = sqlite3.OperationalError) -> sqlite3.Error:
    error = kind("text")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (of_code(sqlite3.SQLITE_BUSY_SNAPSHOT), Throttled),
        (of_code(sqlite3.SQLITE_IOERR_WRITE), StorageBroken),
        (of_code(sqlite3.SQLITE_IOERR_SHMSIZE), StorageFull),
        (of_code(sqlite3.SQLITE_CANTOPEN), StorageBroken),
        (of_code(sqlite3.SQLITE_CORRUPT_INDEX, sqlite3.DatabaseError), StorageBroken),
        (sqlalchemy.exc.OperationalError("sql", {}, of_code(sqlite3.SQLITE_BUSY)), Throttled),
        (sqlalchemy.exc.DatabaseError("sql", {}, of_code(sqlite3.SQLITE_NOTADB)), StorageBroken),
        (sqlalchemy.exc.TimeoutError("pool"), Throttled),
        (of_code(sqlite3.SQLITE_MISUSE), TransportError),
    ],
)
def test_each_code_has_its_error(error: Exception, ours: type[BrokerkitError]) -> None:
    translated = ERRORS.translate(error, doing="test")
    assert type(translated) is ours
    assert translated.__cause__ is error
