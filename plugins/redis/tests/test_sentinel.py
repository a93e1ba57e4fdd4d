"""Sentinel: the master is found, and found anew."""

import pytest
from brokerkit_redis.errors import ERRORS

from brokerkit import errors, servers

HANG = 30.0


def url_of(group, **query):
    hosts = ";".join(f"127.0.0.1:{sentinel.facts.port}" for sentinel in group.sentinels)
    return f"sentinel://{hosts}/1?" + "&".join(
        f"{k}={v}" for k, v in ({"master_name": group.master_name} | query).items()
    )


@pytest.fixture
def group(start):
    return start(servers.RedisSentinel())


def test_the_master_is_found_and_after_its_death_the_next_one(group, open_client, patiently):
    client = open_client(url_of(group))
    line = client.line()
    client.run([("SET", "bk:k", 1), ("WAIT", 1, 10_000)], timeout=HANG)
    assert group.master.command("INFO", "keyspace").find(b"db1:keys=1") > 0
    line.run([("PING",)], timeout=HANG)
    dead = group.master
    dead.kill9()
    assert patiently(lambda: client.run([("INCR", "bk:k")], timeout=2)) == [2]
    assert patiently(lambda: line.run([("GET", "bk:k")], timeout=2)) == [b"2"]
    # one sentinel tells the next of the new master: the third must have heard before the other two fall silent
    patiently(lambda: group.masters, until=lambda masters: dead not in masters)
    group.sentinels[0].pause()
    group.sentinels[1].kill9()
    other = open_client(url_of(group, sentinel_kwargs='{"socket_timeout":0.3}'))
    assert patiently(lambda: other.run([("GET", "bk:k")], timeout=5)) == [b"2"]
    group.sentinels[0].resume()
    # what is asked wrongly is said
    wrong = open_client(url_of(group).replace("=bk", "=other"))
    assert "watches no master 'other'" in _error(wrong, errors.NotConnected)
    redis_for_sentinel = open_client(f"redis://127.0.0.1:{group.sentinels[2].facts.port}")
    assert "write sentinel://" in _error(redis_for_sentinel, errors.InvalidURL)


def _error(client, kind):
    with pytest.raises(Exception) as caught:
        client.run([("PING",)], timeout=5)
    mapped = ERRORS.translate(caught.value, doing="try")
    assert type(mapped) is kind, repr(mapped)
    return str(mapped)
