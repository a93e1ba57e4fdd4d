"""The forms of one server: a unix socket, users, TLS, several hosts; and what is said when they are got wrong."""

import pytest
from brokerkit_redis.errors import ERRORS
from redis.credentials import UsernamePasswordCredentialProvider

from brokerkit import errors, servers
from brokerkit.servers.certificates import Certificates

HANG = 30.0


def test_a_unix_socket_and_its_database(plain, open_client):
    client = open_client(plain.url(unix=True, database=2))
    client.run([("SET", "bk:unix", 1)], timeout=HANG)
    assert open_client(plain.url(database=2)).run([("GET", "bk:unix")], timeout=HANG) == [b"1"]


def test_a_user_and_its_password(start, open_client):
    server = start(servers.Redis(acl=True))
    assert open_client(server.url()).run([("SET", "bk:k", 1)], timeout=HANG) == [b"OK"]
    assert _error(open_client(server.url().replace("s3cret", "wr0ng")), errors.AccessDenied, hidden="wr0ng")
    assert _error(open_client(f"redis://127.0.0.1:{server.facts.port}"), errors.AccessDenied)
    refused = _error(open_client(server.url()), errors.AccessDenied, call=("GET", "other:key"))
    assert "key_prefix" in refused


def test_a_password_alone_is_the_default_users(start, open_client):
    server = start(servers.Redis())
    server.command("CONFIG", "SET", "requirepass", "hush")
    assert open_client(f"redis://:hush@127.0.0.1:{server.facts.port}/1").run([("PING",)], timeout=HANG) == [b"PONG"]
    assert _error(open_client(f"redis://:wrong@127.0.0.1:{server.facts.port}/1"), errors.AccessDenied, hidden="wrong")


class Provider(UsernamePasswordCredentialProvider):
    def __init__(self):
        super().__init__("app", "s3cret")


def test_credentials_from_a_provider(start, open_client):
    server = start(servers.Redis(acl=True))
    url = f"redis://127.0.0.1:{server.facts.port}"
    client = open_client(url, credential_provider=Provider())
    assert client.run([("PING",)], timeout=HANG) == [b"PONG"]
    by_name = "redis.credentials:UsernamePasswordCredentialProvider"
    assert _error(open_client(url, credential_provider=by_name), errors.AccessDenied)


@pytest.mark.parametrize("name", ["no_such_module:x", "redis.credentials:NoSuch", "no_colon", "json:loads"])
def test_a_provider_that_cannot_be_had_is_refused_before_any_io(open_client, name):
    with pytest.raises(errors.InvalidOption, match="credential_provider"):
        open_client("redis://192.0.2.1", credential_provider=name)


def test_a_database_that_is_not_there(plain, open_client):
    assert "databases" in _error(open_client(plain.url(database=99)), errors.InvalidURL)


def test_tls_with_the_right_authority(start, open_client):
    server = start(servers.Redis(tls=True))
    client = open_client(server.url())
    assert client.run([("SET", "bk:k", b"x" * 300_000), ("STRLEN", "bk:k")], timeout=HANG) == [b"OK", 300_000]
    assert client.run([("GET", "bk:k")], timeout=HANG) == [b"x" * 300_000]
    line = client.line()
    line.begin([("BLPOP", "bk:w", 0.1)], timeout=HANG)
    assert line.reply(0.1) is None
    assert line.run([("PING",)], timeout=HANG) == [b"PONG"]
    (before,) = client.run([("CLIENT", "ID")], timeout=HANG)
    assert client.run([("CLIENT", "ID")], timeout=HANG) == [before]  # kept, whatever TLS has said in between
    server.restart()
    assert client.run([("PING",)], timeout=HANG) == [b"PONG"]


def test_a_server_that_we_have_no_reason_to_trust_is_refused_and_never_asked_again(start, open_client, tmp_path):
    server = start(servers.Redis(tls=True))
    where = f"rediss://127.0.0.1:{server.facts.port}"
    other = Certificates.make(tmp_path).ca
    assert "ssl_ca_certs" in _error(open_client(where), errors.AccessDenied)
    assert "ssl_ca_certs" in _error(open_client(where, ssl_ca_certs=str(other)), errors.AccessDenied)
    assert "/no/such.pem" in _error(open_client(where, ssl_ca_certs="/no/such.pem"), errors.InvalidOption)


