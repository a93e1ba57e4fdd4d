"""The transport: queues that expire, bounds, times to live, repeated sends, scripts that the server forgot."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from brokerkit_redis import layout

from brokerkit import errors, servers
from brokerkit.models import Queue

HANG = 30.0


def open_one(transport, *names, lease=60.0):
    return transport.open_receiver(names or ["q"], prefetch=100, visibility_timeout=lease)


def wait_for(condition):
    end = time.monotonic() + HANG
    while not condition():
        assert time.monotonic() < end, "it did not come"


# -- queues that expire ------------------------------------------------------------------------------------------------


def test_an_unused_queue_vanishes_with_all_its_keys_though_sends_go_on(transport, view, message):
    transport.delete("q", timeout=HANG)
    transport.declare(Queue(name="e", expires=0.6), timeout=HANG)
    receiver = open_one(transport, "e")
    transport.send("e", [message() for _ in range(4)], timeout=HANG)
    held, _ = receiver.receive(limit=4, timeout=5)
    receiver.release(held[:1])
    receiver.release(held[1:2], delay=30)
    receiver.ack(held[2:3])

    def send_on():
        # each makes a key that was not there when the queue got its moment
        for n in range(100_000):
            transport.send("e", [message(priority=n % 10)], timeout=HANG)
            transport.send("e", [message(priority=(n + 5) % 10, ttl=60.0, delay=60 * (n % 2))], timeout=HANG)
            if n == 12:
                assert {"m", "b", "t", "s", "z", "w", *(f"r{p}" for p in range(10))} == view.keys("e")

    with pytest.raises(errors.QueueNotFound):
        send_on()
    wait_for(lambda: not view.all_keys())
    with pytest.raises(errors.QueueNotFound):
        receiver.receive(limit=1, timeout=1)


def test_a_queue_stays_while_a_consumer_waits_or_holds(transport, message):
    transport.declare(Queue(name="e", expires=0.4), timeout=HANG)
    receiver = open_one(transport, "e")
    assert receiver.receive(limit=1, timeout=1.5) == ([], [])
    transport.send("e", [message()], timeout=HANG)
    held, _ = receiver.receive(limit=1, timeout=5)
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        assert receiver.extend(held, visibility_timeout=5) == []
    assert receiver.ack(held) == []
    assert transport.depth("e", timeout=HANG).ready == 0


# -- bounds and times to live ------------------------------------------------------------------------------------------


def test_a_full_queue_refuses_and_a_place_that_is_free_again_is_taken(transport, view, message):
    transport.declare(Queue(name="b", max_length=3), timeout=HANG)
    receiver = open_one(transport, "b")
    sent = [message(), message(delay=60), message()]
    assert transport.send("b", sent[:2], timeout=HANG) == [None, None]
    outcomes = transport.send("b", [message(), message(), message()], timeout=HANG)
    assert [type(each) for each in outcomes] == [type(None), errors.QueueFull, errors.QueueFull]
    assert transport.send("b", sent[:2], timeout=HANG) == [None, None]  # repeated: they are there
    held, _ = receiver.receive(limit=1, timeout=5)
    assert isinstance(transport.send("b", [message()], timeout=HANG)[0], errors.QueueFull)  # what is held counts
    receiver.ack(held)
    assert transport.send("b", [message()], timeout=HANG) == [None]
    assert len(view.places("b")) == 3


def test_of_ten_threads_none_gets_a_place_that_is_not_there(transport, view, message):
    transport.declare(Queue(name="b", max_length=100), timeout=HANG)
    with ThreadPoolExecutor(10) as pool:
        outcomes = list(pool.map(lambda _: transport.send("b", [message()], timeout=HANG)[0], range(300)))
    assert sum(each is None for each in outcomes) == 100
    assert len(view.places("b")) == 100


def test_the_message_ttl_of_a_queue_holds_where_the_message_says_nothing(transport, message):
    transport.declare(Queue(name="t", message_ttl=0.1), timeout=HANG)
    mine = [message(b"queue's"), message(b"own", ttl=60.0), message(b"short", ttl=0.05)]
    assert transport.send("t", mine, timeout=HANG) == [None] * 3
    wait_for(lambda: time.time() > mine[0].sent_at + 0.3)
    got, _ = open_one(transport, "t").receive(limit=3, timeout=5)
    assert {each.message.body: each.expired for each in got} == {b"queue's": True, b"own": False, b"short": True}


def test_a_priority_above_the_queues_is_refused_alone(transport, message):
    transport.declare(Queue(name="p", max_priority=2), timeout=HANG)
    assert isinstance(transport.send("p", [message(priority=3)], timeout=HANG)[0], errors.InvalidMessage)
    outcomes = transport.send("p", [message(priority=2), message(priority=9)], timeout=HANG)
    assert [type(each) for each in outcomes] == [type(None), errors.InvalidMessage]


def test_settings_that_differ_are_named(transport):
    transport.declare(Queue(name="d", expires=5, max_length=3), timeout=HANG)
    with pytest.raises(errors.InconsistencyError, match=r"expires=5\.0.*max_length=3"):
        transport.declare(Queue(name="d", expires=6, max_length=3), timeout=HANG)


# -- sending again -----------------------------------------------------------------------------------------------------


def test_a_repeated_send_stores_once_what_is_there_and_anew_what_is_missing(transport, view, message):
    sent = [message(b"%d" % n) for n in range(6)]
    for _ in range(2):
        assert transport.send("q", sent, timeout=HANG) == [None] * 6
    receiver = open_one(transport)
    held, _ = receiver.receive(limit=6, timeout=5)
    assert len(held) == 6
    receiver.ack(held[:2])
    receiver.release(held[2:3])
    assert transport.send("q", sent, timeout=HANG) == [None] * 6
    assert sorted(view.places("q").values()) == ["leased"] * 3 + ["returned"] * 3
    got, _ = receiver.receive(limit=9, timeout=5)
    assert sorted(each.message.body for each in got) == [b"0", b"1", b"2"]
    assert receiver.ack([*held[3:], *got]) == []
    assert receiver.receive(limit=9, timeout=0) == ([], [])  # and nothing is told


# -- scripts that the server forgot -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, 1_000_000])
def test_every_verb_works_though_the_server_forgets_its_scripts(transport, view, message, size):
    def forget():
        view.client.script_flush()

    body = bytes(size)
    for _ in range(2):
        forget()
        transport.declare(Queue(name="f"), timeout=HANG)
        forget()
        transport.bind("f", "topic", "#", timeout=HANG)
        forget()
        assert transport.send("f", [message(body), message(body)], timeout=HANG) == [None] * 2
        forget()
        assert transport.send("f", [message(body, ttl=60.0)], timeout=HANG) == [None]
        forget()
        assert transport.publish("topic", [message(body), message(body)], timeout=HANG) == [None] * 2
        forget()
        receiver = open_one(transport, "f")
        held, _ = receiver.receive(limit=5, timeout=5)
        assert [each.message.body for each in held] == [body] * 5
        forget()
        assert receiver.extend(held, visibility_timeout=50) == []
        forget()
        assert receiver.release(held[:1]) == []
        forget()
        assert receiver.ack(held[1:2]) == []
        forget()
        again, lost = receiver.receive(limit=5, timeout=5, acks=held[2:])
        assert ([each.message.id for each in again], lost) == ([held[0].message.id], [])
        forget()
        assert transport.depth("f", timeout=HANG).in_flight == 1
        forget()
        receiver.close(timeout=HANG)
        forget()
        assert transport.purge("f", timeout=HANG) == 1
        forget()
        transport.unbind("f", "topic", "#", timeout=HANG)
        forget()
        transport.delete("f", timeout=HANG)
    assert view.keys("f") == set()


def test_who_waits_gets_its_message_though_the_scripts_are_forgotten_meanwhile(transport, view, message):
    receiver = open_one(transport)
    with ThreadPoolExecutor(1) as pool:
        promise = pool.submit(receiver.receive, limit=1, timeout=HANG)
        wait_for(lambda: view.client.info("clients")["blocked_clients"] == 1)
        view.client.script_flush()
        transport.send("q", [message(b"x" * 1_000_000)], timeout=HANG)
        assert len(promise.result()[0]) == 1


# -- batches that are larger than what a server reads at a time ---------------------------------------------------------


def test_a_batch_is_cut_to_what_the_server_reads_at_a_time(start, open_transport, message, monkeypatch):
    monkeypatch.setattr(layout, "_MOST_BYTES", 400_000)
    server = start(servers.Redis(settings={"client-query-buffer-limit": "1048576"}))
    transport = open_transport(server.url())
    for name in ("q", "heard"):
        transport.declare(Queue(name=name), timeout=HANG)
    transport.bind("heard", "topic", "#", timeout=HANG)
    batch = [message(b"x" * 30_000) for _ in range(60)]
    assert list(transport.send("q", batch, timeout=HANG)) == [None] * 60
    assert list(transport.publish("topic", batch, timeout=HANG)) == [None] * 60
    for name in ("q", "heard"):
        claimed, _ = open_one(transport, name).receive(limit=100, timeout=1.0)
        assert [each.message.id for each in claimed] == [each.id for each in batch]


def test_a_batch_in_parts_keeps_its_order_and_leaves_nothing_out(message, monkeypatch):
    monkeypatch.setattr(layout, "_MOST_BYTES", 10)
    batch = [message(b"x" * size) for size in (4, 4, 4, 30, 1, 10, 0)]
    parts = [[len(each.body) for each in part] for part in layout.slices(batch)]
    assert parts == [[4, 4], [4], [30], [1], [10, 0]]
    assert [list(part) for part in layout.slices(batch[:1])] == [batch[:1]]
