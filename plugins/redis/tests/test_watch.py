"""Waiting for results: woken by whatever changes a key, also after connections or the server were lost."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from brokerkit_redis.errors import ERRORS

from brokerkit import servers
from brokerkit.models import Record

HANG = 30.0
SOON = 10.0  # far below the timeout of each wait: whoever was not woken fails


@pytest.fixture
def client(plain):
    with redis.Redis(port=plain.facts.port) as found:
        found.flushall()
        yield found


@pytest.fixture
def backend(plain, client, open_results):
    return open_results(plain.url())


def record(key="k", value=b"v", *, final=True):
    return Record(key=key, value=value, final=final)


def woken_by(client, backend, change, *, keys=("k",), timeout=HANG):
    """Wait in another thread, cause the change once it does, and return the keys that woke it."""
    seen = dict(zip(keys, backend.get(keys, timeout=HANG), strict=True))
    with ThreadPoolExecutor(1) as pool:
        promise = pool.submit(backend.wait, seen, timeout=timeout)
        _until_tracked(client)
        change()
        began = time.monotonic()
        found = promise.result()
        assert time.monotonic() - began < SOON
        return list(found)


def _wait_as_the_core_does(backend, key):
    end = time.monotonic() + HANG
    while time.monotonic() < end:
        try:
            found = backend.wait({key: None}, timeout=1.0)
        except Exception as error:
            if not ERRORS.translate(error, doing="wait").retryable:
                raise
        else:
            if found:
                return found
    return []


def _until_tracked(client):
    end = time.monotonic() + HANG
    while not client.info("clients")["tracking_clients"] or not client.info("stats")["tracking_total_keys"]:
        assert time.monotonic() < end


def test_a_put_of_another_process_wakes(plain, client, backend):
    script = (
        "import sys; from brokerkit.results import results\n"
        "with results(sys.argv[1]) as store: store.set_result('k', 1)"
    )
    ran = []

    def put():
        ran.append(subprocess.run([sys.executable, "-c", script, plain.url()], timeout=60, check=True))

    assert woken_by(client, backend, put) == ["k"]
    assert backend.get(["k"], timeout=HANG)[0].final


@pytest.mark.parametrize(
    "change",
    [
        lambda client, backend: backend.put([record(value=b"other")], ttl=60, timeout=HANG),
        lambda client, backend: backend.delete(["k"], timeout=HANG),
        lambda client, backend: client.pexpire("bk:result:k", 50),
        lambda client, backend: client.flushdb(),
        lambda client, backend: client.flushall(),
        lambda client, backend: client.rename("bk:result:k", "elsewhere"),
    ],
    ids=["put", "delete", "expiry", "FLUSHDB", "FLUSHALL", "RENAME"],
)
def test_what_changes_a_record_wakes(client, backend, change):
    backend.put([record(final=False)], ttl=60, timeout=HANG)
    assert woken_by(client, backend, lambda: change(client, backend)) == ["k"]


def test_an_eviction_wakes(start, open_results):
    server = start(servers.Redis(maxmemory="3mb"))
    backend = open_results(server.url())
    backend.put([record(value=b"x" * 1000)], ttl=60, timeout=HANG)
    with redis.Redis(port=server.facts.port) as client:

        def fill():
            end = time.monotonic() + HANG
            n = 0
            while client.exists("bk:result:k"):
                backend.put([record(f"n{n + i}", b"y" * 5000) for i in range(20)], ttl=60, timeout=HANG)
                n += 20
                assert time.monotonic() < end

        assert woken_by(client, backend, fill) == ["k"]
    assert backend.get(["k"], timeout=HANG) == [None]


def test_only_the_keys_that_changed_are_named(client, backend):
    backend.put([record("a", final=False), record("b", final=False)], ttl=60, timeout=HANG)
    change = woken_by(
        client, backend, lambda: backend.put([record("b", b"n")], ttl=60, timeout=HANG), keys=("a", "b", "c")
    )
    assert change == ["b"]


def test_a_change_between_two_waits_is_seen(client, backend):
    seen = {"k": None}
    assert backend.wait(seen, timeout=0.5) == []
    backend.put([record(final=False)], ttl=60, timeout=HANG)
    assert backend.wait(seen, timeout=HANG) == ["k"]


def test_a_change_that_is_known_already_wakes_nobody(client, backend):
    assert backend.wait({"k": record()}, timeout=HANG) == ["k"]
    backend.put([record(final=False)], ttl=60, timeout=HANG)  # the server tells of it, and nobody listens
    seen = dict(zip(["k"], backend.get(["k"], timeout=HANG), strict=True))
    assert backend.wait(seen, timeout=0.5) == []


def test_keys_of_another_database_wake_nobody(plain, client, backend, open_results):
    other = open_results(plain.url(database=3))
    found = woken_by(client, backend, lambda: other.put([record()], ttl=60, timeout=HANG), timeout=1.0)
    assert found == []


@pytest.mark.parametrize("kind", ["normal", "pubsub", "both"])
def test_killed_connections_never_swallow_a_wake_up(client, backend, kind):
    """Either the wait fails in a way that is tried again, or it is woken; what was put meanwhile is found in time."""
    with ThreadPoolExecutor(1) as pool:
        for n in range(4):
            key = f"{kind}{n}"

            promise = pool.submit(_wait_as_the_core_does, backend, key)
            _until_tracked(client)
            for each in ("normal", "pubsub"):
                if kind in (each, "both"):
                    client.execute_command("CLIENT", "KILL", "TYPE", each, "SKIPME", "yes")
            client.set(f"bk:result:{key}", b"Fx", px=60_000)
            assert promise.result(timeout=SOON) == [key]


def test_a_restart_of_the_server_whose_numbers_of_clients_repeat(start, open_results):
    server = start(servers.Redis(aof="always"))
    backend = open_results(server.url())
    for n in range(3):
        key = f"k{n}"
        with redis.Redis(port=server.facts.port) as client, ThreadPoolExecutor(1) as pool:
            assert backend.wait({key: record(key)}, timeout=HANG) == [key]
            server.kill9()
            server.restart()

            promise = pool.submit(_wait_as_the_core_does, backend, key)
            _until_tracked(client)
            client.set(f"bk:result:{key}", b"Fx", px=60_000)
            assert promise.result(timeout=SOON) == [key]


def test_waiting_threads_are_each_woken_by_their_own_key(client, backend):
    go = threading.Barrier(21)

    def wait(n):
        go.wait(HANG)
        return backend.wait({f"k{n}": None}, timeout=HANG)

    with ThreadPoolExecutor(20) as pool:
        promises = [pool.submit(wait, n) for n in range(20)]
        go.wait(HANG)
        for n in range(20):
            backend.put([record(f"k{n}")], ttl=60, timeout=HANG)
        assert [promise.result() for promise in promises] == [[f"k{n}"] for n in range(20)]


def test_waiting_asks_nothing_while_nothing_changes(client, backend):
    backend.wait({"k": record()}, timeout=HANG)  # connect
    before = client.info("stats")["total_commands_processed"]
    assert backend.wait({"k": None}, timeout=1.0) == []
    assert client.info("stats")["total_commands_processed"] - before < 6


def test_nothing_stays_on_the_server_after_the_end(plain, client, open_results):
    backend = open_results(plain.url(), client_name="mine")
    assert backend.wait({"k": record()}, timeout=HANG) == ["k"]
    assert client.info("clients")["tracking_clients"] == 1
    backend.close(timeout=HANG)
    end = time.monotonic() + HANG
    while client.info("clients")["tracking_clients"] or client.pubsub_channels():
        assert time.monotonic() < end
    assert [each for each in client.client_list() if each["name"] == "mine"] == []
