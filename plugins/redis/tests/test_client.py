"""The client on one real server."""

import threading
import time

import pytest
from brokerkit_conformance.faults import HalfOpen, Proxy
from brokerkit_redis.calls import Script
from brokerkit_redis.errors import ERRORS
from redis import exceptions

from brokerkit import errors, servers
from brokerkit.testing import ManualClock

HANG = 30.0
COUNT = Script("count", "return redis.call('INCRBY', KEYS[1], ARGV[1])")
TWICE = Script("twice", "return {ARGV[1], ARGV[1]}")


def test_many_calls_are_one_round_trip_and_answers_are_bytes(plain, open_client):
    client = open_client(plain.url())
    answers = client.run([("SET", "bk:é", "ü"), ("GET", "bk:é"), TWICE.call([], ["x", "y"])], timeout=HANG)
    assert answers == [b"OK", "ü".encode(), [b"x", b"x"]]
    before = int(_stat(plain, "total_reads_processed"))
    client.run([("PING",)] * 50, timeout=HANG)
    assert int(_stat(plain, "total_reads_processed")) - before <= 3  # ours, and those that ask


def test_a_database_and_a_name_are_set_at_each_connect(start, open_client):
    server = start(servers.Redis())
    client = open_client(server.url(database=3), client_name="app-7")
    client.run([("SET", "bk:k", 1)], timeout=HANG)
    server.command("CLIENT", "KILL", "TYPE", "normal")
    assert client.run([("GET", "bk:k")], timeout=HANG) == [b"1"]
    assert b"db3:keys=1" in server.command("INFO", "keyspace")
    assert b"name=app-7" in server.command("CLIENT", "LIST")


def test_the_first_error_is_raised_when_all_answers_were_read(plain, open_client):
    client = open_client(plain.url(), max_connections=1)
    calls = [("SET", "bk:t", "x"), ("LPUSH", "bk:t", 1), ("NONSENSE",), ("GET", "bk:t")]
    with pytest.raises(exceptions.ResponseError, match="wrong kind of value"):
        client.run(calls, timeout=HANG)
    connections = _stat(plain, "total_connections_received")
    answers = client.run(calls, timeout=HANG, raising=False)
    assert [type(answer) for answer in answers] == [bytes, exceptions.ResponseError, exceptions.ResponseError, bytes]
    assert int(_stat(plain, "total_connections_received")) - int(connections) == 1  # that of the command which asks


def test_a_script_that_the_server_lost_is_sent_in_full_once(start, open_client):
    server = start(servers.Redis())
    client = open_client(server.url())
    calls = [COUNT.call(["bk:n"], [1]), ("GET", "bk:n"), COUNT.call(["bk:n"], [10]), TWICE.call([], [7])]
    assert client.run(calls, timeout=HANG) == [1, None, 11, [b"7", b"7"]]
    assert client.run(calls, timeout=HANG) == [12, b"12", 22, [b"7", b"7"]]
    server.command("SCRIPT", "FLUSH")
    assert client.run([COUNT.call(["bk:n"], [1])], timeout=HANG) == [23]


def test_a_wait_for_replicas_behind_a_script_that_is_sent_in_full_is_asked_again(start, open_client):
    server = start(servers.Redis())
    calls = [("WAIT", 0, 1), COUNT.call(["bk:n"], [1]), ("ECHO", "x"), ("WAIT", 0, 1)]
    assert open_client(server.url()).run(calls, timeout=HANG) == [0, 1, b"x", 0]
    counted = server.command("INFO", "commandstats")
    assert b"cmdstat_wait:calls=3," in counted
    assert b"cmdstat_echo:calls=1," in counted


def test_an_error_within_a_script_is_told_after_it_was_sent_in_full(plain, open_client):
    broken = Script("broken", "return redis.call('LPUSH', KEYS[1], 1)")
    with pytest.raises(exceptions.ResponseError, match="wrong kind of value"):
        open_client(plain.url()).run([("SET", "bk:s", 1), broken.call(["bk:s"], [])], timeout=HANG)


