"""Failed results, and stores that fail: polled, repeated, never reported as done."""

from __future__ import annotations

import dataclasses
import itertools
import threading
import time
from collections.abc import Mapping

import pytest

from brokerkit._records import Header, encode_record
from brokerkit.abc import ResultBackend
from brokerkit.errors import (
    AccessDenied,
    ConnectionLost,
    ErrorTable,
    InvalidOption,
    OutcomeUnknown,
    RemoteFailure,
    ResultLost,
    Rule,
    TransportError,
)
from brokerkit.memory.results import MemoryResultBackend
from brokerkit.models import Record
from brokerkit.registry import Plugin
from brokerkit.results import State, results
from brokerkit.testing import Faults

HANG = 60.0


class PollingMemory(ResultBackend):
    """The memory backend without its power to wake waiters."""

    options_type = MemoryResultBackend.options_type
    errors = ErrorTable(Rule(OSError, ConnectionLost), Rule(PermissionError, AccessDenied))

    def __init__(self, inner):
        self.inner = inner
        self.capabilities = dataclasses.replace(inner.capabilities, wait="poll", max_value=50_000)

    @classmethod
    def from_url(cls, url, options, *, clock):
        return cls(MemoryResultBackend.from_url(url, options, clock=clock))

    def put(self, records, *, ttl, timeout):
        return self.inner.put(records, ttl=ttl, timeout=timeout)

    def get(self, keys, *, timeout):
        return self.inner.get(keys, timeout=timeout)

    def delete(self, keys, *, timeout):
        self.inner.delete(keys, timeout=timeout)

    def close(self, *, timeout):
        self.inner.close(timeout=timeout)


@pytest.fixture
def polling(monkeypatch, url):
    """A store that must poll, in real time."""
    monkeypatch.setattr(Plugin, "load", lambda self: PollingMemory)
    with results(url, expires=60, retry_policy={"max_retries": 3, "interval_start": 0, "interval_step": 0}) as made:
        yield made


def test_a_store_without_waiters_is_polled(polling, url, pool):
    with results(url) as other:
        futures = {i: pool.submit(polling.reserve(str(i)).result, HANG) for i in range(8)}
        wait_until(lambda: polling._reader.waiting.waiters() == 8)
        for i in range(8):
            other.set_result(str(i), i)
        assert [future.result(HANG) for future in futures.values()] == list(range(8))
        gone = pool.submit(polling.reserve("gone").result, HANG)
        wait_until(lambda: polling._reader.waiting.waiters() == 1)
        other.forget("gone")
        with pytest.raises(ResultLost):
            gone.result(HANG)
    assert polling._reader.waiting.waiters() == 0


def wait_until(condition):
    deadline = time.monotonic() + HANG
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        threading.Event().wait(0.001)


# -- failures ---------------------------------------------------------------------------------------------------------


class Allowed(Exception):
    pass


def failed(store, error, key="job"):
    pending = store.reserve(key)
    try:
        raise error  # noqa: TRY301 - for its traceback
    except Exception as caught:  # noqa: BLE001 - any
        stored = store.set_exception(key, caught)
    assert stored
    return pending


def test_a_failure_is_raised_where_it_is_awaited(store):
    """RES-19."""
    pending = failed(store, ValueError("bad", 7))
    with pytest.raises(RemoteFailure, match=r"ValueError: .*bad") as caught:
        pending.result(0)
    assert caught.value.type == "ValueError"
    assert "in failed" in caught.value.remote_traceback
    assert "in failed" in pending.traceback
    assert pending.state is State.FAILURE


def test_a_failure_is_returned_on_request(store):
    pending = failed(store, ValueError("bad"))
    assert isinstance(pending.result(0, propagate=False), RemoteFailure)
    assert isinstance(pending.exception(0), RemoteFailure)
    store.set_result("fine", 1)
    assert store.pending("fine").exception(0) is None


