"""One server, many users: threads, processes that were forked, prefixes, names; and its restart."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from brokerkit import errors, servers
from brokerkit.models import Queue

HANG = 30.0


def open_one(transport, *names, lease=60.0):
    return transport.open_receiver(names or ["q"], prefetch=100, visibility_timeout=lease)


def test_sixteen_threads_share_one_transport(transport, view, message):
    names = ["q", "q1", "q2"]
    for name in names:
        transport.declare(Queue(name=name), timeout=HANG)
    seen, lock, total = {}, threading.Lock(), 8 * 150
    done = threading.Event()

    def produce(n):
        for k in range(30):
            some = [message(b"x" * (20_000 if k % 7 == 0 else 10), priority=k % 3) for _ in range(5)]
            assert transport.send(names[(n + k) % 3], some, timeout=HANG) == [None] * 5

    def consume(_):
        receiver, acks = open_one(transport, *names), ()
        while not done.is_set():
            got, lost = receiver.receive(limit=10, timeout=0.2, acks=acks)
            assert lost == []
            with lock:
                for each in got:
                    seen[each.message.id] = seen.get(each.message.id, 0) + 1
                if len(seen) == total:
                    done.set()
            acks = got
        assert not acks or receiver.ack(acks) == []

    with ThreadPoolExecutor(16) as pool:
        promises = [pool.submit(consume, n) for n in range(8)] + [pool.submit(produce, n) for n in range(8)]
        for promise in promises:
            promise.result(timeout=60)
    assert set(seen.values()) == {1}
    assert [view.places(name) for name in names] == [{}] * 3


def test_no_key_stands_outside_the_prefix(plain, view, open_transport, open_results, message):
    view.client.flushall()
    transport = open_transport(plain.url(), key_prefix="app:")
    transport.declare(Queue(name="q", expires=60), timeout=HANG)
    transport.bind("q", "topic", "a.#", timeout=HANG)
    transport.send("q", [message(), message(delay=5), message(priority=4, ttl=5.0)], timeout=HANG)
    transport.publish("topic", [message(headers={"bk-routing-key": "a.b"})], timeout=HANG)
    receiver = open_one(transport)
    held, _ = receiver.receive(limit=2, timeout=5)
    receiver.release(held[:1])
    assert len(view.all_keys()) > 6
    assert [key for key in view.all_keys() if not key.startswith(b"app:{")] == []
    other = open_transport(plain.url(), key_prefix="other:")
    with pytest.raises(errors.QueueNotFound):
        other.send("q", [message()], timeout=HANG)


def test_names_with_braces_and_percents_are_queues_of_their_own(transport, view, message):
    names = ["{q}", "q}", "%7Bq%7D", "%", "q:m", "{", "}{", "ü{", "q "]
    for name in names:
        transport.declare(Queue(name=name), timeout=HANG)
        transport.send(name, [message(name.encode())], timeout=HANG)
    for name in names:
        got, _ = open_one(transport, name).receive(limit=5, timeout=5)
        assert [each.message.body for each in got] == [name.encode()]
        transport.delete(name, timeout=HANG)
    assert view.keys("q") == {"m", "b", "t"}


def test_a_restart_keeps_everything_that_was_written_down(start, open_transport, inside, message):
    server = start(servers.Redis(aof="always"))
    transport = open_transport(server.url(), persistence="aof")
    transport.declare(Queue(name="q"), timeout=HANG)
    sent = [message(b"%d" % n) for n in range(30)]
    transport.send("q", sent, timeout=HANG)
    receiver = open_one(transport)
    held, _ = receiver.receive(limit=10, timeout=5)
    receiver.release(held[:3])
    receiver.ack(held[3:6])
    server.kill9()
    server.restart()
    assert sorted(inside(server).places("q").values()) == ["leased"] * 4 + ["ready"] * 20 + ["returned"] * 3


def test_a_restart_without_anything_written_down_is_told(start, open_transport, message, patiently):
    server = start(servers.Redis())
    transport = open_transport(server.url())
    transport.declare(Queue(name="q"), timeout=HANG)
    transport.send("q", [message()], timeout=HANG)
    receiver = open_one(transport)
    held, _ = receiver.receive(limit=1, timeout=5)
    server.restart()
    with pytest.raises(errors.QueueNotFound):
        patiently(lambda: transport.send("q", [message()], timeout=5))
    with pytest.raises(errors.QueueNotFound):
        patiently(lambda: receiver.receive(limit=1, timeout=1))
    assert patiently(lambda: receiver.ack(held)) == held


_FORKED = """
import os, sys, threading, warnings
import brokerkit
warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of forking with threads, which is the point here
broker = brokerkit.connect(sys.argv[1])
broker.declare("q")
broker.send("q", "before")
consumer = broker.consumer("q", prefetch=1)
first = consumer.receive(10)
came = []
waiter = threading.Thread(target=lambda: came.append(consumer.receive(20)))
waiter.start()
pid = os.fork()
if pid == 0:
    code = 1
    try:
        broker.send("q", "from the child")
        with broker.consumer("q") as own:
            mine = own.receive(10)
            assert mine.payload == "from the child", mine
            mine.ack(wait=True)
        broker.close()
        code = 0
    except BaseException as error:
        print("child:", repr(error), file=sys.stderr)
    finally:
        os._exit(code)
assert os.waitpid(pid, 0)[1] == 0, "the child failed"
first.ack(wait=True)
broker.send("q", "after")
waiter.join(20)
assert came[0].payload == "after", came
came[0].ack(wait=True)
assert broker.depth("q").in_flight == 0
broker.close()
"""


def test_a_child_uses_what_its_parent_connected_and_leaves_it_whole(plain):
    ended = subprocess.run(  # noqa: PLW1510 - what it said comes first
        [sys.executable, "-c", _FORKED, plain.url(database=5)], capture_output=True, text=True, timeout=60
    )
    assert (ended.returncode, ended.stderr) == (0, "")
