"""Dialling: by a deadline, over several hosts, with verified certificates; and a clear word when we are not let in."""

import time
import warnings

import pytest
from amqp import exceptions
from brokerkit_conformance.faults import HalfOpen, Proxy, Refuse, Slow, Way
from brokerkit_rabbitmq import answers, methods
from brokerkit_rabbitmq.errors import ERRORS, Unreachable, Untrusted

from brokerkit import errors, servers
from brokerkit.servers.certificates import Certificates

HANG = 30.0


def soon(seconds=HANG):
    return time.monotonic() + seconds


def opened(connector, seconds=HANG):
    return connector.open(deadline=soon(seconds), heartbeat=10, purpose="test")


def refusal(connector, seconds=HANG):
    with pytest.raises(Exception) as caught:
        opened(connector, seconds)
    return caught.value, type(ERRORS.translate(caught.value, doing="connect"))


def works(link):
    channel = link.open_channel(lambda _: None, deadline=soon())
    asked = methods.queue_declare(channel.number, "", exclusive=True)  # the server finds a name
    assert channel.call(asked, answers.QUEUE_DECLARE_OK, deadline=soon())
    return True


def port_of(url):
    return int(url.rpartition(":")[2].partition("/")[0])


@pytest.fixture
def proxy(node):
    with Proxy("127.0.0.1", node.facts.port) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def secure():
    """A node that speaks TLS only."""
    with servers.RabbitMQ(tls=True) as server:
        yield server


def test_a_password_that_is_wrong_is_told_at_once(node, connector):
    text = f"amqp://guest:wrong-password@127.0.0.1:{node.facts.port};127.0.0.1:1"
    error, ours = refusal(connector(text))
    assert (type(error), ours) == (exceptions.AccessRefused, errors.AccessDenied)
    assert "wrong-password" not in str(error)


@pytest.mark.parametrize("method", ["PLAIN", "AMQPLAIN"])
def test_ways_to_log_in(method, node, vhost, open_link, connector):
    assert works(open_link(vhost, login_method=method))
    wrong = vhost.replace("guest:guest", "guest:no")
    assert refusal(connector(wrong, login_method=method))[1] is errors.AccessDenied


def test_a_way_to_log_in_that_the_server_does_not_offer(secure, connector):
    files = {"ssl_ca_certs": str(secure.certificates.ca), "ssl_certfile": str(secure.certificates.cert)}
    files["ssl_keyfile"] = str(secure.certificates.key)
    error, ours = refusal(connector(secure.url(), login_method="EXTERNAL", **files))
    assert ours is errors.AccessDenied
    assert "EXTERNAL" in str(error)


def test_names_and_passwords_of_any_letters(node, vhost, open_link):
    node.create_user("jörg/@:", "p%:/ä@")
    node.permit("jörg/@:", vhost.rpartition("/")[2])
    assert works(open_link(node.url(vhost=vhost.rpartition("/")[2], user="jörg/@:", password="p%:/ä@")))


def test_a_virtual_host_that_is_not_there(node, connector):
    error, ours = refusal(connector(node.url(vhost="missing")))
    assert (type(error), ours) == (exceptions.NotAllowed, errors.AccessDenied)
    assert "missing" in str(error)


def test_a_virtual_host_that_the_user_may_not_enter(node, vhost, connector):
    node.create_user("stranger", "x")
    error, ours = refusal(connector(node.url(vhost=vhost.rpartition("/")[2], user="stranger", password="x")))
    assert (type(error), ours) == (exceptions.NotAllowed, errors.AccessDenied)


def test_a_queue_that_the_user_may_not_make(node, vhost, open_link):
    node.create_user("reader", "x")
    node.permit("reader", vhost.rpartition("/")[2], configure="", write="")
    link = open_link(node.url(vhost=vhost.rpartition("/")[2], user="reader", password="x"))
    with pytest.raises(exceptions.AccessRefused) as caught:
        works(link)
    assert type(ERRORS.translate(caught.value, doing="declare")) is errors.AccessDenied


