"""Claiming, leases and settling."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from brokerkit_sqlalchemy import SQLAlchemyTransport
from brokerkit_sqlalchemy.receiver import SQLAlchemyReceiver

from brokerkit.errors import QueueNotFound
from brokerkit.models import Depth, Message, Queue, Received
from brokerkit.testing import ManualClock

Open = Callable[..., SQLAlchemyTransport]
Make = Callable[..., Message]
LEASE = 30.0


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def transport(open_transport: Open, clock: ManualClock, request: pytest.FixtureRequest) -> SQLAlchemyTransport:
    """A transport on a file, or in memory where the test asks for it, with one queue named q."""
    where = getattr(request, "param", "file")
    opened = open_transport(clock=clock) if where == "file" else open_transport("sqlite://", clock=clock)
    opened.declare(Queue(name="q"), timeout=5)
    return opened


EVERYWHERE = pytest.mark.parametrize("transport", ["file", "memory"], indirect=True)


def receiver_of(transport: SQLAlchemyTransport, *names: str, lease: float = LEASE) -> SQLAlchemyReceiver:
    opened = transport.open_receiver(names or ["q"], prefetch=100, visibility_timeout=lease)
    assert isinstance(opened, SQLAlchemyReceiver)
    return opened


def claim(receiver: SQLAlchemyReceiver, limit: int = 100) -> list[Received]:
    claimed, lost = receiver.receive(limit=limit, timeout=0)
    assert lost == []
    return list(claimed)


class Blocked:
    """A receive in a thread of its own; `result` waits for its end."""

    def __init__(self, receiver: SQLAlchemyReceiver, timeout: float = 1000, limit: int = 100) -> None:
        self._answer: list[object] = []
        self._thread = threading.Thread(target=self._run, args=(receiver, timeout, limit), daemon=True)
        self._thread.start()

    def _run(self, receiver: SQLAlchemyReceiver, timeout: float, limit: int) -> None:
        try:
            self._answer.append(receiver.receive(limit=limit, timeout=timeout)[0])
        except Exception as error:  # noqa: BLE001 - handed to the test
            self._answer.append(error)

    def result(self) -> list[Received]:
        self._thread.join(30)
        assert not self._thread.is_alive(), "the receive hangs"
        (answer,) = self._answer
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, list)
        return answer


@EVERYWHERE
def test_a_claim_is_exclusive_until_its_lease_ends(
    transport: SQLAlchemyTransport, clock: ManualClock, message: Make
) -> None:
    transport.send("q", [message(b"a"), message(b"b")], timeout=5)
    first, second = receiver_of(transport), receiver_of(transport)
    (a,) = claim(first, 1)
    assert a.deadline == clock.monotonic() + LEASE
    assert [r.message.body for r in claim(second)] == [b"b"]
    clock.advance(LEASE - 0.001)
    assert claim(second) == []
    clock.advance(0.001)
    again = claim(second)
    assert [(r.message.body, r.attempt) for r in again] == [(b"a", 2), (b"b", 2)]


@EVERYWHERE
def test_an_ack_removes_for_good(transport: SQLAlchemyTransport, clock: ManualClock, message: Make) -> None:
    transport.send("q", [message() for _ in range(3)], timeout=5)
    receiver = receiver_of(transport)
    one, two, three = claim(receiver)
    assert receiver.ack([two]) == []
    claimed, lost = receiver.receive(limit=5, timeout=0, acks=[one, three])
    assert (claimed, lost) == ([], [])
    clock.advance(10 * LEASE)
    assert claim(receiver) == []
    assert receiver.ack([one]) == [one]


def test_a_late_settlement_is_reported_and_harms_nobody(
    transport: SQLAlchemyTransport, clock: ManualClock, message: Make
) -> None:
    transport.send("q", [message(), message()], timeout=5)
    old, new = receiver_of(transport), receiver_of(transport)
    stale = claim(old)
    clock.advance(LEASE)
    held = claim(new)
    for received in stale:
        received.deadline = clock.monotonic() + 99  # past the fence of this process: the database refuses, too
    assert old.ack(stale) == stale
    assert old.release(stale) == stale
    assert old.extend(stale, visibility_timeout=99) == stale
    assert old.receive(limit=1, timeout=0, acks=stale) == ([], stale)
    assert new.ack(held[:1]) == []
    mixed = [*held, stale[0]]
    assert new.ack(mixed) == [held[0], stale[0]]
    assert transport.depth("q", timeout=5) == Depth(0, 0, 0)


def test_a_stale_receipt_never_reaches_the_database(
    transport: SQLAlchemyTransport, clock: ManualClock, message: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport.send("q", [message()], timeout=5)
    receiver = receiver_of(transport)
    stale = claim(receiver)
    clock.advance(LEASE)
    monkeypatch.setattr(transport._database, "write", lambda *a, **k: pytest.fail("it was shown to the database"))
    assert receiver.ack(stale) == stale
    assert receiver.release(stale) == stale
    assert receiver.extend(stale, visibility_timeout=5) == stale


def test_a_receipt_fits_no_message_of_another_database(
    transport: SQLAlchemyTransport, open_transport: Open, clock: ManualClock, message: Make
) -> None:
    other = open_transport("sqlite://", clock=clock)
    other.declare(Queue(name="q"), timeout=5)
    for each in (transport, other):
        each.send("q", [message()], timeout=5)
    mine, theirs = claim(receiver_of(transport)), claim(receiver_of(other))
    assert mine[0].receipt[0] == theirs[0].receipt[0]
    assert receiver_of(other).ack(mine) == mine
    assert other.depth("q", timeout=5).in_flight == 1


@pytest.mark.parametrize("again", [True, False], ids=["sent again", "another"])
def test_a_receipt_fits_no_later_message_in_the_same_row(
    transport: SQLAlchemyTransport, message: Make, *, again: bool
) -> None:
    receiver = receiver_of(transport)
    one = message()
    transport.send("q", [one], timeout=5)
    old = claim(receiver)
    receiver.ack(old)
    transport.send("q", [one if again else message()], timeout=5)
    new = claim(receiver)
    assert new[0].receipt[0] == old[0].receipt[0]
    assert receiver.ack(old) == old
    assert receiver.ack(new) == []


def test_extending_moves_the_end_of_the_lease(
    transport: SQLAlchemyTransport, clock: ManualClock, message: Make
) -> None:
    transport.send("q", [message(), message()], timeout=5)
    receiver = receiver_of(transport)
    one, two = claim(receiver)
    clock.advance(20)
    assert receiver.extend([one], visibility_timeout=50) == []
    assert (one.deadline, two.deadline) == (70, 30)
    clock.advance(49)
    assert [r.message.id for r in claim(receiver_of(transport))] == [two.message.id]
    clock.advance(1)
    assert [r.message.id for r in claim(receiver_of(transport))] == [one.message.id]


@EVERYWHERE
def test_what_is_released_keeps_its_place(transport: SQLAlchemyTransport, message: Make) -> None:
    transport.send("q", [message(b"%d" % i) for i in range(4)], timeout=5)
    receiver = receiver_of(transport)
    held = claim(receiver, 3)
    assert receiver.release([held[2], held[0]]) == []
    assert receiver.release([held[1]], counted=False) == []
    assert [(r.message.body, r.attempt) for r in claim(receiver)] == [(b"0", 2), (b"1", 1), (b"2", 2), (b"3", 1)]


@EVERYWHERE
def test_a_delay_is_never_early(transport: SQLAlchemyTransport, clock: ManualClock, message: Make) -> None:
    transport.send("q", [message(b"sent", delay=10)], timeout=5)
    transport.send("q", [message(b"released"), message(b"sent", delay=10)], timeout=5)
    receiver = receiver_of(transport)
    receiver.release(claim(receiver), delay=10)
    clock.advance(9.999)
    assert claim(receiver) == []
    clock.advance(0.001)
    assert [(r.message.body, r.attempt) for r in claim(receiver)] == [(b"sent", 1), (b"released", 2), (b"sent", 1)]


def test_more_than_one_step_of_leases_may_end_at_once(
    transport: SQLAlchemyTransport, clock: ManualClock, message: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brokerkit_sqlalchemy.receiver._RIPEN_AT_ONCE", 3)
    transport.send("q", [message() for _ in range(10)], timeout=5)
    assert len(claim(receiver_of(transport))) == 10
    clock.advance(LEASE)
    receiver = receiver_of(transport)
    assert [len(claim(receiver)) for _ in range(5)] == [3, 3, 3, 1, 0]


def test_an_expired_message_is_handed_over_as_expired(
    transport: SQLAlchemyTransport, clock: ManualClock, message: Make
) -> None:
    transport.declare(Queue(name="short", message_ttl=5), timeout=5)
    transport.send("q", [message(ttl=10), message(), message(ttl=11)], timeout=5)
    transport.send("short", [message()], timeout=5)
    transport.send("short", [message(ttl=20), message(delay=6)], timeout=5)
    clock.advance(10)
    assert [r.expired for r in claim(receiver_of(transport))] == [True, False, False]
    assert [r.expired for r in claim(receiver_of(transport, "short"))] == [True, False, True]


def test_many_queues_are_served_in_turn_by_one_claim(transport: SQLAlchemyTransport, message: Make) -> None:
    names = ["a", "b", "c"]
    for name in names:
        transport.declare(Queue(name=name), timeout=5)
        transport.send(name, [message() for _ in range(4)], timeout=5)
    receiver = receiver_of(transport, *names, "a")
    taken = [[r.queue for r in claim(receiver, 3)] for _ in range(4)]
    assert taken == [["a", "a", "a"], ["b", "b", "b"], ["c", "c", "c"], ["a", "b", "c"]]


def test_a_missing_queue_is_named_once_and_the_others_go_on(transport: SQLAlchemyTransport, message: Make) -> None:
    receiver = receiver_of(transport, "q", "gone")
    transport.send("q", [message()], timeout=5)
    held = claim(receiver)
    assert len(held) == 1  # first what is there
    assert receiver.receive(limit=1, timeout=0, acks=held) == ([], [])  # acked, hence no error in this call
    with pytest.raises(QueueNotFound, match="'gone'"):
        receiver.receive(limit=1, timeout=5)
    assert claim(receiver) == []
    transport.send("q", [message()], timeout=5)
    assert len(claim(receiver)) == 1
    transport.delete("q", timeout=5)
    for _ in range(2):
        with pytest.raises(QueueNotFound):
            receiver.receive(limit=1, timeout=5)


@EVERYWHERE
@pytest.mark.parametrize("how", ["send", "send_many", "release", "close", "publish"])
def test_a_blocked_receive_wakes_when_a_message_comes(
    transport: SQLAlchemyTransport, clock: ManualClock, message: Make, how: str
) -> None:
    other = receiver_of(transport)
    transport.bind("q", "t", "#", timeout=5)
    if how in ("release", "close"):
        transport.send("q", [message()], timeout=5)
        held = claim(other)
    blocked = Blocked(receiver_of(transport))
    clock.wait_for_waiters(1)
    if how == "release":
        other.release(held)
    elif how == "close":
        other.close(timeout=5)
    elif how == "publish":
        transport.publish("t", [message()], timeout=5)
    else:
        transport.send("q", [message()] if how == "send" else [message(), message()], timeout=5)
    assert len(blocked.result()) == (2 if how == "send_many" else 1)


@EVERYWHERE
@pytest.mark.parametrize("what", ["delay", "delayed release", "lease"])
def test_a_blocked_receive_wakes_when_something_is_due(
    transport: SQLAlchemyTransport, clock: ManualClock, message: Make, what: str
) -> None:
    other = receiver_of(transport, lease=10)
    blocked = Blocked(receiver_of(transport))
    clock.wait_for_waiters(1)
    if what == "delay":
        transport.send("q", [message(delay=10)], timeout=5)
    else:
        transport._database.write(
            lambda c: c.execute(
                "INSERT INTO bk_messages (claim, queue_id, id, state, priority, due, body) "
                "SELECT 1, id, 'quiet', 0, 0, 0.0, x'00' FROM bk_queues"
            ),
            timeout=5,
        )
        held = claim(other)
        if what == "delayed release":
            other.release(held, delay=10)
    clock.advance(9.9)
    clock.wait_for_waiters(1)
    clock.advance(0.1)
    assert len(blocked.result()) == 1


def test_many_receivers_wake_and_each_message_has_one_owner(
    transport: SQLAlchemyTransport, clock: ManualClock, message: Make
) -> None:
    blocked = [Blocked(receiver_of(transport), limit=1) for _ in range(5)]
    clock.wait_for_waiters(5)
    sent = [message() for _ in range(5)]
    transport.send("q", sent, timeout=5)
    assert sorted(r.message.id for one in blocked for r in one.result()) == sorted(m.id for m in sent)


@EVERYWHERE
def test_close_ends_a_blocked_receive_and_gives_back_what_is_left(
    transport: SQLAlchemyTransport, clock: ManualClock, message: Make
) -> None:
    receiver = receiver_of(transport)
    transport.send("q", [message()], timeout=5)
    held = claim(receiver)
    blocked = Blocked(receiver)
    clock.wait_for_waiters(1)
    receiver.close(timeout=5)
    assert blocked.result() == []
    assert [r.attempt for r in claim(receiver_of(transport))] == [2]
    assert receiver.ack(held) == held
    assert claim(receiver) == []
    receiver.close(timeout=5)


def test_settling_does_not_wait_for_a_blocked_receive(
    transport: SQLAlchemyTransport, clock: ManualClock, message: Make
) -> None:
    receiver = receiver_of(transport)
    transport.send("q", [message(), message(), message()], timeout=5)
    one, two, three = claim(receiver)
    blocked = Blocked(receiver)
    clock.wait_for_waiters(1)
    assert receiver.ack([one]) == []
    assert receiver.extend([two], visibility_timeout=60) == []
    assert receiver.release([three]) == []
    assert [r.message.id for r in blocked.result()] == [three.message.id]


def test_a_receive_takes_its_time_and_no_more(transport: SQLAlchemyTransport, clock: ManualClock) -> None:
    blocked = Blocked(receiver_of(transport), timeout=7)
    for _ in range(7):
        clock.wait_for_waiters(1)
        clock.advance(1)
    assert blocked.result() == []
    assert clock.monotonic() == 7


def test_a_deleted_queue_ends_a_blocked_receive(transport: SQLAlchemyTransport, clock: ManualClock) -> None:
    blocked = Blocked(receiver_of(transport))
    clock.wait_for_waiters(1)
    transport.delete("q", timeout=5)
    with pytest.raises(QueueNotFound):
        blocked.result()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("headers = x'7b'", "JSON"),
        ("headers = x'ff00'", "JSON"),
        ("headers = x'5b5d'", "JSON"),
        ("headers = x'7b2261223a317d'", "text"),
        ("body = NULL", "body"),
        ("body = NULL, headers = NULL", "body"),
    ],
)
def test_a_row_that_somebody_changed_does_not_block_the_queue(
    transport: SQLAlchemyTransport, tmp_path: Path, message: Make, change: str, why: str
) -> None:
    transport.send("q", [message(b"raw", headers={"a": "b"}), message(b"next")], timeout=5)
    connection = sqlite3.connect(tmp_path / "broker.db", isolation_level=None)
    connection.execute(f"UPDATE bk_messages SET {change} WHERE seq = 1")
    connection.close()
    receiver = receiver_of(transport)
    broken, following = claim(receiver)
    assert why in broken.message.headers["bk-malformed"]
    assert broken.message.body == (b"" if "body" in change else b"raw")
    assert following.message.body == b"next"
    assert receiver.ack([broken, following]) == []


def test_another_connection_in_real_time_is_noticed(open_transport: Open, message: Make) -> None:
    one, other = open_transport(), open_transport()
    one.declare(Queue(name="q"), timeout=5)
    other._shared_watch = type(one._watch)()  # as if it were in another process: no word passes within this one
    blocked = Blocked(receiver_of(one), timeout=30)
    began = time.monotonic()
    other.send("q", [message()], timeout=5)
    assert len(blocked.result()) == 1
    assert time.monotonic() - began < 10


def test_when_the_receiver_that_asks_for_all_is_closed_another_one_asks(open_transport: Open, message: Make) -> None:
    one, other = open_transport(), open_transport()
    one.declare(Queue(name="q"), timeout=5)
    other._shared_watch = type(one._watch)()
    first, second = receiver_of(one), receiver_of(one)
    waiting = Blocked(first, timeout=30)
    while one._watch._asker is not first._waiter:
        first.extend([], visibility_timeout=1)
    blocked = Blocked(second, timeout=30)
    first.close(timeout=5)
    assert waiting.result() == []
    began = time.monotonic()
    other.send("q", [message()], timeout=5)
    assert len(blocked.result()) == 1
    assert time.monotonic() - began < 10
