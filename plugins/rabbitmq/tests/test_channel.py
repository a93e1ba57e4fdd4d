"""Channels: questions and their answers; what the server refuses ends one channel and no other."""

import time

import pytest
from amqp import exceptions
from brokerkit_conformance.faults import HoldReply, Proxy
from brokerkit_rabbitmq import answers, methods

from brokerkit import errors

HANG = 30.0


def soon():
    return time.monotonic() + HANG


def declare(channel, name, *, deadline=None, **settings):
    request = methods.queue_declare(channel.number, name, **settings)
    answer = channel.call(request, answers.QUEUE_DECLARE_OK, deadline=deadline or soon())
    return answers.read_declared(answer.args)


@pytest.fixture
def link(vhost, open_link):
    return open_link(vhost)


@pytest.fixture
def open_channel(link):
    return lambda: link.open_channel(lambda _: None, deadline=soon())


@pytest.fixture
def owned(vhost, open_link):
    """A queue that another connection has for itself."""
    declare(open_link(vhost).open_channel(lambda _: None, deadline=soon()), "mine", exclusive=True)


def test_each_call_gets_its_answer(open_channel):
    channel, number = open_channel(), None
    assert declare(channel, "q") == ("q", 0, 0)
    number = channel.number
    made = methods.exchange_declare(number, "e", "topic")
    assert channel.call(made, answers.EXCHANGE_DECLARE_OK, deadline=soon()).channel == number
    bound = methods.queue_bind(number, "q", "e", "#")
    assert channel.call(bound, answers.QUEUE_BIND_OK, deadline=soon()).id == answers.QUEUE_BIND_OK
    purged = channel.call(methods.queue_purge(number, "q"), answers.QUEUE_PURGE_OK, deadline=soon())
    assert answers.read_count(purged.args) == 0
    empty = channel.call(methods.basic_get(number, "q"), answers.BASIC_GET_OK, answers.BASIC_GET_EMPTY, deadline=soon())
    assert empty.id == answers.BASIC_GET_EMPTY


def test_threads_share_a_channel(open_channel, run):
    channel = open_channel()
    for value in [run(declare, channel, f"q{place}") for place in range(8)]:
        assert value()[1:] == (0, 0)


def missing(number):
    return methods.queue_declare(number, "missing", passive=True)


def different(number):
    return methods.queue_declare(number, "there", arguments={"x-max-length": 1})


def reserved(number):
    return methods.queue_declare(number, "amq.mine")


def locked(number):
    return methods.queue_declare(number, "mine", passive=True)


@pytest.mark.parametrize(
    ("request_of", "kind", "code"),
    [
        (missing, exceptions.NotFound, 404),
        (different, exceptions.PreconditionFailed, 406),
        (reserved, exceptions.AccessRefused, 403),
        (locked, exceptions.ResourceLocked, 405),
    ],
)
def test_what_is_refused_ends_one_channel_and_no_other(request_of, kind, code, open_channel, owned):
    channel, other = open_channel(), open_channel()
    declare(other, "there")
    with pytest.raises(kind) as caught:
        channel.call(request_of(channel.number), answers.QUEUE_DECLARE_OK, deadline=soon())
    assert (caught.value.reply_code, caught.value.method_sig) == (code, (50, 10))
    assert caught.value.reply_text
    with pytest.raises(kind) as again:
        channel.send(methods.basic_ack(channel.number, 1))
    assert again.value is not caught.value
    with pytest.raises(kind):
        declare(channel, "there")
    assert declare(other, "there") == ("there", 0, 0)
    channel.close(deadline=soon())
    assert type(channel.broken) is kind


