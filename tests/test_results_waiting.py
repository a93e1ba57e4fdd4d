"""Waiting for results, closing the store meanwhile, and forking."""

from __future__ import annotations

import gc
import math
import os
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from brokerkit._clock import SYSTEM_CLOCK
from brokerkit.errors import (
    Closed,
    ConnectionLost,
    InvalidOption,
    OperationTimeout,
    ResultLost,
    ResultTimeout,
    TransportError,
    UnknownScheme,
)
from brokerkit.results import ResultStore, State, results
from brokerkit.testing import Faults

HANG = 60.0


def wait_until(condition):
    deadline = time.monotonic() + HANG
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        threading.Event().wait(0.001)


# -- waiting ----------------------------------------------------------------------------------------------------------


def test_a_result_stored_here_or_elsewhere_wakes_its_waiter(store, other, clock, pool):
    for writer in (store, other):
        pending = store.reserve()
        future = pool.submit(pending.result, math.inf)
        clock.wait_for_waiters(1)
        writer.set_result(pending.id, [1])
        assert future.result(HANG) == [1]
    assert store._reader.waiting.waiters() == 0


def test_waiting_ends_by_the_clock(store, clock, pool):
    """RES-08: never stored, pending, expired, forgotten."""
    missing = pool.submit(store.pending("missing").result, 5)
    pending = pool.submit(store.reserve("pending").result, 5)
    clock.wait_for_waiters(2)
    while not (missing.done() and pending.done()):
        clock.advance(0.5)
        threading.Event().wait(0.001)
    assert clock.monotonic() < 8
    for future, key in ((missing, "missing"), (pending, "pending")):
        with pytest.raises(ResultTimeout, match=f"'{key}' had no final result after 5 s"):
            future.result(0)


def test_a_result_that_expires_ends_its_wait(store, clock, pool):
    future = pool.submit(store.reserve("job").result, math.inf)
    clock.wait_for_waiters(1)
    clock.advance(60)
    with pytest.raises(ResultLost, match="expired"):
        future.result(HANG)


@pytest.mark.parametrize("reserved", [True, False])
def test_forgetting_wakes_the_waiter(store, clock, pool, reserved):
    """RES-12."""
    pending = store.reserve("job") if reserved else store.pending("job")
    future = pool.submit(pending.result, math.inf)
    clock.wait_for_waiters(1)
    store.forget("job")
    store.forget("job", "job", "never")
    if not reserved:  # nothing changed in the store: its waiter looks up at the end of its turn, after a second
        clock.advance(1)
    with pytest.raises(ResultLost, match="forgotten"):
        future.result(HANG)
    assert store.get("job").state is State.UNKNOWN
    store.forget()


def test_the_default_timeout_is_the_stores(url, clock):
    with results(url, clock=clock, timeout=0.5) as store, ThreadPoolExecutor(1) as pool:
        future = pool.submit(store.reserve("job").result)
        while not future.done():
            clock.advance(0.1)
            threading.Event().wait(0.001)
        with pytest.raises(ResultTimeout, match=r"0\.5 s"):
            future.result(0)


@pytest.mark.parametrize("timeout", [-1, math.nan, -math.inf])
def test_a_timeout_that_makes_no_sense_is_refused(store, timeout):
    with pytest.raises(InvalidOption, match="timeout"):
        store.reserve("job").result(timeout)


def test_result_timeout_is_a_timeout_error(store):
    with pytest.raises(TimeoutError):
        store.reserve("job").result(0)


def test_a_store_too_slow_for_a_short_wait_is_a_result_that_did_not_come_in_time(url, clock):
    with results(url, clock=clock, timeout=5, retry_policy={"max_retries": 0}) as store:
        faults = Faults(store.backend)
        faults.fail("get", OperationTimeout("no answer"))
        with pytest.raises(ResultTimeout, match="after 0 s"):
            store.pending("job").result(0)
        faults.fail("get", ConnectionLost("cut"))
        with pytest.raises(ConnectionLost):
            store.pending("job").result(0)
        assert faults.calls["get"] == 2


