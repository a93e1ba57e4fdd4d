"""Servers that truly run out of memory, or are emptied, under load: nothing is lost in silence, and all go on."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from brokerkit_redis.errors import ERRORS

from brokerkit import errors, servers
from brokerkit.models import Queue

HANG = 30.0
TOLD = (errors.InconsistencyError, errors.QueueNotFound)
SECONDS = 1.2


class Load:
    """Producers and consumers of one queue, and a log of what was sent, what came, and what they were told."""

    def __init__(self, transport, message, *, size=3000, queue=None):
        self.transport, self.message, self.size = transport, message, size
        self.queue = queue or Queue(name="q")
        self.lock = threading.Lock()
        self.moment = 0
        self.accepted, self.came, self.told, self.refused = {}, {}, [], []
        self.producing, self.consuming = threading.Event(), threading.Event()
        self.pause = threading.Event()
        transport.declare(self.queue, timeout=HANG)

    def now(self):
        with self.lock:
            self.moment += 1
            return self.moment

    def hear(self, error):
        """Note what was told; raise what was not to be expected."""
        ours = ERRORS.translate(error, doing="work")
        if isinstance(ours, TOLD):
            self.told.append((self.now(), str(ours)))
            self.transport.declare(self.queue, timeout=HANG)
        elif isinstance(ours, errors.StorageFull):
            self.refused.append(self.now())
        else:
            raise ours

    def produce(self):
        while not self.producing.is_set():
            some, began = [self.message(b"x" * self.size) for _ in range(10)], self.now()
            try:
                outcomes = self.transport.send(self.queue.name, some, timeout=HANG)
            except Exception as error:  # noqa: BLE001 - `hear` raises what was not to be expected
                self.hear(error)
            else:
                assert outcomes == [None] * 10
                self.accepted |= {each.id: began for each in some}

    def consume(self, patience=0.02):
        receiver = self.transport.open_receiver([self.queue.name], prefetch=10, visibility_timeout=60)
        held = []
        while not self.consuming.is_set():
            try:
                got, lost = receiver.receive(limit=10, timeout=0.2, acks=held)
            except Exception as error:  # noqa: BLE001 - `hear` raises what was not to be expected
                self.hear(error)
                held = []
                continue
            gone = {each.message.id for each in lost}
            with self.lock:
                for each in held:
                    self.came[each.message.id] = self.came.get(each.message.id, 0) + (each.message.id not in gone)
            held = got
            self.pause.wait(patience)

    def run(self, disturb=lambda: None):
        with ThreadPoolExecutor(5) as pool:
            consumers = [pool.submit(self.consume) for _ in range(2)]
            producers = [pool.submit(self.produce) for _ in range(2)]
            try:
                end = time.monotonic() + SECONDS
                while time.monotonic() < end:
                    disturb()
                    self.producing.wait(0.2)
                self.producing.set()
                for each in producers:
                    each.result(HANG)
                self.pause.set()
                self.drain()
            finally:
                self.producing.set()
                self.pause.set()
                self.consuming.set()
            for each in consumers:
                each.result(HANG)

    def drain(self):
        end = time.monotonic() + HANG
        while time.monotonic() < end:
            try:
                depth = self.transport.depth(self.queue.name, timeout=HANG)
            except Exception as error:  # noqa: BLE001 - `hear` raises what was not to be expected
                self.hear(error)
            else:
                if depth.ready + depth.in_flight + depth.delayed == 0:
                    return
        raise AssertionError(f"it was not drained: {depth}")

    def check(self):
        """Whatever was accepted came, or somebody was told after it was sent; and nothing came twice untold."""
        last = max((moment for moment, _ in self.told), default=0)
        lost = {each: moment for each, moment in self.accepted.items() if not self.came.get(each)}
        assert all(moment < last for moment in lost.values()), "lost in silence"
        assert all(count <= 1 for count in self.came.values()), "one was settled twice"
        return lost

    def check_that_all_goes_on(self):
        self.accepted, self.came, self.told = {}, {}, []
        fresh = [self.message(b"after") for _ in range(20)]
        assert self.transport.send(self.queue.name, fresh, timeout=HANG) == [None] * 20
        receiver = self.transport.open_receiver([self.queue.name], prefetch=10, visibility_timeout=60)
        got, end = [], time.monotonic() + HANG
        while len(got) < 20:
            assert time.monotonic() < end
            got += receiver.receive(limit=20, timeout=1)[0]
        assert receiver.ack(got) == []
        assert {each.message.id for each in got} == {each.id for each in fresh}


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-random", "allkeys-lfu"])
def test_eviction_under_load_is_told_and_everybody_goes_on(start, open_transport, inside, message, policy):
    server = start(servers.Redis(maxmemory="3mb", policy=policy))
    load = Load(open_transport(server.url()), message)
    load.run()
    assert inside(server).client.info("stats")["evicted_keys"] > 0, "the server had no need to evict"
    assert load.told
    assert load.came
    load.check()
    load.check_that_all_goes_on()
    assert inside(server).places("q") == {}


def test_volatile_policies_take_queues_that_expire_and_it_is_told(start, open_transport, inside, message):
    server = start(servers.Redis(maxmemory="3mb", policy="volatile-lru"))
    load = Load(open_transport(server.url()), message, queue=Queue(name="q", expires=60))
    load.run()
    assert inside(server).client.info("stats")["evicted_keys"] > 0, "the server had no need to evict"
    assert load.told
    load.check()
    load.check_that_all_goes_on()


def test_flushdb_under_load_is_told_and_everybody_goes_on(start, open_transport, inside, message):
    server = start(servers.Redis())
    load = Load(open_transport(server.url()), message, size=100)
    view = inside(server)
    load.run(view.client.flushdb)
    assert load.told
    assert load.came
    load.check()
    load.check_that_all_goes_on()
    assert view.places("q") == {}


def test_without_eviction_sends_are_refused_and_nothing_is_lost(start, open_transport, inside, message):
    server = start(servers.Redis(maxmemory="3mb", policy="noeviction"))
    load = Load(open_transport(server.url()), message)
    load.run()
    assert load.refused
    assert load.told == []
    assert load.check() == {}
    assert set(load.came.values()) == {1}
    load.check_that_all_goes_on()
    assert inside(server).places("q") == {}


@pytest.mark.parametrize("expires", [None, 0.8])
def test_where_there_is_no_room_left_what_is_there_is_received_kept_returned_and_settled(
    start, open_transport, message, expires
):
    server = start(servers.Redis(settings={"maxmemory-policy": "noeviction"}))
    transport = open_transport(server.url())
    transport.declare(Queue(name="q", expires=expires and 30.0), timeout=HANG)
    transport.declare(Queue(name="empty", expires=expires), timeout=HANG)
    transport.send("q", [message(priority=n % 2) for n in range(30)], timeout=HANG)
    server.command("CONFIG", "SET", "maxmemory", 1)
    for verb in (
        lambda: transport.send("q", [message()], timeout=HANG),
        lambda: transport.send("q", [message(ttl=5.0)], timeout=HANG),
        lambda: transport.declare(Queue(name="new"), timeout=HANG),
        lambda: transport.bind("q", "topic", "#", timeout=HANG),
    ):
        with pytest.raises(Exception, match="maxmemory") as refused:
            verb()
        assert isinstance(ERRORS.translate(refused.value, doing="try"), errors.StorageFull)
    receiver = transport.open_receiver(["q"], prefetch=30, visibility_timeout=60)
    waiting = transport.open_receiver(["empty"], prefetch=1, visibility_timeout=0.5)
    held, _ = receiver.receive(limit=20, timeout=5)
    assert len(held) == 20
    assert receiver.extend(held, visibility_timeout=0.9) == []
    assert receiver.release(held[:5]) == []
    assert receiver.release(held[5:10], delay=0.1) == []
    assert receiver.release(held[10:12], counted=False) == []
    assert receiver.ack(held[12:15]) == []
    assert waiting.receive(limit=1, timeout=1.2) == ([], [])  # which keeps a queue that expires
    got, end = [], time.monotonic() + HANG
    while len(got) < 27:
        assert time.monotonic() < end
        some, _ = receiver.receive(limit=30, timeout=1)
        assert receiver.ack(some) == [] if some else True
        got += some
    assert len({each.message.id for each in got}) == 27
    assert transport.depth("empty", timeout=HANG).ready == 0
    server.command("CONFIG", "SET", "maxmemory", 0)
    assert transport.send("q", [message()], timeout=HANG) == [None]
