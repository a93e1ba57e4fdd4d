"""The memory result backend: each law of the contract by itself."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from brokerkit._clock import SYSTEM_CLOCK
from brokerkit.errors import (
    AlreadyFinal,
    Closed,
)
from brokerkit.memory.results import MemoryResultBackend, MemoryResultOptions, MemoryResults
from brokerkit.models import Record
from brokerkit.testing import ManualClock

HANG = 60.0


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def pool():
    with ThreadPoolExecutor(16) as made:
        yield made


# -- the memory backend ------------------------------------------------------------------------------------------------


@pytest.fixture
def backend(clock):
    return MemoryResultBackend(MemoryResults(clock), "", MemoryResultOptions(max_records=100, remember_expired=10))


def put(backend, key, ttl=None, **fields):
    (outcome,) = backend.put([Record(key=key, value=b"x", **fields)], ttl=ttl, timeout=1)
    return outcome


def test_put_if_absent_is_kept_out_by_any_record_that_lives(backend, clock):
    assert put(backend, "a", ttl=5) is None
    assert isinstance(put(backend, "a", if_absent=True), AlreadyFinal)
    clock.advance(5)
    assert put(backend, "a", if_absent=True) is None


def test_an_expired_record_is_remembered_for_its_grace_and_then_swept(backend, clock):
    for i in range(10):
        put(backend, str(i), ttl=5)
    clock.advance(5)
    (record,) = backend.get(["0"], timeout=1)
    assert (record.expired, record.value) == (True, b"")
    clock.advance(10)
    assert list(backend.get(["0"], timeout=1)) == [None]
    for i in range(15):
        put(backend, f"new-{i}")
    assert len(backend.server.records) == 15


def test_values_of_expired_records_are_let_go(backend, clock):
    put(backend, "old", ttl=5)
    clock.advance(5)
    for i in range(5):
        put(backend, str(i))
    assert backend.server.records["", "old"].value is None


def test_the_least_recently_used_record_is_evicted(backend):
    for i in range(100):
        put(backend, str(i))
    backend.get(["0"], timeout=1)
    put(backend, "one more")
    assert [r is None for r in backend.get(["0", "1", "2"], timeout=1)] == [False, True, False]


def test_wait_returns_the_keys_that_changed(backend, clock, pool):
    put(backend, "a")
    (seen,) = backend.get(["a"], timeout=1)
    assert list(backend.wait({"a": None, "b": None}, timeout=5)) == ["a"]
    future = pool.submit(backend.wait, {"a": seen, "b": None}, timeout=5)
    clock.wait_for_waiters(1)
    put(backend, "b", ttl=3)
    assert list(future.result(HANG)) == ["b"]
    (b,) = backend.get(["b"], timeout=1)
    expiring = pool.submit(backend.wait, {"b": b}, timeout=5)
    clock.wait_for_waiters(1)
    clock.advance(3)
    assert list(expiring.result(HANG)) == ["b"]
    idle = pool.submit(backend.wait, {"a": seen}, timeout=5)
    clock.wait_for_waiters(1)
    clock.advance(5)
    assert list(idle.result(HANG)) == []


def test_close_ends_a_wait(backend, clock, pool):
    future = pool.submit(backend.wait, {"a": None}, timeout=5)
    clock.wait_for_waiters(1)
    backend.close(timeout=1)
    with pytest.raises(Closed):
        future.result(HANG)


def test_a_waiter_is_told_in_time_that_a_record_expired():
    backend = MemoryResultBackend(MemoryResults(SYSTEM_CLOCK), "", MemoryResultOptions())
    put(backend, "a", ttl=0.05)
    (seen,) = backend.get(["a"], timeout=1)
    start = SYSTEM_CLOCK.monotonic()
    assert list(backend.wait({"a": seen}, timeout=HANG)) == ["a"]
    assert SYSTEM_CLOCK.monotonic() - start < HANG / 2
