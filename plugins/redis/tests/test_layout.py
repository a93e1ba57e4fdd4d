"""How a queue lies in Redis: names of keys, packed messages, tokens."""

from __future__ import annotations

import struct

import pytest
from brokerkit_redis.layout import Token, delivery_of, pack, queue_key, token_of, topic_key
from hypothesis import given
from hypothesis import strategies as st

from brokerkit.models import Message, new_id

HEX = new_id(0.0)
TEXT = st.text(max_size=20)


def delivered(value, *, priority=0, claims=1, uncounted=0, now=0):
    token = bytes.fromhex(HEX) + struct.pack(">BII", priority, claims, uncounted)
    return delivery_of(token, value, "q", 5.0, now)


@given(body=st.binary(), headers=st.dictionaries(TEXT, TEXT, max_size=4), priority=st.integers(0, 9))
def test_what_is_packed_is_what_is_delivered(body, headers, priority):
    packed = pack(Message(id=HEX, body=body, headers=headers, priority=priority))
    assert (packed.id, packed.ttl, packed.delay) == (bytes.fromhex(HEX), b"", b"")
    found = delivered(packed.value, priority=priority, claims=7, uncounted=3)
    assert (found.message.id, found.message.body, found.message.priority) == (HEX, body, priority)
    assert dict(found.message.headers) == headers
    assert (found.queue, found.attempt, found.deadline, found.expired, found.gap) == ("q", 4, 5.0, False, 0)


@given(expires=st.integers(1, 2**48), due=st.integers(1, 2**48), which=st.integers(1, 3), headers=st.booleans())
def test_moments_that_the_scripts_put_in_are_read(expires, due, which, headers):
    value = pack(Message(id=HEX, body=b"body", headers={"a": "b"} if headers else {}, priority=4)).value
    moments = (struct.pack(">Q", expires) if which & 1 else b"") + (struct.pack(">Q", due) if which & 2 else b"")
    value = bytes([value[0] + 16 * which]) + moments + value[1:]
    for now in (expires - 1, expires, expires + 1):
        found = delivered(value, priority=4, now=now)
        assert (found.message.body, dict(found.message.headers)) == (b"body", {"a": "b"} if headers else {})
        assert found.expired is (bool(which & 1) and expires <= now)


@pytest.mark.parametrize(("seconds", "ms"), [(0.0001, b"1"), (0.25, b"250"), (315_360_000.0, b"315360000000")])
def test_times_are_in_milliseconds_and_a_time_to_live_never_nothing(seconds, ms):
    assert pack(Message(id=HEX, body=b"", ttl=seconds)).ttl == ms
    if seconds > 0.001:
        assert pack(Message(id=HEX, body=b"", delay=seconds)).delay == ms


@given(st.binary(max_size=60))
def test_whatever_stands_in_a_queue_is_delivered_with_its_bytes_or_as_malformed(value):
    found = delivered(value)
    if "bk-malformed" not in found.message.headers:
        assert value.endswith(found.message.body)
    assert found.message.id == HEX


@given(id_=st.binary(min_size=16, max_size=16), priority=st.integers(0, 9), claims=st.integers(0, 2**32 - 1))
def test_tokens_say_what_they_are_made_of(id_, priority, claims):
    assert token_of(id_ + struct.pack(">BII", priority, claims, 1)) == Token(id_, priority, claims, 1)


def test_what_is_too_short_is_no_token():
    with pytest.raises(ValueError, match="no token"):
        token_of(b"x" * 8)


@given(st.lists(st.text(alphabet="ab{}%7BD:", max_size=6), min_size=2, max_size=2, unique=True))
def test_two_names_never_share_a_key_and_each_has_one_hash_tag(names):
    first, second = (queue_key("bk:", name) for name in names)
    assert first != second
    for key in (first, topic_key("bk:", names[0])):
        tag = key.partition(b"{")[2].partition(b"}")[0]
        assert key.count(b"{") == key.count(b"}") == 1
        assert (tag == b"") == (names[0] == "")
