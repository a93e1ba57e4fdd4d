"""Topics: bindings in the server, bounded subscribers, evicted bindings, and queues that vanished."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from brokerkit import errors
from brokerkit.models import Queue

HANG = 30.0


@pytest.fixture
def transport(plain, view, open_transport):
    return open_transport(plain.url())


def bound(transport, name, *patterns, **settings):
    transport.declare(Queue(name=name, **settings), timeout=HANG)
    for pattern in patterns or ("#",):
        transport.bind(name, "topic", pattern, timeout=HANG)
    return transport.open_receiver([name], prefetch=1000, visibility_timeout=60)


def keyed(message, key, body=b"x", **fields):
    return message(body, headers={"bk-topic": "topic", "bk-routing-key": key}, **fields)


def got(receiver, limit=1000, timeout=0.0):
    return receiver.receive(limit=limit, timeout=timeout)[0]


def told(receiver):
    with pytest.raises(errors.InconsistencyError) as caught:
        repeat(lambda: receiver.receive(limit=1, timeout=0.05))
    return str(caught.value)


def repeat(verb):
    end = time.monotonic() + HANG
    while time.monotonic() < end:
        verb()


def test_a_bounded_subscriber_drops_the_oldest_and_is_told_how_many(transport, view, message):
    receiver = bound(transport, "bounded", max_length=3)
    other = bound(transport, "other")
    for n in range(10):
        assert transport.publish("topic", [message(b"%d" % n, priority=n % 2)], timeout=HANG) == [None]
    few = got(receiver, timeout=5)
    assert sorted(each.message.body for each in few) == [b"7", b"8", b"9"]
    assert [each.gap for each in few] == [7, 0, 0]
    assert len(got(other, timeout=5)) == 10
    # what is held counts, and is never taken from its holder: then the new copy is dropped
    assert transport.publish("topic", [message(b"10")], timeout=HANG) == [None]
    assert receiver.ack(few) == []
    assert transport.publish("topic", [message(b"11")], timeout=HANG) == [None]
    (last,) = got(receiver, timeout=5)
    assert (last.message.body, last.gap) == (b"11", 1)
    assert view.places("bounded") == {last.message.id: "leased"}


def test_a_bounded_subscriber_drops_returned_and_delayed_copies_too(transport, view, message):
    receiver = bound(transport, "bounded", max_length=2)
    transport.publish("topic", [message(b"0")], timeout=HANG)
    transport.publish("topic", [message(b"late", delay=60)], timeout=HANG)
    receiver.release(got(receiver, timeout=5))
    transport.publish("topic", [message(b"1")], timeout=HANG)
    transport.publish("topic", [message(b"2")], timeout=HANG)
    assert sorted(view.places("bounded").values()) == ["delayed", "ready"]
    transport.publish("topic", [message(b"3", delay=60)], timeout=HANG)
    transport.publish("topic", [message(b"4", delay=60)], timeout=HANG)
    assert sorted(view.places("bounded").values()) == ["delayed", "delayed"]


def test_a_repeated_publish_makes_no_second_copy(transport, view, message):
    bound(transport, "a")
    bound(transport, "b", "#", "x.*", max_length=5)
    some = [keyed(message, "x.y") for _ in range(5)]
    for _ in range(3):
        assert transport.publish("topic", some, timeout=HANG) == [None] * 5
    assert len(view.places("a")) == len(view.places("b")) == 5


def test_a_batch_is_divided_by_patterns(transport, message):
    both, one = bound(transport, "both", "a.*", "*.b"), bound(transport, "one", "c")
    keys = ["a.b", "a.c", "c", "c.b", "d"]
    transport.publish("topic", [keyed(message, key, key.encode()) for key in keys], timeout=HANG)
    assert [each.message.body for each in got(both, timeout=5)] == [b"a.b", b"a.c", b"c.b"]
    assert [each.message.body for each in got(one, timeout=5)] == [b"c"]


def test_bindings_that_others_make_are_known_at_the_next_publish(plain, transport, open_transport, message):
    publisher = open_transport(plain.url())
    assert publisher.publish("topic", [message()], timeout=HANG) == [None]
    receivers = []
    for n in range(3):
        receivers.append(bound(transport, f"q{n}"))
        publisher.publish("topic", [message(b"%d" % n)], timeout=HANG)
    assert [len(got(each, timeout=5)) for each in receivers] == [3, 2, 1]
    transport.unbind("q1", "topic", "#", timeout=HANG)
    transport.delete("q2", timeout=HANG)
    publisher.publish("topic", [message()], timeout=HANG)
    assert len(got(receivers[0], timeout=5)) == 1
    assert got(receivers[1]) == []


def test_binding_and_unbinding_by_many_at_once_loses_none(plain, view, open_transport, message):
    transports = [open_transport(plain.url()) for _ in range(4)]

    def bind(n):
        transport = transports[n % 4]
        transport.declare(Queue(name=f"q{n}"), timeout=HANG)
        transport.bind(f"q{n}", "topic", "#", timeout=HANG)
        transport.bind(f"q{n}", "topic", "other", timeout=HANG)
        transport.unbind(f"q{n}", "topic", "other", timeout=HANG)
        transport.publish("topic", [message()], timeout=HANG)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(bind, range(40)))
    before = [len(view.places(f"q{n}")) for n in range(40)]
    transports[0].publish("topic", [message()], timeout=HANG)
    assert [len(view.places(f"q{n}")) for n in range(40)] == [count + 1 for count in before]


def test_bindings_that_were_evicted_come_back_and_the_subscriber_is_told(transport, view, message):
    receiver = bound(transport, "q", "a.#", "b")
    assert got(receiver) == []
    view.client.delete("bk:{topic}:T")
    receiver._verify_at = 0.0  # it looks once a second
    text = told(receiver)
    assert "'topic'" in text
    assert "missing" in text
    transport.publish("topic", [keyed(message, "a.x"), keyed(message, "b"), keyed(message, "c")], timeout=HANG)
    assert len(got(receiver, timeout=5)) == 2
    assert got(receiver) == []  # told once


def test_a_bind_that_finds_its_binding_gone_tells_the_subscriber(transport, view, message):
    receiver = bound(transport, "q")
    view.client.delete("bk:{topic}:T")
    transport.bind("q", "topic", "#", timeout=HANG)
    assert "'topic'" in told(receiver)
    transport.unbind("q", "topic", "#", timeout=HANG)
    transport.bind("q", "topic", "#", timeout=HANG)
    assert got(receiver) == []


def test_a_bound_queue_that_was_evicted_is_told_to_the_publisher(transport, view, message):
    first, second = bound(transport, "first"), bound(transport, "second")
    view.client.delete(*(key for key in view.all_keys() if key.startswith(b"bk:{second}")))
    (lost,) = transport.publish("topic", [message(b"0")], timeout=HANG)
    assert isinstance(lost, errors.InconsistencyError)
    assert "'second'" in str(lost)
    assert got(first) == []  # all copies or none
    assert transport.publish("topic", [message(b"1")], timeout=HANG) == [None]
    assert [each.message.body for each in got(first, timeout=5)] == [b"1"]
    with pytest.raises(errors.QueueNotFound):
        got(second)


def test_settings_of_a_bound_queue_that_were_evicted_are_told_to_the_publisher(transport, view, message):
    bound(transport, "q")
    view.evict("q", "m")
    (lost,) = transport.publish("topic", [message()], timeout=HANG)
    assert isinstance(lost, errors.InconsistencyError)


def test_a_subscriber_that_expired_leaves_nothing_and_nobody_is_told(transport, view, message):
    bound(transport, "brief", expires=0.1)
    stays = bound(transport, "stays")
    with pytest.raises(errors.QueueNotFound):
        repeat(lambda: transport.depth("brief", timeout=HANG))
    assert transport.publish("topic", [message()], timeout=HANG) == [None]
    assert len(got(stays, timeout=5)) == 1
    assert [field for field in view.client.hkeys("bk:{topic}:T") if b"brief" in field] == []
    transport.delete("stays", timeout=HANG)
    assert view.all_keys() == []


def test_publishing_gives_an_expiring_queue_no_key_that_outlives_it(transport, view, message):
    bound(transport, "q", expires=30)
    transport.publish("topic", [message(priority=n) for n in range(10)] + [message(delay=9)], timeout=HANG)
    keys = [key for key in view.all_keys() if key.startswith(b"bk:{q}")]
    assert len(keys) == 15
    assert all(0 < view.client.pttl(key) <= 30_000 for key in keys)


def test_topics_of_two_databases_and_of_two_prefixes_are_apart(plain, transport, open_transport, view, message):
    elsewhere = open_transport(plain.url(database=1))
    prefixed = open_transport(plain.url(), key_prefix="other:")
    receivers = [bound(each, "q") for each in (transport, elsewhere, prefixed)]
    transport.publish("topic", [message()], timeout=HANG)
    assert [len(got(each, timeout=0.05)) for each in receivers] == [1, 0, 0]


def test_a_shared_fanout_prefix_reaches_queues_of_other_databases(plain, open_transport, view, message):
    sides = [open_transport(plain.url(database=n), fanout_prefix="shared") for n in range(3)]
    receivers = [bound(side, "q") for side in sides]
    sides[1].publish("topic", [message()], timeout=HANG)
    assert [len(got(each, timeout=5)) for each in receivers] == [1, 1, 1]
    assert sides[1].send("q", [message()], timeout=HANG) == [None]  # the connection stands in its own database
    assert [len(got(each, timeout=0.05)) for each in receivers] == [0, 1, 0]


def test_sides_that_would_not_hear_each_other_are_told(plain, transport, open_transport, view, message):
    bound(transport, "q")
    for options in ({"fanout_prefix": "named"}, {"fanout_prefix": False}, {"fanout_patterns": False}):
        other = open_transport(plain.url(), **options)
        other.declare(Queue(name="other"), timeout=HANG)
        with pytest.raises(errors.InconsistencyError, match=next(iter(options))):
            other.bind("other", "topic", "#", timeout=HANG)
        with pytest.raises(errors.InconsistencyError, match=next(iter(options))):
            other.publish("topic", [message()], timeout=HANG)
        assert "B" not in "".join(field.decode()[0] for field in view.client.hkeys("bk:{other}:m"))
