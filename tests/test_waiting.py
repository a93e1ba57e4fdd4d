"""Waiting: one waiter for all, no lost wake-ups, nothing left behind."""

from __future__ import annotations

import itertools
import math
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from brokerkit._clock import SYSTEM_CLOCK
from brokerkit._waiting import TimeIsUp, Waiting
from brokerkit.errors import AccessDenied, ConnectionLost
from brokerkit.models import Record
from brokerkit.testing import ManualClock

HANG = 60.0


class Store:
    """Records in a dict, with both ways to wait; counts its calls and how many overlap."""

    def __init__(self):
        self.condition = threading.Condition()
        self.records = {}
        self.reads = []
        self.watches = []
        self.turn = None
        self.reading = 0
        self.most_reading = 0
        self.before_read = lambda keys: None
        self.before_watch = lambda seen: None

    def put(self, key, value="end", **fields):
        record = Record(key=key, value=value.encode(), **fields)
        with self.condition:
            self.records[key] = record
            self.condition.notify_all()
        return record

    def drop(self, key):
        with self.condition:
            del self.records[key]
            self.condition.notify_all()

    def read(self, keys, timeout):
        with self.condition:
            self.reading += 1
            self.most_reading = max(self.most_reading, self.reading)
            self.reads.append(list(keys))
        try:
            self.before_read(keys)
            with self.condition:
                return [self.records.get(key) for key in keys]
        finally:
            with self.condition:
                self.reading -= 1

    def watch(self, seen, timeout):
        with self.condition:
            self.watches.append(set(seen))
            self.condition.notify_all()
        self.before_watch(seen)
        with self.condition:
            self.condition.wait_for(lambda: self._changed(seen), self.turn or timeout)
            return self._changed(seen)

    def _changed(self, seen):
        return [key for key, record in seen.items() if self.records.get(key) is not record]


def waiting_on(store, mode, clock=SYSTEM_CLOCK, patience=5.0):
    return Waiting(
        clock=clock,
        read=store.read,
        ended=lambda record: record.value.startswith(b"end"),
        watch=store.watch if mode == "push" else None,
        patience=patience,
    )


@pytest.fixture(params=["poll", "push"])
def mode(request):
    return request.param


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def waiting(store, mode):
    made = waiting_on(store, mode)
    yield made
    assert made.waiters() == 0
    assert made._seen == {}
    assert made._leader is None


@pytest.fixture
def pool():
    with ThreadPoolExecutor(64) as made:
        yield made


def wait_for_waiters(waiting, count):
    for _ in range(60_000):
        if waiting.waiters() >= count:
            return
        threading.Event().wait(0.001)
    raise AssertionError("they never came")


def test_a_record_that_has_ended_is_returned_at_once(store, waiting):
    record = store.put("a")
    assert waiting.wait("a", known=False, timeout=0) is record
    assert store.reads == [["a"]]


def test_a_timeout_of_zero_looks_once(store, waiting):
    with pytest.raises(TimeIsUp):
        waiting.wait("a", known=False, timeout=0)
    assert store.reads == [["a"]]


def test_one_that_was_never_there_is_waited_for(store, waiting, pool):
    future = pool.submit(waiting.wait, "a", known=False, timeout=math.inf)
    wait_for_waiters(waiting, 1)
    store.put("a", "pending")
    record = store.put("a")
    assert future.result(HANG) is record


def test_one_that_was_there_and_is_not_is_lost_at_once(store, waiting):
    assert waiting.wait("a", known=True, timeout=math.inf) is None


def test_one_that_was_seen_and_goes_is_lost(store, waiting, pool):
    store.put("a", "pending")
    future = pool.submit(waiting.wait, "a", known=False, timeout=math.inf)
    wait_for_looks(store, waiting)
    store.drop("a")
    assert future.result(HANG) is None


def wait_for_looks(store, waiting):
    """Until a ticket has seen what is there."""
    for _ in range(60_000):
        with waiting._lock:
            if any(ticket.looked for tickets in waiting._tickets.values() for ticket in tickets):
                return
        threading.Event().wait(0.001)
    raise AssertionError("nobody ever looked")


def test_an_expired_record_ends_the_wait(store, waiting):
    record = store.put("a", "pending", expired=True)
    assert waiting.wait("a", known=False, timeout=math.inf) is record


def test_what_this_process_stores_wakes_at_once(store, mode, pool):
    clock = ManualClock()
    waiting = waiting_on(store, "poll", clock)
    future = pool.submit(waiting.wait, "a", known=False, timeout=1000)
    clock.wait_for_waiters(1)
    record = store.put("a")
    waiting.stored(record)  # the clock stands still: only this wakes it
    assert future.result(HANG) is record
    assert clock.monotonic() == 0


