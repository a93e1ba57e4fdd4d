"""Claiming and settling on a real node: who gets what, and when it comes back."""

from __future__ import annotations

import socket
import time

import pytest
from brokerkit_rabbitmq.link import Link

from brokerkit.errors import Closed, OperationTimeout, QueueNotFound
from brokerkit.models import Queue

HANG = 30.0


@pytest.fixture
def transport(vhost, open_transport):
    found = open_transport(vhost)
    found.declare(Queue(name="q"), timeout=HANG)
    return found


@pytest.fixture
def receive(transport):
    """Opens receivers."""
    opened = []

    def open_one(*names, lease=20.0):
        opened.append(transport.open_receiver(names or ["q"], prefetch=100, visibility_timeout=lease))
        return opened[-1]

    yield open_one
    for receiver in opened:
        receiver.close(timeout=HANG)


def claim(receiver, count):
    """Claim exactly so many."""
    claimed, end = [], time.monotonic() + HANG
    while len(claimed) < count:
        assert time.monotonic() < end, f"{len(claimed)} of {count} came"
        claimed += receiver.receive(limit=count - len(claimed), timeout=1.0)[0]
    return claimed


def ids(deliveries):
    return [received.message.id for received in deliveries]


def send(transport, message, count, queue="q"):
    sent = [message() for _ in range(count)]
    assert transport.send(queue, sent, timeout=HANG) == [None] * count
    return [each.id for each in sent]


def test_it_takes_no_more_than_was_asked_for_and_others_get_the_rest(transport, receive, message):
    sent = send(transport, message, 7)
    first = claim(receive(), 2)
    rest = claim(receive(), 5)
    assert ids(first) + ids(rest) == sent
    assert {received.attempt for received in first + rest} == {1}


def test_a_receiver_that_nobody_asks_gets_nothing(transport, receive, message):
    idle, other = receive(), receive()
    (held,) = claim_after_send(transport, message, idle)
    assert idle.ack([held]) == []
    assert idle.receive(limit=5, timeout=0.05)[0] == []
    sent = send(transport, message, 20)
    assert ids(claim(other, 20)) == sent


def claim_after_send(transport, message, receiver):
    send(transport, message, 1)
    return claim(receiver, 1)


def test_a_release_goes_to_others_and_counts(transport, receive, message):
    one, two = receive(), receive()
    (sent,) = send(transport, message, 1)
    for attempt, receiver in enumerate((one, two, one, two), 1):
        (received,) = claim(receiver, 1)
        assert (received.message.id, received.attempt) == (sent, attempt)
        assert receiver.release([received]) == []


@pytest.mark.parametrize("way", ["release", "close", "end of lease"])
def test_what_all_comes_back_keeps_its_place(transport, receive, message, way):
    sent = send(transport, message, 5)
    receiver = receive(lease=5.0 if way == "end of lease" else 60.0)
    held = claim(receiver, 3)
    if way == "release":
        assert receiver.release(held[::-1]) == []
    elif way == "close":
        receiver.close(timeout=HANG)
    else:
        assert ids(claim(receive(), 2)) == sent[3:]
        assert ids(claim(receive(), 3)) == sent[:3]
        assert receiver.ack(held) == held
        return
    assert ids(claim(receive(), 5)) == sent


def test_a_part_that_is_released_unread_goes_back_with_the_rest(transport, receive, message):
    sent = send(transport, message, 5)
    receiver = receive()
    held = claim(receiver, 4)
    assert receiver.release(held[1:], counted=False) == []
    assert receiver.release(held[:1]) == []
    assert ids(claim(receive(), 5)) == sent


def test_a_part_that_is_released_unread_comes_back_without_the_rest(transport, receive, message):
    send(transport, message, 3)
    receiver = receive()
    held = claim(receiver, 3)
    assert receiver.release(held[1:], counted=False) == []
    assert sorted(ids(claim(receive(), 2))) == sorted(ids(held[1:]))
    assert receiver.ack(held[:1]) == []


