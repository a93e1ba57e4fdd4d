"""Queues and sending."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from brokerkit_sqlalchemy import SQLAlchemyTransport

from brokerkit.errors import InconsistencyError, InvalidMessage, OperationTimeout, QueueFull, QueueNotFound
from brokerkit.models import Depth, Message, Queue, Received
from brokerkit.testing import ManualClock

Open = Callable[..., SQLAlchemyTransport]
Make = Callable[..., Message]


def take(transport: SQLAlchemyTransport, name: str = "q", limit: int = 1000) -> list[Received]:
    receiver = transport.open_receiver([name], prefetch=limit, visibility_timeout=30)
    claimed, _ = receiver.receive(limit=limit, timeout=0.01)
    receiver.ack(claimed)
    receiver.close(timeout=5)
    return list(claimed)


def test_a_message_comes_back_as_it_was_sent(open_transport: Open, message: Make) -> None:
    transport = open_transport()
    transport.declare(Queue(name="q"), timeout=5)
    sent = [
        message(bytes(range(256)) * 3, headers={"ключ": "é\x00\n'\"", "empty": ""}, priority=3),
        message(b"", headers={"a": "1"}, priority=2),
        message(b"\xff" * 100_000, priority=1),
        message(b"plain"),
    ]
    assert transport.send("q", sent, timeout=5) == [None] * 4
    for before, after in zip(sent, take(transport), strict=True):
        assert (after.message.id, after.message.body, after.message.priority) == (
            before.id,
            before.body,
            before.priority,
        )
        assert dict(after.message.headers) == dict(before.headers)
        assert (after.queue, after.attempt, after.expired, after.gap) == ("q", 1, False, 0)


def test_higher_priority_is_sooner_and_first_in_is_first_out_within_one(open_transport: Open, message: Make) -> None:
    transport = open_transport()
    transport.declare(Queue(name="q"), timeout=5)
    transport.send("q", [message(b"%d" % i, priority=i % 3) for i in range(9)], timeout=5)
    assert [r.message.body for r in take(transport)] == [b"2", b"5", b"8", b"1", b"4", b"7", b"0", b"3", b"6"]


def test_a_repeated_send_stores_nothing_new(open_transport: Open, message: Make) -> None:
    transport = open_transport()
    transport.declare(Queue(name="q"), timeout=5)
    one, batch = message(), [message(), message()]
    for _ in range(2):
        assert transport.send("q", [one], timeout=5) == [None]
        assert transport.send("q", batch, timeout=5) == [None, None]
    assert transport.depth("q", timeout=5) == Depth(ready=3, in_flight=0, delayed=0)


@pytest.mark.parametrize("count", [1, 2])
def test_a_missing_queue_is_named(open_transport: Open, message: Make, count: int) -> None:
    with pytest.raises(QueueNotFound, match="'nowhere'"):
        open_transport().send("nowhere", [message() for _ in range(count)], timeout=5)


def test_a_full_queue_refuses_what_is_over_its_bound(open_transport: Open, message: Make) -> None:
    transport = open_transport()
    transport.declare(Queue(name="q", max_length=3), timeout=5)
    first, *others = [message() for _ in range(5)]
    assert transport.send("q", [first], timeout=5) == [None]
    outcomes = transport.send("q", others, timeout=5)
    assert [type(outcome) for outcome in outcomes] == [type(None), type(None), QueueFull, QueueFull]
    assert transport.send("q", [first], timeout=5) == [None]  # it is there
    assert transport.depth("q", timeout=5).ready == 3


def test_a_held_message_counts_for_the_bound(open_transport: Open, message: Make) -> None:
    transport = open_transport()
    transport.declare(Queue(name="q", max_length=1), timeout=5)
    transport.send("q", [message()], timeout=5)
    receiver = transport.open_receiver(["q"], prefetch=1, visibility_timeout=30)
    assert len(receiver.receive(limit=1, timeout=1)[0]) == 1
    (outcome,) = transport.send("q", [message()], timeout=5)
    assert isinstance(outcome, QueueFull)


@pytest.mark.parametrize("count", [1, 2])
def test_a_priority_above_the_queues_is_refused_alone(open_transport: Open, message: Make, count: int) -> None:
    transport = open_transport()
    transport.declare(Queue(name="q", max_priority=2), timeout=5)
    outcomes = transport.send("q", [message(priority=3), message(priority=2)][:count], timeout=5)
    assert [type(outcome) for outcome in outcomes] == [InvalidMessage, type(None)][:count]
    assert transport.depth("q", timeout=5).ready == count - 1


def test_declaring_again_with_other_settings_is_refused(open_transport: Open) -> None:
    transport = open_transport()
    settings = Queue(name="q", max_attempts=3, expires=60, message_ttl=5, max_length=9, max_priority=4)
    transport.declare(settings, timeout=5)
    transport.declare(
        Queue(name="q", max_attempts=9, expires=60, message_ttl=5, max_length=9, max_priority=4), timeout=5
    )
    with pytest.raises(InconsistencyError, match=r"message_ttl=5\.0.*message_ttl=None"):
        transport.declare(Queue(name="q", expires=60, max_length=9, max_priority=4), timeout=5)


def test_a_deleted_queue_is_gone_with_its_messages(open_transport: Open, message: Make) -> None:
    transport = open_transport()
    transport.declare(Queue(name="q"), timeout=5)
    transport.send("q", [message() for _ in range(20)], timeout=5)
    transport.delete("q", timeout=5)
    transport.delete("q", timeout=5)
    with pytest.raises(QueueNotFound):
        transport.depth("q", timeout=5)
    transport.declare(Queue(name="q"), timeout=5)
    assert transport.depth("q", timeout=5).ready == 0
    assert (
        transport._database.look(lambda c: c.execute("SELECT count(*) FROM bk_messages").fetchone()[0], timeout=5) == 0
    )


def test_a_large_queue_is_deleted_in_steps_and_its_name_is_free_at_once(
    open_transport: Open, message: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brokerkit_sqlalchemy.transport._STEP", 7)
    clock = ManualClock()
    transport = open_transport(clock=clock)
    transport.declare(Queue(name="q"), timeout=5)
    transport.send("q", [message() for _ in range(30)], timeout=5)
    steps = []
    write = transport._database.write

    def slow_write(work: Callable, *, timeout: float) -> object:
        steps.append(timeout)
        clock.advance(2)
        return write(work, timeout=timeout)

    monkeypatch.setattr(transport._database, "write", slow_write)
    with pytest.raises(OperationTimeout):
        transport.delete("q", timeout=5)
    monkeypatch.undo()
    with pytest.raises(QueueNotFound):
        transport.depth("q", timeout=5)
    transport.declare(Queue(name="q"), timeout=5)
    transport.delete("other", timeout=5)  # goes on with what is left
    assert (
        transport._database.look(lambda c: c.execute("SELECT count(*) FROM bk_messages").fetchone()[0], timeout=5) == 0
    )


def test_purge_leaves_what_is_held(open_transport: Open, message: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("brokerkit_sqlalchemy.transport._STEP", 3)
    transport = open_transport()
    transport.declare(Queue(name="q"), timeout=5)
    transport.send("q", [message() for _ in range(10)], timeout=5)
    transport.send("q", [message(delay=60) for _ in range(4)], timeout=5)
    receiver = transport.open_receiver(["q"], prefetch=9, visibility_timeout=30)
    held, _ = receiver.receive(limit=2, timeout=1)
    assert transport.purge("q", timeout=5) == 12
    assert transport.depth("q", timeout=5) == Depth(ready=0, in_flight=2, delayed=0)
    assert receiver.ack(held) == []
    with pytest.raises(QueueNotFound):
        transport.purge("nowhere", timeout=5)


def test_purge_takes_what_nobody_holds_any_longer(open_transport: Open, message: Make) -> None:
    clock = ManualClock()
    transport = open_transport(clock=clock)
    transport.declare(Queue(name="q"), timeout=5)
    transport.send("q", [message(), message()], timeout=5)
    receiver = transport.open_receiver(["q"], prefetch=9, visibility_timeout=30)
    assert len(receiver.receive(limit=9, timeout=1)[0]) == 2
    clock.advance(30)
    assert transport.purge("q", timeout=5) == 2


def test_depth_counts_what_is_due_as_ready(open_transport: Open, message: Make) -> None:
    clock = ManualClock()
    transport = open_transport(clock=clock)
    transport.declare(Queue(name="q"), timeout=5)
    transport.send("q", [message(), message(), message(delay=10)], timeout=5)
    receiver = transport.open_receiver(["q"], prefetch=9, visibility_timeout=20)
    receiver.receive(limit=1, timeout=1)
    assert transport.depth("q", timeout=5) == Depth(ready=1, in_flight=1, delayed=1)
    clock.advance(10)
    assert transport.depth("q", timeout=5) == Depth(ready=2, in_flight=1, delayed=0)
    clock.advance(10)
    assert transport.depth("q", timeout=5) == Depth(ready=3, in_flight=0, delayed=0)


def test_an_unused_queue_vanishes_and_a_send_does_not_renew_it(open_transport: Open, message: Make) -> None:
    clock = ManualClock()
    transport = open_transport(clock=clock)
    transport.declare(Queue(name="q", expires=60), timeout=5)
    clock.advance(59)
    transport.send("q", [message()], timeout=5)
    clock.advance(1)
    for call in (
        lambda: transport.send("q", [message()], timeout=5),
        lambda: transport.send("q", [message(), message()], timeout=5),
        lambda: transport.depth("q", timeout=5),
        lambda: transport.bind("q", "t", "#", timeout=5),
        lambda: transport.open_receiver(["q"], prefetch=1, visibility_timeout=5).receive(limit=1, timeout=1),
    ):
        with pytest.raises(QueueNotFound):
            call()
    transport.declare(Queue(name="q", expires=60), timeout=5)
    assert transport.depth("q", timeout=5).ready == 0


def test_receiving_and_extending_keep_a_queue(open_transport: Open, message: Make) -> None:
    clock = ManualClock()
    transport = open_transport(clock=clock)
    transport.declare(Queue(name="q", expires=60), timeout=5)
    transport.send("q", [message()], timeout=5)
    receiver = transport.open_receiver(["q"], prefetch=1, visibility_timeout=100)
    claimed, _ = receiver.receive(limit=1, timeout=1)
    for _ in range(5):
        clock.advance(50)
        assert receiver.extend(claimed, visibility_timeout=100) == []
    assert transport.depth("q", timeout=5).in_flight == 1


def test_an_idle_consumer_writes_seldom(open_transport: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock()
    transport = open_transport(clock=clock)
    transport.declare(Queue(name="q", expires=60), timeout=5)
    receiver = transport.open_receiver(["q"], prefetch=1, visibility_timeout=100)
    writes = []
    write = transport._database.write
    monkeypatch.setattr(transport._database, "write", lambda *a, **k: (writes.append(1), write(*a, **k))[1])
    for _ in range(120):
        clock.advance(1)
        thread = threading.Thread(target=receiver.receive, kwargs={"limit": 1, "timeout": 0.001})
        thread.start()
        clock.wait_for_waiters(1)
        clock.advance(0.01)
        thread.join(30)
    assert len(writes) in range(7, 10)  # about every 15 s


def test_many_threads_share_a_transport(open_transport: Open, message: Make) -> None:
    transport = open_transport()
    transport.declare(Queue(name="q"), timeout=5)
    failures: list[Exception] = []

    def send() -> None:
        try:
            for _ in range(20):
                transport.send("q", [message()], timeout=30)
        except Exception as error:  # noqa: BLE001 - asserted below
            failures.append(error)

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert transport.depth("q", timeout=5).ready == 160


def test_a_claim_rewrites_no_body(tmp_path: Path, open_transport: Open, message: Make) -> None:
    transport = open_transport()
    transport.declare(Queue(name="q"), timeout=5)
    transport.send("q", [message(b"x" * 200_000) for _ in range(20)], timeout=30)
    receiver = transport.open_receiver(["q"], prefetch=20, visibility_timeout=30)
    transport._database.look(lambda c: c.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall(), timeout=5)
    log = tmp_path / "broker.db-wal"
    assert log.stat().st_size == 0
    claimed, _ = receiver.receive(limit=20, timeout=1)
    assert len(claimed) == 20
    assert log.stat().st_size < 20 * 20_000
