"""The result backend: compare and set, time to live, batches, and what the server may drop."""

from __future__ import annotations

import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

import brokerkit
from brokerkit import errors, servers
from brokerkit.errors import AlreadyFinal
from brokerkit.models import Record
from brokerkit.results import results

HANG = 30.0


@pytest.fixture
def client(plain):
    with redis.Redis(port=plain.facts.port) as found:
        found.flushall()
        yield found


@pytest.fixture
def backend(plain, client, open_results):
    return open_results(plain.url())


def record(key="k", value=b"v", *, final=True, if_absent=False):
    return Record(key=key, value=value, final=final, if_absent=if_absent)


def test_of_many_writers_at_once_exactly_one_is_final_and_its_value_stays(backend):
    for n in range(20):
        go = threading.Barrier(8)

        def write(who, key=f"k{n}", go=go):
            go.wait(HANG)
            backend.put([record(key, b"started", final=False)], ttl=60, timeout=HANG)
            return backend.put([record(key, b"%d" % who)], ttl=60, timeout=HANG)[0]

        with ThreadPoolExecutor(8) as pool:
            outcomes = list(pool.map(write, range(8)))
        (winner,) = [who for who, outcome in enumerate(outcomes) if outcome is None]
        assert {type(outcome) for outcome in outcomes} == {type(None), AlreadyFinal}
        assert backend.get([f"k{n}"], timeout=HANG)[0].value == b"%d" % winner


def test_what_is_reserved_once_is_reserved_by_one(backend):
    with ThreadPoolExecutor(8) as pool:
        put = [
            pool.submit(backend.put, [record(final=False, if_absent=True, value=b"%d" % n)], ttl=60, timeout=HANG)
            for n in range(16)
        ]
        assert sum(promise.result()[0] is None for promise in put) == 1


def test_every_key_has_its_time_to_live_and_its_prefix(client, backend):
    backend.put([record(f"k{n}", b"x" * n, final=bool(n % 2)) for n in range(50)], ttl=60, timeout=HANG)
    backend.put([record("k0", final=False)], ttl=5, timeout=HANG)
    assert backend.wait({"k1": None, "other": None}, timeout=HANG) == ["k1"]
    keys = client.keys("*")
    assert len(keys) == 50
    assert all(key.startswith(b"bk:result:") for key in keys)
    assert all(0 < client.pttl(key) <= 60_000 for key in keys)
    assert client.pttl("bk:result:k0") <= 5_000
    backend.put([record("k2")], ttl=None, timeout=HANG)
    assert client.pttl("bk:result:k2") == -1


def test_a_batch_of_one_trip_with_outcomes_in_order(client, backend):
    backend.put([record("b", b"first")], ttl=60, timeout=HANG)
    outcomes = backend.put([record(key, b"second") for key in "abc"], ttl=60, timeout=HANG)
    assert [type(each) for each in outcomes] == [type(None), AlreadyFinal, type(None)]
    found = backend.get(["c", "nothing", "b", "a"], timeout=HANG)
    assert [each and each.value for each in found] == [b"second", None, b"first", b"second"]
    before = client.info("commandstats")
    backend.get([f"k{n}" for n in range(1000)], timeout=HANG)
    assert client.info("commandstats")["cmdstat_mget"]["calls"] == before["cmdstat_mget"]["calls"] + 1
    backend.delete(["a", "b", "nothing"], timeout=HANG)
    assert backend.get(["a", "b"], timeout=HANG) == [None, None]


def test_binary_values_and_large_ones(backend):
    values = {
        "empty": b"",
        "zeros": bytes(1000),
        "F": b"F",
        "N": b"N",
        "all": bytes(range(256)),
        "large": b"x" * 3_000_000,
    }
    backend.put([record(key, value) for key, value in values.items()], ttl=60, timeout=HANG)
    found = backend.get(list(values), timeout=HANG)
    assert {each.key: each.value for each in found} == values


def test_scripts_that_the_server_forgot(client, backend):
    for n in range(3):
        client.script_flush()
        outcomes = backend.put([record(f"k{n}-{m}") for m in range(5)], ttl=60, timeout=HANG)
        assert outcomes == [None] * 5


def test_a_full_server_refuses_results_by_name(start, open_results):
    server = start(servers.Redis(maxmemory="2mb", policy="noeviction"))
    backend = open_results(server.url())
    end = time.monotonic() + HANG
    with pytest.raises(errors.StorageFull):
        _until_it_fails(backend, end)
    assert backend.get(["k0"], timeout=HANG)[0].value == b"x" * 10_000


def _until_it_fails(backend, end):
    n = 0
    while time.monotonic() < end:
        try:
            backend.put([record(f"k{n}", b"x" * 10_000)], ttl=60, timeout=HANG)
        except redis.RedisError as error:
            raise backend.errors.translate(error, doing="put") from error
        n += 1


def test_a_result_that_was_reserved_and_evicted_is_lost_at_once(start):
    server = start(servers.Redis())
    with results(server.url()) as store, redis.Redis(port=server.facts.port) as client, ThreadPoolExecutor(1) as pool:
        pending = store.reserve("k")
        promise = pool.submit(pending.result, HANG)
        end = time.monotonic() + HANG
        while not client.info("clients")["tracking_clients"]:
            assert time.monotonic() < end
        began = time.monotonic()
        client.delete("bk:result:k")
        with pytest.raises(errors.ResultLost):
            promise.result()
        assert time.monotonic() - began < 10


# -- what the server may drop --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "harm"),
    [
        ("allkeys-lru", "queues, messages, bindings and results"),
        ("allkeys-random", "queues, messages, bindings and results"),
        ("volatile-ttl", "results, and queues that expire"),
        ("volatile-lru", "results, and queues that expire"),
    ],
)
def test_a_policy_that_drops_keys_is_named_in_a_warning_and_refused_if_strict(start, policy, harm):
    server = start(servers.Redis(maxmemory="50mb", policy=policy))
    for connect in (brokerkit.connect, results):
        with pytest.warns(UserWarning, match=policy) as told:
            connect(server.url()).close()
        assert harm in str(told[0].message)
        with pytest.raises(errors.BrokerkitError, match=policy):
            connect(server.url(), strict=True)


def test_a_server_that_drops_nothing_is_not_warned_about(start):
    server = start(servers.Redis(maxmemory="50mb", policy="noeviction"))
    boundless = start(servers.Redis(settings={"maxmemory-policy": "allkeys-lru"}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for each in (server, boundless):
            for connect in (brokerkit.connect, results):
                connect(each.url(), strict=True).close()


def test_where_nobody_may_look_it_is_said(start):
    server = start(servers.Redis(acl=True))
    for connect in (brokerkit.connect, results):
        with pytest.warns(UserWarning, match="neither CONFIG GET nor INFO is allowed"):
            connect(server.url()).close()
        with pytest.raises(errors.BrokerkitError, match="neither CONFIG GET nor INFO is allowed"):
            connect(server.url(), strict=True)


def test_where_only_info_is_allowed_it_is_asked(start):
    server = start(servers.Redis(acl=True, maxmemory="50mb", policy="allkeys-lfu"))
    server.command("ACL", "SETUSER", "app", "+info")
    with pytest.warns(UserWarning, match="allkeys-lfu"):
        brokerkit.connect(server.url()).close()