def test_nobody_listens(connector):
    error, ours = refusal(connector("amqp://127.0.0.1:1"))
    assert (type(error), ours) == (Unreachable, errors.NotConnected)
    assert "127.0.0.1:1" in str(error)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "x" * 70 + ".invalid", "[100::abc]:1", "[::1]:1"])
def test_a_host_that_cannot_be_reached(host, connector):
    error, ours = refusal(connector(f"amqp://{host}"), 2.0)
    assert (type(error), ours) == (Unreachable, errors.NotConnected)


def test_when_no_host_answers_each_is_named(connector):
    error, _ = refusal(connector("amqp://127.0.0.1:1;127.0.0.1:2"))
    assert "127.0.0.1:1" in str(error)
    assert "127.0.0.1:2" in str(error)


def test_the_deadline_holds_for_all_of_it_whatever_the_server_does(proxy, connector):
    mine = connector(f"amqp://guest:guest@127.0.0.1:{proxy.port}")
    for fault in (HalfOpen(), Slow(rate=30, burst=1, way=Way.DOWN)):  # silent; or a byte at a time, for ever
        with proxy.inject(fault):
            began = time.monotonic()
            error, _ = refusal(mine, 0.5)
            assert type(error) is Unreachable
            assert time.monotonic() - began < 5
    link = opened(mine)
    assert works(link)
    link.close(deadline=soon())


def test_something_else_listens(node, connector):
    error, ours = refusal(connector(f"amqp://127.0.0.1:{node._port('management')}"), 1.0)
    assert ours in (errors.NotConnected, errors.ConnectionLost)
    assert error


def test_the_time_for_one_host_has_its_own_limit(proxy, connector):
    with proxy.inject(HalfOpen()):
        began = time.monotonic()
        refusal(connector(f"amqp://127.0.0.1:{proxy.port}", connect_timeout=0.3))
        assert time.monotonic() - began < 10


def test_of_several_hosts_one_that_is_frozen_leaves_time_for_the_next_and_the_good_one_is_remembered(
    node, vhost, proxy, connector, open_link
):
    name = vhost.rpartition("/")[2]
    mine = connector(f"amqp://guest:guest@127.0.0.1:{proxy.port};127.0.0.1:{node.facts.port}/{name}")
    with proxy.inject(HalfOpen()):
        link = opened(mine, 6.0)
        assert link.name == f"127.0.0.1:{node.facts.port}"
    again = opened(mine)
    assert again.name == link.name
    assert proxy.traffic().connections == 1
    for one in (link, again):
        assert works(one)
        one.close(deadline=soon())


def test_any_of_several_hosts(node, vhost, proxy, connector):
    name = vhost.rpartition("/")[2]
    hosts = f"127.0.0.1:{proxy.port};127.0.0.1:{node.facts.port}"
    mine = connector(f"amqp://guest:guest@{hosts}/{name}", failover_strategy="shuffle")
    seen = set()
    while len(seen) < 2:
        link = opened(mine)
        seen.add(link.name)
        link.close(deadline=soon())
    with proxy.inject(Refuse()):
        opened(mine).close(deadline=soon())


def test_the_server_shows_who_we_are(node, vhost, open_link, eventually):
    link = open_link(vhost, client_name="shop", client_properties={"team": "mail"})
    assert works(link)

    def shown():
        found = [connection.get("client_properties", {}) for connection in node.management("GET", "/connections")]
        return [facts for facts in found if facts.get("connection_name") == "shop test"]

    (facts,) = eventually(shown)
    assert (facts["product"], facts["team"]) == ("brokerkit", "mail")


def test_what_is_agreed_on_is_the_smaller(vhost, open_link):
    link = open_link(vhost, frame_max=4096, heartbeat=600)
    assert (link.frame_max, link.heartbeat) == (4096, 60)
    assert works(link)


