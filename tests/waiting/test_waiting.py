"""Waiting: one waiter for all, and nothing left behind."""

from __future__ import annotations

import math
import threading

import pytest

from brokerkit._waiting import TimeIsUp
from brokerkit.testing import ManualClock

HANG = 60.0


def test_a_record_that_has_ended_is_returned_at_once(store, waiting):
    record = store.put("a")
    assert waiting.wait("a", known=False, timeout=0) is record
    assert store.reads == [["a"]]


def test_a_timeout_of_zero_looks_once(store, waiting):
    with pytest.raises(TimeIsUp):
        waiting.wait("a", known=False, timeout=0)
    assert store.reads == [["a"]]


def test_one_that_was_never_there_is_waited_for(store, waiting, pool, wait_for_waiters):
    future = pool.submit(waiting.wait, "a", known=False, timeout=math.inf)
    wait_for_waiters(waiting, 1)
    store.put("a", "pending")
    record = store.put("a")
    assert future.result(HANG) is record


def test_one_that_was_there_and_is_not_is_lost_at_once(store, waiting):
    assert waiting.wait("a", known=True, timeout=math.inf) is None


def test_one_that_was_seen_and_goes_is_lost(store, waiting, pool, wait_for_looks):
    store.put("a", "pending")
    future = pool.submit(waiting.wait, "a", known=False, timeout=math.inf)
    wait_for_looks(waiting)
    store.drop("a")
    assert future.result(HANG) is None


def test_an_expired_record_ends_the_wait(store, waiting):
    record = store.put("a", "pending", expired=True)
    assert waiting.wait("a", known=False, timeout=math.inf) is record


def test_what_this_process_stores_wakes_at_once(store, mode, pool, waiting_on):
    clock = ManualClock()
    waiting = waiting_on(store, "poll", clock)
    future = pool.submit(waiting.wait, "a", known=False, timeout=1000)
    clock.wait_for_waiters(1)
    record = store.put("a")
    waiting.stored(record)  # the clock stands still: only this wakes it
    assert future.result(HANG) is record
    assert clock.monotonic() == 0


def test_what_this_process_forgets_ends_the_wait(store, waiting, pool, wait_for_waiters):
    futures = [pool.submit(waiting.wait, key, known=known, timeout=math.inf) for key in "ab" for known in (False,)]
    wait_for_waiters(waiting, 2)
    waiting.gone("a")
    waiting.gone("b")
    waiting.gone("no such")
    store.put("a", "changed")  # a store that wakes waiters wakes them now
    store.put("b", "changed")
    assert [future.result(HANG) for future in futures] == [None, None]


def test_a_state_stored_here_makes_its_loss_known(store, waiting, pool, wait_for_looks):
    future = pool.submit(waiting.wait, "a", known=False, timeout=math.inf)
    wait_for_looks(waiting)
    waiting.stored(store.put("a", "pending"))
    store.drop("a")
    assert future.result(HANG) is None


def test_a_read_that_began_before_does_not_lose_what_was_stored_during_it(store, pool, waiting_on, wait_for_waiters):
    waiting = waiting_on(store, "poll")
    reading, go_on = threading.Event(), threading.Event()

    def stall(keys):
        if len(store.reads) == 1:
            old = dict(store.records)
            reading.set()
            assert go_on.wait(HANG)
            store.stale = [old.get(key) for key in keys]

    real = store.read

    def read(keys, timeout):
        found = real(keys, timeout)
        return dict(zip(keys, store.stale if len(store.reads) == 1 else found, strict=True))

    store.before_read = stall
    waiting._read = read
    future = pool.submit(waiting.wait, "a", known=False, timeout=math.inf)
    assert reading.wait(HANG)
    waiting.stored(store.put("a", "pending"))  # known from now on; the answer on its way still says that there is none
    second = pool.submit(waiting.wait, "a", known=True, timeout=math.inf)
    wait_for_waiters(waiting, 2)
    go_on.set()
    record = store.put("a")
    assert future.result(HANG) is record
    assert second.result(HANG) is record


