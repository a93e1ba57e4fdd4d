"""Options and addresses: what they are when nobody gives any, and what is refused before any I/O."""

import pytest
from brokerkit_memcached.addresses import Server, address_of
from brokerkit_memcached.options import MemcachedResultOptions
from brokerkit_memcached.results import MemcachedResultBackend

from brokerkit import registry
from brokerkit.errors import InvalidOption, InvalidURL
from brokerkit.options import ResultOptions, describe, resolve
from brokerkit.url import URL


def taken(**given):
    (options,) = resolve(given, MemcachedResultOptions, scheme="memcached")
    return options


def address(text, **given):
    return address_of(URL.parse(text), taken(**given))


def test_every_default_is_finite_and_safe():
    options = MemcachedResultOptions()
    assert (options.key_prefix, options.socket_timeout, options.socket_connect_timeout) == ("bk:", 5, 5)
    assert (options.item_size_max, options.evictions, options.remember_expired) == (1024 * 1024, True, 600)
    assert (options.ssl, options.tls_verify, options.ssl_check_hostname) == (False, True, True)


def test_no_option_of_the_core_is_declared_again():
    resolve({}, ResultOptions, MemcachedResultOptions, scheme="memcached")
    assert all(doc.endswith(".") for *_, doc in describe(MemcachedResultOptions))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"key_prefix": ""}, ["key_prefix", "''", "1 to 100"]),
        ({"key_prefix": "a b"}, ["key_prefix", "'a b'", "without blanks"]),
        ({"key_prefix": "ü"}, ["key_prefix", "ASCII"]),
        ({"item_size_max": 10}, ["item_size_max", "at least 1024"]),
        ({"socket_timeout": 0}, ["socket_timeout", "above 0"]),
        ({"max_connections": 0}, ["max_connections", "at least 1"]),
        ({"ssl_keyfile": "/k", "ssl": True}, ["ssl_keyfile", "without 'ssl_certfile'"]),
        ({"ssl_ca_certs": "/c"}, ["ssl_ca_certs", "add ssl=true"]),
        ({"tls_verify": False}, ["tls_verify", "add ssl=true"]),
        ({"remember_expird": 1}, ["did you mean 'remember_expired'"]),
    ],
)
def test_what_is_wrong_is_named_with_its_value_and_the_remedy(given, words):
    with pytest.raises(InvalidOption) as caught:
        taken(**given)
    assert [word for word in words if word not in str(caught.value)] == []


def test_promises_follow_from_the_options():
    facts = MemcachedResultBackend.from_url(
        URL.parse("memcached://"), MemcachedResultOptions(), clock=None
    ).capabilities
    assert facts == MemcachedResultBackend.capabilities
    assert (facts.evictable, facts.absence.expired, facts.max_value) == (True, "exact", 1024 * 1024 - 512)
    options = taken(evictions="no", remember_expired="0", item_size_max="8388608")
    facts = MemcachedResultBackend.from_url(URL.parse("memcached://"), options, clock=None).capabilities
    assert (facts.evictable, facts.absence.expired, facts.max_value) == (False, "unknown", 8 * 1024 * 1024 - 512)


# -- addresses -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        ("memcached://", [("localhost", 11211)]),
        ("memcached://h", [("h", 11211)]),
        ("memcached://h:5/", [("h", 5)]),
        ("memcached://a;b:7,c", [("a", 11211), ("b", 7), ("c", 11211)]),
        ("memcached://a:1;memcached://b:2", [("a", 1), ("b", 2)]),
        ("memcached://a;a:11211", [("a", 11211)]),
        ("memcached://[::1]:5", [("::1", 5)]),
        ("cache+memcached://a:11211;b:11211/", [("a", 11211), ("b", 11211)]),
        ("memcached:///run/mc.sock", [("/run/mc.sock", 0)]),
        ("cache+memcached:///run/mc.sock", [("/run/mc.sock", 0)]),
        ("memcached+unix:///run/mc.sock", [("/run/mc.sock", 0)]),
        ("memcached+socket:///run/mc.sock", [("/run/mc.sock", 0)]),
        ("memcached://%2Frun%2Fa.sock;%2Frun%2Fb.sock", [("/run/a.sock", 0), ("/run/b.sock", 0)]),
    ],
)
def test_where_a_url_leads_to(text, servers):
    assert list(address(text).servers) == [Server(*each) for each in servers]
    assert registry.find(URL.parse(text), "result_backend").load() is MemcachedResultBackend


@pytest.mark.parametrize(
    ("text", "given", "error", "words"),
    [
        ("memcached://h/1", {}, InvalidURL, "key_prefix"),
        ("memcached://h:0", {}, InvalidURL, "port 0"),
        ("memcached+tcp://h", {}, InvalidURL, "write memcached://host:11211"),
        ("memcached+unix://h/run/x", {}, InvalidURL, "third slash"),
        ("memcached+unix://", {}, InvalidURL, "no path"),
        ("memcached:///" + "x" * 200, {}, InvalidURL, "107 bytes"),
        ("memcached://%2Frun%2Fa.sock:5", {}, InvalidURL, "no port"),
        ("memcached://user@h", {}, InvalidURL, "a user and a password"),
        ("memcached://user:a%20b@h", {}, InvalidURL, "no blanks"),
        ("memcached:///run/mc.sock", {"ssl": True}, InvalidOption, "unix socket"),
    ],
)
def test_what_makes_no_sense_is_refused_and_says_what_to_write(text, given, error, words):
    with pytest.raises(error, match=words):
        address(text, **given)


def test_a_login_is_taken_from_the_url_and_shows_in_no_text():
    found = address("memcached://user:s3cret@h")
    assert (found.username, found.password) == ("user", "s3cret")
    assert "s3cret" not in repr(found)
