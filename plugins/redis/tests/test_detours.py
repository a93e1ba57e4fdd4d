"""Clients of a fleet are led through proxies, all the way, and the others go on as before."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
from brokerkit_conformance.faults import Proxy, Refuse
from brokerkit_redis.conformance import RedisClusterHarness, RedisSentinelHarness
from brokerkit_redis.errors import ERRORS, Unreachable
from redis.exceptions import ConnectionError as NoConnection

HANG = 30.0
KEYS = [f"bk:{n}" for n in range(12)]  # on all nodes


@contextmanager
def harness_of(kind):
    made = kind()
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def sentinel():
    with harness_of(RedisSentinelHarness) as made:
        yield made


@pytest.fixture(scope="module")
def cluster_harness():
    with harness_of(RedisClusterHarness) as made:
        yield made


@contextmanager
def led(harness, number=1):
    proxies = [Proxy() for _ in range(number)]
    try:
        with harness.detour(harness.urls()[0], proxies) as url:
            yield url, proxies
    finally:
        for proxy in proxies:
            proxy.close()


def work(client):
    """Something on every node."""
    for key in KEYS:
        client.run([("SET", key, "x"), ("GET", key)], timeout=HANG, slot_key=key)


@pytest.mark.parametrize("form", ["sentinel", "cluster_harness"])
def test_the_proxy_has_all_connections_of_its_clients_and_no_other(form, request, open_client):
    harness = request.getfixturevalue(form)
    with led(harness) as (url, (proxy,)):
        through, direct = open_client(url), open_client(harness.urls()[0])
        work(direct)
        assert proxy.traffic().connections == 0
        work(through)
        nodes = len(harness.writable(harness.known(url)))
        assert proxy.traffic().connections >= nodes
        with proxy.inject(Refuse()) as refused:
            assert refused.effect().times == nodes
            assert proxy.kill_connections().bit
            work(direct)
            for key in KEYS:
                with pytest.raises((NoConnection, Unreachable)) as caught:
                    through.run([("GET", key)], timeout=HANG, slot_key=key)
                assert ERRORS.translate(caught.value, doing="try").retryable
        work(through)


@pytest.mark.parametrize("form", ["sentinel", "cluster_harness"])
def test_of_two_ways_the_first_that_works_is_taken(form, request, open_client, patiently):
    harness = request.getfixturevalue(form)
    with led(harness, 2) as (url, (first, second)):
        client = open_client(url)
        work(client)
        assert first.traffic().connections > 0
        assert second.traffic().connections == 0
        with first.inject(Refuse()):
            first.kill_connections()
            patiently(lambda: work(client))
            assert second.traffic().connections > 0


def test_a_redirection_leads_through_the_proxy(cluster_harness, open_client):
    cluster = cluster_harness.known(cluster_harness.urls()[0])
    with led(cluster_harness) as (url, (proxy,)):
        client = open_client(url)
        work(client)
        before = proxy.traffic().up
        found = client._cluster
        table = found._table
        # whoever believes that all slots are on one node is sent on by it
        table.ranges[:] = [(last, table.hosts[0]) for last, _ in table.ranges]
        work(client)
        assert {host for host, _ in found._table.hosts} == {url.partition("://")[2].partition(":")[0]}
        assert len(found._table.hosts) == len(cluster.nodes)
        assert proxy.traffic().up > before


def test_sentinels_see_no_more_than_that_the_proxied_master_lives(sentinel):
    group = sentinel.known(sentinel.urls()[0])
    with led(sentinel) as (url, (proxy,)):
        name = url.rpartition("master_name=")[2]
        for watcher in group.sentinels:
            flat = [word.decode() for word in watcher.call("SENTINEL", "MASTER", name)]
            seen = dict(zip(flat[::2], flat[1::2], strict=True))
            assert (seen["flags"], seen["port"], seen["num-slaves"]) == ("master", str(proxy.port), "0")
        assert proxy.traffic().connections == 0, "they are no clients"
    for watcher in group.sentinels:
        assert watcher.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name) is None
    assert group.ready()