def test_late_and_foreign_settlements_are_told_and_touch_nothing(transport, receive, message):
    send(transport, message, 2)
    receiver, other = receive(), receive()
    one, two = claim(receiver, 2)
    assert other.ack([one]) == [one]
    assert receiver.ack([one, one]) == []
    assert receiver.ack([one]) == [one]
    assert receiver.extend([one], visibility_timeout=20) == [one]
    assert receiver.release([one]) == [one]
    assert receiver.release([two]) == []
    assert receiver.ack([two]) == [two]
    assert len(claim(other, 1)) == 1


def test_acks_in_any_order_settle_each_its_own(transport, receive, message):
    send(transport, message, 30)
    receiver = receive()
    held = claim(receiver, 30)
    settled = held[7:20] + held[25:] + held[:3]
    assert receiver.ack(settled) == []
    receiver.close(timeout=HANG)
    again = claim(receive(), 30 - len(settled))
    assert ids(again) == ids(held[3:7] + held[20:25])
    assert {received.attempt for received in again} == {2}


def test_an_extension_keeps_and_nobody_gets_it_meanwhile(transport, receive, message):
    send(transport, message, 1)
    receiver, other = receive(lease=4.0), receive()
    held = claim(receiver, 1)
    end = time.monotonic() + 5.0
    while time.monotonic() < end:
        assert receiver.extend(held, visibility_timeout=4.0) == []
        assert other.receive(limit=1, timeout=0.3)[0] == []
    assert receiver.ack(held) == []


def test_a_stream_of_many_is_in_order_and_leaves_nothing_behind(transport, receive, message):
    sent = send(transport, message, 1000)
    receiver, came, acks = receive(), [], []
    while len(came) < 1000:
        got, lost = receiver.receive(limit=50, timeout=HANG, acks=acks)
        assert lost == []
        came += ids(got)
        acks = list(got)
    assert receiver.ack(acks) == []
    assert came == sent
    assert receiver.receive(limit=50, timeout=0)[0] == []
    assert transport.depth("q", timeout=HANG).ready == 0


def test_several_queues_get_their_turn(transport, receive, message):
    names = ["q", "a", "b"]
    for name in names[1:]:
        transport.declare(Queue(name=name), timeout=HANG)
    send(transport, message, 60)
    send(transport, message, 1, "a")
    send(transport, message, 1, "b")
    receiver, seen = receive(*names), []
    for _ in range(6):
        got = receiver.receive(limit=5, timeout=HANG)[0]
        seen += [received.queue for received in got]
        assert receiver.ack(got) == []
    assert set(seen) == set(names)


def test_a_receive_that_waits_ends_with_its_receiver(transport, receive, run, eventually):
    receiver = receive()
    waiting = run(receiver.receive, limit=1, timeout=HANG)
    eventually(lambda: transport._queues._server.look("q", deadline=time.monotonic() + HANG).consumers == 1)
    began = time.monotonic()
    receiver.close(timeout=HANG)
    assert waiting() == ([], [])
    assert time.monotonic() - began < HANG / 2
    with pytest.raises(Closed):
        receiver.receive(limit=1, timeout=1)


def test_a_receive_that_connects_ends_with_its_receiver(open_transport, run):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        mute.settimeout(HANG)
        transport = open_transport(f"amqp://127.0.0.1:{mute.getsockname()[1]}", connect_timeout=HANG)
        receiver = transport.open_receiver(["q"], prefetch=1, visibility_timeout=20)
        waiting = run(receiver.receive, limit=1, timeout=HANG)
        with mute.accept()[0]:
            began = time.monotonic()
            receiver.close(timeout=HANG)
            assert waiting() == ([], [])
            assert time.monotonic() - began < HANG / 2


