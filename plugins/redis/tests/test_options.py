"""Options: names that Celery users know, checked."""

import pytest
from brokerkit_redis.options import RedisOptions, RedisResultOptions, RedisTransportOptions

from brokerkit.errors import InvalidOption
from brokerkit.options import BrokerOptions, ResultOptions, describe, resolve


def taken(kind=RedisTransportOptions, **given):
    (options,) = resolve(given, kind, scheme="redis")
    return options


def test_every_default_is_finite_and_safe():
    options = RedisTransportOptions()
    assert (options.key_prefix, options.socket_timeout, options.socket_connect_timeout) == ("bk:", 5, 5)
    assert (options.health_check_interval, options.max_connections, options.socket_keepalive) == (25, 50, True)
    assert (options.tls_verify, options.ssl_check_hostname, options.wait_replicas) == (True, True, 0)
    assert options.queue_order_strategy == "round_robin"


def test_no_option_of_the_core_is_declared_again():
    resolve({}, BrokerOptions, RedisTransportOptions, scheme="redis")
    resolve({}, ResultOptions, RedisResultOptions, scheme="redis")
    assert all(doc.endswith(".") for kind in (RedisTransportOptions, RedisResultOptions) for *_, doc in describe(kind))


def test_texts_of_a_url_become_their_types():
    options = taken(socket_timeout="2.5", cluster="true", max_connections="7", queue_order_strategy="Priority")
    assert (options.socket_timeout, options.cluster, options.max_connections) == (2.5, True, 7)
    assert options.queue_order_strategy == "priority"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"socket_timeout": None}, ["socket_timeout", "None", "a number"]),
        ({"socket_timeout": 0}, ["socket_timeout", "0", "above 0"]),
        ({"max_connections": 0}, ["max_connections", "at least 1"]),
        ({"queue_order_strategy": "random"}, ["queue_order_strategy", "random", "round_robin, sorted, priority"]),
        ({"key_prefix": ""}, ["key_prefix", "''", "1 to 100"]),
        ({"key_prefix": "a{b}"}, ["key_prefix", "a{b}", "braces"]),
        ({"client_name": "a b"}, ["client_name", "'a b'", "without blanks"]),
        ({"ssl_cert_reqs": "CERT_NONE"}, ["ssl_cert_reqs", "CERT_NONE", "tls_verify=false"]),
        ({"ssl_keyfile": "/k"}, ["ssl_keyfile", "without 'ssl_certfile'"]),
        ({"priority_steps": [0, 3, 6, 9]}, ["priority_steps", "0,3,6,9", "leave it out"]),
        ({"socket_timout": 1}, ["socket_timout", "did you mean 'socket_timeout'"]),
        ({"sentinel_kwargs": {"pasword": "x"}}, ["sentinel_kwargs", "pasword", "did you mean 'password'"]),
    ],
)
def test_what_is_wrong_is_named_with_its_value_and_the_remedy(given, words):
    with pytest.raises(InvalidOption) as caught:
        taken(**given)
    assert [word for word in words if word not in str(caught.value)] == []


def test_global_keyprefix_is_key_prefix():
    assert taken(global_keyprefix="shop:").key_prefix == "shop:"
    assert taken(global_keyprefix="shop:", key_prefix="shop:").key_prefix == "shop:"
    assert RedisOptions(global_keyprefix="shop:").key_prefix == "shop:"


@pytest.mark.parametrize("prefix", ["bk:", "other:"])
def test_two_prefixes_that_differ_are_refused(prefix):
    with pytest.raises(InvalidOption, match=r"'key_prefix'.*'global_keyprefix'.*one option's two names"):
        taken(global_keyprefix="shop:", key_prefix=prefix)


def test_all_ten_levels_are_accepted_as_priority_steps():
    assert (
        taken(priority_steps=list(range(10))).priority_steps
        == taken(priority_steps="0,1,2,3,4,5,6,7,8,9").priority_steps
    )


def test_the_sentinels_password_is_a_secret():
    options = taken(sentinel_kwargs='{"password": "hush", "socket_timeout": 2}')
    assert options.sentinel_kwargs.password == "hush"
    assert options.sentinel_kwargs.socket_timeout == 2
    assert "hush" in options.secrets
    assert "hush" not in repr(options)


def test_a_credential_provider_may_be_an_object():
    class Provider:
        def get_credentials(self):
            return ("user", "hush")

    provider = Provider()
    assert taken(credential_provider=provider).credential_provider is provider
    assert taken(credential_provider="package:name").credential_provider == "package:name"
