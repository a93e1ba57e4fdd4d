"""The way of a delayed message; and that it comes at its time, over a crash, too."""

from __future__ import annotations

import time

import pytest
from brokerkit_rabbitmq.delays import END, LONGEST, exchange_name, way_of
from hypothesis import given
from hypothesis import strategies as st

from brokerkit import servers
from brokerkit.errors import QueueNotFound
from brokerkit.models import Queue

HANG = 30.0


@given(st.floats(0.0005, LONGEST))
def test_a_way_is_never_shorter_and_hardly_longer(seconds):
    hops = way_of(seconds).hops
    total = sum(hop.milliseconds for hop in hops) / 1000
    assert -1e-6 <= total - seconds <= 0.1
    assert [hop.last for hop in hops] == [False] * (len(hops) - 1) + [True]
    assert [hop.level for hop in hops] == sorted({hop.level for hop in hops}, reverse=True)
    assert all(hop.milliseconds < 2**32 for hop in hops)


@given(st.floats(0.0005, LONGEST))
def test_the_headers_lead_from_exchange_to_exchange(seconds):
    way = way_of(seconds)
    level, waited = way.hops[0].level, 0
    while True:
        sign = way.headers[f"bk-delay-{level}"]
        if sign == "0":
            level -= 1
            continue
        hop = next(hop for hop in way.hops if (hop.level, hop.sign) == (level, sign))
        waited += hop.milliseconds
        if hop.last:
            break
        assert hop.arguments["x-dead-letter-exchange"] == exchange_name(level - 1)
        level -= 1
    assert hop.arguments["x-dead-letter-exchange"] == END
    assert waited == sum(each.milliseconds for each in way.hops)


@pytest.mark.parametrize("kind", ["quorum", "classic"])
def test_delayed_messages_come_at_their_time_each_to_its_queue(vhost, open_transport, message, kind):
    transport = open_transport(vhost, queue_type=kind)
    delays = {"one": [0.01, 0.37, 1.11], "two": [0.25, 0.999]}
    due = {}
    for queue, seconds in delays.items():
        transport.declare(Queue(name=queue), timeout=HANG)
        began = time.monotonic()
        sent = [message(delay=each, headers={"a": "b"}) for each in seconds]
        assert transport.send(queue, sent, timeout=HANG) == [None] * len(sent)
        due |= {each.id: (queue, began + each.delay) for each in sent}
    receiver = transport.open_receiver(list(delays), prefetch=10, visibility_timeout=30)
    while due:
        for received in receiver.receive(limit=5, timeout=HANG)[0]:
            queue, at = due.pop(received.message.id)
            assert received.queue == queue
            assert time.monotonic() >= at, "it came early"
            assert dict(received.message.headers) == {"a": "b"}
    receiver.close(timeout=HANG)


def test_transports_of_both_types_share_the_queues_in_which_messages_wait(vhost, open_transport, message):
    for kind in ("quorum", "classic"):
        transport = open_transport(vhost, queue_type=kind)
        transport.declare(Queue(name=kind), timeout=HANG)
        assert transport.send(kind, [message(delay=0.1)], timeout=HANG) == [None]
        receiver = transport.open_receiver([kind], prefetch=1, visibility_timeout=30)
        assert len(receiver.receive(limit=1, timeout=HANG)[0]) == 1
        receiver.close(timeout=HANG)


def test_what_waits_for_a_queue_that_is_gone_holds_nobody_up(vhost, open_transport, message):
    transport = open_transport(vhost)
    for name in ("gone", "q"):
        transport.declare(Queue(name=name), timeout=HANG)
    many = [message(delay=0.5) for _ in range(100)]  # more than the server has under way at a time
    assert transport.send("gone", many, timeout=HANG) == [None] * len(many)
    transport.delete("gone", timeout=HANG)
    sent = message(delay=0.5)
    assert transport.send("q", [sent], timeout=HANG) == [None]
    receiver = transport.open_receiver(["q"], prefetch=1, visibility_timeout=30)
    assert [each.message.id for each in receiver.receive(limit=1, timeout=HANG)[0]] == [sent.id]
    receiver.close(timeout=HANG)


def test_what_waits_comes_to_a_queue_that_was_declared_anew(vhost, open_transport, message):
    transport = open_transport(vhost)
    transport.declare(Queue(name="q"), timeout=HANG)
    sent = message(delay=2.0)
    assert transport.send("q", [sent], timeout=HANG) == [None]
    other = open_transport(vhost)
    other.delete("q", timeout=HANG)
    other.declare(Queue(name="q"), timeout=HANG)
    receiver = other.open_receiver(["q"], prefetch=1, visibility_timeout=30)
    assert [each.message.id for each in receiver.receive(limit=1, timeout=HANG)[0]] == [sent.id]
    receiver.close(timeout=HANG)


def test_a_delay_needs_its_queue(vhost, open_transport, message):
    with pytest.raises(QueueNotFound):
        open_transport(vhost).send("none", [message(delay=1)], timeout=HANG)


def test_queues_of_delays_that_somebody_deleted_are_made_anew(vhost, open_transport, message, node):
    transport = open_transport(vhost)
    transport.declare(Queue(name="q"), timeout=HANG)
    transport.send("q", [message(delay=0.2)], timeout=HANG)
    receiver = transport.open_receiver(["q"], prefetch=10, visibility_timeout=30)
    assert receiver.receive(limit=1, timeout=HANG)[0]
    name = vhost.rpartition("/")[2]
    node.management("DELETE", f"/queues/{name}/bk.delay.200")
    sent = message(delay=0.2)
    assert transport.send("q", [sent], timeout=HANG) == [None]
    assert receiver.receive(limit=1, timeout=HANG)[0][0].message.id == sent.id
    for exchange in ("bk.delay.2", "bk.delay.end"):
        node.management("DELETE", f"/exchanges/{name}/{exchange}")
        sent = message(delay=0.2)
        assert transport.send("q", [sent], timeout=HANG) == [None]
        assert receiver.receive(limit=1, timeout=HANG)[0][0].message.id == sent.id
    receiver.close(timeout=HANG)


def test_a_crash_right_after_the_first_send_loses_nothing(start, open_transport, message):
    server = start(servers.RabbitMQ())
    before = open_transport(server.url())
    before.declare(Queue(name="q"), timeout=HANG)
    sent = [message(), message(delay=0.5), message(delay=1.25)]
    assert before.send("q", sent, timeout=HANG) == [None] * 3
    server.kill9()
    server.start()
    receiver = open_transport(server.url()).open_receiver(["q"], prefetch=10, visibility_timeout=30)
    came, end = set(), time.monotonic() + HANG
    while len(came) < 3:
        assert time.monotonic() < end, f"{len(came)} of 3 came"
        came |= {received.message.id for received in receiver.receive(limit=5, timeout=1.0)[0]}
    assert came == {each.id for each in sent}
    receiver.close(timeout=HANG)
