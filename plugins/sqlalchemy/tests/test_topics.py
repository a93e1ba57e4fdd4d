"""Topics: who hears what, and who disagrees."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from brokerkit_sqlalchemy import SQLAlchemyTransport

from brokerkit.errors import InconsistencyError, QueueNotFound
from brokerkit.models import Message, Queue
from brokerkit.testing import ManualClock

Open = Callable[..., SQLAlchemyTransport]
Make = Callable[..., Message]
Prefix = str | bool


def bound(transport: SQLAlchemyTransport, name: str, *patterns: str, **settings: object) -> None:
    transport.declare(Queue(name=name, **settings), timeout=5)  # type: ignore[arg-type]
    for pattern in patterns:
        transport.bind(name, "t", pattern, timeout=5)


def publish(transport: SQLAlchemyTransport, *messages: Message) -> None:
    assert transport.publish("t", messages, timeout=5) == [None] * len(messages)


def ready(transport: SQLAlchemyTransport, name: str) -> int | None:
    return transport.depth(name, timeout=5).ready


def routed(make: Make, key: str, **fields: object) -> Message:
    return make(headers={"bk-routing-key": key}, **fields)


def test_every_bound_queue_gets_one_copy_of_what_matches(open_transport: Open, message: Make) -> None:
    transport = open_transport()
    bound(transport, "all", "#")
    bound(transport, "eu", "eu.*", "eu.#", "*.paid")
    bound(transport, "us", "us.#")
    publish(transport, routed(message, "eu.paid"), routed(message, "eu.sent"), routed(message, "us"), message())
    assert [ready(transport, name) for name in ("all", "eu", "us")] == [4, 2, 1]


def test_nobody_bound_is_fine_and_stores_nothing(open_transport: Open, message: Make) -> None:
    transport = open_transport()
    transport.declare(Queue(name="q"), timeout=5)
    publish(transport, message())
    assert (
        transport._database.look(lambda c: c.execute("SELECT count(*) FROM bk_messages").fetchone()[0], timeout=5) == 0
    )


def test_a_queue_named_as_the_topic_is_something_else(open_transport: Open, message: Make) -> None:
    transport = open_transport()
    transport.declare(Queue(name="t"), timeout=5)
    publish(transport, message())
    assert ready(transport, "t") == 0


def test_binding_twice_and_unbinding_twice_change_nothing(open_transport: Open, message: Make) -> None:
    transport = open_transport()
    bound(transport, "q", "#", "#")
    transport.unbind("q", "t", "other", timeout=5)
    publish(transport, message())
    transport.unbind("q", "t", "#", timeout=5)
    transport.unbind("q", "t", "#", timeout=5)
    publish(transport, message())
    assert ready(transport, "q") == 1
    with pytest.raises(QueueNotFound):
        transport.bind("nowhere", "t", "#", timeout=5)


def test_a_deleted_queue_hears_nothing_after_it_was_declared_again(open_transport: Open, message: Make) -> None:
    transport = open_transport()
    bound(transport, "q", "#")
    transport.delete("q", timeout=5)
    transport.declare(Queue(name="q"), timeout=5)
    publish(transport, message())
    assert ready(transport, "q") == 0


def test_virtual_hosts_do_not_hear_each_other(open_transport: Open, message: Make) -> None:
    one, other = open_transport(), open_transport(virtual_host="other")
    bound(one, "q", "#")
    bound(other, "q", "#")
    publish(one, message())
    assert (ready(one, "q"), ready(other, "q")) == (1, 0)


@pytest.mark.parametrize("prefix", ["shared", False])
def test_a_named_or_global_prefix_reaches_all_virtual_hosts(
    open_transport: Open, message: Make, prefix: Prefix
) -> None:
    one = open_transport(fanout_prefix=prefix)
    other = open_transport(virtual_host="other", fanout_prefix=prefix)
    bound(one, "q", "#")
    bound(other, "q", "#")
    publish(one, message())
    assert (ready(one, "q"), ready(other, "q")) == (1, 1)


def test_two_names_are_isolation(open_transport: Open, message: Make) -> None:
    one, other = open_transport(fanout_prefix="a"), open_transport(fanout_prefix="a.b")
    bound(one, "q", "#")
    bound(other, "r", "#")
    publish(one, message())
    assert (ready(one, "q"), ready(one, "r")) == (1, 0)


KINDS: list[Prefix] = [True, "named", False]


@pytest.mark.parametrize("theirs", KINDS)
@pytest.mark.parametrize("mine", KINDS)
def test_another_kind_of_prefix_in_one_virtual_host_is_told(
    open_transport: Open, message: Make, mine: Prefix, theirs: Prefix
) -> None:
    bound(open_transport(fanout_prefix=theirs), "q", "#")
    transport = open_transport(fanout_prefix=mine)
    if mine == theirs:
        transport.bind("q", "t", "#", timeout=5)
        publish(transport, message())
        return
    for call in (lambda: publish(transport, message()), lambda: transport.bind("q", "t", "#", timeout=5)):
        with pytest.raises(InconsistencyError, match=r"topic 't': queue 'q' .*fanout_prefix"):
            call()


@pytest.mark.parametrize("prefix", KINDS)
def test_a_disagreement_about_patterns_is_told(open_transport: Open, message: Make, prefix: Prefix) -> None:
    bound(open_transport(fanout_prefix=prefix, virtual_host="v"), "q", "#")
    transport = open_transport(
        fanout_prefix=prefix, fanout_patterns=False, virtual_host="v" if prefix is True else "elsewhere"
    )
    with pytest.raises(InconsistencyError, match="fanout_patterns=True, this side has False"):
        publish(transport, message())
    transport.publish("another", [message()], timeout=5)


def test_without_patterns_every_bound_queue_hears_everything(open_transport: Open, message: Make) -> None:
    transport = open_transport(fanout_patterns=False)
    bound(transport, "q", "only.this")
    publish(transport, routed(message, "something.else"))
    assert ready(transport, "q") == 1


def test_a_bounded_subscriber_drops_its_oldest_waiting_copies_and_tells_how_many(
    open_transport: Open, message: Make
) -> None:
    transport = open_transport()
    bound(transport, "q", "#", max_length=3)
    publish(transport, message(b"held"))
    receiver = transport.open_receiver(["q"], prefetch=9, visibility_timeout=30)
    held, _ = receiver.receive(limit=9, timeout=1)
    publish(transport, *[message(b"%d" % i) for i in range(4)])
    publish(transport, message(b"4"))
    claimed, _ = receiver.receive(limit=9, timeout=1)
    assert [r.message.body for r in claimed] == [b"3", b"4"]
    assert [r.gap for r in claimed] == [3, 0]
    publish(transport, message(b"5"))  # all places are held: the new copy itself is dropped
    receiver.release(held)
    claimed, _ = receiver.receive(limit=9, timeout=1)
    assert [(r.message.body, r.gap) for r in claimed] == [(b"held", 1)]


def test_an_unused_subscriber_vanishes_with_its_bindings(open_transport: Open, message: Make) -> None:
    clock = ManualClock()
    transport = open_transport(clock=clock)
    bound(transport, "q", "#", expires=60)
    publish(transport, message())
    clock.advance(60)
    publish(transport, message())

    def rows(cursor: object) -> list[int]:
        return [
            cursor.execute(f"SELECT count(*) FROM bk_{table}").fetchone()[0]  # type: ignore[attr-defined]
            for table in ("queues", "bindings", "messages")
        ]

    assert transport._database.look(rows, timeout=5) == [0, 0, 0]


def test_a_repeated_publish_copies_nothing_new(open_transport: Open, message: Make) -> None:
    transport = open_transport()
    bound(transport, "q", "#")
    one = message()
    publish(transport, one)
    publish(transport, one)
    assert ready(transport, "q") == 1


@pytest.mark.parametrize("name", ["*", "#", "a.b", "[x]", "%", "{db}", "' OR 1=1 --", "?", "日本"])
def test_any_name_is_just_a_name(open_transport: Open, message: Make, name: str) -> None:
    transport = open_transport(virtual_host=name)
    transport.declare(Queue(name=name), timeout=5)
    transport.declare(Queue(name=name + "x"), timeout=5)
    transport.bind(name, name, "#", timeout=5)
    transport.publish(name, [message()], timeout=5)
    transport.publish(name + "x", [message()], timeout=5)
    assert (ready(transport, name), ready(transport, name + "x")) == (1, 0)