def test_the_number_of_a_channel_that_ended_is_used_again(vhost, open_link):
    link = open_link(vhost, channel_max=8)
    channels = [link.open_channel(lambda _: None, deadline=soon()) for _ in range(8)]
    with pytest.raises(exceptions.ResourceError, match="8 channels"):
        link.open_channel(lambda _: None, deadline=soon())
    channels[2].close(deadline=soon())
    with pytest.raises(exceptions.NotFound):
        channels[5].call(missing(channels[5].number), answers.QUEUE_DECLARE_OK, deadline=soon())
    opened = {link.open_channel(lambda _: None, deadline=soon()).number for _ in range(2)}
    assert opened == {channels[2].number, channels[5].number}


def test_an_answer_that_comes_too_late_is_nobodys(node, vhost, open_link):
    with Proxy("127.0.0.1", node.facts.port) as proxy:
        link = open_link(f"amqp://guest:guest@127.0.0.1:{proxy.port}/{vhost.rpartition('/')[2]}", heartbeat=60)
        channel, other = (link.open_channel(lambda _: None, deadline=soon()) for _ in range(2))
        with proxy.inject(HoldReply()) as held:
            with pytest.raises(errors.OperationTimeout, match="did not answer"):
                declare(channel, "late", deadline=time.monotonic() + 0.1)
            held.wait()
            with pytest.raises(errors.OperationTimeout):
                declare(channel, "next", deadline=time.monotonic() + 0.1)
        assert declare(other, "third") == ("third", 0, 0)
        assert link.wait(lambda: channel.number not in link._channels, soon())


def test_a_call_waits_for_its_turn_no_longer_than_its_deadline(node, vhost, open_link, run, eventually):
    with Proxy("127.0.0.1", node.facts.port) as proxy:
        link = open_link(f"amqp://guest:guest@127.0.0.1:{proxy.port}/{vhost.rpartition('/')[2]}", heartbeat=60)
        channel = link.open_channel(lambda _: None, deadline=soon())
        with proxy.inject(HoldReply()) as held:
            first = run(declare, channel, "first")
            held.wait()
            with pytest.raises(errors.OperationTimeout, match="other calls"):
                declare(channel, "second", deadline=time.monotonic() + 0.1)
        assert first() == ("first", 0, 0)
        assert declare(channel, "second") == ("second", 0, 0)


def test_closing_a_channel_gives_back_what_it_held(link, open_channel):
    came = []
    channel, other = link.open_channel(came.append, deadline=soon()), open_channel()
    declare(channel, "q")
    channel.call(methods.basic_consume(channel.number, "q", "tag"), answers.BASIC_CONSUME_OK, deadline=soon())
    channel.send(methods.basic_publish(channel.number, "", "q"), b"\2\0\1\0\0\0\x0e\0\x3c\0\0\0\0\0\0\0\0\0\0\0\0\xce")
    assert link.wait(lambda: bool(came), soon())
    channel.close(deadline=soon())
    channel.close(deadline=soon())
    with pytest.raises(errors.Closed):
        channel.send(methods.basic_ack(channel.number, 1))
    assert declare(other, "q").messages == 1


def test_what_a_channel_brings_after_it_was_left_is_nobodys(link, open_channel):
    came = []
    channel, other = link.open_channel(came.append, deadline=soon()), open_channel()
    declare(channel, "q")
    channel.call(methods.basic_consume(channel.number, "q", "tag"), answers.BASIC_CONSUME_OK, deadline=soon())
    other.send(methods.basic_publish(other.number, "", "q"), b"\2\0\2\0\0\0\x0e\0\x3c\0\0\0\0\0\0\0\0\0\0\0\0\xce")
    channel.leave()
    channel.leave()
    channel.close(deadline=soon())
    assert channel.number not in link._channels
    assert came == []
    assert declare(other, "q").messages == 1


@pytest.mark.parametrize("end", ["close", "leave"])
def test_ending_a_channel_of_a_dead_link_is_no_error(end, link, open_channel):
    channel = open_channel()
    link.close(deadline=soon())
    if end == "close":
        channel.close(deadline=soon())
    else:
        channel.leave()
    with pytest.raises(errors.Closed):
        channel.send(methods.basic_ack(channel.number, 1))
