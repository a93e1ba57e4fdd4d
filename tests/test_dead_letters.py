"""Dead letters that another program wrote, or damaged: they are shown as far as they can be read, and redriven."""

import math
import uuid

import pytest

import brokerkit
from brokerkit.models import Message, new_id

FORGED = [
    {"bk-dead-at": "yesterday", "bk-attempts": "many"},
    {"bk-dead-at": "", "bk-attempts": ""},
    {"bk-dead-at": "1e999", "bk-attempts": "9" * 5000},
    {"bk-dead-at": "0x10", "bk-attempts": "-1"},
    {"bk-dead-at": "12.5", "bk-attempts": "²"},
    {},
]


@pytest.fixture
def broker():
    with brokerkit.connect(f"memory://{uuid.uuid4().hex}") as b:
        b.declare("q")
        b.declare("q.dead", max_attempts=None)
        yield b


def put(broker, headers):
    """Put a letter as a program would that is not of brokerkit."""
    message = Message(id=new_id(broker.clock.time()), body=b"foreign", headers=headers)
    broker.transport.send("q.dead", [message], timeout=5.0)
    return message.id


def test_a_foreign_letter_is_shown_as_far_as_it_can_be_read(broker):
    ids = [put(broker, headers) for headers in FORGED]
    letters = broker.dead_letters("q")
    assert [letter.id for letter in letters] == ids
    assert [letter.attempts for letter in letters] == [None] * len(FORGED)
    moments = [letter.dead_at for letter in letters]
    assert [math.isnan(moment) for moment in moments] == [True, True, False, True, False, True]
    assert moments[4] == 12.5
    assert {letter.origin for letter in letters} == {"q"}


@pytest.mark.parametrize("origin", ["", "other", "no such queue", "\x00", "q.dead"])
def test_a_forged_origin_neither_stops_a_redrive_nor_leads_it_elsewhere(broker, origin):
    broker.declare("other")
    ids = [put(broker, headers | {"bk-origin-queue": origin}) for headers in FORGED]
    assert broker.redrive("q") == len(FORGED)
    with broker.consumer("q") as consumer:
        for message_id in ids:
            with consumer.receive(0) as delivery:
                assert delivery.id == message_id
    assert broker.depth("other").ready == 0
    assert broker.dead_letters("q") == []


@pytest.mark.parametrize("version", ["2", "0", "", "1.0", "v" * 5000])
def test_a_message_of_a_later_version_is_set_aside_unread_and_says_which(broker, version):
    message = Message(id=new_id(broker.clock.time()), body=b"{", headers={"bk-version": version})
    broker.transport.send("q", [message], timeout=5.0)
    good = broker.send("q", "good")
    with broker.consumer("q") as consumer, consumer.receive(0) as delivery:
        assert delivery.id == good
    (letter,) = broker.dead_letters("q")
    assert (letter.id, letter.body, letter.reason) == (message.id, b"{", "undecodable")
    assert letter.headers["bk-version"] == version
    assert version[:20] in letter.detail
    assert len(letter.detail) < 200


def test_a_message_of_this_version_may_say_so(broker):
    message = Message(id=new_id(broker.clock.time()), body=b"x", headers={"bk-version": "1"})
    broker.transport.send("q", [message], timeout=5.0)
    with broker.consumer("q") as consumer, consumer.receive(0) as delivery:
        assert delivery.id == message.id
