"""What tests of waiting share: a store that counts, and waiting on it by both ways."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from brokerkit._clock import SYSTEM_CLOCK
from brokerkit._waiting import Waiting
from brokerkit.models import Record


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


@pytest.fixture(params=["poll", "push"])
def mode(request):
    return request.param


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def waiting_on():
    """Makes a waiting on a store."""

    def make(store, mode, clock=SYSTEM_CLOCK, patience=5.0):
        return Waiting(
            clock=clock,
            read=lambda keys, timeout: dict(zip(keys, store.read(keys, timeout), strict=True)),
            ended=lambda record: record.value.startswith(b"end"),
            watch=store.watch if mode == "push" else None,
            patience=patience,
        )

    return make


@pytest.fixture
def waiting(store, mode, waiting_on):
    made = waiting_on(store, mode)
    yield made
    assert made.waiters() == 0
    assert made._seen == {}
    assert made._leader is None


@pytest.fixture
def pool():
    with ThreadPoolExecutor(64) as made:
        yield made


@pytest.fixture
def wait_for_waiters():
    """Waits until so many wait."""
    return lambda waiting, count: _until(lambda: waiting.waiters() >= count, "they never came")


@pytest.fixture
def wait_for_looks():
    """Waits until a ticket has seen what is there."""

    def looked(waiting):
        with waiting._lock:
            return any(ticket.looked for tickets in waiting._tickets.values() for ticket in tickets)

    return lambda waiting: _until(lambda: looked(waiting), "nobody ever looked")


def _until(condition, otherwise):
    for _ in range(60_000):
        if condition():
            return
        threading.Event().wait(0.001)
    raise AssertionError(otherwise)
