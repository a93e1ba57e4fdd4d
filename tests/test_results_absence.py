"""Results that are not there: why, since when, and what this process knows about it."""

from __future__ import annotations

import math

import pytest

from brokerkit._known import Known
from brokerkit.errors import (
    EvictionRisk,
    InvalidOption,
    ResultLost,
    ResultTimeout,
    Unsupported,
)
from brokerkit.results import PendingResult, State, results

HANG = 60.0


def lost_reason(pending: PendingResult) -> str:
    with pytest.raises(ResultLost) as caught:
        pending.result(timeout=1)
    assert caught.value.key == pending.id
    return caught.value.reason


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
    with (
        results(url, clock=clock, remember_expired=0, expires=60) as store,
        results(url, clock=clock, remember_expired=0) as other,
    ):
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


def test_a_handle_remembers_its_record_however_many_came_since(store, other):
    store._reader.known._limit = 3
    other.set_state("seen", "STARTED")
    handles = [store.reserve("reserved"), store.pending("seen")]
    with pytest.raises(ResultTimeout):
        handles[1].result(0)
    for i in range(5):
        store.reserve(str(i))
    for handle in handles:
        other.forget(handle.id)
        assert store.get(handle.id).lost is None
        assert lost_reason(handle) == "unknown"


def test_an_evicted_record_ends_its_wait_as_lost(clock, url, pool):
    """RES-29."""
    with pytest.warns(EvictionRisk, match="memory may drop by itself: records"):
        store = results(url, clock=clock, max_records=3)
    with store:
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


# -- what this process knows ------------------------------------------------------------------------------------------


def test_what_is_known_is_bounded_and_the_oldest_falls_out(clock):
    known = Known(clock, limit=2)
    known.note("a", None)
    known.note("b", clock.time() + 5)
    known.note("a", None)
    known.forget("c")
    assert [known.reason(key) for key in "abc"] == ["unknown", None, "forgotten"]


def test_a_key_that_comes_back_after_it_was_forgotten_is_not_forgotten(store, other):
    pending = store.reserve("job")
    store.forget("job")
    other.set_state("job", "STARTED")
    assert store.get("job").lost is None
    other.forget("job")
    assert lost_reason(pending) == "unknown"


def test_a_waiter_that_the_server_wakes_first_still_hears_that_it_was_forgotten(store, pool, monkeypatch):
    pending = store.reserve("awaited")
    waiting = pool.submit(pending.exception, 60.0)
    delete = store.backend.delete

    def slow_to_answer(keys, *, timeout):
        delete(keys, timeout=timeout)
        with pytest.raises(ResultLost):
            waiting.result(60)  # woken by the server, before the answer to the delete is here

    monkeypatch.setattr(store.backend, "delete", slow_to_answer)
    store.forget("awaited")
    assert waiting.exception().reason == "forgotten"


def test_a_read_that_a_delete_overtakes_does_not_hide_that_it_was_forgotten(store):
    store.set_result("job", 1)
    real = store.backend.get

    def get(keys, *, timeout):
        found = real(keys, timeout=timeout)
        store.forget("job")
        return found

    store.backend.get = get
    assert store.get("job").lost == "forgotten"
    store.backend.get = real
    assert store.get("job").lost == "forgotten"
