"""Options: names that Celery users know, checked."""

import pytest
from brokerkit_rabbitmq.options import RabbitMQOptions

from brokerkit.errors import InvalidOption
from brokerkit.options import BrokerOptions, describe, resolve


def taken(**given):
    (options,) = resolve(given, RabbitMQOptions, scheme="amqp")
    return options


def test_every_default_is_finite_and_safe():
    options = RabbitMQOptions()
    assert (options.queue_type, options.connect_timeout, options.heartbeat) == ("quorum", 5, None)
    assert (options.tls_verify, options.ssl_check_hostname, options.confirm_publish) == (True, True, True)
    assert (options.failover_strategy, options.login_method) == ("round-robin", "PLAIN")
    assert (options.fanout_prefix, options.fanout_patterns) == (True, True)


def test_no_option_of_the_core_is_declared_again():
    resolve({}, BrokerOptions, RabbitMQOptions, scheme="amqp")
    assert all(doc.endswith(".") for *_, doc in describe(RabbitMQOptions))


def test_texts_of_a_url_become_their_types():
    options = taken(heartbeat="7", queue_type="Classic", connect_timeout="2.5", client_properties='{"team": "mail"}')
    assert (options.heartbeat, options.queue_type, options.connect_timeout) == (7, "classic", 2.5)
    assert options.client_properties == {"team": "mail"}
    assert taken(heartbeat="none").heartbeat is None
    assert taken(failover_strategy="SHUFFLE", login_method="amqplain").login_method == "AMQPLAIN"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"heartbeat": 0}, ["heartbeat", "0", "at least 1"]),
        ({"heartbeat": 1.5}, ["heartbeat", "1.5", "a whole number"]),
        ({"connect_timeout": 0}, ["connect_timeout", "above 0"]),
        ({"connect_timeout": None}, ["connect_timeout", "None", "a number"]),
        ({"queue_type": "stream"}, ["queue_type", "stream", "quorum, classic"]),
        ({"login_method": "GSSAPI"}, ["login_method", "GSSAPI", "PLAIN, AMQPLAIN, EXTERNAL"]),
        ({"login_method": "EXTERNAL"}, ["login_method", "ssl_certfile"]),
        ({"failover_strategy": "random"}, ["failover_strategy", "round-robin, shuffle"]),
        ({"frame_max": 100}, ["frame_max", "at least 4096"]),
        ({"channel_max": 1}, ["channel_max", "at least 8"]),
        ({"confirm_publish": False}, ["confirm_publish", "send_many"]),
        ({"client_name": "a b"}, ["client_name", "'a b'", "without blanks"]),
        ({"client_properties": {"x": object()}}, ["client_properties", "object"]),
        ({"client_properties": {"x" * 300: 1}}, ["client_properties", "255"]),
        ({"ssl_cert_reqs": "CERT_NONE"}, ["ssl_cert_reqs", "CERT_NONE", "tls_verify=false"]),
        ({"ssl_keyfile": "/k"}, ["ssl_keyfile", "without 'ssl_certfile'"]),
        ({"fanout_prefix": ""}, ["fanout_prefix", "empty"]),
        ({"hartbeat": 1}, ["hartbeat", "did you mean 'heartbeat'"]),
    ],
)
def test_what_makes_no_sense_is_refused(given, words):
    with pytest.raises(InvalidOption) as caught:
        taken(**given)
    assert all(word in str(caught.value) for word in words)


def test_secrets_are_not_shown():
    options = taken(ssl_certfile="/c", ssl_password="hunter2")
    assert "hunter2" not in repr(options)