def test_all_keys_are_polled_by_one_call(store, pool, waiting_on):
    clock = ManualClock()
    waiting = waiting_on(store, "poll", clock)
    keys = [str(i) for i in range(40)]
    futures = [pool.submit(waiting.wait, key, known=False, timeout=1000) for key in keys]
    clock.wait_for_waiters(40)
    for _ in range(10):
        before = len(store.reads)
        clock.advance(0.06)
        clock.wait_for_waiters(40)
        while len(store.reads) == before:
            threading.Event().wait(0.001)
    assert store.most_reading == 1
    assert sorted(store.reads[-1]) == sorted(keys)
    for key in keys:
        store.put(key)
    while not all(future.done() for future in futures):
        clock.advance(0.06)
        threading.Event().wait(0.001)
    assert [future.result(0).key for future in futures] == keys


def test_polling_slows_down_to_its_bound(store, pool, waiting_on):
    clock = ManualClock()
    waiting = waiting_on(store, "poll", clock)
    future = pool.submit(waiting.wait, "a", known=False, timeout=1.0)
    while not future.done():
        clock.wait_for_waiters(0)
        clock.advance(0.001)
        threading.Event().wait(0.0001)
    with pytest.raises(TimeIsUp):
        future.result(0)
    assert 10 <= len(store.reads) <= 45  # 1 ms at first, 50 ms at last


def test_a_leader_whose_time_is_up_hands_the_lead_over(store, waiting, pool, wait_for_waiters):
    first = pool.submit(waiting.wait, "first", known=False, timeout=0.2)
    wait_for_waiters(waiting, 1)
    others = [pool.submit(waiting.wait, str(i), known=False, timeout=math.inf) for i in range(10)]
    with pytest.raises(TimeIsUp):
        first.result(HANG)
    for i in range(10):
        store.put(str(i))
    assert [future.result(HANG).key for future in others] == [str(i) for i in range(10)]


def test_leaders_follow_one_another_until_the_last_record_has_come(store, waiting, pool, wait_for_waiters):
    futures = [pool.submit(waiting.wait, str(i), known=False, timeout=math.inf) for i in range(30)]
    wait_for_waiters(waiting, 30)
    for i in range(30):
        store.put(str(i))
        assert futures[i].result(HANG).key == str(i)


def test_a_late_comer_is_not_kept_waiting_by_a_watch_that_does_not_know_it(store, pool, waiting_on):
    store.turn = 10 * HANG
    waiting = waiting_on(store, "push")
    first = pool.submit(waiting.wait, "first", known=False, timeout=math.inf)
    with store.condition:
        assert store.condition.wait_for(lambda: store.watches, HANG)
    record = store.put("late")
    assert pool.submit(waiting.wait, "late", known=False, timeout=math.inf).result(HANG / 2) is record
    assert not first.done()
    store.put("first")
    assert first.result(HANG).key == "first"


def test_a_late_comer_is_looked_at_without_a_pause(store, pool, waiting_on):
    clock = ManualClock()
    waiting = waiting_on(store, "poll", clock)
    first = pool.submit(waiting.wait, "first", known=False, timeout=math.inf)
    clock.wait_for_waiters(1)
    record = store.put("late")
    late = pool.submit(waiting.wait, "late", known=False, timeout=math.inf)
    assert late.result(HANG / 2) is record  # the clock stands still
    waiting.stored(store.put("first"))
    assert first.result(HANG).key == "first"


def test_one_watch_takes_over_the_late_comers(store, pool, waiting_on):
    waiting = waiting_on(store, "push")
    keys = set("abcdefgh")
    futures = [pool.submit(waiting.wait, key, known=False, timeout=math.inf) for key in sorted(keys)]
    with store.condition:
        assert store.condition.wait_for(lambda: store.watches and store.watches[-1] == keys, HANG)
    for key in keys:
        store.put(key)
    assert {future.result(HANG).key for future in futures} == keys
