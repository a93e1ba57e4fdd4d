"""Claiming and settling: order, attempts, leases, and the end of a receiver."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from brokerkit import servers
from brokerkit.models import Queue

HANG = 30.0
TRIES = 4


def taken(receiver, count, timeout=HANG):
    """Receive so many messages, one fetch after the other."""
    got, end = [], time.monotonic() + timeout
    while len(got) < count:
        left = end - time.monotonic()
        assert left > 0, f"{len(got)} of {count} came"
        got += receiver.receive(limit=count - len(got), timeout=left)[0]
    return got


def bodies(deliveries):
    return [each.message.body.decode() for each in deliveries]


def open_one(transport, *names, lease=60.0):
    return transport.open_receiver(names or ["q"], prefetch=100, visibility_timeout=lease)


def test_returned_delayed_and_waiting_messages_stand_by_priority_then_by_age(transport, view, message):
    receiver = open_one(transport)
    transport.send("q", [message(b"a3", priority=3), message(b"a0"), message(b"b3", priority=3)], timeout=HANG)
    transport.send("q", [message(b"c3", priority=3, delay=0.1), message(b"c0", delay=0.1)], timeout=HANG)
    transport.send("q", [message(b"d0"), message(b"d3", priority=3), message(b"d9", priority=9)], timeout=HANG)
    held = taken(receiver, 4)
    assert bodies(held) == ["d9", "a3", "b3", "d3"]
    receiver.release(held)
    until = time.monotonic() + HANG
    while transport.depth("q", timeout=HANG).delayed:
        assert time.monotonic() < until
    assert bodies(taken(receiver, 8)) == ["d9", "a3", "b3", "c3", "d3", "a0", "c0", "d0"]
    assert set(view.places("q").values()) == {"leased"}


def test_many_that_came_back_stand_among_more_that_wait(transport, view, message):
    receiver = open_one(transport)
    sent = [message(b"%04d" % n) for n in range(600)]
    for at in range(0, 600, 100):
        transport.send("q", sent[at : at + 100], timeout=HANG)
    held = taken(receiver, 300)
    receiver.ack(held[::3])
    receiver.release([each for n, each in enumerate(held) if n % 3 == 1])
    receiver.release([each for n, each in enumerate(held) if n % 3 == 2], counted=False)
    got = []
    while len(got) < 500:
        got += taken(receiver, 7 if len(got) < 490 else 500 - len(got))
    assert bodies(got) == [f"{n:04}" for n in range(600) if n >= 300 or n % 3]
    assert {each.attempt for each in got[:200:2]} == {2}
    assert {each.attempt for each in got[1:200:2]} == {1}
    assert set(view.places("q").values()) == {"leased"}


def test_attempts_count_claims_but_for_those_that_were_given_back_uncounted(transport, message):
    receiver = open_one(transport)
    transport.send("q", [message()], timeout=HANG)
    receipts = set()
    for attempt, counted in [(1, False), (1, True), (2, False), (2, False), (2, True), (3, True)]:
        (delivery,) = taken(receiver, 1)
        assert delivery.attempt == attempt
        receipts.add(delivery.receipt)
        assert receiver.release([delivery], counted=counted, delay=0.01 if attempt == 2 else 0) == []
    assert len(receipts) == 6
    short = open_one(transport, lease=0.1)
    assert taken(short, 1)[0].attempt == 4
    (delivery,) = taken(receiver, 1)  # its lease has ended
    assert delivery.attempt == 5


def test_ten_thousand_leases_that_end_at_once(transport, view, message):
    sent = [message(b"%05d" % n) for n in range(10_000)]
    for at in range(0, 10_000, 1000):
        assert transport.send("q", sent[at : at + 1000], timeout=HANG) == [None] * 1000
    dying = open_one(transport)
    held = taken(dying, 10_000)
    for at in range(0, 10_000, 2000):
        assert dying.extend(held[at : at + 2000], visibility_timeout=0.05) == []
    receiver = open_one(transport)
    got, acks = [], ()
    while len(got) < 10_000:
        some, lost = receiver.receive(limit=1000, timeout=HANG, acks=acks)
        assert lost == []
        got, acks = got + list(some), some
    assert bodies(got) == [f"{n:05}" for n in range(10_000)]
    assert {each.attempt for each in got} == {2}
    assert receiver.ack(acks) == []
    assert view.places("q") == {}


def test_five_thousand_acks_ride_along_with_a_fetch(transport, view, message):
    for _ in range(5):
        transport.send("q", [message() for _ in range(1000)], timeout=HANG)
    receiver = open_one(transport)
    held = taken(receiver, 5000)
    assert receiver.receive(limit=1, timeout=0, acks=held) == ([], [])
    assert view.places("q") == {}


def test_each_consumer_keeps_its_own_visibility_timeout(transport, message):
    transport.send("q", [message(b"long"), message(b"short")], timeout=HANG)
    long, short, other = open_one(transport, lease=60), open_one(transport, lease=0.3), open_one(transport)
    (held,) = taken(long, 1)
    (lost,) = taken(short, 1)
    assert bodies([held, lost]) == ["long", "short"]
    assert bodies(taken(other, 1)) == ["short"]
    assert short.ack([lost]) == [lost]
    assert other.receive(limit=1, timeout=0.5) == ([], [])  # and never the long one
    assert long.ack([held]) == []


def test_who_waits_learns_of_leases_that_are_shorter_than_any_before(transport, message):
    waiting = open_one(transport)
    with ThreadPoolExecutor(1) as pool:

        def seconds(lease):
            promise = pool.submit(waiting.receive, limit=1, timeout=HANG)
            _until_blocked(transport)
            transport.send("q", [message()], timeout=HANG)
            (one,) = promise.result()[0]
            promise = pool.submit(waiting.receive, limit=1, timeout=HANG)
            _until_blocked(transport)
            began = time.monotonic()
            waiting.extend([one], visibility_timeout=lease)
            (again,) = promise.result()[0]
            assert again.message.id == one.message.id
            waiting.ack([again])
            return time.monotonic() - began

        # without being told it would sleep for a second
        assert min(seconds(0.2 - 0.02 * n) for n in range(TRIES)) < 0.7


def test_a_first_claim_with_a_short_lease_wakes_who_planned_to_sleep_longer(transport, message):
    waiting = open_one(transport)
    with ThreadPoolExecutor(2) as pool:

        def seconds(lease):
            dying = open_one(transport, lease=lease)
            first = pool.submit(dying.receive, limit=1, timeout=2)
            _until_blocked(transport, 1)
            second = pool.submit(waiting.receive, limit=1, timeout=HANG)
            _until_blocked(transport, 2)
            began = time.monotonic()
            transport.send("q", [message()], timeout=HANG)
            waiting.ack(second.result()[0])
            took = time.monotonic() - began
            return took if first.result()[0] else float("inf")  # else it was not the first

        # the server wakes who waits for the longest time; each lease is shorter than any before
        took = [seconds(0.3 - 0.03 * n) for n in range(TRIES)]
        assert min(took) < 0.75


def test_a_delay_shorter_than_what_a_blocked_consumer_planned_to_sleep(transport, message):
    receiver = open_one(transport)
    transport.send("q", [message(delay=600)], timeout=HANG)
    with ThreadPoolExecutor(1) as pool:

        def late():
            promise = pool.submit(receiver.receive, limit=1, timeout=HANG)
            _until_blocked(transport)
            sent = message(delay=0.1)
            began = time.monotonic()
            transport.send("q", [sent], timeout=HANG)
            (one,) = promise.result()[0]
            assert one.message.id == sent.id
            return time.monotonic() - began - 0.1

        delays = [late() for _ in range(TRIES)]
    assert min(delays) > -0.01
    assert min(delays) < transport.capabilities.delay.late


def _until_blocked(transport, count=1):
    end = time.monotonic() + HANG
    while True:
        (told,) = transport._client.run([("INFO", "clients")], timeout=HANG)
        if b"blocked_clients:%d\r" % count in told:
            return
        assert time.monotonic() < end


@pytest.mark.parametrize("ms", [0.05, 0.2, 0.4, 0.49, 0.6, 1.0])
def test_the_last_moment_of_a_timeout_is_no_wait_for_ever(transport, ms):
    receiver = open_one(transport)
    began = time.monotonic()
    assert receiver.receive(limit=1, timeout=ms / 1000) == ([], [])
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("queues", [1, 20])
@pytest.mark.parametrize("acl", [False, True], ids=["may unblock", "may not unblock"])
def test_closing_ends_a_receive_that_waits_and_gives_everything_back(start, open_transport, message, acl, queues):
    server = start(servers.Redis(acl=acl))
    transport = open_transport(server.url())
    names = [f"q{n}" for n in range(queues)]
    for name in names:
        transport.declare(Queue(name=name), timeout=HANG)
    transport.send("q0", [message(b"%d" % n) for n in range(3)], timeout=HANG)
    receiver = open_one(transport, *names)
    taken(receiver, 3)
    with ThreadPoolExecutor(1) as pool:
        promise = pool.submit(receiver.receive, limit=5, timeout=20)
        _until_blocked_as_admin(server)
        began = time.monotonic()
        receiver.close(timeout=10)
        assert time.monotonic() - began < 1.5
        assert promise.result(timeout=HANG)[0] == []
    other = open_one(transport, *names)
    got, _ = other.receive(limit=5, timeout=5)
    assert [(each.message.body, each.attempt) for each in got] == [(b"0", 2), (b"1", 2), (b"2", 2)]
    receiver.close(timeout=10)  # again


def _until_blocked_as_admin(server):
    end = time.monotonic() + HANG
    while b"blocked_clients:1\r" not in server.command("INFO", "clients"):
        assert time.monotonic() < end


def test_closing_while_others_settle(transport, view, message):
    for _ in range(4):
        transport.send("q", [message() for _ in range(1000)], timeout=HANG)
    receiver = open_one(transport)
    held = taken(receiver, 4000)
    go = threading.Barrier(5)

    def settle(mine):
        go.wait(HANG)
        return len(mine) - sum(len(receiver.ack(mine[at : at + 10])) for at in range(0, len(mine), 10))

    with ThreadPoolExecutor(4) as pool:
        promises = [pool.submit(settle, held[n::4]) for n in range(4)]
        go.wait(HANG)
        receiver.close(timeout=HANG)
        acked = sum(promise.result() for promise in promises)
    places = view.places("q")
    assert len(places) == 4000 - acked
    assert set(places.values()) <= {"returned"}


def test_each_of_twenty_queues_gets_its_turn(transport, message):
    names = [f"q{n}" for n in range(20)]
    for name in names:
        transport.declare(Queue(name=name), timeout=HANG)
        transport.send(name, [message() for _ in range(50)], timeout=HANG)
    receiver = open_one(transport, *names)
    first = [taken(receiver, 1)[0].queue for _ in range(40)]
    assert {first.count(name) for name in names} == {2}


def test_acks_of_several_queues_in_one_call_tell_exactly_those_that_came_too_late(transport, message):
    names = ["q", "r", "s"]
    for name in names:
        transport.declare(Queue(name=name), timeout=HANG)
        transport.send(name, [message() for _ in range(5)], timeout=HANG)
    receiver = open_one(transport, *names)
    held = taken(receiver, 15)
    assert sorted(each.queue for each in held) == sorted(names * 5)
    late = [held[0], held[7], held[14]]
    assert receiver.ack(late) == []
    found, lost = receiver.receive(limit=1, timeout=0, acks=held)
    assert (found, set(map(id, lost))) == ([], set(map(id, late)))
    assert all(transport.depth(name, timeout=HANG).in_flight == 0 for name in names)
