"""Where URLs point to."""

import pytest
from brokerkit_rabbitmq.addresses import address_of
from brokerkit_rabbitmq.options import RabbitMQOptions

from brokerkit.errors import InvalidOption, InvalidURL
from brokerkit.options import gather, resolve
from brokerkit.url import URL


def address(text, **options):
    url = URL.parse(text)
    (settings,) = resolve(gather(url, options, None), RabbitMQOptions, scheme=url.scheme)
    return address_of(url, settings)


def test_a_url_with_everything():
    found = address("amqps://u%40x:p%2Fq@one:1;two,[::1]:3/shop?ssl_ca_certs=/ca.pem")
    assert found.hosts == (("one", 1), ("two", 5671), ("::1", 3))
    assert (found.virtual_host, found.username, found.password, found.tls) == ("shop", "u@x", "p/q", True)
    assert "p/q" not in repr(found)


def test_a_url_with_nothing():
    for text in ("amqp://", "pyamqp://localhost", "amqp://localhost:5672//", "amqp://guest:guest@localhost/%2F"):
        found = address(text)
        assert found.hosts == (("localhost", 5672),)
        assert (found.virtual_host, found.username, found.password, found.tls) == ("/", "guest", "guest", False)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("", "/"),
        ("/", "/"),
        ("//", "/"),
        ("/%2F", "/"),
        ("/a", "a"),
        ("/a/b", "a/b"),
        ("//a", "/a"),
        ("/%2Fa", "/a"),
        ("/ä%20b", "ä b"),
    ],
)
def test_virtual_hosts_are_kombus(path, name):
    assert address(f"amqp://h{path}").virtual_host == name


def test_kombu_reads_the_same_virtual_hosts():
    kombu = pytest.importorskip("kombu")
    for path in ("", "/", "//", "/a", "//a", "/%2Fa", "/a%20b"):
        theirs = kombu.Connection(f"amqp://h{path}").virtual_host
        assert address(f"amqp://h{path}").virtual_host == theirs or theirs in ("", None)


def test_a_name_without_a_password_is_nobody_elses():
    found = address("amqp://bob@h")
    assert (found.username, found.password) == ("bob", "")


def test_lists_of_urls_and_hosts_given_twice():
    assert address("amqp://a;amqp://b:1;amqp://a:5672").hosts == (("a", 5672), ("b", 1))


@pytest.mark.parametrize(
    ("text", "options", "error", "words"),
    [
        ("amqp+tls://h", {}, InvalidURL, "amqps://"),
        ("rabbitmq://h", {}, InvalidURL, "amqp://"),
        ("amqp://h:0", {}, InvalidURL, "port 0"),
        ("amqp://%2Frun%2Fx", {}, InvalidURL, "unix"),
        ("amqp://h/" + "x" * 256, {}, InvalidURL, "255"),
        ("amqp://h", {"tls_verify": False}, InvalidOption, "'tls_verify' is about TLS"),
        ("amqp://h", {"ssl_ca_certs": "/x"}, InvalidOption, "'ssl_ca_certs' is about TLS"),
    ],
)
def test_what_makes_no_sense_is_refused(text, options, error, words):
    with pytest.raises(error, match=words):
        address(text, **options)


def test_tls_by_option():
    assert address("amqp://h", ssl=True).hosts == (("h", 5671),)
    assert address("pyamqp://h?ssl=true").tls
