"""Result stores on the memory backend: the laws of area RES that need no server of their own."""

from __future__ import annotations

import datetime as dt
import gc
import itertools
import math
import os
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import brokerkit.registry
from brokerkit._clock import SYSTEM_CLOCK
from brokerkit._known import Known
from brokerkit.errors import (
    AccessDenied,
    AlreadyFinal,
    Closed,
    ConnectionLost,
    DecodeError,
    EncodeError,
    InvalidName,
    InvalidOption,
    MalformedResult,
    OutcomeUnknown,
    RemoteFailure,
    ResultLost,
    ResultTimeout,
    ResultTooLarge,
    UnknownScheme,
    Unsupported,
)
from brokerkit.memory.results import MemoryResultBackend, MemoryResultOptions, MemoryResults
from brokerkit.models import Record
from brokerkit.results import PendingResult, ResultStore, State, results
from brokerkit.testing import Faults, ManualClock

HANG = 60.0
_names = itertools.count()


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def url():
    return f"memory://results-{next(_names)}"


@pytest.fixture
def store(url, clock):
    with results(url, clock=clock, expires=60) as made:
        yield made


@pytest.fixture
def other(store, url, clock):
    """The store of another process, as far as waiting and knowing go."""
    with results(url, clock=clock, expires=60) as made:
        yield made


@pytest.fixture
def pool():
    with ThreadPoolExecutor(16) as made:
        yield made


def lost_reason(pending: PendingResult) -> str:
    with pytest.raises(ResultLost) as caught:
        pending.result(timeout=1)
    assert caught.value.key == pending.id
    return caught.value.reason


# -- storing and reading ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, False, 0, "", [], {}, b""], ids=repr)
def test_a_falsy_result_is_told_from_none_at_all(store, value):
    """RES-02, RES-03."""
    missing = store.get("job")
    assert (missing.state, missing.value, missing.lost, missing.at) == (State.UNKNOWN, None, None, None)
    assert store.set_result("job", value)
    result = store.get("job")
    assert (result.state, result.value) == (State.SUCCESS, value)
    assert type(store.pending("job").result()) is type(value)


