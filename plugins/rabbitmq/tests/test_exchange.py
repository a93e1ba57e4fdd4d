"""Topics on a real node: who hears what, who disagrees, and what is told when something is gone."""

from __future__ import annotations

import pytest

from brokerkit.errors import InconsistencyError, InvalidMessage, QueueNotFound
from brokerkit.models import Queue

HANG = 30.0


@pytest.fixture
def published(message):
    """Makes messages as the core publishes them."""
    return lambda topic, key="": message(headers={"bk-topic": topic, "bk-routing-key": key})


@pytest.fixture
def exchanges(node, vhost):
    """Tells which exchanges of ours there are."""
    name = vhost.rpartition("/")[2]
    return lambda: {each["name"] for each in node.management("GET", f"/exchanges/{name}") if each["name"][:3] == "bk."}


def queues(transport, *names):
    for name in names:
        transport.declare(Queue(name=name), timeout=HANG)


def heard(transport, name):
    """Return the ids that are in a queue."""
    receiver = transport.open_receiver([name], prefetch=10, visibility_timeout=20)
    try:
        return [received.message.id for received in receiver.receive(limit=100, timeout=0)[0]]
    finally:
        receiver.close(timeout=HANG)


def test_patterns_decide_and_two_that_match_are_one_copy(vhost, open_transport, published):
    transport = open_transport(vhost)
    queues(transport, "eu", "all")
    for name, pattern in (("eu", "eu.#"), ("eu", "*.paid"), ("all", "#")):
        transport.bind(name, "orders", pattern, timeout=HANG)
    sent = [published("orders", key) for key in ("eu.paid", "us.paid", "us.sent")]
    assert transport.publish("orders", sent, timeout=HANG) == [None] * 3
    assert heard(transport, "eu") == [sent[0].id, sent[1].id]
    assert heard(transport, "all") == [each.id for each in sent]
    transport.unbind("eu", "orders", "*.paid", timeout=HANG)
    transport.purge("eu", timeout=HANG)
    transport.publish("orders", [published("orders", "us.paid")], timeout=HANG)
    assert heard(transport, "eu") == []


def test_without_patterns_everybody_hears_all(vhost, open_transport, published):
    transport = open_transport(vhost, fanout_patterns=False)
    queues(transport, "q")
    transport.bind("q", "t", "#", timeout=HANG)
    sent = published("t", "any.key")
    transport.publish("t", [sent], timeout=HANG)
    assert heard(transport, "q") == [sent.id]


def test_nobody_hears_is_fine_and_a_missing_queue_is_not(vhost, open_transport, published):
    transport = open_transport(vhost)
    assert transport.publish("t", [published("t")] * 3, timeout=HANG) == [None] * 3
    with pytest.raises(QueueNotFound):
        transport.bind("none", "t", "#", timeout=HANG)
    with pytest.raises(InvalidMessage, match="255"):
        transport.publish("t", [published("t", "k" * 256)], timeout=HANG)


@pytest.mark.parametrize(
    "options", [{"fanout_prefix": "other"}, {"fanout_prefix": False}, {"fanout_patterns": False}], ids=str
)
def test_who_disagrees_is_told_as_long_as_somebody_is_bound(vhost, open_transport, published, options):
    right, wrong = open_transport(vhost), open_transport(vhost, **options)
    queues(right, "q")
    assert wrong.publish("t", [published("t")], timeout=HANG) == [None]
    right.bind("q", "t", "a.#", timeout=HANG)
    with pytest.raises(InconsistencyError, match=next(iter(options))):
        wrong.bind("q", "t", "#", timeout=HANG)
    with pytest.raises(InconsistencyError, match=next(iter(options))):
        open_transport(vhost, **options).publish("t", [published("t")], timeout=HANG)
    right.unbind("q", "t", "a.#", timeout=HANG)
    wrong.bind("q", "t", "#", timeout=HANG)
    sent = published("t")
    assert wrong.publish("t", [sent], timeout=HANG) == [None]
    assert heard(right, "q") == [sent.id]