def test_a_queue_whose_channel_cannot_be_opened_is_tried_again(transport, receive, message, monkeypatch):
    transport.declare(Queue(name="gone"), timeout=HANG)
    receiver = receive("q", "gone")
    assert receiver.receive(limit=1, timeout=0)[0] == []
    transport.delete("gone", timeout=HANG)
    until_raised(receiver, QueueNotFound)
    with monkeypatch.context() as patched:
        patched.setattr(Link, "open_channel", slow)
        until_raised(receiver, OperationTimeout)
    transport.declare(Queue(name="gone"), timeout=HANG)
    (sent,) = send(transport, message, 1, "gone")
    assert ids(claim(receiver, 1)) == [sent]


def until_raised(receiver, error):
    """Receive until it raises; it looks for a missing queue from time to time only."""

    def receive_on():
        end = time.monotonic() + HANG
        while time.monotonic() < end:
            receiver.receive(limit=1, timeout=0.3)

    with pytest.raises(error):
        receive_on()


def slow(*_, **__):
    raise OperationTimeout("the server did not answer in time")


def test_a_queue_that_is_missing_is_told_and_the_others_go_on(transport, receive, message):
    receiver = receive("q", "none")
    (sent,) = send(transport, message, 1)
    told, came = [], []
    for _ in range(4):
        try:
            came += ids(receiver.receive(limit=5, timeout=0.1)[0])
        except QueueNotFound as error:
            told.append(error.names)
    assert (told, came) == ([("none",)], [sent])


def test_what_was_held_of_a_deleted_queue_is_lost_and_the_queue_may_come_back(transport, receive, message):
    transport.declare(Queue(name="gone"), timeout=HANG)
    receiver = receive("q", "gone")
    send(transport, message, 4, "gone")
    held = claim(receiver, 4)
    transport.delete("gone", timeout=HANG)
    assert receiver.release(held[3:], delay=1.0) == held[3:]
    assert receiver.ack(held[:1]) == held[:1]
    assert receiver.extend(held[1:2], visibility_timeout=20) == held[1:2]
    assert receiver.release(held[2:3]) == held[2:3]
    with pytest.raises(QueueNotFound, match="gone"):
        receiver.receive(limit=1, timeout=HANG)
    transport.declare(Queue(name="gone"), timeout=HANG)
    (sent,) = send(transport, message, 1, "gone")
    assert ids(claim(receiver, 1)) == [sent]


def test_delayed_releases_keep_id_headers_and_count(transport, receive, message):
    sent = message(headers={"name": "value", "CC": "odd"})
    transport.send("q", [sent], timeout=HANG)
    receiver = receive()
    for attempt in range(1, 5):
        (received,) = claim(receiver, 1)
        assert (received.message.id, received.attempt) == (sent.id, attempt)
        assert dict(received.message.headers) == sent.headers
        assert receiver.release([received], delay=0.1 if attempt % 2 else 0.0) == []


def test_messages_past_their_time_say_so(transport, receive, message):
    transport.send("q", [message(ttl=0.05), message(ttl=60)], timeout=HANG)
    time_is_over = time.monotonic() + 0.1
    receiver = receive()
    while time.monotonic() < time_is_over:
        assert transport.depth("q", timeout=HANG).ready == 2
    assert [received.expired for received in claim(receiver, 2)] == [True, False]


def test_classic_queues_keep_priorities_and_count_nothing(vhost, open_transport, message):
    transport = open_transport(vhost, queue_type="classic")
    transport.declare(Queue(name="c"), timeout=HANG)
    sent = [message(priority=level) for level in (0, 9, 5)]
    transport.send("c", sent, timeout=HANG)
    receiver = transport.open_receiver(["c"], prefetch=10, visibility_timeout=20)
    held = claim(receiver, 3)
    assert ids(held) == [sent[1].id, sent[2].id, sent[0].id]
    assert [received.message.priority for received in held] == [9, 5, 0]
    assert {received.attempt for received in held} == {None}
    receiver.close(timeout=HANG)
