"""Waiting for results of a cluster: each node tells of its own keys, and nobody asks while nothing changes."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from brokerkit_redis.errors import ERRORS

from brokerkit.models import Record

HANG = 30.0
SOON = 10.0  # far below the timeout of each wait: whoever was not woken fails
KEYS = [f"k{n}" for n in range(12)]  # on all three nodes, as a test makes sure


@pytest.fixture
def backend(cluster, open_results):
    for node in cluster.nodes:
        node.command("FLUSHALL")
    return open_results(cluster.url(), cluster=True)


def record(key, value=b"v", *, final=True):
    return Record(key=key, value=value, final=final)


def seen_by(backend, keys=KEYS):
    return dict(zip(keys, backend.get(keys, timeout=HANG), strict=True))


def tracked(cluster):
    """How many keys each node tells of."""
    found = []
    for node in cluster.nodes:
        lines = node.command("INFO", "stats").decode().splitlines()
        found.append(int(next(line.partition(":")[2] for line in lines if line.startswith("tracking_total_keys:"))))
    return found


def until_tracked(cluster, number=12):
    end = time.monotonic() + HANG
    while sum(tracked(cluster)) < number:
        assert time.monotonic() < end, tracked(cluster)


def commands(cluster):
    """How many commands other than ours here all nodes have had."""
    total = 0
    for node in cluster.nodes:
        lines = node.command("INFO", "commandstats").decode().splitlines()
        total += sum(
            int(line.partition("calls=")[2].partition(",")[0])
            for line in lines
            if line.startswith(("cmdstat_get:", "cmdstat_mget:", "cmdstat_client", "cmdstat_subscribe:"))
        )
    return total


def woken_by(cluster, backend, change, keys=KEYS):
    seen = seen_by(backend, keys)
    with ThreadPoolExecutor(1) as pool:
        promise = pool.submit(backend.wait, seen, timeout=HANG)
        until_tracked(cluster, len(keys))
        change()
        began = time.monotonic()
        found = promise.result()
        assert time.monotonic() - began < SOON
        return list(found)


def node_of(cluster, key):
    """The node that has a result."""
    slot = cluster.nodes[0].command("CLUSTER", "KEYSLOT", f"bk:result:{key}")
    first_slots = [16384 * n // len(cluster.nodes) for n in range(len(cluster.nodes))]
    return cluster.nodes[max(n for n, first in enumerate(first_slots) if first <= slot)]


def test_the_keys_of_these_tests_are_on_all_nodes(cluster):
    assert {id(node_of(cluster, key)) for key in KEYS} == {id(node) for node in cluster.nodes}


@pytest.mark.parametrize("key", KEYS[:6])
def test_a_put_on_any_node_wakes(cluster, backend, open_results, key):
    other = open_results(cluster.url(), cluster=True)
    assert woken_by(cluster, backend, lambda: other.put([record(key)], ttl=60, timeout=HANG)) == [key]


@pytest.mark.parametrize("how", ["DEL", "PEXPIRE"])
def test_what_is_deleted_or_expires_wakes(cluster, backend, how):
    backend.put([record(key, final=False) for key in KEYS], ttl=60, timeout=HANG)
    words = (how, f"bk:result:{KEYS[5]}", *([50] if how == "PEXPIRE" else []))
    assert woken_by(cluster, backend, lambda: node_of(cluster, KEYS[5]).command(*words)) == [KEYS[5]]


def test_a_flushed_node_wakes_for_its_keys(cluster, backend):
    backend.put([record(key, final=False) for key in KEYS], ttl=60, timeout=HANG)
    node = node_of(cluster, KEYS[0])
    lost = {key for key in KEYS if node_of(cluster, key) is node}
    assert set(woken_by(cluster, backend, lambda: node.command("FLUSHALL"))) == lost


@pytest.mark.parametrize("keys", [KEYS, KEYS[:1]], ids=["many", "one"])
def test_waiting_asks_nothing_while_nothing_changes(cluster, backend, keys):
    seen = seen_by(backend, keys)
    backend.wait(seen, timeout=0.1)  # connect
    before = commands(cluster)
    assert backend.wait(seen, timeout=0.9) == []
    # one look at each key, and another where the second is over
    assert commands(cluster) - before <= 2 * len(keys)


@pytest.mark.parametrize("kind", ["normal", "pubsub"])
def test_killed_connections_never_swallow_a_wake_up(cluster, backend, kind):
    seen = seen_by(backend)
    with ThreadPoolExecutor(1) as pool:

        def wait_as_the_core_does():
            end = time.monotonic() + HANG
            while time.monotonic() < end:
                try:
                    found = backend.wait(seen, timeout=1.0)
                except Exception as error:
                    if not ERRORS.translate(error, doing="wait").retryable:
                        raise
                else:
                    if found:
                        return list(found)
            return []

        promise = pool.submit(wait_as_the_core_does)
        until_tracked(cluster)
        node = node_of(cluster, KEYS[3])
        node.command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
        node.command("SET", f"bk:result:{KEYS[3]}", b"Fx", "PX", 60_000)
        assert promise.result(timeout=SOON) == [KEYS[3]]


def test_a_wait_after_a_wait_hears_what_came_between(cluster, backend):
    seen = seen_by(backend)
    assert backend.wait(seen, timeout=0.1) == []
    backend.put([record(KEYS[2]), record(KEYS[7])], ttl=60, timeout=HANG)
    assert set(backend.wait(seen, timeout=HANG)) == {KEYS[2], KEYS[7]}
    seen = seen_by(backend)
    assert backend.wait(seen, timeout=0.1) == []