VALUES = [
    [1, -1, 2**200, 0.1, 1e300],
    {"a": {"b": [[[None]]]}},
    b"\0\xff",
    "\0é\ud800e\u0301\u2028",
    dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
    {str(i): i for i in range(10_000)},
    "x" * 1_000_000,
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
def test_values_come_back_equal(store, other, value):
    """RES-01, RES-18."""
    store.set_result("job", value)
    assert other.get("job").value == value


def test_every_state_can_be_stored_with_meta(store, clock):
    """RES-01."""
    for state in ("PENDING", State.STARTED, State.RETRY, State.REVOKED):
        assert store.set_state(str(state), state, meta={"step": 1})
        result = store.get(str(state))
        assert (result.state, result.meta, result.at) == (State(state), {"step": 1}, clock.time())


@pytest.mark.parametrize("state", ["SUCCESS", State.FAILURE, "UNKNOWN", "STRATED", 7])
def test_other_states_cannot_be_set(store, state):
    with pytest.raises(InvalidOption, match="set_result"):
        store.set_state("job", state)
    assert store.get("job").state is State.UNKNOWN


@pytest.mark.parametrize("value", [math.nan, object()])
def test_what_cannot_be_encoded_is_not_stored(store, value):
    with pytest.raises(EncodeError):
        store.set_result("job", value)
    with pytest.raises(EncodeError):
        store.set_state("job", "STARTED", meta=value)
    assert store.get("job").state is State.UNKNOWN


@pytest.mark.parametrize("options", [{"serializer": "msgpack"}, {"serializer": "yaml"}, {"compression": "gzip"}])
def test_other_serializers_and_compressions(url, clock, options):
    with results(url, clock=clock, **options) as store:
        store.set_result("job", {"a": "b" * 1000})
        assert store.pending("job").result(0) == {"a": "b" * 1000}


def test_a_value_that_is_not_accepted_spoils_only_itself(url, clock, store):
    with results(url, clock=clock, serializer="msgpack") as msgpack:
        msgpack.set_result("job", 1)
    store.set_result("fine", 2)
    spoilt, fine = store.get_many(["job", "fine"])
    assert (spoilt.state, fine.value) == (State.SUCCESS, 2)
    with pytest.raises(DecodeError, match="x-msgpack"):
        store.pending("job").result(0)
    assert store.pending("job").exception(0) is None


def test_reading_does_not_consume(store, other):
    """RES-22."""
    store.set_result("job", 1)
    pending = store.pending("job")
    assert [pending.result(0), pending.result(0), other.get("job").value, store.get("job").value] == [1, 1, 1, 1]


def test_get_many_keeps_the_order_with_holes_and_repeats(store):
    """RES-21."""
    for i in range(0, 10_000, 2):
        store.set_result(str(i), i)
    asked = [str(i) for i in reversed(range(10_000))] + ["4", "4"]
    found = store.get_many(asked)
    assert [result.key for result in found] == asked
    assert [r.value for r in found if r.state is State.SUCCESS] == [*range(9998, -1, -2), 4, 4]
    assert sum(r.state is State.UNKNOWN for r in found) == 5000
    assert store.get_many([]) == []


# -- finality ---------------------------------------------------------------------------------------------------------


def test_a_final_record_is_never_replaced(store, other):
    """RES-13, RES-14."""
    finals = {
        "SUCCESS": lambda s: s.set_result("SUCCESS", 1),
        "FAILURE": lambda s: s.set_exception("FAILURE", ValueError("first")),
        "REVOKED": lambda s: s.set_state("REVOKED", State.REVOKED),
    }
    for key, write in finals.items():
        assert write(store)
        before = store.get(key)
        for late in (store, other):
            assert not write(late)
            assert not late.set_result(key, "late")
            assert not late.set_exception(key, KeyError())
            assert not late.set_state(key, State.STARTED)
            assert not late.set_state(key, State.REVOKED)
            late.reserve(key)
        after = store.get(key)
        assert (after.state, after.at, after.value, str(after.error)) == (
            State(key),
            before.at,
            before.value,
            str(before.error),
        )


def test_reserve_keeps_what_is_there(store, other):
    other.set_state("job", "STARTED")
    pending = store.reserve("job")
    assert pending.state is State.STARTED
    other.set_result("job", 1)
    assert store.reserve("job").result(0) == 1


def test_reserve_makes_ids_that_differ(store):
    pending = [store.reserve() for _ in range(100)]
    assert len({p.id for p in pending}) == 100
    assert {p.state for p in pending} == {State.PENDING}


def test_one_writer_of_many_wins_and_no_record_is_torn(store, pool):
    """RES-15."""
    payloads = [str(i % 10) * (1 + i * 997) for i in range(64)]
    stop = threading.Event()

    def read():
        seen = set()
        while not stop.is_set():
            seen.add(store.get("job").value)
        return seen

    readers = [pool.submit(read) for _ in range(3)]
    outcomes = list(pool.map(lambda payload: store.set_result("job", payload), payloads))
    stop.set()
    assert outcomes.count(True) == 1
    winner = payloads[outcomes.index(True)]
    assert set().union(*(reader.result(HANG) for reader in readers)) <= {None, winner}
    assert store.get("job").value == winner


# -- absence ----------------------------------------------------------------------------------------------------------


def test_the_reason_of_absence_is_told_as_far_as_it_is_known(store, other, clock):
    """RES-04."""
    forgotten, gone, expired = store.reserve("forgotten"), store.reserve("gone"), store.reserve("expired")
    store.forget("forgotten")
    other.forget("gone")
    assert lost_reason(forgotten) == "forgotten"
    assert lost_reason(gone) == "unknown"
    clock.advance(60)
    assert lost_reason(expired) == "expired"
    assert lost_reason(store.pending("expired")) == "expired"
    assert [store.get(k).lost for k in ("forgotten", "expired", "never")] == ["forgotten", "expired", None]


def test_expiry_is_told_from_what_this_process_knows_when_the_store_has_no_memory_of_it(clock, url):
    with results(url, clock=clock, expires=60, remember_expired=0) as store, results(url, clock=clock) as other:
        store.reserve("job")
        clock.advance(60)
        assert store.get("job").lost == "expired"
        assert other.get("job").lost is None


def test_a_result_that_was_only_seen_is_known_when_it_goes(store, other):
    other.set_state("job", "STARTED")
    pending = store.pending("job")
    with pytest.raises(ResultTimeout):
        pending.result(0)
    other.forget("job")
    assert lost_reason(pending) == "unknown"
    assert pending.done()


def test_a_handle_remembers_its_record_however_many_came_since(store, other, monkeypatch):
    store._reader.known._limit = 3
    pending = store.reserve("job")
    for i in range(5):
        store.reserve(str(i))
    other.forget("job")
    assert store.get("job").lost is None
    assert lost_reason(pending) == "unknown"


def test_an_evicted_record_ends_its_wait_as_lost(clock, url, pool):
    """RES-29."""
    with results(url, clock=clock, max_records=3) as store:
        assert store.capabilities.evictable
        pending = store.reserve("job")
        waiting = pool.submit(pending.result, math.inf)
        clock.wait_for_waiters(1)
        for i in range(3):
            store.reserve(str(i))
        assert isinstance(waiting.exception(HANG), ResultLost)
        assert lost_reason(pending) == "unknown"


def test_strict_refuses_a_store_that_evicts(url, clock):
    with pytest.raises(Unsupported, match="strict"):
        results(url, clock=clock, strict=True, max_records=3)
    results(url, clock=clock, strict=True).close()


# -- time to live -----------------------------------------------------------------------------------------------------


def test_a_record_lives_exactly_as_long_as_it_shall(store, clock):
    """RES-05."""
    store.set_result("job", 1)
    clock.advance(59.999)
    assert store.get("job").value == 1
    clock.advance(0.001)
    assert (store.get("job").state, store.get("job").lost) == (State.UNKNOWN, "expired")


def test_reading_does_not_prolong_and_a_state_change_does(store, clock):
    """RES-07."""
    store.set_state("job", "STARTED")
    clock.advance(40)
    store.get("job")
    store.pending("job").done()
    store.set_state("written", "STARTED")
    clock.advance(20)
    assert store.get("job").state is State.UNKNOWN
    store.set_state("written", "RETRY")
    clock.advance(59)
    assert store.get("written").state is State.RETRY


def test_a_write_that_is_kept_out_does_not_prolong(store, clock):
    store.set_result("job", 1)
    clock.advance(40)
    assert not store.set_result("job", 2)
    store.reserve("job")
    clock.advance(20)
    assert store.get("job").lost == "expired"


@pytest.mark.parametrize("expires", [None, 30 * 86400 + 1, 10 * 365 * 86400.0])
def test_long_lives_do_not_end_at_once(url, clock, expires):
    """RES-06."""
    with results(url, clock=clock, expires=expires) as store:
        store.set_result("job", 1)
        clock.advance(30 * 86400)
        assert store.get("job").value == 1


@pytest.mark.parametrize("expires", [0, -1, "soon", math.nan])
def test_a_life_that_makes_no_sense_is_refused(url, expires):
    """RES-06."""
    with pytest.raises(InvalidOption, match="expires"):
        results(url, expires=expires)


def test_an_id_may_be_used_again_after_it_expired(store, clock):
    store.set_result("job", 1)
    clock.advance(60)
    pending = store.reserve("job")
    assert pending.state is State.PENDING
    assert store.set_result("job", 2)
    assert pending.result(0) == 2


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


def test_done_is_true_when_waiting_is_over(store, other):
    pending = store.reserve("job")
    assert not pending.done()
    assert not store.pending("never").done()
    other.set_result("job", 1)
    assert pending.done()
    other.forget("job")
    assert pending.done()
    assert "job" in repr(pending)


class PollingBackend(MemoryResultBackend):
    """Has no `wait` of its own, as far as the core can tell; see `polling`."""


def without_wait(backend: MemoryResultBackend):
    """A backend of the contract that does not support waiting, over the memory one."""
    from brokerkit.abc import ResultBackend

    class Plain(ResultBackend):
        options_type = backend.options_type
        errors = backend.errors
        capabilities = backend.capabilities

        @classmethod
        def from_url(cls, url, options, *, clock):
            return cls()

        def put(self, records: Sequence[Record], *, ttl, timeout):
            return backend.put(records, ttl=ttl, timeout=timeout)

        def get(self, keys, *, timeout):
            return backend.get(keys, timeout=timeout)

        def delete(self, keys, *, timeout):
            backend.delete(keys, timeout=timeout)

        def close(self, *, timeout):
            backend.close(timeout=timeout)

    return Plain()
