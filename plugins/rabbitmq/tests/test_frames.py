"""Bytes to methods and back: however they are cut, whatever they are."""

import itertools
import struct

import pytest
from amqp import serialization
from brokerkit_rabbitmq import answers, methods
from brokerkit_rabbitmq.errors import Malformed
from brokerkit_rabbitmq.frames import HEARTBEAT, Assembler, Method, content
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

FRAME_MAX = 4096
CHANNELS = st.integers(1, 5)
CALM = settings(deadline=None, suppress_health_check=(HealthCheck.too_slow,))  # the machine may be busy
NAMES = st.text(max_size=60)


def deliver(channel, body=b"", properties=b"\0\0", *, frame_max=FRAME_MAX, key="q"):
    args = b"\1t" + struct.pack(">QB", 7, 1) + b"\0" + bytes((len(key),)) + key.encode()
    method = struct.pack(">BHII", 1, channel, 4 + len(args), answers.BASIC_DELIVER) + args + b"\xce"
    return method + b"".join(content(channel, properties, body, frame_max))


def fed(stream, cuts=(), frame_max=FRAME_MAX):
    assembler = Assembler(frame_max)
    places = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    return [method for start, end in itertools.pairwise(places) for method in assembler.feed(stream[start:end])]


@CALM
@given(st.lists(st.tuples(CHANNELS, st.binary(max_size=3 * FRAME_MAX)), max_size=5), st.lists(st.integers(0, 2**16)))
def test_contents_come_out_whole_however_they_are_cut(sent, cuts):
    stream = b"".join(HEARTBEAT + deliver(channel, body, b"\x00\x80\1i") for channel, body in sent)
    got = fed(stream, cuts)
    assert [(method.channel, method.body, method.properties) for method in got] == [
        (channel, body, b"\x00\x80\1i") for channel, body in sent
    ]
    assert {method.id for method in got} <= {answers.BASIC_DELIVER}


def test_one_byte_at_a_time():
    stream = deliver(3, b"x" * 5000) + methods.channel_close_ok(3) + HEARTBEAT + deliver(1)
    got = fed(stream, range(len(stream)))
    assert [(method.channel, method.id, len(method.body)) for method in got] == [
        (3, answers.BASIC_DELIVER, 5000),
        (3, answers.CHANNEL_CLOSE_OK, 0),
        (1, answers.BASIC_DELIVER, 0),
    ]


def test_contents_of_channels_may_be_mixed():
    first, second = deliver(1, b"a" * 9000), deliver(2, b"b")
    cut = len(first) - 5000
    end = first.index(b"\xce\x03", cut) + 1  # between two frames
    got = fed(first[:end] + second + first[end:])
    assert [(method.channel, method.body) for method in got] == [(2, b"b"), (1, b"a" * 9000)]


@settings(CALM, max_examples=300)
@given(st.binary(max_size=400), st.lists(st.integers(0, 400)))
@example(b"HTTP/1.1 400 Bad Request\r\n\r\n", [])
@example(b"AMQP\0\0\x09\1", [])
@example(HEARTBEAT[:-1] + b"\0", [])
def test_garbage_is_told_as_such_and_nothing_more_is_kept_than_came(garbage, cuts):
    try:
        got = fed(garbage, cuts)
    except Malformed:
        return
    assert sum(len(method.args) + 12 for method in got) <= len(garbage)


@settings(CALM, max_examples=300)
@given(st.data())
def test_one_wrong_byte_never_makes_a_content_longer_than_what_came(data):
    stream = bytearray(deliver(1, b"x" * 100) + deliver(2, b"y" * 5000) + HEARTBEAT + methods.channel_close_ok(1))
    place = data.draw(st.integers(0, len(stream) - 1))
    stream[place] ^= data.draw(st.integers(1, 255))
    try:
        got = fed(bytes(stream))
    except Malformed:
        return
    assert sum(len(method.body) + len(method.args) for method in got) <= len(stream)


@pytest.mark.parametrize(
    ("stream", "words"),
    [
        (struct.pack(">BHI", 1, 1, FRAME_MAX), "at most"),
        (struct.pack(">BHI", 1, 1, 0xFFFFFFFF), "at most"),
        (HEARTBEAT[:-1] + b"\0", "ends with"),
        (b"\x08\0\1\0\0\0\0\xce", "type 8"),
        (b"\x03\0\1\0\0\0\1x\xce", "type 3"),
        (b"\x05\0\1\0\0\0\0\xce", "type 5"),
        (b"\x01\0\1\0\0\0\2ab\xce", "type 1"),
        (deliver(1, b"abc")[:-11] + methods.channel_close_ok(1), "within a content"),
        (deliver(1, b"ab")[:-2] + b"cd\xce", "ends with"),
    ],
)
def test_what_is_out_of_order_is_told_as_such(stream, words):
    with pytest.raises(Malformed, match=words):
        fed(stream + b"\0" * 8)


