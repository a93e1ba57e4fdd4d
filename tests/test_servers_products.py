"""What the servers for tests can do besides living and dying: users, TLS, limits, clusters, failover, databases."""

from __future__ import annotations

import re
import socket
import ssl
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from brokerkit import servers
from brokerkit.servers import ServerFailed, ServerMissing, _handshakes
from brokerkit.testing import wait_until


@pytest.fixture
def started() -> Iterator[Any]:
    """Start servers, and close them at the end. One that is missing and not required leaves the test out."""
    running: list[servers.Server] = []

    def start(server: Any) -> Any:
        running.append(server)
        try:
            return server.start()
        except ServerMissing as missing:
            if missing.required:
                raise
            return pytest.skip(str(missing))

    yield start
    for server in running:
        server.close()


def login(url: str) -> list[str]:
    found = re.match(r"redis(?:s|\+socket)?://(\w+):(\w+)@", url)
    assert found
    return [found[1], found[2]]


# --------------------------------------------------------------------------------------------------------------- redis


def test_the_app_user_of_redis_may_use_its_own_keys_and_no_more(started: Any) -> None:
    server = started(servers.Redis(acl=True))
    address = _handshakes.Address(port=server.facts.port)
    with _handshakes.Resp(address, login(server.url())) as app:
        assert app.call("SET", "bk:x", 1) == b"OK"
        for words in (("SET", "other", 1), ("KEYS", "*"), ("CONFIG", "GET", "*"), ("FLUSHALL",)):
            with pytest.raises(_handshakes.NotReady, match="NOPERM"):
                app.call(*words)
    with _handshakes.Resp(address) as nobody, pytest.raises(_handshakes.NotReady, match="NOAUTH"):
        nobody.call("GET", "bk:x")
    with _handshakes.Resp(address, login(server.url(user="admin"))) as admin:
        assert admin.call("KEYS", "*") == [b"bk:x"]


def test_redis_listens_on_a_short_unix_socket_as_well(started: Any) -> None:
    server = started(servers.Redis())
    path, query = server.url(unix=True, database=2).removeprefix("redis+socket://").split("?")
    assert query == "virtual_host=2"
    assert len(path) < 104
    with _handshakes.Resp(_handshakes.Address(unix=path)) as connection:
        assert connection.call("PING") == b"PONG"


def test_tls_is_for_those_who_trust_the_authority_and_nobody_speaks_plain(started: Any) -> None:
    server = started(servers.Redis(tls=True))
    stranger = started(servers.Redis(tls=True))
    port = server.facts.port
    assert server.url().startswith(f"rediss://127.0.0.1:{port}/0?ssl_ca_certs=")
    trusting = ssl.create_default_context(cafile=server.certificates.ca)
    trusting.verify_flags |= ssl.VERIFY_X509_STRICT
    with (
        socket.create_connection(("127.0.0.1", port), 5) as plain,
        trusting.wrap_socket(plain, server_hostname="127.0.0.1"),
    ):
        pass
    doubting = ssl.create_default_context(cafile=stranger.certificates.ca)
    with socket.create_connection(("127.0.0.1", port), 5) as plain, pytest.raises(ssl.SSLCertVerificationError):
        doubting.wrap_socket(plain, server_hostname="127.0.0.1")
    with socket.create_connection(("127.0.0.1", port), 5) as plain, pytest.raises(ssl.SSLCertVerificationError):
        trusting.wrap_socket(plain, server_hostname="elsewhere.example")
    with pytest.raises(OSError), _handshakes.Resp(_handshakes.Address(port=port)) as connection:
        connection.call("PING")