def test_the_certificate_must_be_for_the_host(start, open_client):
    server = start(servers.Redis(tls=True))
    ca = str(server.certificates.ca)
    where = f"rediss://127.1:{server.facts.port}"  # the same host by another name
    assert "127.1" in _error(open_client(where, ssl_ca_certs=ca), errors.AccessDenied)
    lenient = open_client(where, ssl_ca_certs=ca, ssl_check_hostname=False)
    assert lenient.run([("PING",)], timeout=HANG) == [b"PONG"]


def test_unverified_tls_is_warned_about(start, open_client):
    server = start(servers.Redis(tls=True))
    with pytest.warns(UserWarning, match="tls_verify=false"):
        client = open_client(f"rediss://127.0.0.1:{server.facts.port}?tls_verify=false")
    assert client.run([("PING",)], timeout=HANG) == [b"PONG"]


def test_tls_to_a_server_without_it_is_not_connected(plain, open_client):
    assert _error(open_client(f"rediss://127.0.0.1:{plain.facts.port}", socket_timeout=0.5), errors.NotConnected)


def test_no_room_for_another_client(start, open_client):
    server = start(servers.Redis())
    holding = open_client(server.url())
    holding.run([("PING",)], timeout=HANG)
    server.command("CONFIG", "SET", "maxclients", 1)
    assert "maxclients" in _error(open_client(server.url(database=1)), errors.Throttled)


def test_of_several_hosts_the_first_master_that_answers_is_taken(start, open_client):
    dead, replica, master = servers.Redis(), start(servers.Redis()), start(servers.Redis())
    dead.start()
    ports = [one.facts.port for one in (dead, replica, master)]
    dead.close()
    replica.command("REPLICAOF", "127.0.0.1", ports[2])
    url = "redis://" + ";".join(f"127.0.0.1:{port}" for port in ports)
    client = open_client(url)
    assert client.run([("SET", "bk:k", 1)], timeout=HANG) == [b"OK"]
    # the roles change under the open connection: an error, and then the right one
    replica.command("REPLICAOF", "NO", "ONE")
    master.command("REPLICAOF", "127.0.0.1", ports[1])
    refused = _error(client, errors.NotConnected, call=("SET", "bk:k", 2))
    assert "replica" in refused
    assert client.run([("SET", "bk:k", 3)], timeout=HANG) == [b"OK"]
    assert replica.command("GET", "bk:k") == b"3"


def test_a_frozen_host_leaves_time_for_the_next(start, open_client):
    frozen, alive = start(servers.Redis()), start(servers.Redis())
    frozen.pause()
    client = open_client(f"redis://127.0.0.1:{frozen.facts.port};127.0.0.1:{alive.facts.port}")
    assert client.run([("PING",)], timeout=1.0) == [b"PONG"]
    frozen.resume()


def test_when_no_host_is_a_master_each_is_named(start, open_client):
    replica = start(servers.Redis())
    port = replica.facts.port
    replica.command("REPLICAOF", "127.0.0.1", 1)
    refused = _error(open_client(f"redis://127.0.0.1:{port};127.0.0.1:1"), errors.NotConnected)
    assert f"127.0.0.1:{port} is a replica" in refused
    assert "127.0.0.1:1" in refused


def test_a_full_memory_refuses_writes_and_keeps_what_is_there(start, open_client):
    server = start(servers.Redis(maxmemory="3mb", policy="noeviction"))
    client = open_client(server.url())
    full = Exception
    for i in range(1000):
        (full,) = client.run([("SET", f"bk:{i}", b"x" * 10_000)], timeout=HANG, raising=False)
        if isinstance(full, Exception):
            break
    assert type(ERRORS.translate(full, doing="send")) is errors.StorageFull
    assert client.run([("STRLEN", "bk:0")], timeout=HANG) == [10_000]


def _error(client, kind, call=("PING",), hidden="\0"):
    with pytest.raises(Exception) as caught:
        client.run([call], timeout=5)
    mapped = ERRORS.translate(caught.value, doing="try")
    assert type(mapped) is kind, repr(mapped)
    assert hidden not in str(mapped)
    return str(mapped)
