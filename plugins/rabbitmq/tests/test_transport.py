"""Queues and sending on a real node."""

from __future__ import annotations

import pytest

from brokerkit.errors import (
    AccessDenied,
    InconsistencyError,
    InvalidMessage,
    InvalidName,
    MessageTooLarge,
    QueueFull,
    QueueNotFound,
)
from brokerkit.models import Queue

HANG = 30.0


@pytest.fixture
def transport(vhost, open_transport):
    return open_transport(vhost)


def test_a_queue_is_declared_counted_purged_and_deleted(transport, message):
    for _ in range(2):
        transport.declare(Queue(name="q"), timeout=HANG)
    assert transport.send("q", [message() for _ in range(5)], timeout=HANG) == [None] * 5
    depth = transport.depth("q", timeout=HANG)
    assert (depth.ready, depth.in_flight, depth.delayed) == (5, None, None)
    assert transport.purge("q", timeout=HANG) == 5
    for _ in range(2):
        transport.delete("q", timeout=HANG)
    for call in (transport.depth, transport.purge):
        with pytest.raises(QueueNotFound, match="'q'"):
            call("q", timeout=HANG)
    with pytest.raises(QueueNotFound, match="'q'"):
        transport.send("q", [message(), message()], timeout=HANG)


@pytest.mark.parametrize("other", [{"expires": 60}, {"message_ttl": 5}, {"max_length": 3}], ids=str)
def test_other_settings_are_told_and_max_attempts_is_no_affair_of_the_server(transport, other):
    transport.declare(Queue(name="q", max_attempts=3), timeout=HANG)
    transport.declare(Queue(name="q", max_attempts=None), timeout=HANG)
    with pytest.raises(InconsistencyError, match="'q' exists with other settings"):
        transport.declare(Queue(name="q", **other), timeout=HANG)
    transport.declare(Queue(name="q"), timeout=HANG)


def test_headers_that_do_not_fit_are_refused_and_what_is_beside_them_is_sent(transport, message):
    transport.declare(Queue(name="q"), timeout=HANG)
    large = {"a": "x" * 130_000}
    sent = [
        message(),
        message(headers=large),
        message(headers={"a": "x" * 50_000}),
        message(delay=0.01),
        message(headers=large, delay=1),
    ]
    outcomes = transport.send("q", sent, timeout=HANG)
    assert [type(outcome) for outcome in outcomes if outcome] == [MessageTooLarge] * 2
    assert (outcomes[0], outcomes[2], outcomes[3]) == (None, None, None)


def test_a_queue_of_the_other_type_is_told(vhost, transport, open_transport):
    transport.declare(Queue(name="q"), timeout=HANG)
    with pytest.raises(InconsistencyError, match="as a classic queue"):
        open_transport(vhost, queue_type="classic").declare(Queue(name="q"), timeout=HANG)


@pytest.mark.parametrize("name", ["amq.q", "bk.delay.10"])
def test_names_that_are_taken_are_refused_everywhere(transport, message, name):
    for call in (
        lambda: transport.declare(Queue(name=name), timeout=HANG),
        lambda: transport.send(name, [message()], timeout=HANG),
        lambda: transport.delete(name, timeout=HANG),
    ):
        with pytest.raises(InvalidName, match="own"):
            call()


@pytest.mark.parametrize("kind", ["quorum", "classic"])
def test_a_full_queue_takes_no_more_than_it_should(vhost, open_transport, message, kind):
    transport = open_transport(vhost, queue_type=kind)
    transport.declare(Queue(name="q", max_length=3), timeout=HANG)
    outcomes = transport.send("q", [message() for _ in range(5)], timeout=HANG)
    assert [type(outcome) for outcome in outcomes] == [type(None)] * 3 + [QueueFull] * 2
    assert transport.depth("q", timeout=HANG).ready == 3
    transport.purge("q", timeout=HANG)
    assert transport.send("q", [message()], timeout=HANG) == [None]


def test_a_priority_above_the_queues_is_refused(vhost, open_transport, message):
    transport = open_transport(vhost, queue_type="classic")
    transport.declare(Queue(name="q", max_priority=3), timeout=HANG)
    outcomes = transport.send("q", [message(priority=3), message(priority=4)], timeout=HANG)
    assert outcomes[0] is None
    assert isinstance(outcomes[1], InvalidMessage)


@pytest.mark.parametrize("kind", ["quorum", "classic"])
def test_what_lives_longer_than_its_queue_allows_is_a_dead_letter(vhost, open_transport, message, kind, eventually):
    transport = open_transport(vhost, queue_type=kind)
    transport.declare(Queue(name="q", message_ttl=0.05), timeout=HANG)
    sent = message(headers={"a": "b"})
    transport.send("q", [sent], timeout=HANG)
    eventually(lambda: transport.depth("q.dead", timeout=HANG).ready == 1)
    receiver = transport.open_receiver(["q.dead"], prefetch=1, visibility_timeout=20)
    (letter,) = receiver.receive(limit=1, timeout=HANG)[0]
    assert (letter.message.id, letter.message.headers["a"]) == (sent.id, "b")
    assert letter.message.headers["bk-dead-reason"] == "expired"
    assert letter.message.headers["bk-origin-queue"] == "q"
    receiver.close(timeout=HANG)


def test_a_queue_that_nobody_uses_vanishes_and_one_in_use_stays(transport, message, eventually):
    for name in ("mortal", "used"):
        transport.declare(Queue(name=name, expires=2.5), timeout=HANG)
    receiver = transport.open_receiver(["used"], prefetch=1, visibility_timeout=20)

    def is_gone():
        assert receiver.receive(limit=1, timeout=0.6) == ([], [])
        try:
            transport.send("mortal", [message()], timeout=HANG)
        except QueueNotFound:
            return True
        return False

    eventually(is_gone)
    transport.depth("used", timeout=HANG)
    receiver.close(timeout=HANG)


@pytest.mark.parametrize("kind", ["quorum", "classic"])
def test_a_queue_stays_while_its_only_consumer_is_busy(vhost, open_transport, message, kind, eventually):
    transport = open_transport(vhost, queue_type=kind)
    for name in ("mortal", "used"):
        transport.declare(Queue(name=name, expires=2.5), timeout=HANG)
    sent = message()
    transport.send("used", [sent], timeout=HANG)
    receiver = transport.open_receiver(["used"], prefetch=1, visibility_timeout=60)
    held = receiver.receive(limit=1, timeout=HANG)[0]

    def is_gone():
        try:
            transport.send("mortal", [message()], timeout=HANG)
        except QueueNotFound:
            return True
        return False

    eventually(is_gone)
    assert receiver.ack(held) == []
    assert transport.send("used", [message()], timeout=HANG) == [None]
    assert len(receiver.receive(limit=1, timeout=HANG)[0]) == 1
    receiver.close(timeout=HANG)


def test_who_may_not_is_told(node, vhost, open_transport):
    name = vhost.rpartition("/")[2]
    node.create_user("reader", "secret")
    node.permit("reader", name, configure="^$", write="^$")
    refused = open_transport(node.url(vhost=name, user="reader", password="secret"))
    with pytest.raises(Exception, match="refused") as caught:
        refused.declare(Queue(name="q"), timeout=HANG)
    assert isinstance(refused.errors.translate(caught.value, doing="declare"), AccessDenied)