def test_redis_evicts_or_refuses_at_its_memory_limit(started: Any) -> None:
    evicting = started(servers.Redis(maxmemory="3mb"))
    refusing = started(servers.Redis(maxmemory="3mb", policy="noeviction"))
    script = "for i = 1, 5000 do redis.call('SET', 'k' .. i, string.rep('x', 1000)) end"
    evicting.command("EVAL", script, 0)
    for number in range(6):
        evicting.command("SET", f"one more {number}", "x")
    assert b"evicted_keys:0\r" not in evicting.command("INFO", "stats")
    with pytest.raises(ServerFailed, match="OOM"):
        fill(refusing)
    assert b"evicted_keys:0\r" in refusing.command("INFO", "stats")


def fill(server: servers.Redis) -> None:
    for number in range(5000):
        server.command("SET", f"k{number}", "x" * 10_000)


def test_one_node_of_a_cluster_refuses_keys_of_two_slots_and_three_redirect(
    started: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = started(servers.RedisCluster(1))
    with pytest.raises(ServerFailed, match="CROSSSLOT"):
        one.nodes[0].command("MGET", "a", "b")
    assert one.nodes[0].command("MGET", "{a}1", "{a}2") == [None, None]
    assert one.ready()

    three = started(servers.RedisCluster(3, aof="always"))
    owners = [node for node in three.nodes if accepts(node, "x")]
    assert len(owners) == 1
    three.kill9()
    assert not three.ready()
    three.restart()
    assert owners[0].command("GET", "x") == b"1"

    monkeypatch.setenv("BROKERKIT_TEST_REDIS_CLUSTER_URL", one.url())
    with servers.RedisCluster() as named:
        assert (named.facts.place, named.facts.port, named.ready()) == ("environment", one.facts.port, True)
        with pytest.raises(servers.NotOurs, match="BROKERKIT_TEST_REDIS_CLUSTER_URL"):
            named.kill9()


def accepts(node: servers.Redis, key: str) -> bool:
    try:
        return bool(node.command("SET", key, 1) == b"OK")
    except ServerFailed as refused:
        if "MOVED" in str(refused):
            return False
        raise


def test_sentinels_promote_the_replica_of_a_killed_master(started: Any) -> None:
    trio = started(servers.RedisSentinel())
    master, replica = trio.master, trio.replica
    assert {master, replica} == set(trio.redises)
    assert len(trio.url().split(";")) == 3
    assert b"role:master" in master.command("INFO", "replication")
    assert b"role:slave" in replica.command("INFO", "replication")
    master.kill9()

    def promoted() -> bool:
        try:
            return b"role:master" in replica.command("INFO", "replication")
        except OSError:  # a sentinel ends all connections of whom it promotes
            return False

    wait_until(promoted, timeout=60)
    wait_until(lambda: trio.master is replica, timeout=60)
    assert not trio.ready()  # one of them is dead


def test_a_fleet_speaks_tls_with_one_authority_and_knows_its_users(started: Any) -> None:
    trio = started(servers.RedisSentinel(tls=True, acl=True))
    three = started(servers.RedisCluster(3, tls=True, acl=True))
    for nodes in (trio.redises, three.nodes):
        assert len({node.certificates.ca for node in nodes}) == 1
        trusting = ssl.create_default_context(cafile=nodes[0].certificates.ca)
        for node in nodes:
            with (
                socket.create_connection(("127.0.0.1", node.facts.port), 5) as plain,
                trusting.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
            ):
                secure.sendall(b"PING\r\n")
                assert secure.recv(100).startswith(b"-NOAUTH")
    assert b"master_link_status:up" in trio.replica.command("INFO", "replication")


def test_sentinels_can_be_told_from_clients_by_their_address(started: Any) -> None:
    trio = started(servers.RedisSentinel(watch_from="127.0.0.2"))
    clients = trio.master.command("CLIENT", "LIST").decode().splitlines()
    watching = {line.partition(" addr=")[2].partition(":")[0] for line in clients if "name=sentinel" in line}
    assert watching == {"127.0.0.2"}


# ----------------------------------------------------------------------------------------------------------- memcached


def test_a_small_memcached_evicts_or_refuses(started: Any) -> None:
    evicting, refusing = started(servers.Memcached(memory=1)), started(servers.Memcached(memory=1, evict=False))
    item = "x" * 1000
    answers: dict[bool, set[str]] = {True: set(), False: set()}
    for number in range(3000):
        answers[True].add(evicting.command(f"set k{number} 0 0 1000\r\n{item}"))
        if len(answers[False]) < 2:
            answers[False].add(refusing.command(f"set k{number} 0 0 1000\r\n{item}"))
    assert answers[True] == {"STORED"}
    assert answers[False] == {"STORED", "SERVER_ERROR out of memory storing object"}
    assert "STAT evictions 0" not in evicting.command("stats").splitlines()


# ----------------------------------------------------------------------------------------------------------------- SQL


def test_a_frozen_postgresql_freezes_the_sessions_that_were_open_before(started: Any) -> None:
    server = started(servers.PostgreSQL())
    with socket.create_connection(("127.0.0.1", server.facts.port), 10) as session, session.makefile("rb") as answers:
        words = b"user\0postgres\0database\0postgres\0\0"
        session.sendall(struct.pack(">II", len(words) + 8, 196608) + words)
        assert until_ready(answers)[-1] == "Z"
        server.pause()
        session.sendall(query("SELECT 1"))
        session.settimeout(0.3)
        with pytest.raises(TimeoutError):
            session.recv(1, socket.MSG_PEEK)
        session.settimeout(10)
        server.resume()
        assert "D" in until_ready(answers)  # a row

    url = server.create_database('of "a" test')
    assert url.endswith('/of "a" test')
    assert server.execute("SELECT current_database(), 1", database='of "a" test') == 'of "a" test|1'
    with pytest.raises(ServerFailed, match="nonsense"):
        server.execute("SELECT nonsense")


def query(sql: str) -> bytes:
    words = sql.encode() + b"\0"
    return b"Q" + struct.pack(">I", len(words) + 4) + words


def until_ready(answers: Any) -> str:
    """The kinds of the messages up to and with ReadyForQuery."""
    kinds = ""
    while not kinds.endswith("Z"):
        kind, size = struct.unpack(">cI", answers.read(5))
        answers.read(size - 4)
        kinds += kind.decode()
    return kinds


def test_mariadb_gives_each_test_its_database_and_skips_locked_rows(started: Any) -> None:
    server = started(servers.MariaDB(settings={"innodb-lock-wait-timeout": "1"}))
    assert server.create_database("one`two").endswith("/one`two")
    assert server.execute("SELECT DATABASE(), @@innodb_lock_wait_timeout", database="one`two") == "one`two\t1"
    server.execute("CREATE TABLE jobs (id int primary key)")
    assert server.execute("SELECT id FROM jobs FOR UPDATE SKIP LOCKED") == ""
    with pytest.raises(ServerFailed, match="nonsense"):
        server.execute("SELECT nonsense")


# ------------------------------------------------------------------------------------------------------------ emulator


def test_ministack_is_an_emulator_or_says_how_to_get_it(started: Any) -> None:
    server = servers.Ministack()
    if not server.installed():
        with pytest.raises(ServerMissing, match="pip install ministack=="):
            server.start()
        return
    started(server)
    assert server.facts.emulator
    assert server.url() == f"sqs://000000000000:secret@127.0.0.1:{server.facts.port}"
    create = "/?Action=CreateQueue&QueueName=kept&Version=2012-11-05"
    address = _handshakes.Address(port=server.facts.port)
    assert "kept" in _handshakes.http_version(address, create)
    server.pause()
    assert not server.ready()
    server.resume()
    server.restart()
    assert "kept" in _handshakes.http_version(address, "/?Action=ListQueues&Version=2012-11-05")
    server.kill9()
    server.restart(keep_data=False)
    assert "kept" not in _handshakes.http_version(address, "/?Action=ListQueues&Version=2012-11-05")
