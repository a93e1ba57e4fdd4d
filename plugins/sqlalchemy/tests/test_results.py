"""The result backend."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from brokerkit_sqlalchemy import SQLAlchemyResultBackend

from brokerkit.errors import AlreadyFinal
from brokerkit.models import Record
from brokerkit.testing import ManualClock

Open = Callable[..., SQLAlchemyResultBackend]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["file", "memory"])
def backend(open_results: Open, clock: ManualClock, request: pytest.FixtureRequest) -> SQLAlchemyResultBackend:
    return open_results(clock=clock) if request.param == "file" else open_results("sqlite://", clock=clock)


def put(backend: SQLAlchemyResultBackend, *records: Record, ttl: float | None = None) -> list[type]:
    return [type(outcome) for outcome in backend.put(records, ttl=ttl, timeout=5)]


def values(backend: SQLAlchemyResultBackend, keys: Sequence[str]) -> list[bytes | None]:
    return [None if found is None else found.value for found in backend.get(keys, timeout=5)]


STORED, REFUSED = type(None), AlreadyFinal


def test_a_record_comes_back_as_it_was_put(backend: SQLAlchemyResultBackend) -> None:
    put(backend, Record(key="a", value=bytes(range(256))), Record(key="b", value=b"", final=True))
    a, missing, b = backend.get(["a", "no", "b"], timeout=5)
    assert a is not None
    assert b is not None
    assert missing is None
    assert (a.key, a.value, a.final, a.expired) == ("a", bytes(range(256)), False, False)
    assert (b.key, b.value, b.final) == ("b", b"", True)


def test_what_is_final_stays(backend: SQLAlchemyResultBackend) -> None:
    assert put(backend, Record(key="k", value=b"1")) == [STORED]
    assert put(backend, Record(key="k", value=b"2")) == [STORED]
    assert put(backend, Record(key="k", value=b"3", final=True)) == [STORED]
    for late in (Record(key="k", value=b"4"), Record(key="k", value=b"5", final=True)):
        assert put(backend, late) == [REFUSED]
    assert values(backend, ["k"]) == [b"3"]


def test_if_absent_replaces_nothing(backend: SQLAlchemyResultBackend) -> None:
    assert put(backend, Record(key="k", value=b"1", if_absent=True)) == [STORED]
    assert put(backend, Record(key="k", value=b"2", if_absent=True)) == [REFUSED]
    assert values(backend, ["k"]) == [b"1"]


def test_a_batch_has_an_outcome_for_each(backend: SQLAlchemyResultBackend) -> None:
    put(backend, Record(key="final", value=b"", final=True), Record(key="open", value=b""))
    batch = [
        Record(key="open", value=b"n", if_absent=True),
        Record(key="new1", value=b"n"),
        Record(key="final", value=b"n"),
        Record(key="new2", value=b"n", if_absent=True),
        Record(key="new3", value=b"n", final=True),
    ]
    assert put(backend, *batch) == [REFUSED, STORED, REFUSED, STORED, STORED]
    keys = [record.key for record in batch]
    assert values(backend, keys) == [b"", b"n", b"", b"n", b"n"]


def test_an_expired_record_is_remembered_as_such_and_may_be_replaced(
    backend: SQLAlchemyResultBackend, clock: ManualClock
) -> None:
    put(backend, Record(key="k", value=b"1", final=True), Record(key="l", value=b"1", final=True), ttl=10)
    clock.advance(9.9)
    assert [found.expired for found in backend.get(["k", "l"], timeout=5) if found] == [False, False]
    assert put(backend, Record(key="k", value=b"2")) == [REFUSED]
    clock.advance(0.1)
    assert [found.expired for found in backend.get(["k", "l"], timeout=5) if found] == [True, True]
    assert put(backend, Record(key="k", value=b"2")) == [STORED]
    assert put(backend, Record(key="l", value=b"2", if_absent=True)) == [STORED]
    clock.advance(1e9)
    assert values(backend, ["k", "l"]) == [b"2", b"2"]


def test_reading_prolongs_nothing_and_putting_does(backend: SQLAlchemyResultBackend, clock: ManualClock) -> None:
    put(backend, Record(key="k", value=b"1"), ttl=10)
    clock.advance(6)
    backend.get(["k"], timeout=5)
    put(backend, Record(key="k", value=b"2"), ttl=10)
    clock.advance(6)
    (found,) = backend.get(["k"], timeout=5)
    assert found is not None
    assert not found.expired
    clock.advance(4)
    (found,) = backend.get(["k"], timeout=5)
    assert found is not None
    assert found.expired


def test_what_has_been_expired_for_long_is_forgotten_in_steps(
    open_results: Open, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brokerkit_sqlalchemy.results._PURGE_STEP", 10)
    backend = open_results(clock=clock, remember=100)
    keys = [f"k{i}" for i in range(25)]
    put(backend, *[Record(key=key, value=b"") for key in keys], ttl=10)
    put(backend, Record(key="for ever", value=b""))
    clock.advance(110)
    left = []
    for i in range(4):
        put(backend, Record(key=f"new{i}", value=b""), ttl=10)
        left.append(len([value for value in values(backend, keys) if value is not None]))
    assert left == [15, 5, 0, 0]
    assert values(backend, ["for ever", "new0"]) == [b"", b""]


def test_what_is_deleted_is_just_gone(backend: SQLAlchemyResultBackend) -> None:
    put(backend, Record(key="k", value=b"1", final=True))
    backend.delete(["k", "never"], timeout=5)
    backend.delete(["k"], timeout=5)
    assert values(backend, ["k"]) == [None]
    assert put(backend, Record(key="k", value=b"2")) == [STORED]


@pytest.mark.parametrize("count", [1, 2, 16, 17, 256, 257, 1000])
def test_any_number_of_keys_keeps_its_order(backend: SQLAlchemyResultBackend, count: int) -> None:
    keys = [f"k{i}" for i in range(count)]
    put(backend, *[Record(key=key, value=key.encode()) for key in keys[::2]])
    assert values(backend, keys) == [None if i % 2 else key.encode() for i, key in enumerate(keys)]
    assert values(backend, [*reversed(keys)]) == [*reversed(values(backend, keys))]


@pytest.mark.parametrize("key", ["a b", "../x", "%", "' --", "日本", "a\n", "x" * 1000])
def test_any_key_is_just_a_key(backend: SQLAlchemyResultBackend, key: str) -> None:
    put(backend, Record(key=key, value=b"1"), Record(key=key + "x", value=b"2"))
    assert values(backend, [key, key + "x"]) == [b"1", b"2"]


def test_virtual_hosts_have_records_of_their_own(open_results: Open) -> None:
    one, other = open_results(), open_results(virtual_host="v")
    put(one, Record(key="k", value=b"1", final=True))
    assert values(other, ["k"]) == [None]
    put(other, Record(key="k", value=b"2"))
    other.delete(["k"], timeout=5)
    assert values(one, ["k"]) == [b"1"]


def test_of_many_who_finish_at_once_one_wins(open_results: Open) -> None:
    backends = [open_results() for _ in range(4)]
    outcomes: list[tuple[int, object]] = []

    def finish(number: int) -> None:
        for k in range(20):
            record = Record(key=f"k{k}", value=b"%d" % number, final=True)
            (outcome,) = backends[number].put([record], ttl=None, timeout=30)
            if outcome is None:
                outcomes.append((k, number))

    threads = [threading.Thread(target=finish, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(k for k, _ in outcomes) == [*range(20)]
    assert values(backends[0], [f"k{k}" for k, _ in outcomes]) == [b"%d" % number for _, number in outcomes]


def test_messages_and_results_share_a_file(
    open_results: Open, open_transport: Callable[..., object], tmp_path: Path
) -> None:
    put(open_results(), Record(key="k", value=b"1"))
    open_transport()
    assert (tmp_path / "broker.db").exists()
    assert values(open_results(), ["k"]) == [b"1"]
