"""The life of a RabbitMQ for tests: one node for the whole file, for it takes seconds to boot."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator

import pytest

from brokerkit import servers
from brokerkit.servers import RabbitMQ, ServerFailed, ServerMissing, _handshakes, _reaper
from brokerkit.servers.rabbitmq import api_path
from brokerkit.testing import wait_until


@pytest.fixture(scope="module")
def server() -> Iterator[RabbitMQ]:
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("BROKERKIT_TEST_RABBITMQ")]:
            patch.delenv(name)
        node = RabbitMQ(tls=True, mixed=True, settings={"consumer_timeout": "3000"})
        try:
            node.start()
        except ServerMissing as missing:
            if missing.required:
                raise
            pytest.skip(str(missing))
        try:
            yield node
        finally:
            everything = whole(node)
            node.close()
        assert not _reaper.living(everything)


def whole(node: RabbitMQ) -> set[int]:
    """The script, the node, what the node starts, and its epmd."""
    return {member.pid for part in (node.facts.pid, epmd(node)) for member in _reaper.family(part or 0)}


def epmd(node: RabbitMQ) -> int:
    return node._local()._companions[0].pid


def test_a_vhost_and_a_user_are_made_over_the_management_api(server: RabbitMQ) -> None:
    url = server.create_vhost("of a/test")
    assert url == f"amqps://guest:guest@127.0.0.1:{server.facts.port}/of%20a%2Ftest"
    server.create_user("ada", "pass:word")
    server.permit("ada", "of a/test", configure="^$", write="^mail")
    allowed = server.management("GET", api_path("permissions", "of a/test", "ada"))
    assert (allowed["configure"], allowed["write"], allowed["read"]) == ("^$", "^mail", ".*")
    assert server.url(vhost="of a/test", user="ada", password="pass:word").startswith("amqps://ada:pass%3Aword@")
    server.delete_vhost("of a/test")
    with pytest.raises(ServerFailed, match="404"):
        server.management("GET", api_path("vhosts", "of a/test"))


def test_where_it_speaks_tls_it_speaks_nothing_else(server: RabbitMQ) -> None:
    port = server.facts.port
    with pytest.raises(OSError):
        _handshakes.amqp_version(_handshakes.Address(port=port))
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshakes.amqp_version(_handshakes.Address(port=port, tls=True))


def test_what_tests_of_refusals_need(server: RabbitMQ) -> None:
    assert _handshakes.amqp_version(_handshakes.Address(port=server.facts.ports["plain"])) == server.version()
    ours, other = str(server.certificates.ca), str(server.certificates.other())
    for host, trusted, why in (("localhost", ours, "expired"), ("127.0.0.1", other, "verify failed")):
        trusting = ssl.create_default_context(cafile=trusted)
        plain = socket.create_connection(("127.0.0.1", server.facts.port))
        with plain, pytest.raises(ssl.SSLCertVerificationError, match=why):
            trusting.wrap_socket(plain, server_hostname=host)


def test_an_alarm_begins_and_ends(server: RabbitMQ) -> None:
    for on in (True, False):
        server.alarm(on)
        told = server.control("eval", "rabbit_alarm:get_alarms().")
        assert ("memory" in told) is on
    with pytest.raises(ServerFailed, match="no_such_command"):
        server.control("no_such_command")


def test_it_freezes_and_comes_back_after_kill_9_with_what_was_confirmed(server: RabbitMQ) -> None:
    server.create_vhost("kept")
    queue = api_path("queues", "kept", "mail")
    server.management("PUT", queue, {"durable": True})
    send = {"properties": {"delivery_mode": 2}, "routing_key": "mail", "payload": "hello", "payload_encoding": "string"}
    assert server.management("POST", api_path("exchanges", "kept", "amq.default", "publish"), send) == {"routed": True}

    server.pause()
    assert not server.ready()
    server.resume()
    wait_until(server.ready)

    # the server writes what was declared to its disk a little later; an orderly stop writes it at once
    server.stop()
    server.restart()
    members = whole(server)
    assert len(members) >= 3
    server.kill9()
    assert _reaper.living(members) == {epmd(server)}
    server.restart()
    wait_until(lambda: payloads(server, queue) == ["hello"])


def payloads(node: RabbitMQ, queue: str) -> list[str]:
    """What the first messages of a queue carry; nothing while the queue is not back after a crash."""
    take = {"count": 10, "ackmode": "ack_requeue_true", "encoding": "auto"}
    try:
        return [one["payload"] for one in node.management("POST", f"{queue}/get", take)]
    except ServerFailed:
        return []


def test_its_facts_and_its_logs(server: RabbitMQ, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = server.facts
    assert (facts.product, facts.place, facts.emulator) == ("rabbitmq", "local", False)
    assert facts.version.split(".")[0].isdigit()
    assert {"main", "plain", "management", "epmd", "distribution"} == set(facts.ports)
    assert len(set(facts.ports.values())) == 5
    assert "Server startup complete" in server.logs()
    monkeypatch.setenv("BROKERKIT_TEST_RABBITMQ_URL", f"{server.url()}?ssl_ca_certs={server.certificates.ca}")
    with RabbitMQ() as named:
        assert (named.facts.place, named.version()) == ("environment", facts.version)
        with pytest.raises(servers.NotOurs):
            named.restart()
