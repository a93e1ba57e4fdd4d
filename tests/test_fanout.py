"""Laws of topics on the memory transport: copies, patterns, isolation, disagreement, bounds."""

import itertools
import uuid

import pytest

import brokerkit
from brokerkit.errors import FanoutGap, InconsistencyError, QueueNotFound
from brokerkit.testing import ManualClock


@pytest.fixture
def url():
    return f"memory://{uuid.uuid4().hex}"


def drain(broker, queue):
    with broker.consumer(queue) as consumer:
        found = []
        while (delivery := consumer.receive(0)) is not None:
            found.append(delivery.payload)
            delivery.ack()
    return found


def subscribed(url, queue, pattern="#", **options):
    broker = brokerkit.connect(url, **options)
    broker.declare(queue)
    broker.bind(queue, "t", pattern)
    return broker


def test_every_bound_queue_gets_its_own_copy(url):
    a, b = subscribed(url, "a"), subscribed(url, "b")
    sent = a.publish("t", 1, routing_key="x.y")
    with b.consumer("b") as consumer, consumer.receive(0) as delivery:
        assert (delivery.id, delivery.message.topic, delivery.message.routing_key) == (sent, "t", "x.y")
    assert drain(a, "a") == [1]


def test_a_queue_bound_twice_gets_one_copy(url):
    broker = subscribed(url, "a", "eu.#")
    broker.bind("a", "t", "*.paid")
    broker.publish("t", 1, routing_key="eu.paid")
    assert drain(broker, "a") == [1]


def test_patterns_choose(url):
    eu, us = subscribed(url, "eu", "eu.#"), subscribed(url, "us", "us.*")
    for key in ("eu", "eu.a.b", "us", "us.a", "us.a.b"):
        eu.publish("t", key, routing_key=key)
    assert drain(eu, "eu") == ["eu", "eu.a.b"]
    assert drain(us, "us") == ["us.a"]


def test_without_patterns_everybody_hears_everything(url):
    broker = subscribed(url, "a", "eu.#", fanout_patterns=False)
    broker.publish("t", 1, routing_key="us")
    assert drain(broker, "a") == [1]


def test_after_unbind_nothing_comes(url):
    broker = subscribed(url, "a")
    broker.unbind("a", "t")
    broker.unbind("a", "t")
    broker.publish("t", 1)
    assert drain(broker, "a") == []


def test_a_topic_and_a_queue_of_one_name_do_not_mix(url):
    broker = subscribed(url, "t")
    broker.declare("other")
    broker.bind("other", "t")
    broker.send("t", "sent")
    assert drain(broker, "other") == []
    assert drain(broker, "t") == ["sent"]


def test_binding_a_missing_queue_is_an_error(url):
    with pytest.raises(QueueNotFound):
        brokerkit.connect(url).bind("nowhere", "t")


PREFIXES = ["a", "ab", "a.b", "*", "#", "a*", "{db}", "%", "[a]", "A"]


@pytest.mark.parametrize(("mine", "theirs"), list(itertools.permutations(PREFIXES, 2)))
def test_named_prefixes_never_hear_each_other(url, mine, theirs):
    a = subscribed(url, "a", fanout_prefix=mine)
    b = subscribed(url, "b", fanout_prefix=theirs)
    b.publish("t", 1)
    assert drain(a, "a") == []
    assert drain(b, "b") == [1]


def test_virtual_hosts_never_hear_each_other(url):
    a, b = subscribed(f"{url}/0", "q"), subscribed(f"{url}/1", "q")
    a.publish("t", 1)
    assert drain(b, "q") == []
    assert drain(a, "q") == [1]


@pytest.mark.parametrize("prefix", ["shared", False])
def test_a_named_or_global_prefix_reaches_over_virtual_hosts(url, prefix):
    a = subscribed(f"{url}/0", "q", fanout_prefix=prefix)
    b = subscribed(f"{url}/1", "q", fanout_prefix=prefix)
    a.publish("t", 1)
    assert drain(a, "q") == [1]
    assert drain(b, "q") == [1]


@pytest.mark.parametrize(
    ("theirs", "mine", "told"),
    [
        ({}, {"fanout_prefix": False}, "fanout_prefix"),
        ({"fanout_prefix": "x"}, {}, "fanout_prefix"),
        ({"fanout_prefix": False}, {"fanout_prefix": "x"}, "fanout_prefix"),
        ({}, {"fanout_patterns": False}, "fanout_patterns"),
    ],
)
def test_disagreement_is_an_error_on_either_side(url, theirs, mine, told):
    subscribed(url, "a", **theirs)
    other = brokerkit.connect(url, **mine)
    with pytest.raises(InconsistencyError, match=told):
        other.publish("t", 1)
    other.declare("b")
    with pytest.raises(InconsistencyError, match=told):
        other.bind("b", "t")


def test_a_bounded_subscriber_drops_the_oldest_and_is_told_once(url):
    broker = brokerkit.connect(url)
    broker.declare("slow", max_length=2)
    broker.bind("slow", "t")
    broker.publish_many("t", range(5))
    with broker.consumer("slow") as consumer:
        with pytest.raises(FanoutGap) as caught:
            consumer.receive(0)
        assert caught.value.dropped == 3
        got = []
        while (delivery := consumer.receive(0)) is not None:
            got.append(delivery.payload)
            delivery.ack()
    assert got == [3, 4]


def test_a_queue_that_nobody_reads_vanishes_although_it_is_published_to(url):
    clock = ManualClock()
    broker = brokerkit.connect(url, clock=clock)
    broker.declare("gone", expires=10)
    broker.bind("gone", "t")
    for _ in range(4):
        clock.advance(3)
        broker.publish("t", 1)
    with pytest.raises(QueueNotFound):
        broker.depth("gone")
    broker.publish("t", 1)