def test_prefixes_keep_apart(vhost, open_transport, published):
    sides = [open_transport(vhost, fanout_prefix=prefix) for prefix in ("a", "ab", "a.b")]
    topics = ["b.t", ".t", "t"]
    sent = []
    for number, (side, topic) in enumerate(zip(sides, topics, strict=True)):
        queues(side, f"q{number}")
        side.bind(f"q{number}", topic, "#", timeout=HANG)
    for side, topic in zip(sides, topics, strict=True):
        sent.append(published(topic))
        side.publish(topic, [sent[-1]], timeout=HANG)
    assert [heard(sides[0], f"q{number}") for number in range(3)] == [[each.id] for each in sent]


def test_the_last_queue_takes_its_topics_along(vhost, open_transport, exchanges, eventually):
    transport = open_transport(vhost)
    queues(transport, "one", "two")
    for name in ("one", "two"):
        transport.bind(name, "t", "#", timeout=HANG)
    transport.delete("one", timeout=HANG)
    assert "bk.topic.vhost.t" in exchanges()
    transport.delete("two", timeout=HANG)
    eventually(lambda: not exchanges())


def test_who_publishes_when_the_last_queue_was_deleted_is_not_troubled(vhost, open_transport, published):
    publisher, subscriber = open_transport(vhost), open_transport(vhost)
    for _ in range(2):
        queues(subscriber, "q")
        subscriber.bind("q", "t", "#", timeout=HANG)
        sent = published("t")
        assert publisher.publish("t", [sent], timeout=HANG) == [None]
        assert heard(subscriber, "q") == [sent.id]
        subscriber.delete("q", timeout=HANG)
        assert publisher.publish("t", [published("t")], timeout=HANG) == [None]


def test_who_publishes_is_told_that_the_bindings_of_others_are_gone(vhost, open_transport, published, node):
    publisher, subscriber = open_transport(vhost), open_transport(vhost)
    queues(subscriber, "q")
    subscriber.bind("q", "t", "#", timeout=HANG)
    assert publisher.publish("t", [published("t")], timeout=HANG) == [None]
    node.management("DELETE", f"/exchanges/{vhost.rpartition('/')[2]}/bk.topic.vhost.t")
    with pytest.raises(InconsistencyError, match="'t'"):
        publisher.publish("t", [published("t")], timeout=HANG)


def test_an_exchange_that_is_gone_is_told_and_made_anew_with_its_bindings(vhost, open_transport, published, node):
    transport = open_transport(vhost)
    queues(transport, "q")
    transport.bind("q", "t", "#", timeout=HANG)
    node.management("DELETE", f"/exchanges/{vhost.rpartition('/')[2]}/bk.topic.vhost.t")
    with pytest.raises(InconsistencyError, match="'t'"):
        transport.publish("t", [published("t")], timeout=HANG)
    sent = published("t")
    assert transport.publish("t", [sent], timeout=HANG) == [None]
    assert heard(transport, "q") == [sent.id]


def test_a_binding_or_a_queue_that_is_gone_is_told_by_who_bound_it(vhost, open_transport, published, node):
    transport = open_transport(vhost)
    queues(transport, "q", "gone")
    transport.bind("q", "t", "a.*", timeout=HANG)
    name = vhost.rpartition("/")[2]
    node.management("DELETE", f"/bindings/{name}/e/bk.topic.vhost.t/q/q/a.%2A")
    assert transport.publish("t", [published("t", "b.b")], timeout=HANG) == [None]
    with pytest.raises(InconsistencyError, match="'q'"):
        transport.publish("t", [published("t", "a.b")], timeout=HANG)
    sent = published("t", "a.b")
    assert transport.publish("t", [sent], timeout=HANG) == [None]
    assert heard(transport, "q") == [sent.id]
    transport.bind("gone", "u", "#", timeout=HANG)
    node.management("DELETE", f"/queues/{name}/gone")
    with pytest.raises(InconsistencyError, match="'gone'"):
        transport.publish("u", [published("u")], timeout=HANG)
    assert transport.publish("u", [published("u")], timeout=HANG) == [None]
