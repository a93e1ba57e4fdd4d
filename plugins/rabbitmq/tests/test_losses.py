"""What goes while it is in use: connections, nodes, virtual hosts and processes."""

from __future__ import annotations

import time

import pytest
from brokerkit_rabbitmq.losses import Losses

from brokerkit import servers
from brokerkit.errors import QueueNotFound
from brokerkit.models import Queue

HANG = 30.0


def test_a_missing_queue_is_told_once_and_always_if_none_is_left():
    losses = Losses()
    losses.note(["a"], 2)
    with pytest.raises(QueueNotFound) as caught:
        losses.tell()
    assert caught.value.names == ("a",)
    losses.note(["a"], 2)
    losses.tell()
    losses.note(["a", "b"], 2)
    with pytest.raises(QueueNotFound) as caught:
        losses.tell()
    assert caught.value.names == ("b",)
    losses.note(["a", "b"], 2)
    assert losses.any
    losses.note([], 2)
    losses.note(["a"], 2)
    assert losses.any


@pytest.fixture
def own(start):
    """A node that the test may break."""
    return start(servers.RabbitMQ())


def ready(call):
    """Call until it works."""
    end = time.monotonic() + HANG
    while True:
        try:
            return call()
        except Exception:
            if time.monotonic() > end:
                raise


def test_after_a_crash_a_receiver_raises_once_and_goes_on(own, open_transport, message):
    transport = open_transport(own.url())
    transport.declare(Queue(name="q"), timeout=HANG)
    sent = [message() for _ in range(6)]
    assert transport.send("q", sent, timeout=HANG) == [None] * 6
    receiver = transport.open_receiver(["q"], prefetch=10, visibility_timeout=20)
    held = receiver.receive(limit=4, timeout=HANG)[0]
    assert receiver.ack(held[:1]) == []
    own.kill9()
    with pytest.raises(Exception, match=r"."):
        receiver.receive(limit=10, timeout=HANG)
    own.start()
    assert receiver.ack(held[1:]) == held[1:]
    came = {}
    while len(came) < 5:
        for received in ready(lambda: receiver.receive(limit=10, timeout=1.0)[0]):
            came[received.message.id] = received.attempt
    assert {each.id for each in sent[1:]} <= set(came)
    assert [came[each.message.id] for each in held[1:]] == [2] * 3
    assert [came[each.id] for each in sent[4:]] == [1, 1]
    assert ready(lambda: transport.send("q", [message()], timeout=HANG)) == [None]
    receiver.close(timeout=HANG)


def test_a_virtual_host_that_is_deleted_is_told_and_works_when_it_is_there_again(own, open_transport, message):
    transport = open_transport(own.create_vhost("mortal"))
    transport.declare(Queue(name="q"), timeout=HANG)
    receiver = transport.open_receiver(["q"], prefetch=10, visibility_timeout=20)
    assert receiver.receive(limit=1, timeout=0.1)[0] == []
    own.delete_vhost("mortal")
    for call in (
        lambda: receiver.receive(limit=1, timeout=5),
        lambda: transport.send("q", [message()], timeout=5),
    ):
        with pytest.raises(Exception, match=r"mortal|vhost|closed|CONNECTION_FORCED|end"):
            call()
    own.create_vhost("mortal")
    ready(lambda: transport.declare(Queue(name="q"), timeout=HANG))
    sent = message()
    assert ready(lambda: transport.send("q", [sent], timeout=HANG)) == [None]
    came = ready(lambda: receiver.receive(limit=1, timeout=HANG)[0])
    assert [received.message.id for received in came] == [sent.id]
    receiver.close(timeout=HANG)
