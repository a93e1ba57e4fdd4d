"""What a receiver has to tell is told once, also while there is always something to deliver."""

from __future__ import annotations

import time

import pytest
from brokerkit_redis.losses import Losses

from brokerkit import errors
from brokerkit.models import Queue

HANG = 30.0


@pytest.fixture
def busy(plain, inside, open_transport, message):
    """A receiver of two queues, of which "full" always has something."""
    inside(plain).client.flushall()
    transport = open_transport(plain.url())
    for name in ("full", "other"):
        transport.declare(Queue(name=name), timeout=HANG)
    transport.send("full", [message() for _ in range(500)], timeout=HANG)
    return transport, transport.open_receiver(["full", "other"], prefetch=10, visibility_timeout=60)


def consume(receiver, times, *, with_acks):
    """Receive so many times and ack; return what was told, and how many came."""
    told, came, acks = [], 0, []
    for _ in range(times):
        try:
            got, lost = receiver.receive(limit=3, timeout=0.01, acks=acks)
        except (errors.InconsistencyError, errors.QueueNotFound) as error:
            assert not acks, "nobody learns which acks were lost"
            told.append(error)
            continue
        assert lost == []
        came += len(got)
        if with_acks:
            acks = list(got)
        else:
            assert receiver.ack(got) == [] if got else True
    return told, came


@pytest.mark.parametrize("with_acks", [True, False], ids=["acks ride along", "acks alone"])
def test_a_queue_that_is_gone_is_told_once_though_the_other_has_always_something(busy, with_acks):
    transport, receiver = busy
    assert consume(receiver, 4, with_acks=with_acks) == ([], 12)
    transport.delete("other", timeout=HANG)
    told, came = consume(receiver, 40, with_acks=with_acks)
    assert [str(each) for each in told] == [str(errors.QueueNotFound("other"))]
    assert came >= 100


@pytest.mark.parametrize("with_acks", [True, False], ids=["acks ride along", "acks alone"])
def test_what_was_evicted_is_told_once_though_there_is_always_something(busy, inside, plain, with_acks):
    _, receiver = busy
    inside(plain).evict("full", "r0")
    told, came = consume(receiver, 40, with_acks=with_acks)
    assert len(told) == 1
    assert "500 messages were put back" in str(told[0])
    assert came >= 100


def test_the_acks_are_done_before_a_loss_is_told(busy, inside, plain):
    transport, receiver = busy
    got, _ = receiver.receive(limit=5, timeout=5)
    inside(plain).evict("other", "t")
    held, _ = receiver.receive(limit=5, timeout=5)
    end = time.monotonic() + HANG
    while True:
        assert time.monotonic() < end
        more, lost = receiver.receive(limit=5, timeout=0.05, acks=[*got, *held])
        assert lost == []
        if not more:
            break
        got, held = more, []
    with pytest.raises(errors.InconsistencyError, match="'other'"):
        receiver.receive(limit=5, timeout=0.05)
    assert transport.depth("full", timeout=HANG).in_flight == 0


def test_when_all_queues_are_gone_it_is_told_each_time():
    losses = Losses()
    for _ in range(3):
        losses.note_missing(["a", "b"], 2)
        with pytest.raises(errors.QueueNotFound, match=r"a.*b"):
            losses.tell()
    losses.note_missing(["a"], 2)
    losses.tell()  # said already
    losses.note_missing([], 2)
    losses.note_missing(["a"], 2)
    with pytest.raises(errors.QueueNotFound):
        losses.tell()


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"0 0 1 ", "a key of its bookkeeping was gone"),
        (b"2 0 1 0a,0b", "2 messages are gone, though nobody settled them: 0a, 0b"),
        (b"200 0 1 0a,0b", "0a, 0b, …"),
        (b"0 7 1 ", "7 messages were put back"),
        (b"0 0 0 ", "the key with its messages was gone"),
        ("B tópic".encode(), "its binding to topic 'tópic' was gone"),
    ],
)
def test_what_repairs_found_is_said_in_words(line, text):
    losses = Losses()
    losses.note_gone("q", line)
    assert losses.any
    with pytest.raises(errors.InconsistencyError) as told:
        losses.tell()
    assert "queue 'q'" in str(told.value)
    assert text in str(told.value)
    assert not losses.any