def test_no_io_before_the_first_call(open_client):
    open_client("redis://192.0.2.1:1").close()


def test_a_server_that_is_not_there_is_not_connected_and_nothing_was_sent(open_client):
    server = servers.Redis()
    server.start()
    client = open_client(server.url())
    server.close()
    assert _translated(lambda: client.run([("PING",)], timeout=HANG), errors.NotConnected)
    assert _translated(
        lambda: open_client("redis://no-such-host.invalid").run([("PING",)], timeout=5), errors.NotConnected
    )


def test_an_idle_connection_that_the_server_closed_is_replaced_unnoticed(start, open_client):
    server = start(servers.Redis(aof="always"))
    client = open_client(server.url())
    client.run([("SET", "bk:k", 1)], timeout=HANG)
    server.kill9()
    server.restart()
    assert client.run([("GET", "bk:k")], timeout=HANG) == [b"1"]


def test_a_server_that_dies_under_a_call_leaves_the_outcome_unknown(start, open_client, patiently):
    server = start(servers.Redis())
    client = open_client(server.url())
    client.run([("PING",)], timeout=HANG)
    caught = []
    thread = threading.Thread(
        target=lambda: caught.append(_error(lambda: client.run([("BLPOP", "bk:l", 0)], timeout=HANG)))
    )
    thread.start()
    patiently(lambda: server.command("INFO", "clients"), until=lambda text: b"blocked_clients:1" in text)
    server.kill9()
    thread.join(HANG)
    mapped = ERRORS.translate(caught[0], doing="pop")
    assert type(mapped) is errors.ConnectionLost
    server.restart()
    assert client.run([("PING",)], timeout=HANG) == [b"PONG"]


def test_a_silent_server_ends_a_call_in_time_and_its_connections_are_given_up(start, open_client, patiently):
    server = start(servers.Redis())
    with Proxy("127.0.0.1", server.facts.port) as proxy:
        client = open_client(f"redis://127.0.0.1:{proxy.port}", socket_timeout=0.5)
        waiting = threading.Thread(target=lambda: client.run([("BLPOP", "bk:l", 0)], timeout=HANG))
        waiting.start()
        patiently(lambda: server.command("INFO", "clients"), until=lambda text: b"blocked_clients:1" in text)
        client.run([("PING",)], timeout=HANG)
        server.command("LPUSH", "bk:l", "x")
        waiting.join(HANG)  # and so there are two connections
        with proxy.inject(HalfOpen()):
            began = time.monotonic()
            assert _translated(lambda: client.run([("PING",)], timeout=HANG), errors.ConnectionLost)
            assert _translated(lambda: client.run([("PING",)], timeout=HANG), errors.NotConnected)
            assert time.monotonic() - began < 5
        assert client.run([("PING",)], timeout=HANG) == [b"PONG"]


def test_the_timeout_of_the_call_bounds_it_all(start, open_client):
    server = start(servers.Redis())
    client = open_client(server.url())
    client.run([("PING",)], timeout=HANG)
    server.pause()
    began = time.monotonic()
    assert _translated(lambda: client.run([("PING",)], timeout=0.3), errors.ConnectionLost)
    assert _translated(lambda: client.run([("PING",)], timeout=0.3), errors.NotConnected)
    assert time.monotonic() - began < 3
    server.resume()
    assert client.run([("PING",)], timeout=HANG) == [b"PONG"]


def test_an_idle_connection_is_tried_before_it_is_used(start, open_client):
    manual_clock = ManualClock()
    server = start(servers.Redis())
    client = open_client(server.url(), clock=manual_clock, health_check_interval=10)
    server.command("CONFIG", "RESETSTAT")
    client.run([("GET", "bk:k")], timeout=HANG)
    manual_clock.advance(9)
    client.run([("GET", "bk:k")], timeout=HANG)
    assert b"cmdstat_ping" not in server.command("INFO", "commandstats")
    manual_clock.advance(11)
    client.run([("GET", "bk:k")], timeout=HANG)
    assert b"cmdstat_ping:calls=1," in server.command("INFO", "commandstats")


