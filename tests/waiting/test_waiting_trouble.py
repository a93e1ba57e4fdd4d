"""Waiting, when reads and watches fail, and when many wait: nobody hangs, and no wake-up is lost."""

from __future__ import annotations

import itertools
import math
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from brokerkit.errors import AccessDenied, ConnectionLost

HANG = 60.0


# -- errors -----------------------------------------------------------------------------------------------------------


def test_an_error_that_lasts_reaches_everybody_who_waits(store, waiting, pool, wait_for_waiters):
    gate = threading.Event()

    def broken(keys):
        assert gate.wait(HANG)
        raise ConnectionLost("down")

    store.before_read = broken
    futures = [pool.submit(waiting.wait, key, known=False, timeout=math.inf) for key in "abcabc"]
    wait_for_waiters(waiting, 6)
    gate.set()
    for future in futures:
        with pytest.raises(ConnectionLost):
            future.result(HANG)


def test_an_error_of_one_with_little_time_is_its_own(store, pool, waiting_on, wait_for_looks):
    waiting = waiting_on(store, "poll", patience=1000)
    failed = threading.Event()

    def fail_once(keys):
        if set(keys) == {"a", "b"} and not failed.is_set():
            failed.set()
            raise ConnectionLost("down")

    store.before_read = fail_once
    hasty = pool.submit(waiting.wait, "a", known=False, timeout=30)
    wait_for_looks(waiting)  # it leads
    patient = pool.submit(waiting.wait, "b", known=False, timeout=math.inf)
    with pytest.raises(ConnectionLost):
        hasty.result(HANG)
    record = store.put("b")
    assert patient.result(HANG) is record


def test_an_error_about_one_key_does_not_harm_the_others(store, waiting, pool):
    def refuse(keys):
        if "bad" in keys:
            raise AccessDenied("bad")

    store.before_read = refuse
    futures = {key: pool.submit(waiting.wait, key, known=False, timeout=math.inf) for key in ("good", "bad", "fine")}
    with pytest.raises(AccessDenied):
        futures["bad"].result(HANG)
    for key in ("good", "fine"):
        store.put(key)
        assert futures[key].result(HANG).key == key


def test_a_bug_in_the_leader_hangs_nobody(store, waiting, pool, wait_for_waiters):
    bugs = itertools.count()

    def bug(keys):
        if next(bugs) < 3:
            raise ZeroDivisionError

    store.before_read = bug
    futures = [pool.submit(waiting.wait, str(i), known=False, timeout=math.inf) for i in range(6)]
    wait_for_waiters(waiting, 3)
    for i in range(6):
        store.put(str(i))
    outcomes = [type(future.exception(HANG)) for future in futures]
    assert outcomes.count(ZeroDivisionError) == 3
    assert outcomes.count(type(None)) == 3


def test_a_watch_that_breaks_is_made_good_by_a_read(store, pool, waiting_on):
    waiting = waiting_on(store, "push")
    watches = itertools.count()

    def cut(seen):
        if next(watches) == 0:
            store.put("a")  # in the gap
            raise ConnectionLost("cut")

    store.before_watch = cut
    assert pool.submit(waiting.wait, "a", known=False, timeout=math.inf).result(HANG).key == "a"


def test_fail_ends_all_waiting(store, waiting, pool, wait_for_waiters):
    futures = [pool.submit(waiting.wait, key, known=False, timeout=math.inf) for key in "ab"]
    wait_for_waiters(waiting, 2)
    waiting.fail(AccessDenied("over"))
    store.put("a", "changed")
    store.put("b", "changed")
    for future in futures:
        with pytest.raises(AccessDenied):
            future.result(HANG)


# -- many -------------------------------------------------------------------------------------------------------------


def test_a_thousand_waiters_in_fifty_threads(store, waiting, wait_for_waiters):
    """RES-11: each wakes once, with its own value; also on ids that many wait for."""
    ids = [f"own-{i}" for i in range(600)] + [f"shared-{i % 20}" for i in range(400)]
    random.Random(7).shuffle(ids)
    with ThreadPoolExecutor(50) as pool:
        futures = [pool.submit(waiting.wait, key, known=False, timeout=HANG) for key in ids]
        wait_for_waiters(waiting, 50)
        for key in random.Random(8).sample(sorted(set(ids)), len(set(ids))):
            record = store.put(key, f"end {key}")
            if hash(key) % 2:
                waiting.stored(record)
        assert [future.result(HANG).value.decode() for future in futures] == [f"end {key}" for key in ids]


def test_no_wake_up_is_lost(store, waiting):
    """RES-09: stored before, during and after the waiter comes, here or elsewhere."""
    chance = random.Random(9)
    with ThreadPoolExecutor(2) as pool:
        for i in range(1500):
            barrier = threading.Barrier(2)
            key, spins, more_spins = str(i), chance.randrange(300), chance.randrange(300)
            here = chance.random() < 0.5

            def put(key=key, barrier=barrier, spins=spins, here=here):
                barrier.wait(HANG)
                for _ in range(spins):
                    pass
                record = store.put(key)
                if here:
                    waiting.stored(record)

            def wait(key=key, barrier=barrier, spins=more_spins):
                barrier.wait(HANG)
                for _ in range(spins):
                    pass
                return waiting.wait(key, known=False, timeout=HANG)

            done = pool.submit(put)
            assert pool.submit(wait).result(HANG).key == key
            done.result(HANG)
