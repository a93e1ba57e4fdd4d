"""Redis Cluster: calls go to the node of their slot, wherever it is."""

import pytest
from brokerkit_redis.calls import Script
from brokerkit_redis.errors import ERRORS
from redis.crc import key_slot

from brokerkit import errors, servers

HANG = 30.0
COUNT = Script("count", "return redis.call('INCRBY', KEYS[1], ARGV[1])")
KEYS = [f"bk:{{{number}}}" for number in range(30)]


@pytest.fixture
def url(cluster):
    return f"cluster://127.0.0.1:{cluster.nodes[0].facts.port}"


def test_calls_go_to_the_node_of_their_slot(cluster, url, open_client):
    client = open_client(url)
    assert client.cluster
    for key in KEYS:
        assert client.run([("SET", key, 0), COUNT.call([key], [1])], timeout=HANG, slot_key=key) == [b"OK", 1]
    assert client.run_keys({key: COUNT.call([key], [1]) for key in KEYS}, timeout=HANG) == [2] * len(KEYS)
    assert all(int(node.command("DBSIZE")) > 0 for node in cluster.nodes)
    assert client.run([("PING",)], timeout=HANG) == [b"PONG"]
    assert client.server_risk(HANG) == ()


def test_a_line_goes_to_the_node_of_its_slot_and_is_unblocked_there(cluster, url, open_client, patiently):
    client = open_client(url)
    for node in cluster.nodes:
        key = next(key for key in KEYS if _owner(cluster, key) is node) + "w"
        line = client.line(slot_key=key)
        line.begin([("BLPOP", key, 0)], timeout=HANG)
        assert patiently(lambda line=line: client.unblock(line.id), until=bool)
        assert line.reply(HANG) is None


def test_moved_slots_are_followed_and_nothing_is_lost(start, open_client):
    cluster = start(servers.RedisCluster(3))
    client = open_client(f"redis://127.0.0.1:{cluster.nodes[0].facts.port}?cluster=true")
    key = KEYS[0]
    before = _owner(cluster, key)
    target = next(node for node in cluster.nodes if node is not before)
    calls = [COUNT.call([key], [1]), COUNT.call([key], [10])]
    line = open_client(f"redis://127.0.0.1:{cluster.nodes[1].facts.port}?cluster=true").line(slot_key=key)
    assert client.run([("DEL", key), *calls], timeout=HANG, slot_key=key) == [0, 1, 11]
    assert line.run([("GET", key)], timeout=HANG) == [b"11"]

    # half way: a key that is at the target already is asked for there, and the table stays
    slot, ids = key_slot(key.encode()), [node.command("CLUSTER", "MYID") for node in (before, target)]
    target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
    before.command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
    before.command("MIGRATE", "127.0.0.1", target.facts.port, key, 0, 5000)
    target.command("SCRIPT", "FLUSH")
    assert client.run(calls, timeout=HANG, slot_key=key) == [12, 22]

    for node in cluster.nodes:
        node.command("CLUSTER", "SETSLOT", slot, "NODE", ids[1])
    asked = _calls(target, "cluster|slots")
    assert client.run([*calls, ("GET", key), ("WAIT", 0, 1)], timeout=HANG, slot_key=key) == [23, 33, b"33", 0]
    assert _calls(target, "wait") == 1  # what the node before said of its replicas is not about these writes
    assert client.run_keys({one: ("GET", one) for one in KEYS[:3]}, timeout=HANG) == [b"33", None, None]
    assert _calls(target, "cluster|slots") == asked + 1
    with pytest.raises(Exception) as caught:
        line.run([("GET", key)], timeout=HANG)
    assert ERRORS.translate(caught.value, doing="x").retryable
    assert line.run([("GET", key)], timeout=HANG) == [b"33"]


def test_a_dead_node_is_an_error_that_may_pass_and_the_seed_may_be_dead(start, open_client, patiently):
    cluster = start(servers.RedisCluster(3, aof="always"))
    hosts = ";".join(f"127.0.0.1:{node.facts.port}" for node in cluster.nodes)
    client = open_client(f"cluster://{hosts}")
    key = next(key for key in KEYS if _owner(cluster, key) is cluster.nodes[0])
    client.run([("SET", key, 1)], timeout=HANG, slot_key=key)
    cluster.nodes[0].kill9()
    with pytest.raises(Exception) as caught:
        client.run([("GET", key)], timeout=5, slot_key=key)
    assert ERRORS.translate(caught.value, doing="x").retryable
    cluster.nodes[0].restart()
    assert patiently(lambda: client.run([("GET", key)], timeout=5, slot_key=key)) == [b"1"]


def test_keys_of_several_slots_are_refused(url, open_client):
    client = open_client(url)
    with pytest.raises(Exception, match="hash to the same slot"):
        client.run([("MGET", KEYS[0], KEYS[1])], timeout=HANG, slot_key=KEYS[0])


def test_a_cluster_and_a_single_server_are_not_taken_for_each_other(cluster, plain, open_client):
    assert "write cluster://" in _error(open_client(cluster.url()), errors.InvalidURL)
    assert "write redis://" in _error(open_client(f"cluster://127.0.0.1:{plain.facts.port}"), errors.InvalidURL)


def _owner(cluster, key):
    return cluster.nodes[min(key_slot(key.encode()) * 3 // 16384, 2)]


def _calls(node, name):
    lines = node.command("INFO", "commandstats").decode().splitlines()
    found = [line for line in lines if line.startswith(f"cmdstat_{name}:")]
    return int(found[0].partition("calls=")[2].partition(",")[0]) if found else 0


def _error(client, kind):
    with pytest.raises(Exception) as caught:
        client.run([("PING",)], timeout=5)
    mapped = ERRORS.translate(caught.value, doing="try")
    assert type(mapped) is kind, repr(mapped)
    return str(mapped)