def test_an_allowed_class_is_rebuilt(url, clock):
    with results(url, clock=clock, exceptions=[Allowed, ValueError]) as store:
        pending = failed(store, Allowed("a", 1))
        with pytest.raises(Allowed) as caught:
            pending.result(0)
        assert caught.value.args == ("a", 1)
        assert pending.exception(0) is not caught.value, "each reader gets its own"
        assert isinstance(failed(store, KeyError("k"), "other").exception(0), RemoteFailure)


def test_only_exceptions_can_be_allowed(url):
    with pytest.raises(InvalidOption, match="exceptions"):
        results(url, exceptions=[int])


def test_a_revoked_result_is_raised(store):
    pending = store.reserve("job")
    store.set_state("job", State.REVOKED)
    with pytest.raises(RemoteFailure, match="'job' was revoked"):
        pending.result(0)


def test_a_failure_fits_in_a_small_store(polling):
    error = ValueError("x" * 30_000, "y" * 30_000)
    error.add_note("note " * 30_000)
    pending = failed(polling, error)
    assert pending.exception(1).type == "ValueError"


# -- trouble ----------------------------------------------------------------------------------------------------------


def test_a_call_is_repeated_and_then_succeeds(polling):
    faults = Faults(polling.backend)
    faults.fail("put", OSError("cut"), times=2)
    assert polling.set_result("job", 1)
    faults.fail("get", OSError("cut"), times=2)
    assert polling.pending("job").result(HANG) == 1
    assert faults.calls["put"] == 3


def test_a_store_that_is_down_is_an_error_never_a_success(polling):
    """RES-23."""
    faults = Faults(polling.backend)
    faults.fail("put", OSError("down"), times=100)
    for write in (
        lambda: polling.set_result("job", 1),
        lambda: polling.set_exception("job", ValueError()),
        lambda: polling.set_state("job", "STARTED"),
        lambda: polling.reserve("job"),
    ):
        with pytest.raises(ConnectionLost, match=r"'job'.*down") as caught:
            write()
        assert isinstance(caught.value.__cause__, OSError)
    assert faults.calls["put"] == 16
    assert polling.get("job").state is State.UNKNOWN


def test_a_lost_answer_is_told_from_being_kept_out(polling):
    faults = Faults(polling.backend)
    faults.fail("put", OutcomeUnknown("cut"), after=True)
    assert polling.set_result("job", 1), "its own first try was stored"
    faults.fail("put", OutcomeUnknown("cut"), after=True)
    assert not polling.set_result("job", 1), "that of the call before is not its own"


def test_a_refusing_store_is_not_asked_again(polling):
    class Refuses(Exception):
        pass

    faults = Faults(polling.backend)
    faults.fail("put", Refuses("not you"), times=5)
    with pytest.raises(TransportError, match="not you"):
        polling.set_result("job", 1)
    assert faults.calls["put"] == 1


def test_an_outcome_that_is_an_error_is_raised(polling):
    class Full(Exception):
        pass

    polling.backend.put = lambda records, *, ttl, timeout: [Full("no room")]
    with pytest.raises(TransportError, match="no room"):
        polling.set_result("job", 1)


def test_a_connection_that_dies_in_the_middle_of_a_wait_loses_nothing(url, pool):
    """RES-10."""
    with results(url, retry_policy={"interval_start": 0, "interval_step": 0}) as store:
        pending = store.reserve("job")
        waits = itertools.count()
        real = store.backend.wait

        def wait(seen: Mapping[str, Record | None], *, timeout):
            if next(waits) == 0:
                store.backend.put([Record(key="job", value=final)], ttl=None, timeout=1)
                raise ConnectionLost("cut")
            return real(seen, timeout=timeout)

        final = encode_record(Header(State.SUCCESS, 1.0), b"x")
        store.backend.wait = wait
        assert pool.submit(pending.result, HANG).result(HANG) == b"x"
