"""Connections of their own."""

import threading

import pytest
from brokerkit_redis.calls import Script
from redis import exceptions

from brokerkit import servers

HANG = 30.0
PUSHED = Script("pushed", "return {KEYS[1], redis.call('LLEN', KEYS[1])}")
SHORT = 0.2


def test_a_wait_with_a_claim_behind_it_is_one_round_trip(plain, open_client):
    client = open_client(plain.url())
    client.run([("DEL", "bk:w"), ("SCRIPT", "FLUSH")], timeout=HANG)
    line = client.line()
    for pushed in (0, 1):  # the script is unknown first
        client.run([("LPUSH", "bk:l", "x")] * pushed + [("DEL", "bk:w")], timeout=HANG)
        line.begin([("BLPOP", "bk:w", SHORT), PUSHED.call(["bk:l"], []), ("ECHO", "end")], timeout=HANG)
        assert line.reply(SHORT) is None
        assert line.reply(HANG) == [b"bk:l", pushed]
        assert line.reply(HANG) == b"end"
    client.run([("DEL", "bk:l")], timeout=HANG)


def test_the_time_that_the_server_blocks_is_not_silence(start, open_client):
    server = start(servers.Redis())
    line = open_client(server.url(), socket_timeout=0.5).line()
    line.begin([("BLPOP", "bk:w", 1)], timeout=HANG)
    assert line.reply(1.0) is None
    server.pause()
    line.begin([("BLPOP", "bk:w", 0.1)], timeout=HANG)
    with pytest.raises(exceptions.TimeoutError):
        line.reply(0.1)
    server.resume()
    assert line.run([("PING",)], timeout=HANG) == [b"PONG"]


def test_answers_that_are_errors_are_raised_one_by_one(plain, open_client):
    line = open_client(plain.url()).line()
    line.begin([("NONSENSE",), ("ECHO", "1")], timeout=HANG)
    with pytest.raises(exceptions.ResponseError):
        line.reply(HANG)
    with pytest.raises(RuntimeError):
        line.begin([("PING",)], timeout=HANG)
    assert line.reply(HANG) == b"1"
    with pytest.raises(exceptions.ConnectionError):
        line.reply(HANG)


def test_a_line_is_no_connection_of_the_pool(plain, open_client):
    client = open_client(plain.url(), max_connections=1)
    line = client.line()
    assert line.id is None
    (first,) = client.run([("CLIENT", "ID")], timeout=HANG)
    (own,) = line.run([("CLIENT", "ID")], timeout=HANG)
    assert own == line.id
    assert own != first
    assert client.run([("CLIENT", "ID")], timeout=HANG) == [first]


def test_unblock_ends_a_wait(plain, open_client, patiently):
    client = open_client(plain.url())
    line = client.line()
    line.begin([("BLPOP", "bk:w", 0)], timeout=HANG)
    assert patiently(lambda: client.unblock(line.id), until=bool)
    assert line.reply(HANG) is None
    assert client.unblock(None) is False
    assert client.unblock(line.id) is False


def test_unblock_says_when_it_is_not_allowed(start, open_client):
    server = start(servers.Redis(acl=True))
    client = open_client(server.url())
    line = client.line()
    line.begin([("BLPOP", "bk:w", SHORT)], timeout=HANG)
    assert client.unblock(line.id) is False
    assert line.reply(SHORT) is None


def test_close_from_another_thread_ends_a_wait_at_once(plain, open_client, patiently):
    line = open_client(plain.url()).line()
    caught = []

    def wait():
        line.begin([("BLPOP", "bk:w", 0)], timeout=HANG)
        with pytest.raises(exceptions.ConnectionError) as error:
            line.reply(HANG)
        caught.append(error.value)

    thread = threading.Thread(target=wait)
    thread.start()
    patiently(lambda: plain.command("INFO", "clients"), until=lambda text: b"blocked_clients:1" in text)
    line.close()
    thread.join(HANG / 2)
    assert len(caught) == 1
    assert line.id is None
    line.close()


def test_a_line_that_broke_raises_once_and_is_opened_anew(start, open_client):
    server = start(servers.Redis())
    line = open_client(server.url()).line()
    line.begin([("BLPOP", "bk:w", 0), ("PING",)], timeout=HANG)
    first = line.id
    server.kill9()
    with pytest.raises(exceptions.ConnectionError):
        line.reply(HANG)
    with pytest.raises(exceptions.ConnectionError):
        line.reply(HANG)
    server.restart()
    assert line.run([("PING",)], timeout=HANG) == [b"PONG"]
    assert line.id is not None
    assert (first, line.id) != (None, None)


def test_a_subscriber_hears_what_is_said_unasked(plain, open_client, patiently):
    client = open_client(plain.url())
    line = client.line()
    with pytest.raises(exceptions.ConnectionError):
        line.tell([("SUBSCRIBE", "bk:c")], timeout=HANG)
    line.run([("SUBSCRIBE", "bk:c")], timeout=HANG)
    assert line.poll(0.05) is None
    assert client.run([("PUBLISH", "bk:c", "news"), ("PUBLISH", "bk:c", "more")], timeout=HANG) == [1, 1]
    line.tell([("SUBSCRIBE", "bk:d")], timeout=HANG)
    assert line.poll(HANG) == [b"message", b"bk:c", b"news"]
    assert line.poll(HANG) == [b"message", b"bk:c", b"more"]
    assert line.poll(HANG) == [b"subscribe", b"bk:d", 2]
    plain.command("CLIENT", "KILL", "TYPE", "pubsub")
    with pytest.raises(exceptions.ConnectionError):
        line.poll(HANG)
    assert line.id is None
