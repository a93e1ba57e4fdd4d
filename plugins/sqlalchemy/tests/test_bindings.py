"""A binding that was removed by hand: whoever receives is told, and it is there again."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from brokerkit_sqlalchemy import SQLAlchemyTransport

from brokerkit.abc import Receiver
from brokerkit.errors import InconsistencyError
from brokerkit.models import Message, Queue
from brokerkit.testing import ManualClock

Open = Callable[..., SQLAlchemyTransport]
Make = Callable[..., Message]

LATER = 1.1
"""Seconds after which a receiver looks again."""


@pytest.fixture
def by_hand(tmp_path: Path) -> Callable[..., Any]:
    def run(statement: str, *values: object) -> Any:
        with closing(sqlite3.connect(tmp_path / "broker.db", isolation_level=None)) as connection:
            return connection.execute(statement, values).fetchone()

    return run


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def transport(open_transport: Open, clock: ManualClock) -> SQLAlchemyTransport:
    made = open_transport(clock=clock)
    made.declare(Queue(name="q"), timeout=5)
    made.bind("q", "orders", "eu.*", timeout=5)
    made.bind("q", "orders", "us.*", timeout=5)
    return made


def receiver_of(transport: SQLAlchemyTransport) -> Receiver:
    return transport.open_receiver(["q"], prefetch=10, visibility_timeout=30)


def told(receiver: Receiver, clock: ManualClock) -> str:
    """Receive once more, some time later, and return what it says is gone."""
    clock.advance(LATER)
    with pytest.raises(InconsistencyError) as caught:
        receiver.receive(limit=1, timeout=0)
    return str(caught.value)


def came(transport: SQLAlchemyTransport, receiver: Receiver, message: Message) -> bool:
    transport.publish("orders", [message], timeout=5)
    claimed, _ = receiver.receive(limit=5, timeout=0)
    return [received.message.id for received in claimed] == [message.id]


def test_a_live_receiver_tells_which_binding_was_gone_and_makes_it_anew(
    transport: SQLAlchemyTransport, clock: ManualClock, by_hand: Callable[..., Any], message: Make
) -> None:
    receiver = receiver_of(transport)
    assert receiver.receive(limit=1, timeout=0) == ([], [])
    by_hand("DELETE FROM bk_bindings WHERE pattern = 'eu.*'")
    text = told(receiver, clock)
    assert "'orders'" in text
    assert "'eu.*'" in text
    assert "'us.*'" not in text
    assert came(transport, receiver, message(headers={"bk-routing-key": "eu.paid"}))
    clock.advance(LATER)
    assert receiver.receive(limit=1, timeout=0) == ([], [])


def test_with_acks_it_is_told_by_the_next_call(
    transport: SQLAlchemyTransport, clock: ManualClock, by_hand: Callable[..., Any], message: Make
) -> None:
    transport.send("q", [message()], timeout=5)
    receiver = receiver_of(transport)
    claimed, _ = receiver.receive(limit=1, timeout=5)
    by_hand("DELETE FROM bk_bindings WHERE pattern = 'eu.*'")
    clock.advance(LATER)
    assert receiver.receive(limit=1, timeout=0, acks=claimed) == ([], [])
    with pytest.raises(InconsistencyError, match=r"eu\.\*"):
        receiver.receive(limit=1, timeout=0)


def test_what_was_bound_anew_meanwhile_is_told_all_the_same(
    transport: SQLAlchemyTransport, clock: ManualClock, by_hand: Callable[..., Any], message: Make
) -> None:
    by_hand("DELETE FROM bk_bindings")
    transport.bind("q", "orders", "eu.*", timeout=5)
    receiver = receiver_of(transport)
    text = told(receiver, clock)
    assert "'eu.*'" in text
    assert "'us.*'" in text
    assert came(transport, receiver, message(headers={"bk-routing-key": "us.paid"}))
    assert by_hand("SELECT count(*) FROM bk_bindings") == (2,)


def test_what_was_unbound_is_not_missed(transport: SQLAlchemyTransport, by_hand: Callable[..., Any]) -> None:
    transport.unbind("q", "orders", "eu.*", timeout=5)
    transport.unbind("q", "orders", "us.*", timeout=5)
    transport.unbind("q", "orders", "never.bound", timeout=5)
    transport.unbind("no such queue", "orders", "eu.*", timeout=5)
    assert receiver_of(transport).receive(limit=1, timeout=0) == ([], [])
    assert by_hand("SELECT count(*) FROM bk_bindings") == (0,)
    assert by_hand("SELECT bound FROM bk_queues") == (None,)


@pytest.mark.parametrize("damage", ["", "{", "{}", "null", "[1]", "[[]]", '[["a", "b", "c", "d", "e"]]', "[" * 20_000])
def test_a_list_that_cannot_be_read_is_left_alone(
    transport: SQLAlchemyTransport, clock: ManualClock, by_hand: Callable[..., Any], message: Make, damage: str
) -> None:
    by_hand("UPDATE bk_queues SET bound = ?", damage)
    receiver = receiver_of(transport)
    assert came(transport, receiver, message(headers={"bk-routing-key": "eu.paid"}))
    transport.bind("q", "orders", "eu.*", timeout=5)
    by_hand("DELETE FROM bk_bindings WHERE pattern = 'eu.*'")
    by_hand("DELETE FROM bk_bindings WHERE pattern = 'us.*'")
    assert "'eu.*'" in told(receiver, clock)
