"""Waiting for many records by one thread, as a store's pieces see it: how often they are read, and who leads."""

from __future__ import annotations

import math
import threading

from brokerkit.errors import AccessDenied
from brokerkit.testing import ManualClock

HANG = 60.0


def answered(waiting, waiter, deadline=math.inf):
    return dict(waiting.next(waiter, deadline))


def test_all_that_has_ended_is_told_once(store, waiting):
    waiter = waiting.join(dict.fromkeys("abc", False))
    first, second = store.put("a"), store.put("c")
    assert answered(waiting, waiter) == {"a": first, "c": second}
    assert store.reads == [["a", "b", "c"]]
    assert answered(waiting, waiter, deadline=-math.inf) == {}
    third = store.put("b")
    assert answered(waiting, waiter) == {"b": third}
    waiting.leave(waiter)
    waiting.leave(waiter)


def test_a_bad_one_among_many_is_found_by_halves(store, waiting_on):
    waiting = waiting_on(store, "poll")
    keys = [str(i) for i in range(1000)]

    def refuse(asked):
        if "700" in asked:
            raise AccessDenied("bad")

    store.before_read = refuse
    waiter = waiting.join(dict.fromkeys(keys, False))
    ((key, error),) = waiting.next(waiter, math.inf)
    assert key == "700"
    assert isinstance(error, AccessDenied)
    assert len(store.reads) <= 2 * 10 + 1
    waiting.leave(waiter)


def test_what_all_of_many_are_refused_is_not_asked_for_each(store, waiting_on):
    waiting = waiting_on(store, "poll")
    keys = [str(i) for i in range(1000)]

    def refuse(asked):
        raise AccessDenied("you are out")

    store.before_read = refuse
    waiter = waiting.join(dict.fromkeys(keys, False))
    told = dict(waiting.next(waiter, math.inf))
    assert sorted(told) == sorted(keys)
    assert {type(error) for error in told.values()} == {AccessDenied}
    assert len(store.reads) <= 100
    waiting.leave(waiter)


def test_one_that_is_between_two_calls_does_not_lead(store, waiting, pool):
    busy = waiting.join({"a": False, "b": False})
    record = store.put("a")
    assert answered(waiting, busy) == {"a": record}
    assert waiting._leader is None
    other = pool.submit(waiting.wait, "c", known=False, timeout=math.inf)
    third = store.put("c")
    assert other.result(HANG) is third
    second = store.put("b")
    assert answered(waiting, busy) == {"b": second}


def test_what_others_find_is_handed_to_one_that_is_between_two_calls(store, waiting_on):
    waiting = waiting_on(store, "poll")
    busy = waiting.join({"a": False, "b": False})
    record = store.put("a")
    assert waiting.wait("a", known=False, timeout=0) is record
    reads = len(store.reads)
    assert answered(waiting, busy) == {"a": record}
    assert len(store.reads) == reads
    waiting.abandon(busy)
    assert waiting.waiters() == 0


def test_many_keys_are_polled_at_a_rate_that_does_not_grow_with_them(store, pool, waiting_on):
    clock = ManualClock()
    waiting = waiting_on(store, "poll", clock)
    waiter = waiting.join(dict.fromkeys((str(i) for i in range(20_000)), False))
    future = pool.submit(waiting.next, waiter, 2.0)
    while not future.done():
        clock.advance(0.05)
        threading.Event().wait(0.001)
    assert future.result(0) == []
    assert len(store.reads) <= 12  # 0.2 s apart
    waiting.leave(waiter)


def test_a_late_comer_with_many_keys_is_looked_for_at_once(store, pool, waiting_on):
    store.turn = 10 * HANG
    waiting = waiting_on(store, "push")
    first = pool.submit(waiting.wait, "first", known=False, timeout=math.inf)
    with store.condition:
        assert store.condition.wait_for(lambda: store.watches, HANG)
    record = store.put("17")
    late = waiting.join(dict.fromkeys(map(str, range(100)), False))
    assert pool.submit(answered, waiting, late).result(HANG / 2) == {"17": record}
    waiting.leave(late)
    store.put("first")
    assert first.result(HANG).key == "first"
