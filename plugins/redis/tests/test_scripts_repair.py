"""Whole keys of a queue are evicted: what still has its body is not lost, and whoever held something is told."""

from __future__ import annotations

import contextlib
import itertools
import time

import pytest

from brokerkit.errors import InconsistencyError, QueueNotFound
from brokerkit.models import Queue

HANG = 30.0
KEYS = ("m", "b", "r0", "r5", "z", "t", "s", "w")
CASES = [*itertools.combinations(KEYS, 1), *itertools.combinations(KEYS, 2)]


class Scene:
    """A queue with messages ready, returned, leased and delayed, of two priorities each."""

    def __init__(self, transport, view, message):
        self.transport, self.view = transport, view
        self.queue = Queue(name="q")
        transport.declare(self.queue, timeout=HANG)
        self.holder = transport.open_receiver(["q"], prefetch=20, visibility_timeout=60)
        self.ids = {}
        first = [message(b"%d" % n, priority=p) for n in range(4) for p in (0, 5)]
        assert transport.send("q", first, timeout=HANG) == [None] * 8
        held, _ = self.holder.receive(limit=8, timeout=5)
        self.leased = [each for each in held if each.message.body in (b"0", b"1")]
        returned = [each for each in held if each not in self.leased]
        assert self.holder.release(returned) == []
        ready = [message(b"r%d" % n, priority=p) for n in range(2) for p in (0, 5)]
        delayed = [message(b"d%d" % n, priority=p, delay=0.15) for n in range(2) for p in (0, 5)]
        assert transport.send("q", [*ready, *delayed], timeout=HANG) == [None] * 8
        self.ids = {
            "leased": {each.message.id for each in self.leased},
            "returned": {each.message.id for each in returned},
            "ready": {each.id for each in ready},
            "delayed": {each.id for each in delayed},
        }
        places = view.places("q")
        assert {place: {i for i in places if places[i] == place} for place in self.ids} == self.ids

    @property
    def everything(self):
        return set().union(*self.ids.values())


def drained(transport, receiver, told):
    """Receive and ack until nothing is left, and say what was told meanwhile."""
    got = []
    empty = 0
    end = time.monotonic() + HANG
    while empty < 2:
        assert time.monotonic() < end
        try:
            some, _ = receiver.receive(limit=50, timeout=0.01 if empty else 0.3)
        except (InconsistencyError, QueueNotFound) as error:
            told.append(error)
            if len(told) > 5:
                raise
            continue
        assert receiver.ack(some) == [] if some else True
        got += some
        depth = transport.depth("q", timeout=HANG)
        empty = empty + 1 if not depth.ready + depth.delayed else 0
    return got


def take_all(receiver, count):
    """Receive so many messages, whatever is told meanwhile."""
    taken = []
    end = time.monotonic() + HANG
    while len(taken) < count:
        assert time.monotonic() < end
        with contextlib.suppress(InconsistencyError):
            taken += receiver.receive(limit=50, timeout=0.2)[0]
    assert len(taken) == count
    return taken


@pytest.fixture
def scene(plain, open_transport, inside, message):
    view = inside(plain)
    view.client.flushall()
    return Scene(open_transport(plain.url()), view, message)


@pytest.mark.parametrize("keys", CASES, ids="+".join)
def test_what_has_its_body_comes_and_the_rest_is_told(scene, keys):
    scene.view.evict("q", *keys)
    told = []
    taker = scene.transport.open_receiver(["q"], prefetch=50, visibility_timeout=60)
    if "m" in keys:
        with pytest.raises(InconsistencyError, match="settings are gone"):
            taker.receive(limit=1, timeout=1)
        scene.transport.declare(scene.queue, timeout=HANG)
    got = drained(scene.transport, taker, told)
    ids = [each.message.id for each in got]
    assert len(ids) == len(set(ids)), "one came twice"
    if "b" in keys:
        assert not ids
        assert "key with its messages was gone" in str(told[0])
        named = str(told[0])
        indexed = {"t": "leased", "z": "returned", "s": "delayed"}
        for place in set(scene.ids) - {indexed.get(key, "") for key in keys} - {"ready"}:
            assert all(i in named for i in scene.ids[place])
        assert sorted(map(id, scene.holder.ack(scene.leased))) == sorted(map(id, scene.leased))
    elif "t" in keys:
        assert set(ids) == scene.everything
        # their holders learn that they are held no more
        assert sorted(map(id, scene.holder.ack(scene.leased))) == sorted(map(id, scene.leased))
    else:
        assert set(ids) == scene.everything - scene.ids["leased"]
        assert scene.holder.ack(scene.leased) == []
    assert len(told) == (0 if keys in (("w",), ("m",), ("m", "w")) and not told else 1), told
    assert scene.view.places("q") == {}
    depth = scene.transport.depth("q", timeout=HANG)
    assert (depth.ready, depth.in_flight, depth.delayed) == (0, 0, 0)


@pytest.mark.parametrize("keys", [("r0", "r5"), ("t",), ("z",), ("s",), ("t", "s", "z", "r0", "r5", "w")], ids="+".join)
def test_a_late_receipt_never_settles_what_was_put_back(scene, keys):
    scene.view.evict("q", *keys)
    taker = scene.transport.open_receiver(["q"], prefetch=50, visibility_timeout=60)
    taken = take_all(taker, 16 if "t" in keys else 12)
    again = {each.message.id for each in taken} & scene.ids["leased"]
    assert bool(again) is ("t" in keys)
    old = [each for each in scene.leased if each.message.id in again]
    if old:
        assert len(scene.holder.release(old[:1])) == 1
        assert len(scene.holder.extend(old[1:2], visibility_timeout=1)) == 1
        assert len(scene.holder.ack(old[2:])) == len(old[2:])
    places = scene.view.places("q")
    assert all(places[each.message.id] == "leased" for each in taken)
    assert taker.ack(taken) == []


