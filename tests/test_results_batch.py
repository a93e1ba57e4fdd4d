"""Many results stored by one call: as few round trips as the engine allows, and an outcome for each."""

from __future__ import annotations

import dataclasses

import pytest

from brokerkit.errors import (
    AlreadyFinal,
    Closed,
    ConnectionLost,
    EncodeError,
    InvalidName,
    NotConnected,
    OperationTimeout,
    OutcomeUnknown,
    ResultTooLarge,
    SendFailed,
    StorageFull,
)
from brokerkit.results import State, results
from brokerkit.testing import Faults

HANG = 60.0
RETRIES = {"retry_policy": {"interval_start": 0, "interval_step": 0, "max_retries": 3}}


@pytest.fixture
def quick(url):
    with results(url, **RETRIES) as made:
        yield made


def limit(store, **facts):
    """Let a store's engine declare other limits."""
    store.backend.capabilities = dataclasses.replace(store.backend.capabilities, **facts)


def ids(count):
    return [f"job-{i}" for i in range(count)]


def test_many_results_are_stored_by_one_call_of_the_engine(store, other):
    calls = Faults(store.backend).calls
    values = {key: {"of": key} for key in ids(100)}
    assert store.set_results(values) == dict.fromkeys(values, True)
    assert calls["put"] == 1
    assert {result.key: result.value for result in other.get_many(values)} == values
    assert store.set_results({}) == {}
    assert calls["put"] == 1


def test_a_batch_is_cut_to_what_the_engine_takes(store, other):
    limit(store, max_batch=30)
    calls = Faults(store.backend).calls
    assert all(store.set_results(dict.fromkeys(ids(100), 1)).values())
    assert calls["put"] == 4
    assert [result.value for result in other.get_many(ids(100))] == [1] * 100


def test_final_records_of_a_batch_are_kept_and_told(store, other):
    other.set_result("job-1", "first")
    other.set_exception("job-2", ValueError())
    other.set_state("job-3", State.REVOKED)
    store.reserve("job-4")
    stored = store.set_results(dict.fromkeys(ids(5), "second"))
    assert [key for key in ids(5) if not stored[key]] == ["job-1", "job-2", "job-3"]
    assert other.get("job-1").value == "first"
    assert [result.state for result in other.get_many(ids(5))] == [
        "SUCCESS",
        "SUCCESS",
        "FAILURE",
        "REVOKED",
        "SUCCESS",
    ]


def test_a_batch_wakes_who_waits_and_is_known_from_then_on(store, other, clock, pool):
    pending = [store.reserve(key) for key in ids(3)]
    waiting = [pool.submit(each.result, HANG) for each in pending]
    clock.wait_for_waiters(3)
    store.set_results({key: i for i, key in enumerate(ids(3))})
    assert [each.result(HANG) for each in waiting] == [0, 1, 2]
    other.forget("job-0")
    assert store.get("job-0").lost == "unknown"


def test_a_batch_lives_as_long_as_single_results(store, clock):
    store.set_results({"job": 1})
    clock.advance(59.9)
    assert store.get("job").value == 1
    clock.advance(0.2)
    assert store.get("job").lost == "expired"


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"a": 1, "b": object()}, EncodeError),
        ({"a": 1, "": 2}, InvalidName),
        ({"a": 1, "b": "x" * 2000}, ResultTooLarge),
    ],
)
def test_a_batch_with_one_that_cannot_be_stored_is_refused_before_any_call(store, values, error):
    limit(store, max_value=1000)
    calls = Faults(store.backend).calls
    with pytest.raises(error):
        store.set_results(values)
    assert not calls


def test_a_closed_store_takes_no_batch(store):
    store.close()
    with pytest.raises(Closed):
        store.set_results({"job": 1})


def test_a_batch_whose_answer_was_lost_is_repeated_and_told_from_being_kept_out(quick):
    quick.set_result("job-0", "first")
    Faults(quick.backend).fail("put", OutcomeUnknown("cut"), after=True)
    assert quick.set_results(dict.fromkeys(ids(3), "second")) == {"job-0": False, "job-1": True, "job-2": True}