def test_when_all_connections_are_taken_a_call_waits_and_then_is_throttled(plain, open_client, patiently):
    client = open_client(plain.url(), max_connections=1)
    client.run([("DEL", "bk:q")], timeout=HANG)
    answers = []
    thread = threading.Thread(target=lambda: answers.extend(client.run([("BLPOP", "bk:q", 0)], timeout=HANG)))
    thread.start()
    patiently(lambda: plain.command("INFO", "clients"), until=lambda text: b"blocked_clients:1" in text)
    assert _translated(lambda: client.run([("PING",)], timeout=0.05), errors.Throttled)
    waiting = threading.Thread(target=lambda: answers.extend(client.run([("ECHO", "late")], timeout=HANG)))
    waiting.start()
    plain.command("LPUSH", "bk:q", "x")
    thread.join(HANG)
    waiting.join(HANG)
    assert answers == [[b"bk:q", b"x"], b"late"]


def test_threads_share_connections(plain, open_client):
    client = open_client(plain.url(), max_connections=3)
    client.run([("DEL", "bk:n")], timeout=HANG)
    threads = [
        threading.Thread(target=lambda: [client.run([COUNT.call(["bk:n"], [1])], timeout=HANG) for _ in range(50)])
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG)
    assert client.run([("GET", "bk:n")], timeout=HANG) == [b"400"]


def test_close_is_idempotent_and_final(start, open_client, patiently):
    server = start(servers.Redis())
    client = open_client(server.url())
    line = client.line()
    line.run([("PING",)], timeout=HANG)
    client.run([("PING",)], timeout=HANG)
    client.close()
    client.close(timeout=1)
    with pytest.raises(errors.Closed):
        client.run([("PING",)], timeout=HANG)
    with pytest.raises(errors.Closed):
        line.run([("PING",)], timeout=HANG)
    with pytest.raises(errors.Closed):
        client.line().run([("PING",)], timeout=HANG)
    patiently(lambda: server.command("INFO", "clients"), until=lambda text: b"connected_clients:1\r" in text)


def test_what_is_no_redis_is_a_lost_connection(start, open_client):
    server = start(servers.Memcached())
    assert _translated(
        lambda: open_client(f"redis://127.0.0.1:{server.facts.port}").run([("PING",)], timeout=2), errors.NotConnected
    )


@pytest.mark.parametrize(
    ("settings", "risk"),
    [
        ({}, []),
        ({"policy": "noeviction", "maxmemory": "100mb"}, []),
        ({"policy": "allkeys-lru", "maxmemory": "100mb"}, ["messages", "allkeys-lru", "noeviction"]),
        ({"policy": "volatile-ttl", "maxmemory": "100mb"}, ["results", "volatile-ttl"]),
        ({"policy": "allkeys-lru", "maxmemory": "100mb", "acl": True}, ["neither CONFIG GET nor INFO"]),
    ],
)
def test_what_the_server_may_drop_is_read_from_its_settings(start, open_client, settings, risk):
    server = start(servers.Redis(**settings))
    found = open_client(server.url()).server_risk(HANG)
    assert bool(found) == bool(risk)
    assert [word for word in risk if word not in found[0]] == []


def test_a_user_without_config_but_with_info_can_look(start, open_client):
    server = start(servers.Redis(acl=True, maxmemory="100mb"))
    server.command("ACL", "SETUSER", "app", "+info")
    (found,) = open_client(server.url()).server_risk(HANG)
    assert "allkeys-lru" in found


def _stat(server, name):
    lines = server.command("INFO", "stats").decode().splitlines()
    return next(line.partition(":")[2] for line in lines if line.startswith(f"{name}:"))


def _error(attempt):
    with pytest.raises(Exception) as caught:
        attempt()
    return caught.value


def _translated(attempt, kind):
    mapped = ERRORS.translate(_error(attempt), doing="try")
    assert type(mapped) is kind, repr(mapped)
    return True