def test_done_is_true_when_waiting_is_over(store, other):
    pending = store.reserve("job")
    assert not pending.done()
    assert not store.pending("never").done()
    other.set_result("job", 1)
    assert pending.done()
    other.forget("job")
    assert pending.done()
    assert "job" in repr(pending)


# -- life -------------------------------------------------------------------------------------------------------------


def test_a_closed_store_says_so_and_ends_its_waiters(url, clock, pool):
    store = results(url, clock=clock)
    pending = store.reserve("job")
    future = pool.submit(pending.result, math.inf)
    clock.wait_for_waiters(1)
    store.close()
    store.close()
    with pytest.raises(Closed):
        future.result(HANG)
    for use in (
        lambda: store.get("job"),
        lambda: store.set_result("job", 1),
        lambda: store.forget("job"),
        lambda: pending.result(0),
        pending.done,
        store.reserve,
    ):
        with pytest.raises(Closed):
            use()
    assert "closed" in repr(store)


def test_a_store_is_a_context(url):
    with results(url) as store:
        assert isinstance(store, ResultStore)
    with pytest.raises(Closed):
        store.get("job")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("nosuch://x", UnknownScheme),
        ("memory://x?expirs=5", InvalidOption),
        ("memory://x?max_records=0", InvalidOption),
    ],
)
def test_mistakes_are_found_before_any_call(text, error):
    with pytest.raises(error):
        results(text)


def test_options_are_equal_from_all_three_sources(url):
    a = results(f"{url}?expires=5&serializer=yaml")
    b = results(url, expires=5, serializer="yaml")
    c = results(url, transport_options={"expires": 5.0, "serializer": "yaml"})
    assert a.options == b.options == c.options


def test_no_secret_is_shown(url):
    with results(f"memory://ada:s3cr3t@{url.removeprefix('memory://')}") as store:
        Faults(store.backend).fail("put", OSError("cannot log in with s3cr3t"))
        with pytest.raises(TransportError) as caught:
            store.set_result("job", 1)
        shown = f"{caught.value} {caught.value.__cause__!r} {store!r}"
    assert "cannot log in with ***" in shown
    assert "s3cr3t" not in shown


def test_a_store_that_is_dropped_is_collected(url):
    store = results(url)
    gone = weakref.ref(store)
    del store
    gc.collect()
    assert gone() is None


def test_one_server_has_one_clock(store, url):
    with pytest.raises(InvalidOption, match="another clock"):
        results(url, clock=SYSTEM_CLOCK)


def in_child(function):
    """Run a function in a forked child and return what it said."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.write(writer, repr(function()).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    assert os.waitpid(pid, 0)[1] == 0
    return said


def test_a_forked_child_goes_on_with_a_backend_of_its_own(url):
    with results(url) as store, ThreadPoolExecutor(2) as pool:
        pending = store.reserve("job")
        inherited = store.backend
        waiter = pool.submit(pending.result, HANG)
        wait_until(lambda: store._reader.waiting.waiters() == 1)

        def child():
            assert store.backend is not inherited
            assert store._reader.waiting.waiters() == 0
            state = store.get("job").state  # memory: a child starts empty
            store.set_result("job", "child")
            return state.value, pending.result(5), store.reserve("other").state.value

        # the locks of both are held by the parent's threads while it forks, as in the worst case
        with store._reader.waiting._lock, inherited.server.condition:
            assert in_child(child) == "('UNKNOWN', 'child', 'PENDING')"
        assert store.backend is inherited
        store.set_result("job", "parent")
        assert waiter.result(HANG) == "parent"


def test_a_store_closed_before_the_fork_stays_closed(url):
    store = results(url)
    store.close()

    def child():
        with pytest.raises(Closed):
            store.get("job")
        return "closed"

    assert in_child(child) == "'closed'"