def test_what_this_process_forgets_ends_the_wait(store, waiting, pool):
    futures = [pool.submit(waiting.wait, key, known=known, timeout=math.inf) for key in "ab" for known in (False,)]
    wait_for_waiters(waiting, 2)
    waiting.gone("a")
    waiting.gone("b")
    waiting.gone("no such")
    store.put("a", "changed")  # a store that wakes waiters wakes them now
    store.put("b", "changed")
    assert [future.result(HANG) for future in futures] == [None, None]


def test_a_state_stored_here_makes_its_loss_known(store, waiting, pool):
    future = pool.submit(waiting.wait, "a", known=False, timeout=math.inf)
    wait_for_looks(store, waiting)
    waiting.stored(store.put("a", "pending"))
    store.drop("a")
    assert future.result(HANG) is None


def test_a_read_that_began_before_does_not_lose_what_was_stored_during_it(store, pool):
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
        return store.stale if len(store.reads) == 1 else found

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


def test_all_keys_are_polled_by_one_call(store, pool):
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


def test_polling_slows_down_to_its_bound(store, pool):
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


def test_a_leader_whose_time_is_up_hands_the_lead_over(store, waiting, pool):
    first = pool.submit(waiting.wait, "first", known=False, timeout=0.2)
    wait_for_waiters(waiting, 1)
    others = [pool.submit(waiting.wait, str(i), known=False, timeout=math.inf) for i in range(10)]
    with pytest.raises(TimeIsUp):
        first.result(HANG)
    for i in range(10):
        store.put(str(i))
    assert [future.result(HANG).key for future in others] == [str(i) for i in range(10)]


def test_leaders_follow_one_another_until_the_last_record_has_come(store, waiting, pool):
    futures = [pool.submit(waiting.wait, str(i), known=False, timeout=math.inf) for i in range(30)]
    wait_for_waiters(waiting, 30)
    for i in range(30):
        store.put(str(i))
        assert futures[i].result(HANG).key == str(i)


def test_a_late_comer_is_not_kept_waiting_by_a_watch_that_does_not_know_it(store, pool):
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


def test_a_late_comer_is_looked_at_without_a_pause(store, pool):
    clock = ManualClock()
    waiting = waiting_on(store, "poll", clock)
    first = pool.submit(waiting.wait, "first", known=False, timeout=math.inf)
    clock.wait_for_waiters(1)
    record = store.put("late")
    late = pool.submit(waiting.wait, "late", known=False, timeout=math.inf)
    assert late.result(HANG / 2) is record  # the clock stands still
    waiting.stored(store.put("first"))
    assert first.result(HANG).key == "first"


def test_one_watch_takes_over_the_late_comers(store, pool):
    waiting = waiting_on(store, "push")
    keys = set("abcdefgh")
    futures = [pool.submit(waiting.wait, key, known=False, timeout=math.inf) for key in sorted(keys)]
    with store.condition:
        assert store.condition.wait_for(lambda: store.watches and store.watches[-1] == keys, HANG)
    for key in keys:
        store.put(key)
    assert {future.result(HANG).key for future in futures} == keys


# -- errors -----------------------------------------------------------------------------------------------------------


def test_an_error_that_lasts_reaches_everybody_who_waits(store, waiting, pool):
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


def test_an_error_of_one_with_little_time_is_its_own(store, pool):
    waiting = waiting_on(store, "poll", patience=1000)
    failed = threading.Event()

    def fail_once(keys):
        if set(keys) == {"a", "b"} and not failed.is_set():
            failed.set()
            raise ConnectionLost("down")

    store.before_read = fail_once
    hasty = pool.submit(waiting.wait, "a", known=False, timeout=30)
    wait_for_looks(store, waiting)  # it leads
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


def test_a_bug_in_the_leader_hangs_nobody(store, waiting, pool):
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


def test_a_watch_that_breaks_is_made_good_by_a_read(store, pool):
    waiting = waiting_on(store, "push")
    watches = itertools.count()

    def cut(seen):
        if next(watches) == 0:
            store.put("a")  # in the gap
            raise ConnectionLost("cut")

    store.before_watch = cut
    assert pool.submit(waiting.wait, "a", known=False, timeout=math.inf).result(HANG).key == "a"


def test_fail_ends_all_waiting(store, waiting, pool):
    futures = [pool.submit(waiting.wait, key, known=False, timeout=math.inf) for key in "ab"]
    wait_for_waiters(waiting, 2)
    waiting.fail(AccessDenied("over"))
    store.put("a", "changed")
    store.put("b", "changed")
    for future in futures:
        with pytest.raises(AccessDenied):
            future.result(HANG)


# -- many -------------------------------------------------------------------------------------------------------------


def test_a_thousand_waiters_in_fifty_threads(store, waiting):
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