def test_receipts_differ_though_the_count_of_repairs_is_gone_with_the_settings(scene):
    first = scene.transport.open_receiver(["q"], prefetch=50, visibility_timeout=60)
    second = scene.transport.open_receiver(["q"], prefetch=50, visibility_timeout=60)
    scene.view.evict("q", "t")
    old = take_all(first, 16)
    scene.view.evict("q", "t", "m")
    scene.transport.declare(scene.queue, timeout=HANG)
    new = take_all(second, 16)
    assert {each.message.id for each in old} == {each.message.id for each in new} == scene.everything
    assert not {each.receipt for each in old} & {each.receipt for each in new}
    assert len(first.ack(old)) == len(old)
    assert set(scene.view.places("q").values()) == {"leased"}
    assert second.ack(new) == []


def test_no_priority_is_forgotten_with_the_settings(plain, open_transport, inside, message):
    view, transport = inside(plain), open_transport(plain.url())
    view.client.flushall()
    transport.declare(Queue(name="q"), timeout=HANG)
    transport.send("q", [message(priority=n) for n in (2, 4)], timeout=HANG)
    holder = transport.open_receiver(["q"], prefetch=10, visibility_timeout=60)
    high, low = holder.receive(limit=2, timeout=5)[0]
    holder.release([high])
    transport.send("q", [message(priority=7, delay=0.05)], timeout=HANG)
    view.evict("q", "m")
    transport.declare(Queue(name="q"), timeout=HANG)
    assert set(view.places("q").values()) == {"leased", "returned", "delayed"}
    taker = transport.open_receiver(["q"], prefetch=10, visibility_timeout=60)
    assert sorted(each.message.priority for each in take_all(taker, 2)) == [4, 7]
    holder.release([low])
    assert [each.message.priority for each in take_all(taker, 1)] == [2]


def test_attempts_count_anew_for_what_was_put_back_and_go_on_for_the_rest(scene):
    scene.view.evict("q", "t")
    told = []
    got = drained(scene.transport, scene.transport.open_receiver(["q"], prefetch=50, visibility_timeout=60), told)
    attempts = {each.message.id: each.attempt for each in got}
    assert {attempts[i] for i in scene.ids["returned"]} == {2}
    assert {attempts[i] for i in scene.everything - scene.ids["returned"]} == {1}


def test_each_verb_says_that_the_settings_are_gone_while_something_is_left(scene, message):
    scene.view.evict("q", "m")
    transport = scene.transport
    for verb in (
        lambda: transport.send("q", [message()], timeout=HANG),
        lambda: transport.send("q", [message(ttl=5.0)], timeout=HANG),
        lambda: transport.depth("q", timeout=HANG),
        lambda: transport.purge("q", timeout=HANG),
        lambda: transport.bind("q", "topic", "#", timeout=HANG),
        lambda: scene.holder.receive(limit=1, timeout=0.1),
    ):
        with pytest.raises(InconsistencyError, match="settings are gone"):
            verb()
    transport.delete("q", timeout=HANG)
    assert scene.view.all_keys() == []


def test_settings_that_come_back_with_an_expiry_or_without_leave_no_key_with_the_other(
    plain, open_transport, inside, message
):
    view, transport = inside(plain), open_transport(plain.url())
    view.client.flushall()
    transport.declare(Queue(name="q", expires=30), timeout=HANG)
    transport.send("q", [message(), message(priority=3), message(delay=60)], timeout=HANG)
    assert all(view.client.pttl(key) > 0 for key in view.all_keys())
    view.evict("q", "m")
    transport.declare(Queue(name="q"), timeout=HANG)
    assert {view.client.pttl(key) for key in view.all_keys()} == {-1}
    view.evict("q", "m")
    transport.declare(Queue(name="q", expires=30), timeout=HANG)
    assert all(view.client.pttl(key) > 0 for key in view.all_keys())


@pytest.mark.parametrize("end", ["delete", "expire"])
def test_settling_for_a_queue_that_is_gone_leaves_no_key(plain, open_transport, inside, message, end):
    view, transport = inside(plain), open_transport(plain.url())
    view.client.flushall()
    transport.declare(Queue(name="q", expires=0.1 if end == "expire" else None), timeout=HANG)
    transport.send("q", [message() for _ in range(5)], timeout=HANG)
    holder = transport.open_receiver(["q"], prefetch=5, visibility_timeout=60)
    held, _ = holder.receive(limit=5, timeout=5)
    if end == "delete":
        transport.delete("q", timeout=HANG)
    limit = time.monotonic() + HANG
    while view.all_keys():
        assert time.monotonic() < limit
    assert holder.release(held[:1]) == held[:1]
    assert holder.release(held[1:2], delay=5) == held[1:2]
    assert holder.extend(held[2:3], visibility_timeout=0.1) == held[2:3]
    assert holder.ack(held[3:4]) == held[3:4]
    holder.close(timeout=HANG)  # gives back the last one
    assert view.all_keys() == []
