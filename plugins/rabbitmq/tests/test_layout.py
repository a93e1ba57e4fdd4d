"""How nouns lie in RabbitMQ: without a server."""

from __future__ import annotations

import pytest
from brokerkit_rabbitmq.layout import check_name, encode, expiry_of, oversized, queue_arguments, short, stored
from brokerkit_rabbitmq.properties import Properties, decode_properties, encode_properties
from hypothesis import given
from hypothesis import strategies as st

from brokerkit.errors import InvalidName, MessageTooLarge
from brokerkit.models import Message, Queue

ID = "01a1fd1d3be874f09dca042c2683df2a"
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def read(message, queue="q", **kwargs):
    return stored(encode(message, **kwargs), message.body, queue)


@given(st.dictionaries(TEXT, TEXT, max_size=5), st.binary(max_size=50))
def test_a_message_comes_back_as_it_went_whatever_its_headers(headers, body):
    found = read(Message(id=ID, body=body, headers=headers)).message
    assert (found.id, found.body, dict(found.headers)) == (ID, body, headers)


@pytest.mark.parametrize("name", ["CC", "BCC", "x-death", "x-delivery-count", "bk-delay-3", "", "n" * 300])
def test_headers_that_rabbitmq_would_take_for_its_own_travel_apart(name):
    encoded = encode(Message(id=ID, body=b"", headers={name: "v"}))
    assert list(decode_properties(encoded).headers) == ["x-bk-headers"]
    assert dict(stored(encoded, b"", "q").message.headers) == {name: "v"}


def test_the_claims_of_copies_and_those_of_the_server_are_one_count():
    encoded = encode_properties(Properties(message_id=ID, headers={"x-bk-attempt": 3, "x-delivery-count": 2}))
    assert stored(encoded, b"", "q").claims == 5
    assert not stored(encoded, b"", "q").message.headers


def test_the_end_of_a_time_to_live_travels_along():
    message = Message(id=ID, body=b"", ttl=1.5)
    assert read(message, expires=expiry_of(message, 10.0)).expires == 11_500
    assert expiry_of(Message(id=ID, body=b""), 10.0) is None


@pytest.mark.parametrize(
    "headers",
    [
        {"a": {"deep": 1}},
        {"a": [1]},
        {"a": None},
        {"x-bk-attempt": "3"},
        {"x-bk-expires": True},
        {"x-bk-headers": 1},
        {"x-bk-headers": '{"a": "\\ud800"}'},
    ],
)
def test_what_cannot_be_read_says_so_and_keeps_its_body(headers):
    encoded = encode_properties(Properties(message_id=ID, headers=headers))
    found = stored(encoded, b"body", "q").message
    assert "cannot be read" in found.headers["bk-malformed"]
    assert found.body == b"body"


@pytest.mark.parametrize("seconds", [2**40, 2**62, 2**64 - 1])
def test_times_that_are_none_say_so(seconds):
    table = b"\x01aT" + seconds.to_bytes(8)
    found = stored(b"\x20\x00" + len(table).to_bytes(4) + table, b"body", "q").message
    assert "cannot be read" in found.headers["bk-malformed"]


def test_foreign_messages_are_read():
    headers = {"number": 7, "yes": True, "raw": b"text"}
    foreign = Properties(message_id="not a uuid", headers=headers, content_type="text/plain", priority=200)
    found = stored(encode_properties(foreign), b"", "q").message
    assert dict(found.headers) == {"number": "7", "yes": "true", "raw": "text", "content-type": "text/plain"}
    assert (len(found.id), found.priority) == (32, 9)
    assert found.id == stored(encode_properties(foreign), b"", "q").message.id
    dashed = Properties(message_id="01a1fd1d-3be8-74f0-9dca-042c2683df2a")
    assert stored(encode_properties(dashed), b"", "q").message.id == ID


def test_a_death_by_the_server_is_told_as_the_core_tells_it():
    deaths = [{"queue": "mail", "reason": "expired"}]
    encoded = encode_properties(Properties(message_id=ID, headers={"x-death": deaths}))
    letter = stored(encoded, b"", "mail.dead").message.headers
    assert (letter["bk-dead-reason"], letter["bk-origin-queue"]) == ("expired", "mail")
    assert not stored(encoded, b"", "mail").message.headers
    assert not stored(encoded, b"", "other.dead").message.headers


def test_headers_that_fill_a_frame_are_refused():
    with pytest.raises(MessageTooLarge, match="120000"):
        encode(Message(id=ID, body=b"", headers={"a": "x" * 120_000}))


def test_arguments_of_a_queue():
    assert queue_arguments(Queue(name="q"), "quorum") == {"x-queue-type": "quorum"}
    assert queue_arguments(Queue(name="q", max_priority=3), "classic") == {
        "x-queue-type": "classic",
        "x-max-priority": 3,
    }
    found = queue_arguments(Queue(name="q", expires=2, message_ttl=0.5, max_length=7), "quorum")
    assert (found["x-expires"], found["x-message-ttl"], found["x-max-length"]) == (2000, 500, 7)
    assert (found["x-overflow"], found["x-dead-letter-strategy"]) == ("reject-publish", "at-least-once")
    assert found["x-dead-letter-routing-key"] == "q.dead"
    assert "x-dead-letter-exchange" not in queue_arguments(Queue(name="q.dead", message_ttl=1), "quorum")


@pytest.mark.parametrize("name", ["amq.gen", "bk.delay.10"])
def test_names_that_are_taken(name):
    with pytest.raises(InvalidName, match="own"):
        check_name(name)


def test_long_names_are_cut_and_stay_apart():
    names = ["é" * 127, "é" * 200, "é" * 200 + "x"]
    assert len({short(name) for name in names}) == 3
    assert all(len(short(name).encode()) <= 255 for name in names)
    assert short("plain") == "plain"


@pytest.mark.parametrize(("text", "fits"), [("x" * 119_000, True), ("x" * 120_000, False), ("é" * 60_000, False)])
def test_headers_that_fit(text, fits):
    for headers in ({"a": text}, {"x-a": "\0" * (15_000 if fits else 30_000)}):
        error = oversized(Message(id=ID, body=b"", headers=headers))
        assert error is None if fits else "bytes of headers" in str(error)
