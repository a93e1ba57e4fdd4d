"""The result backend on a real server: compare and set, time to live, batches, sizes."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from brokerkit_memcached.storing import Storing, settled
from brokerkit_memcached.wire import Wire
from pymemcache.exceptions import MemcacheError, MemcacheServerError

from brokerkit import errors
from brokerkit.errors import AlreadyFinal, OutcomeUnknown, ResultTooLarge
from brokerkit.models import Record
from brokerkit.testing import ManualClock

HANG = 30.0
MIB = 1024 * 1024


def record(key="k", value=b"v", *, final=True, if_absent=False):
    return Record(key=key, value=value, final=final, if_absent=if_absent)


def put(backend, *records, ttl=60.0):
    return backend.put(records, ttl=ttl, timeout=HANG)


def read(backend, *keys):
    return [found and found.value for found in backend.get(keys, timeout=HANG)]


def seconds_left(server, key):
    """How long the server keeps an item, -1 for ever; the second command is one whose answer ends the asking."""
    told = server.command(f"mg bk:result:{key} t\r\nversion")
    return int(told.split("\r\n")[0].rpartition("t")[2])


def kinds(outcomes):
    return [type(outcome) for outcome in outcomes]


# -- compare and set -----------------------------------------------------------------------------------------------------


def test_a_final_record_is_never_replaced_and_an_open_one_is(backend):
    assert put(backend, record(value=b"1", final=False)) == [None]
    assert put(backend, record(value=b"2", final=False)) == [None]
    assert put(backend, record(value=b"3")) == [None]
    for late in (record(value=b"4"), record(value=b"4", final=False), record(value=b"4", final=False, if_absent=True)):
        assert kinds(put(backend, late)) == [AlreadyFinal]
    assert read(backend, "k") == [b"3"]
    assert backend.get(["k"], timeout=HANG)[0].final


def test_what_is_there_is_kept_from_who_wants_it_absent(backend):
    assert put(backend, record(value=b"1", final=False)) == [None]
    assert kinds(put(backend, record(value=b"2", final=False, if_absent=True))) == [AlreadyFinal]
    assert read(backend, "k") == [b"1"]


def test_of_many_writers_at_once_exactly_one_is_final_and_its_value_stays(backend):
    for n in range(20):
        go = threading.Barrier(8)

        def write(who, key=f"k{n}", go=go):
            go.wait(HANG)
            put(backend, record(key, b"started", final=False))
            return put(backend, record(key, b"%d" % who))[0]

        with ThreadPoolExecutor(8) as pool:
            outcomes = list(pool.map(write, range(8)))
        (winner,) = [who for who, outcome in enumerate(outcomes) if outcome is None]
        assert set(kinds(outcomes)) == {type(None), AlreadyFinal}
        assert read(backend, f"k{n}") == [b"%d" % winner]


def test_what_is_reserved_once_is_reserved_by_one(backend):
    with ThreadPoolExecutor(8) as pool:
        tries = [pool.submit(put, backend, record(final=False, if_absent=True, value=b"%d" % n)) for n in range(16)]
        assert sum(each.result()[0] is None for each in tries) == 1


def test_who_comes_between_a_look_and_its_write_is_seen(backend, plain, open_results, monkeypatch):
    other = open_results(plain.url())
    between = iter([
        lambda: put(other, record(value=b"second", final=False)),  # then cas says EXISTS
        lambda: other.delete(["k"], timeout=HANG),  # then cas says NOT_FOUND
        lambda: put(other, record(value=b"fourth")),  # then add says NOT_STORED
    ])  # fmt: skip
    put(other, record(value=b"first", final=False))
    looked = Storing._look

    def look(self, numbers):
        found = looked(self, numbers)
        if self._wire is not None and threading.current_thread().name == "main-writer":
            next(between, lambda: None)()
        return found

    monkeypatch.setattr(Storing, "_look", look)
    outcomes = []
    writer = threading.Thread(target=lambda: outcomes.extend(put(backend, record(value=b"mine"))), name="main-writer")
    writer.start()
    writer.join(HANG)
    assert kinds(outcomes) == [AlreadyFinal]
    assert read(backend, "k") == [b"fourth"]


def test_a_new_record_takes_one_round_trip_and_one_that_replaces_three(backend, monkeypatch):
    put(backend, record("warm"))
    sent = []
    send = Wire.send
    monkeypatch.setattr(
        Wire, "send", lambda self, content, deadline: (sent.append(content[:4]), send(self, content, deadline))
    )
    put(backend, record("new", final=False))
    assert sent == [b"add "]
    put(backend, record("new"))
    assert sent[1:] == [b"add ", b"gets", b"cas "]


# -- batches and sizes ---------------------------------------------------------------------------------------------------


def test_a_batch_has_an_outcome_for_each_record_in_order(backend):
    put(backend, record("b", b"first"))
    outcomes = put(backend, *(record(key, b"second") for key in "abc"))
    assert kinds(outcomes) == [type(None), AlreadyFinal, type(None)]
    assert read(backend, "c", "nothing", "b", "a") == [b"second", None, b"first", b"second"]
    backend.delete(["a", "nothing", "b"], timeout=HANG)
    assert read(backend, "a", "b", "c") == [None, None, b"second"]


def test_thousands_at_once(backend):
    keys = [f"{'long' * (n % 60)}{n}" for n in range(3000)]
    for first in range(0, 3000, 1000):
        assert set(put(backend, *(record(key, key.encode()) for key in keys[first : first + 1000]))) == {None}
    assert read(backend, *keys) == [key.encode() for key in keys]
    backend.delete(keys, timeout=HANG)
    assert read(backend, *keys) == [None] * 3000


@pytest.mark.parametrize("command", [b"add", b"gets"])
def test_what_ends_a_batch_half_way_does_not_say_that_nothing_was_stored(backend, monkeypatch, command):
    put(backend, record("there", final=False))
    real, sent = Wire.send, []

    def send(self, content, deadline):
        sent.append(content)
        if content.startswith(command) and len(sent) > 1:
            if command == b"gets":
                raise MemcacheServerError("out of memory writing get response")
            deadline = 0.0
        real(self, content, deadline)

    monkeypatch.setattr(Wire, "send", send)
    with pytest.raises(MemcacheError) as caught:
        put(backend, *(record(str(n)) for n in range(150)), record("there"))
    monkeypatch.setattr(Wire, "send", real)
    assert read(backend, "0") == [b"v"], "a part of it was stored"
    assert kinds(settled([caught.value] * 2)) == [OutcomeUnknown] * 2


def test_binary_values_and_odd_ids(backend):
    values = {"é b\r\n": b"", "#": bytes(1000), "x" * 4000: b"END\r\n", "a": bytes(range(256)), "b": b"x" * 1_000_000}
    assert set(put(backend, *(record(key, value) for key, value in values.items()))) == {None}
    assert read(backend, *values) == list(values.values())


def test_many_large_values_at_once_come_whole(backend):
    values = {f"k{n}": os.urandom(200_000) for n in range(40)}
    assert set(put(backend, *(record(key, value) for key, value in values.items()))) == {None}
    assert read(backend, *values) == list(values.values())


def test_what_is_too_large_is_refused_with_the_limit_and_its_neighbours_are_stored(backend, monkeypatch):
    limit = backend.capabilities.max_value
    put(backend, record("warm"))
    sent = []
    send = Wire.send
    monkeypatch.setattr(
        Wire, "send", lambda self, content, deadline: (sent.append(len(content)), send(self, content, deadline))
    )
    outcomes = put(backend, record("a"), record("b", b"x" * (limit + 1)), record("c", b"x" * limit))
    assert kinds(outcomes) == [type(None), ResultTooLarge, type(None)]
    assert str(limit) in str(outcomes[1])
    assert read(backend, "a", "b") == [b"v", None]
    assert len(read(backend, "c")[0]) == limit
    assert sum(sent) < limit + 10_000


def test_a_server_that_takes_less_than_we_were_told_has_the_last_word(start, open_results):
    backend = open_results(start(memory=1).url())  # its items are of 512 KiB at most
    (outcome,) = put(backend, record(value=b"x" * 600_000))
    assert type(outcome) is ResultTooLarge
    assert str(512 * 1024 - 512) in str(outcome)


def test_a_server_that_refuses_one_record_takes_the_others(start, open_results):
    backend = open_results(start().url(), item_size_max=4 * MIB)
    pool = backend._client._pools[0]
    wire = pool.take(time.monotonic() + HANG)
    wire.item_size_max = 4 * MIB  # as if it had said so
    pool.give(wire)
    outcomes = put(backend, record("a"), record("b", b"x" * (2 * MIB)), record("c"))
    assert [outcomes[0], outcomes[2]] == [None, None]
    translated = backend.errors.translate(outcomes[1], doing="put")
    assert type(translated) is ResultTooLarge
    assert "-I" in str(translated)
    assert read(backend, "a", "b", "c") == [b"v", None, b"v"]


# -- time to live --------------------------------------------------------------------------------------------------------


def test_a_record_is_there_until_its_time_and_then_reads_as_expired(backend, until):
    began = time.monotonic()
    put(backend, record("short", final=True), ttl=1.0)
    put(backend, record("long"), ttl=60.0)
    gone = []
    until(lambda: gone.append(backend.get(["short"], timeout=HANG)[0]) or gone[-1] is None or gone[-1].expired)
    took = time.monotonic() - began
    assert gone[-1].expired
    assert gone[-1].value == b""
    assert all(each.value == b"v" for each in gone[:-1])
    assert 1.0 <= took <= 1.0 + backend.capabilities.ttl_late + HANG / 3
    assert read(backend, "long") == [b"v"]


def test_what_has_expired_keeps_nobody_out(backend, until):
    for key, again in (
        ("final", record("final", b"new")),
        ("absent", record("absent", b"new", final=False, if_absent=True)),
    ):
        put(backend, record(key), ttl=0.5)
        until(lambda key=key: backend.get([key], timeout=HANG)[0].expired)
        assert put(backend, again) == [None]
        assert read(backend, key) == [b"new"]


def test_without_memory_of_it_what_has_expired_is_simply_gone(plain, open_results, until):
    backend = open_results(plain.url(), remember_expired=0)
    put(backend, record(), ttl=0.5)
    until(lambda: backend.get(["k"], timeout=HANG)[0] is None)


@pytest.mark.parametrize("days", [29, 31, 40, 400, 100_000])
def test_months_are_no_moments_of_1970(backend, plain, days):
    put(backend, record(), ttl=days * 86_400.0)
    assert read(backend, "k") == [b"v"]
    left = seconds_left(plain, "k")
    assert left == -1 or abs(left - days * 86_400 - 600) < 60
    assert (left == -1) is (days == 100_000)


def test_for_ever_is_for_ever(backend, plain):
    put(backend, record(), ttl=None)
    assert seconds_left(plain, "k") == -1


def test_a_wrong_clock_of_ours_changes_nothing(plain, open_results):
    """Only its monotonic time counts, and the server's own clock."""
    for wrong in (0.0, 4e9):
        clock = ManualClock(start=wrong)
        backend = open_results(plain.url(), clock=clock)
        put(backend, record(f"k{wrong}"), ttl=40 * 86_400.0)
        assert read(backend, f"k{wrong}") == [b"v"]
        assert abs(seconds_left(plain, f"k{wrong}") - 40 * 86_400 - 600) < 60


# -- what is not ours ----------------------------------------------------------------------------------------------------


def test_a_foreign_value_is_handed_over_as_it_is_and_can_be_replaced(backend, plain):
    plain.command("set bk:result:k 0 0 7\r\nforeign")
    assert read(backend, "k") == [b"foreign"]
    assert put(backend, record()) == [None]
    assert read(backend, "k") == [b"v"]


def test_two_prefixes_know_nothing_of_each_other(plain, open_results):
    one, other = (open_results(plain.url(), key_prefix=prefix) for prefix in ("bk:", "bk:result:"))
    put(one, record("result:k", b"one"))
    assert put(other, record("k", b"other")) == [None]
    assert (read(one, "result:k"), read(other, "k"), read(one, "k")) == ([b"one"], [b"other"], [None])


def test_after_close_everything_is_closed(backend):
    put(backend, record())
    backend.close(timeout=1)
    backend.close(timeout=1)
    with pytest.raises(errors.Closed):
        read(backend, "k")
