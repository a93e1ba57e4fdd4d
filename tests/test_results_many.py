"""Waiting for many results: any, all, and as they end; on stores that wake waiters and one that is polled."""

from __future__ import annotations

import gc
import math
import os
import pickle
import threading
import uuid
from contextlib import ExitStack

import pytest

from brokerkit import servers
from brokerkit.errors import (
    Closed,
    ConnectionLost,
    InvalidName,
    InvalidOption,
    MalformedResult,
    RemoteFailure,
    ResultLost,
    ResultTimeout,
)
from brokerkit.models import Record
from brokerkit.results import State, results
from brokerkit.testing import Faults, wait_until

HANG = 60.0


@pytest.fixture(scope="module")
def redis_url():
    server = servers.Redis()
    try:
        server.start()
    except servers.ServerMissing as missing:
        if missing.required:
            raise
        pytest.skip(str(missing))
    yield server.url()
    server.close()


@pytest.fixture(params=["memory", "sqlite", "redis"])
def place(request, tmp_path):
    """The URL of one engine after the other."""
    if request.param == "memory":
        return f"memory://{uuid.uuid4().hex}"
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/results.db"
    return str(request.getfixturevalue("redis_url"))


@pytest.fixture
def opened(place):
    """Opens stores on the engine; each of them counts as another process."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(results(place, **options))


@pytest.fixture
def real(opened):
    return opened()


@pytest.fixture
def ids():
    mark = uuid.uuid4().hex
    return lambda count: [f"{mark}-{i}" for i in range(count)]


def keys(found) -> list[str]:
    return [result.key for result in found]


# -- on every engine --------------------------------------------------------------------------------------------------


def test_many_are_stored_by_one_call_and_what_is_final_is_kept(real, opened, ids):
    other, some = opened(), ids(300)
    pending = other.reserve(some[0])
    other.set_result(some[7], "first")
    assert real.set_results(dict.fromkeys(some, "batch")) == {key: key != some[7] for key in some}
    assert pending.result(HANG) == "batch"
    assert [result.value for result in other.get_many(some)] == ["first" if key == some[7] else "batch" for key in some]


def test_results_are_handed_out_as_they_end(real, opened, ids):
    other, names = opened(), ids(6)
    for name in names:
        real.reserve(name)
    real.set_result(names[4], "early")
    with real.as_completed(names, timeout=HANG) as completed:
        first = next(completed)
        assert (first.key, first.value) == (names[4], "early")
        for writer, name in ((other, names[2]), (real, names[0]), (other, names[5])):
            writer.set_result(name, name)
            assert (found := next(completed)).key == name
            assert found.value == name
        other.set_exception(names[1], ValueError("no"))
        assert isinstance(next(completed).error, RemoteFailure)
        other.forget(names[3])
        assert (lost := next(completed)).key == names[3]
        assert lost.lost == "unknown"
        assert lost.state is State.UNKNOWN
        assert list(completed) == []
    assert real._reader.waiting.waiters() == 0


def test_any_and_all(real, opened, ids):
    other, names = opened(), ids(5)
    for name in names:
        real.reserve(name)
    assert real.wait_any(names, timeout=0) == ([], names)
    timer = threading.Timer(0.05, other.set_result, (names[3], 3))
    timer.start()
    done, waiting = real.wait_any(names, timeout=HANG)
    assert [(result.key, result.value) for result in done] == [(names[3], 3)]
    assert waiting == [name for name in names if name != names[3]]
    writer = threading.Thread(target=lambda: [other.set_result(name, name) for name in reversed(names)])
    writer.start()
    whole = real.wait_all(names, timeout=HANG)
    assert [result.value for result in whole.done] == [*names[:3], 3, names[4]]
    assert whole.waiting == []
    writer.join()
    timer.join()


def test_thousands_are_waited_for_by_one_thread(real, opened, ids):
    other, names = opened(), ids(10_000)
    reads = Faults(real.backend).calls
    writer = threading.Thread(target=lambda: [other.set_result(name, i) for i, name in enumerate(names[:200])])
    before = threading.active_count()
    completed = real.as_completed(names, timeout=HANG)
    writer.start()
    got = {result.key: result.value for _, result in zip(range(200), completed, strict=False)}
    writer.join()
    assert threading.active_count() <= before
    assert got == {name: i for i, name in enumerate(names[:200])}
    assert reads["get"] < 200  # at most one batch for each, far fewer when they come fast
    assert real._reader.waiting.waiters() == 9_800
    completed.close()
    assert real._reader.waiting.waiters() == 0


def test_what_ends_between_two_calls_is_not_missed(real, opened, ids):
    other, names = opened(), ids(3)
    completed = real.as_completed(names, timeout=HANG)
    for i, name in enumerate(names):
        other.set_result(name, i)
        assert next(completed).value == i
        real.wait_any(ids(1), timeout=0)  # somebody else waits meanwhile, and leaves


def test_many_threads_wait_for_overlapping_sets(real, opened, ids, pool):
    other, names = opened(), ids(40)
    waits = [pool.submit(real.wait_all, names[i : i + 20], HANG) for i in range(0, 20, 5)]
    waits += [pool.submit(lambda i=i: real.pending(names[i]).result(HANG)) for i in range(4)]
    wait_until(lambda: real._reader.waiting.waiters() == 84, timeout=HANG)
    for name in names:
        other.set_result(name, name)
    for start, wait in zip(range(0, 20, 5), waits[:4], strict=True):
        assert [result.value for result in wait.result(HANG).done] == names[start : start + 20]
    assert [wait.result(HANG) for wait in waits[4:]] == names[:4]
    assert real._reader.waiting.waiters() == 0


# -- what it means, by a clock that stands still ------------------------------------------------------------------------


def test_nothing_is_waited_for_without_ids(store):
    assert store.wait_any([], timeout=math.inf) == ([], [])
    assert store.wait_all(iter(()), timeout=math.inf) == ([], [])
    assert list(store.as_completed([], timeout=math.inf)) == []


def test_each_id_counts_once_by_id_or_handle(store):
    handle = store.reserve("a")
    store.set_result("b", 2)
    done, waiting = store.wait_any(["b", handle, "a", "b", handle], timeout=0)
    assert keys(done) == ["b"]
    assert waiting == ["a"]
    store.set_result("a", 1)
    assert sorted(keys(store.as_completed(["b", handle, "a", "b"]))) == ["a", "b"]


def test_lost_failed_revoked_and_unreadable_ones_are_handed_out_or_raised_if_asked(store, other, clock):
    store.set_exception("failed", ValueError("no"))
    store.set_state("revoked", State.REVOKED)
    store.backend.put([Record(key="foreign", value=b"junk")], ttl=None, timeout=1)
    for key in ("forgotten", "gone", "expired"):
        store.reserve(key)
    store.forget("forgotten")
    other.forget("gone")
    store.set_result("fine", 1)
    ids = ["failed", "revoked", "foreign", "forgotten", "gone", "fine"]
    done = dict(zip(ids, store.wait_all(ids, timeout=0).done, strict=True))
    assert [done[key].lost for key in ids] == [None, None, None, "forgotten", "unknown", None]
    assert isinstance(done["failed"].error, RemoteFailure)
    assert isinstance(done["revoked"].error, RemoteFailure)
    assert isinstance(done["foreign"].problem, MalformedResult)
    for key, error in {
        "failed": RemoteFailure,
        "revoked": RemoteFailure,
        "foreign": MalformedResult,
        "forgotten": ResultLost,
        "gone": ResultLost,
    }.items():
        waits = (
            store.wait_any,
            store.wait_all,
            lambda ids, propagate: list(store.as_completed(ids, 0, propagate=propagate)),
        )
        for wait in waits:
            with pytest.raises(error):
                wait([key], propagate=True)
    clock.advance(60)
    (expired,) = store.wait_any(["expired"], timeout=0).done
    assert expired.lost == "expired"
    assert store._reader.waiting.waiters() == 0


def test_one_that_was_never_stored_is_waited_for_unless_its_handle_knows_better(store, other):
    assert store.wait_any(["never"], timeout=0).waiting == ["never"]
    handle = other.reserve("job")
    store.forget("job")
    store._reader.known._until.clear()
    assert store.wait_any(["job"], timeout=0).waiting == ["job"]
    assert [result.lost for result in other.wait_any([handle], timeout=0).done] == ["unknown"]


def test_the_first_failure_ends_the_wait_for_all_if_asked(store, clock, pool):
    future = pool.submit(store.wait_all, ["a", "b"], math.inf, propagate=True)
    clock.wait_for_waiters(1)
    store.set_exception("b", ValueError("no"))
    with pytest.raises(RemoteFailure, match="no"):
        future.result(HANG)


def test_the_time_of_an_iterator_runs_from_its_call(store, clock):
    store.set_result("a", 1)
    store.set_result("late", 1)
    completed = store.as_completed(["a", "b", "c"], timeout=5)
    assert next(completed).key == "a"
    clock.advance(5)
    store.set_result("b", 2)  # after its time, yet before anybody looked
    assert next(completed).key == "b"
    with pytest.raises(ResultTimeout, match=r"1 of 3 results were not final after 5 s, 'c' among them"):
        next(completed)
    assert list(completed) == []  # over, as a generator is
    assert store._reader.waiting.waiters() == 0


def test_the_default_timeout_is_the_stores(url, clock, pool):
    with results(url, clock=clock, timeout=0.5) as store:
        futures = [pool.submit(store.wait_all, ["a"]), pool.submit(list, store.as_completed(["a"]))]
        while not all(future.done() for future in futures):
            clock.advance(0.1)
            threading.Event().wait(0.001)
        assert futures[0].result(0) == ([], ["a"])
        with pytest.raises(ResultTimeout, match=r"0\.5 s"):
            futures[1].result(0)


def test_mistakes_are_told_before_any_look(store, other):
    faults = Faults(store.backend)
    for wait in (store.wait_any, store.wait_all, store.as_completed):
        for ids in ("a", store.pending("a"), [other.pending("a")]):
            with pytest.raises(InvalidOption, match=r"another result store|one result"):
                wait(ids)
        for ids in ([""], [3], ["\ud800"]):
            with pytest.raises(InvalidName):
                wait(ids)
        for timeout in (-1, math.nan):
            with pytest.raises(InvalidOption, match="timeout"):
                wait(["a"], timeout)
    assert faults.calls["get"] == 0


def test_a_store_that_cannot_be_read_ends_the_wait(url, clock):
    with results(url, clock=clock, retry_policy={"max_retries": 0}) as store:
        Faults(store.backend).fail("get", ConnectionLost("cut"), times=3)
        completed = store.as_completed(["a"])
        for wait in (store.wait_any, store.wait_all, lambda _: next(completed)):
            with pytest.raises(ConnectionLost):
                wait(["a", "b"])
        assert list(completed) == []
        assert store._reader.waiting.waiters() == 0


def test_closing_the_store_ends_every_wait(url, clock, pool):
    store = results(url, clock=clock)
    store.set_result("a", 1)
    begun, fresh = store.as_completed(["a", "b", "c"], math.inf), store.as_completed(["b"], math.inf)
    assert next(begun).key == "a"
    futures = [pool.submit(wait, ["b", "c"], math.inf) for wait in (store.wait_any, store.wait_all)]
    clock.wait_for_waiters(2)
    store.close()
    for future in futures:
        with pytest.raises(Closed):
            future.result(HANG)
    for iterator in (begun, fresh):
        with pytest.raises(Closed):
            next(iterator)
        assert list(iterator) == []
    for wait in (store.wait_any, store.wait_all, store.as_completed):
        with pytest.raises(Closed):
            wait([])


def test_a_dropped_iterator_waits_for_nothing(store):
    store.set_result("a", 1)
    completed = store.as_completed(["a", "b"])
    assert next(completed).key == "a"
    assert store._reader.waiting.waiters() == 1
    with store._reader.waiting._lock:  # a collection may happen at any place
        del completed
        gc.collect()
    assert store._reader.waiting.waiters() == 0
    unused = store.as_completed(["a"])
    with pytest.raises(TypeError, match="send the ids"):
        pickle.dumps(unused)
    unused.close()
    unused.close()
    assert list(unused) == []


def test_looking_at_thousands_is_paced(store, other, clock, pool):
    names = [str(i) for i in range(2_000)]
    future = pool.submit(store.wait_all, names, math.inf)
    clock.wait_for_waiters(1)
    reads = Faults(store.backend).calls
    for name in names:
        other.set_result(name, 1)  # the clock stands still: after the first change, the next look is due in 20 ms
    while not future.done():
        clock.advance(0.02)
        threading.Event().wait(0.001)
    assert len(future.result(0).done) == 2_000
    assert reads["get"] < 200


def test_a_forked_child_goes_on_with_what_was_not_handed_out(place, ids):
    names = ids(3)
    with results(place) as store:
        handles = [store.reserve(name) for name in names]
        completed = store.as_completed(handles, timeout=HANG)
        store.set_result(names[0], "before")
        assert next(completed).value == "before"
        reader, writer = os.pipe()
        with store._reader.waiting._lock:  # held by another thread while it forks, as in the worst case
            pid = os.fork()
        if pid == 0:
            try:
                store.set_result(names[1], "child")
                store.set_result(names[2], "child")
                said = [(result.key, result.value or result.lost) for result in completed]
                os.write(writer, repr(sorted(said)).encode())
            finally:
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            assert pipe.read() == repr([(names[1], "child"), (names[2], "child")])
        os.waitpid(pid, 0)
        store.set_result(names[1], "parent")
        store.set_result(names[2], "parent")
        assert sorted(keys(completed)) == names[1:]