def test_only_what_is_worth_it_is_repeated(quick):
    asked = []
    real = quick.backend.put

    def put(records, **rest):
        asked.append([record.key for record in records])
        if len(asked) > 1:
            return real(records, **rest)
        return [*real(records[:1], **rest), ConnectionLost("one server is away"), StorageFull("another is full")]

    quick.backend.put = put
    with pytest.raises(SendFailed) as caught:
        quick.set_results(dict.fromkeys(ids(3), 1))
    assert asked == [ids(3), ["job-1"]]
    assert [(key, type(error)) for key, error in caught.value.outcomes] == [
        ("job-0", type(None)),
        ("job-1", type(None)),
        ("job-2", StorageFull),
    ]
    assert [quick.get(key).state for key in ids(3)] == ["SUCCESS", "SUCCESS", "UNKNOWN"]
    assert quick.get("job-2").lost is None, "nothing is known of what was not stored"


def test_a_batch_that_failed_in_part_tells_what_was_kept_out_and_wakes_who_waits(quick, pool):
    quick.set_result("job-1", "first")
    waiting = pool.submit(quick.reserve("job-0").result, HANG)
    real = quick.backend.put
    quick.backend.put = lambda records, **rest: [*real(records[:-1], **rest), StorageFull("no room")]
    with pytest.raises(SendFailed, match="2 of 3 were not stored") as caught:
        quick.set_results(dict.fromkeys(ids(3), "second"))
    assert waiting.result(HANG) == "second"
    assert isinstance(dict(caught.value.outcomes)["job-1"], AlreadyFinal)


def test_a_store_that_is_down_is_an_error_for_each(quick):
    faults = Faults(quick.backend)
    faults.fail("put", ConnectionLost("down"), times=100)
    with pytest.raises(SendFailed) as caught:
        quick.set_results(dict.fromkeys(ids(2), 1))
    assert all(isinstance(error, OutcomeUnknown) and "down" in str(error) for _, error in caught.value.outcomes)
    with pytest.raises(OutcomeUnknown, match="down"):
        quick.set_results({"job": 1})
    assert quick.get_many(["job", *ids(2)])[0].state is State.UNKNOWN


def test_what_an_earlier_try_may_have_stored_stays_in_doubt(quick):
    faults = Faults(quick.backend)
    faults.fail("put", ConnectionLost("cut"), after=True)
    faults.fail("put", NotConnected("refused"), times=100)
    with pytest.raises(SendFailed, match=r"0 of 2 were not stored, 2 may or may not have been"):
        quick.set_results(dict.fromkeys(ids(2), 1))
    assert quick.get("job-0").value == 1


def test_a_batch_with_its_repeats_takes_no_more_than_its_time(url, clock):
    with results(url, clock=clock, timeout=10, retry_policy={"interval_start": 0, "interval_step": 0}) as store:
        limit(store, max_batch=1)
        told = []

        def put(records, *, ttl, timeout):
            told.append(timeout)
            clock.advance(min(timeout, 4.0))
            raise OperationTimeout("slow")

        store.backend.put = put
        with pytest.raises(SendFailed):
            store.set_results(dict.fromkeys(ids(4), 1))
    assert told[:3] == [10.0, 6.0, 2.0]
    assert max(told[3:]) < 0.01


def test_a_repeat_leaves_no_more_time_than_there_was_to_look_what_is_there(url, clock):
    with results(url, clock=clock, timeout=10, retry_policy={"interval_start": 0, "interval_step": 0}) as store:
        real_put, real_get, told = store.backend.put, store.backend.get, []

        def put(records, *, ttl, timeout):
            clock.advance(4.0)
            outcomes = real_put(records, ttl=ttl, timeout=timeout)
            if not told:
                told.append(timeout)
                raise OutcomeUnknown("cut")
            return outcomes

        def get(keys, *, timeout):
            told.append(timeout)
            return real_get(keys, timeout=timeout)

        store.backend.put, store.backend.get = put, get
        assert store.set_result("job", 1)
    assert told == [10.0, 2.0]