def test_tls_with_the_right_authority(secure, open_link):
    link = open_link(secure.url(), ssl_ca_certs=str(secure.certificates.ca))
    came = []
    channel = link.open_channel(came.append, deadline=soon())
    channel.call(methods.queue_declare(channel.number, "q"), answers.QUEUE_DECLARE_OK, deadline=soon())
    channel.call(methods.basic_consume(channel.number, "q", "t"), answers.BASIC_CONSUME_OK, deadline=soon())
    head = b"\2\0\1\0\0\0\x0e\0\x3c\0\0\0\0\0\0\0\0\0\3\0\0\xce"
    for _ in range(300):
        channel.send(methods.basic_publish(channel.number, "", "q"), head, b"\3\0\1\0\0\0\3abc\xce")
    assert link.wait(lambda: len(came) == 300, soon())
    assert {method.body for method in came} == {b"abc"}


def test_tls_both_sides_full_of_bytes(secure, open_link):
    link = open_link(secure.url(), ssl_ca_certs=str(secure.certificates.ca))
    came = []
    channel = link.open_channel(came.append, deadline=soon())
    channel.call(methods.queue_declare(channel.number, "big"), answers.QUEUE_DECLARE_OK, deadline=soon())
    channel.call(methods.basic_consume(channel.number, "big", "t"), answers.BASIC_CONSUME_OK, deadline=soon())
    body = bytes(131_064)
    frames = [methods.basic_publish(channel.number, "", "big")]
    frames += [b"\2\0\1\0\0\0\x0e\0\x3c\0\0" + len(body).to_bytes(8) + b"\0\0\xce"]
    frames += [b"\3\0\1" + len(body).to_bytes(4), body, b"\xce"]
    for _ in range(200):
        link.write(*frames)
    assert link.wait(lambda: len(came) == 200, soon())
    assert {method.body for method in came} == {body}
    assert link.unsent == 0


def test_a_server_that_we_have_no_reason_to_trust(secure, connector, tmp_path):
    assert refusal(connector(secure.url()))[1] is errors.AccessDenied
    other = Certificates.make(tmp_path)
    error, ours = refusal(connector(secure.url(), ssl_ca_certs=str(other.ca)))
    assert (type(error), ours) == (Untrusted, errors.AccessDenied)


def test_the_certificate_must_be_for_the_host(secure, connector):
    ca = str(secure.certificates.ca)
    with Proxy("127.0.0.1", secure.facts.port) as proxy:
        proxy.door("127.0.0.1", secure.facts.port, listen=("127.0.0.2", 0))
        host, port = proxy._lane.doors[1].address
        url = f"amqps://guest:guest@{host}:{port}"
        assert type(refusal(connector(url, ssl_ca_certs=ca))[0]) is Untrusted
        link = opened(connector(url, ssl_ca_certs=ca, ssl_check_hostname=False))
        assert works(link)
        link.close(deadline=soon())


def test_the_deadline_holds_for_tls_at_any_stage_of_the_handshakes(secure, connector):
    with Proxy("127.0.0.1", secure.facts.port) as proxy:
        url = f"amqps://guest:guest@127.0.0.1:{proxy.port}"
        mine = connector(url, ssl_ca_certs=str(secure.certificates.ca))
        for rate in (300, 1000, 2000):
            with proxy.inject(Slow(rate=rate, burst=1, way=Way.DOWN)):
                began = time.monotonic()
                error, _ = refusal(mine, 0.7)
                assert type(error) is Unreachable
                assert time.monotonic() - began < 10


def test_unverified_tls_is_warned_about(secure, connector):
    with pytest.warns(UserWarning, match="tls_verify=false"):
        mine = connector(f"{secure.url()}?tls_verify=false")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        link = opened(mine)
    assert works(link)
    link.close(deadline=soon())


def test_tls_to_a_server_without_it(node, connector):
    assert refusal(connector(f"amqps://guest:guest@127.0.0.1:{node.facts.port}"))[1] is errors.NotConnected


def test_no_tls_to_a_server_with_it(secure, connector):
    assert refusal(connector(f"amqp://guest:guest@127.0.0.1:{secure.facts.port}"), 2.0)[1] is errors.NotConnected


def test_certificates_that_cannot_be_read(connector, tmp_path):
    missing = str(tmp_path / "none.pem")
    error, ours = refusal(connector("amqps://127.0.0.1:1", ssl_ca_certs=missing))
    assert ours is errors.InvalidOption
    assert missing in str(error)