@pytest.mark.parametrize("begin", [b"\0", b"\x81\0\1\0\0\0\5", b"\5\0\1\0\0\x0f\0abc", HEARTBEAT + b"H"])
def test_a_frame_that_begins_wrong_is_not_waited_for(begin):
    with pytest.raises(Malformed, match="type"):
        fed(begin)


def test_more_body_than_was_announced_is_told_as_such():
    head = deliver(1, b"abc")[: -len(b"\x03\0\1\0\0\0\3abc\xce")]
    with pytest.raises(Malformed, match="lacks 3"):
        fed(head + b"\x03\0\1\0\0\0\4abcd\xce")


@CALM
@given(CHANNELS, st.tuples(NAMES, NAMES, NAMES), st.booleans(), st.booleans())
def test_what_we_say_is_understood_by_the_other_client(channel, names, one, two):
    name, exchange, key = names

    def said(frame, form):
        (method,) = fed(frame)
        assert method.channel == channel
        return serialization.loads(form, method.args, 0)[0]

    arguments = {"x-queue-type": "quorum", "x-max-length": 5}
    declared = methods.queue_declare(channel, name, passive=one, durable=two, auto_delete=one, arguments=arguments)
    assert said(declared, "BsbbbbbF") == [0, name, one, two, False, one, False, arguments]
    assert said(methods.queue_bind(channel, name, exchange, key), "BsssbF") == [0, name, exchange, key, False, {}]
    assert said(methods.queue_unbind(channel, name, exchange, key), "BsssF") == [0, name, exchange, key, {}]
    assert said(methods.queue_purge(channel, name), "Bsb") == [0, name, False]
    deleted = methods.queue_delete(channel, name, if_unused=one, if_empty=two)
    assert said(deleted, "Bsbbb") == [0, name, one, two, False]
    made = methods.exchange_declare(channel, exchange, "topic", passive=one, internal=two)
    assert said(made, "BssbbbbbF") == [0, exchange, "topic", one, True, False, two, False, {}]
    assert said(methods.exchange_delete(channel, exchange, if_unused=one), "Bsbb") == [0, exchange, one, False]
    assert said(methods.exchange_bind(channel, name, exchange, key), "BsssbF") == [0, name, exchange, key, False, {}]
    assert said(methods.basic_publish(channel, exchange, key, mandatory=one), "Bssbb") == [0, exchange, key, one, False]
    assert said(methods.basic_qos(channel, 500, is_global=one), "lBb") == [0, 500, one]
    consumed = methods.basic_consume(channel, name, key, exclusive=one, arguments=arguments)
    assert said(consumed, "BssbbbbF") == [0, name, key, False, False, one, False, arguments]
    assert said(methods.basic_cancel(channel, key), "sb") == [key, False]
    assert said(methods.basic_get(channel, name, no_ack=one), "Bsb") == [0, name, one]
    assert said(methods.basic_ack(channel, 2**40, multiple=one), "Lb") == [2**40, one]
    assert said(methods.basic_reject(channel, 9, requeue=one), "Lb") == [9, one]
    assert said(methods.basic_give_back(channel, 9, multiple=one, requeue=two), "Lbb") == [9, one, two]
    assert said(methods.channel_close(channel, 200, "bye"), "BsBB") == [200, "bye", 0, 0]


@CALM
@given(NAMES, NAMES, NAMES, st.integers(0, 2**64 - 1), st.booleans())
def test_what_the_server_says_is_read(name, exchange, key, tag, flag):
    dumps = serialization.dumps
    assert answers.read_deliver(dumps("sLbss", [name, tag, flag, exchange, key])) == (name, tag, flag, exchange, key)
    assert answers.read_returned(dumps("Bsss", [312, name, exchange, key])) == (312, name, exchange, key)
    assert answers.read_confirmed(dumps("Lb", [tag, flag])) == (tag, flag)
    assert answers.read_declared(dumps("sll", [name, 7, 8])) == (name, 7, 8)
    assert answers.read_count(dumps("l", [9])) == 9
    assert answers.read_tag(dumps("sb", [name, flag])) == name
    assert answers.read_reason(dumps("s", [name])) == name
    assert answers.read_closing(dumps("BsBB", [404, name, 60, 40])) == (404, name, (60, 40))


READERS = [
    answers.read_deliver,
    answers.read_returned,
    answers.read_confirmed,
    answers.read_declared,
    answers.read_count,
    answers.read_tag,
    answers.read_reason,
    answers.read_closing,
]


@CALM
@given(st.binary(max_size=40))
@example(b"")
@example(b"\xff")
@example(b"\0" * 9)
def test_arguments_that_cannot_be_read_are_told_as_such(args):
    for read in READERS:
        try:
            read(args)
        except Malformed:
            continue


def test_a_body_of_any_size_fits_the_frames_that_were_agreed_on():
    for size in (0, 1, FRAME_MAX - 8, FRAME_MAX - 7, 10 * FRAME_MAX):
        (got,) = fed(deliver(1, bytes(size)))
        assert got == Method(1, answers.BASIC_DELIVER, got.args, b"\0\0", bytes(size))
