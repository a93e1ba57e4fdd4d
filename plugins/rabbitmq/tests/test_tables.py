"""Field tables and properties: what we write, py-amqp reads, and the other way round; garbage is told as such."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from amqp import serialization
from brokerkit_rabbitmq.errors import Malformed
from brokerkit_rabbitmq.properties import (
    Properties,
    decode_properties,
    encode_properties,
    encode_stored,
    message_id_of,
)
from brokerkit_rabbitmq.tables import decode_table, encode_table
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

CALM = settings(deadline=None, suppress_health_check=(HealthCheck.too_slow,))  # the machine may be busy
NAMES = st.text(max_size=60)
PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(max_size=300),
    st.binary(max_size=300),
    st.datetimes(datetime(1970, 1, 2), datetime(9999, 1, 1), timezones=st.just(UTC)).map(  # noqa: DTZ001 - bounds
        lambda time: time.replace(microsecond=0)
    ),
    st.decimals(-(2**31) + 1, 2**31 - 1, places=0),
)
VALUES = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=12
)
TABLES = st.dictionaries(NAMES, VALUES, max_size=6)
SHORT = st.none() | st.text(max_size=60)
OCTET = st.none() | st.integers(0, 255)
PROPERTIES = st.builds(
    Properties,
    content_type=SHORT,
    content_encoding=SHORT,
    headers=st.none() | TABLES,
    delivery_mode=OCTET,
    priority=OCTET,
    correlation_id=SHORT,
    reply_to=SHORT,
    expiration=SHORT,
    message_id=SHORT,
    timestamp=st.none() | st.integers(0, 2**64 - 1),
    type=SHORT,
    user_id=SHORT,
    app_id=SHORT,
    cluster_id=SHORT,
)


@CALM
@given(TABLES)
def test_a_table_comes_back_as_it_was(fields):
    assert decode_table(encode_table(fields)) == fields


@CALM
@given(st.dictionaries(NAMES, st.text(max_size=300), max_size=6))
def test_headers_are_read_by_the_other_client_and_its_are_read_by_us(headers):
    ((read,), _) = serialization.loads("F", encode_table(headers), 0)
    assert read == headers
    assert decode_table(serialization.dumps("F", [headers])) == headers


@CALM
@given(st.binary(max_size=200))
@example(b"\0\0\0\x07\x01aT" + b"\xff" * 8)  # a time that no calendar has
@example(b"\xff\xff\xff\xff")
@example(b"\0\0\0\x03\x05ab")
def test_a_table_of_garbage_is_told_as_such(garbage):
    try:
        fields = decode_table(garbage)
    except Malformed:
        return
    assert isinstance(fields, dict)


@CALM
@given(TABLES, st.data())
def test_a_table_that_was_cut_short_is_told_as_such(fields, data):
    encoded = encode_table(fields)
    short = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(Malformed):
        decode_table(encoded[:short])
    with pytest.raises(Malformed):
        decode_table(encoded + b"\0")


def test_a_table_too_deep_for_anybody_is_refused():
    deep: object = {}
    for _ in range(200):
        deep = {"a": deep}
    with pytest.raises(Malformed, match="too deep"):
        decode_table(encode_table({"a": deep}))


@pytest.mark.parametrize("value", [2**63, object(), Decimal("1e400"), Decimal("NaN")])
def test_what_has_no_form_is_refused_before_it_is_sent(value):
    with pytest.raises(ValueError, match=r"form|bits"):
        encode_table({"a": value})


def test_a_name_that_is_too_long_is_refused_before_it_is_sent():
    with pytest.raises(ValueError, match="255"):
        encode_table({"ä" * 128: 1})
    assert encode_table({"ä" * 127: 1})


def test_bytes_that_are_no_text_stay_bytes():
    assert decode_table(b"\0\0\0\x08\x01aS\0\0\0\x01\xff") == {"a": b"\xff"}


@CALM
@given(PROPERTIES)
def test_properties_come_back_as_they_were(properties):
    assert decode_properties(encode_properties(properties)) == properties


@CALM
@given(st.text(max_size=40), st.dictionaries(NAMES, st.text(max_size=60), max_size=3), st.integers(0, 9))
def test_the_quick_form_is_the_same_as_the_full_one(message_id, headers, priority):
    full = Properties(
        message_id=message_id, delivery_mode=2, headers=headers or None, priority=priority or None, expiration="7"
    )
    assert encode_stored(message_id, headers, priority, "7") == encode_properties(full)
    short = full._replace(priority=None, expiration=None)
    assert encode_stored(message_id, headers) == encode_properties(short)
    assert message_id_of(encode_stored(message_id, headers)) == message_id


@CALM
@given(st.dictionaries(NAMES, st.text(max_size=60), max_size=3), st.text(max_size=60))
def test_properties_are_read_as_by_the_other_client(headers, message_id):
    encoded = encode_properties(Properties(headers=headers, message_id=message_id, priority=3, type="t"))
    read, _ = serialization.decode_properties_basic(encoded, 0)
    assert (read["application_headers"], read["message_id"]) == (headers, message_id)
    assert (read["priority"], read["type"]) == (3, "t")


@settings(CALM, max_examples=300)
@given(st.binary(max_size=100))
@example(b"\x80\x00\xff")
@example(b"\x00\x01")
@example(b"\x00\x00\x00")
def test_properties_of_garbage_are_told_as_such(garbage):
    try:
        read = decode_properties(garbage)
    except Malformed:
        assert message_id_of(garbage) is None
        return
    assert len(read) == 14
