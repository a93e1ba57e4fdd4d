"""Result stores on the memory backend: storing, reading, finality, limits and ids."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
import threading
import time
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brokerkit._records import Header, encode_record
from brokerkit.errors import (
    DecodeError,
    EncodeError,
    InvalidName,
    InvalidOption,
    MalformedResult,
    ResultTooLarge,
)
from brokerkit.models import Record
from brokerkit.results import State, results
from brokerkit.testing import Faults

HANG = 60.0


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
            assert not late.set_result(key, 1), "the very same, by the same clock"
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


# -- limits and names -------------------------------------------------------------------------------------------------


@pytest.fixture
def small(store):
    """A store with narrow limits."""
    store.backend.capabilities = dataclasses.replace(store.backend.capabilities, max_key=1024, max_value=50_000)
    return store


def test_a_result_over_the_limit_is_refused_before_any_call(small):
    """RES-17."""
    faults = Faults(small.backend)
    body = len(encode_record(Header(State.SUCCESS, time.time(), 60.0), b""))
    small.set_result("fits", b"x" * (50_000 - body - 20))
    calls = dict(faults.calls)
    for write in (
        lambda: small.set_result("job", b"x" * 50_001),
        lambda: small.set_result("job", "x" * 50_000),
        lambda: small.set_state("job", "STARTED", meta="x" * 50_000),
    ):
        with pytest.raises(ResultTooLarge, match="takes 50000"):
            write()
    assert dict(faults.calls) == calls
    assert small.get("job").state is State.UNKNOWN


HOSTILE = [
    " ",
    "a b",
    "a\nb",
    "\0",
    "../x",
    "..",
    "x/../y",
    "a" * 1000,
    "é" * 500,
    "e\u0301",
    "é",
    "job",
    "job-1",
    "job-",
    "JOB",
    "*",
    "#",
    "%2e",
    "a:b",
    "{a}",
    "\u202e",
    "😀",
    "'; DROP TABLE",
    "None",
]


def test_hostile_ids_are_told_apart(store):
    """RES-20."""
    for i, key in enumerate(HOSTILE):
        assert store.set_result(key, i)
    assert [result.value for result in store.get_many(HOSTILE)] == list(range(len(HOSTILE)))
    store.forget("job")
    assert [r.key for r in store.get_many(HOSTILE) if r.state is State.UNKNOWN] == ["job"]


@settings(max_examples=50)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=50), unique=True, max_size=20))
def test_two_ids_never_share_a_record(keys):
    with results(f"memory://{uuid.uuid4().hex}") as store:
        for key in keys:
            store.set_result(key, key)
        assert [result.value for result in store.get_many(keys)] == keys


@pytest.mark.parametrize("key", ["", None, 7, b"job", "\ud800", "a" * 1025, "é" * 513], ids=lambda key: repr(key)[:12])
def test_an_id_that_no_store_holds_is_refused_before_any_call(small, key):
    faults = Faults(small.backend)
    for use in (
        small.get,
        small.pending,
        small.forget,
        lambda key: small.get_many(["fine", key]),
        lambda key: small.set_state(key, "STARTED"),
        lambda key: small.set_result(key, 1),
        lambda key: small.set_exception(key, ValueError()),
    ):
        with pytest.raises(InvalidName, match="result id"):
            use(key)
    assert not faults.calls


def test_virtual_hosts_do_not_read_each_other(url, clock):
    """RES-25."""
    stores = [results(url + path, clock=clock) for path in ("", "/a", "/a/b", "/ab")]
    for i, store in enumerate(stores):
        store.set_result("job", i)
        store.set_result("b/job", -i)
        store.set_result("bjob", -i)
    assert [store.get("job").value for store in stores] == [0, 1, 2, 3]
    stores[1].forget("job", "b/job")
    assert [store.get("job").value for store in stores] == [0, None, 2, 3]


# -- foreign records --------------------------------------------------------------------------------------------------


def test_a_foreign_record_is_malformed_and_harms_no_other(store, clock, pool):
    """RES-28."""
    store.set_result("fine", 1)
    awaited = pool.submit(store.reserve("job").result, math.inf)
    clock.wait_for_waiters(1)
    store.backend.put([Record(key="job", value=b"{}")], ttl=None, timeout=1)
    with pytest.raises(MalformedResult, match="'job'"):
        awaited.result(HANG)
    pending = store.pending("job")
    for read in (
        lambda: store.get("job"),
        lambda: pending.result(0),
        lambda: pending.exception(0),
        lambda: pending.state,
    ):
        with pytest.raises(MalformedResult, match="'job'"):
            read()
    assert pending.done()
    spoilt, fine = store.get_many(["job", "fine"])
    assert isinstance(spoilt.problem, MalformedResult)
    assert fine.value == 1
