"""The memory transport at the level of the contract: receipts, fences, atomic claims, shared servers."""

import threading
import uuid

import pytest

import brokerkit
from brokerkit.errors import Closed, InvalidOption, InvalidURL, QueueNotFound
from brokerkit.memory import MemoryOptions, MemoryTransport
from brokerkit.models import Depth, Message, Queue
from brokerkit.testing import ManualClock
from brokerkit.url import URL


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def transport(clock):
    made = MemoryTransport.from_url(URL("memory", hosts=[(uuid.uuid4().hex, None)]), MemoryOptions(), clock=clock)
    made.declare(Queue(name="q"), timeout=1)
    return made


def message(body=b"x", **options):
    return Message(id=uuid.uuid4().hex, body=body, **options)


def claim(receiver, limit=10, **options):
    return receiver.receive(limit=limit, timeout=0, **options)


@pytest.fixture
def receiver(transport):
    return transport.open_receiver(["q"], prefetch=10, visibility_timeout=30)


def test_acks_ride_along_with_a_claim(transport, receiver):
    transport.send("q", [message(b"1"), message(b"2")], timeout=1)
    (first,), _ = claim(receiver, 1)
    (second,), lost = claim(receiver, 1, acks=[first])
    assert (second.message.body, lost) == (b"2", [])
    assert transport.depth("q", timeout=1) == Depth(0, 1, 0)


def test_a_stale_receipt_harms_nobody(transport, receiver, clock):
    transport.send("q", [message()], timeout=1)
    (old,), _ = claim(receiver)
    clock.advance(30)
    (new,), _ = claim(receiver)
    assert (old.attempt, new.attempt) == (1, 2)
    assert receiver.ack([old]) == [old]
    assert receiver.release([old]) == [old]
    assert receiver.extend([old], visibility_timeout=1000) == [old]
    assert claim(receiver, acks=[old]) == ([], [old])
    assert new.deadline == clock.monotonic() + 30
    assert receiver.ack([new]) == []


def test_a_lease_ends_at_its_deadline_and_not_before(transport, receiver, clock):
    transport.send("q", [message()], timeout=1)
    (held,), _ = claim(receiver)
    clock.advance(29.999)
    assert claim(receiver) == ([], [])
    assert receiver.extend([held], visibility_timeout=30) == []
    clock.advance(29.999)
    assert claim(receiver) == ([], [])
    clock.advance(0.001)
    assert receiver.ack([held]) == [held]
    assert len(claim(receiver)[0]) == 1


def test_two_timeouts_on_one_queue_are_each_kept(transport, clock):
    short = transport.open_receiver(["q"], prefetch=1, visibility_timeout=1)
    long = transport.open_receiver(["q"], prefetch=1, visibility_timeout=100)
    transport.send("q", [message(b"long"), message(b"short")], timeout=1)
    claim(long, 1)
    claim(short, 1)
    clock.advance(2)
    assert [r.message.body for r in claim(short)[0]] == [b"short"]
    clock.advance(97.5)
    assert [r.message.body for r in claim(short)[0]] == [b"short"]
    clock.advance(1)
    assert [r.message.body for r in claim(short)[0]] == [b"long", b"short"]


def test_expired_leases_come_back_oldest_first_in_their_place(transport, receiver, clock):
    transport.send("q", [message(bytes([i])) for i in range(5)], timeout=1)
    claim(receiver, 3)
    clock.advance(31)
    assert [r.message.body[0] for r in claim(receiver)[0]] == [0, 1, 2, 3, 4]


def test_an_uncounted_release_gives_the_attempt_back_but_not_the_receipt(transport, receiver):
    transport.send("q", [message()], timeout=1)
    (first,), _ = claim(receiver)
    receiver.release([first], counted=False)
    (second,), _ = claim(receiver)
    assert second.attempt == 1
    assert receiver.ack([first]) == [first]
    assert receiver.ack([second]) == []


def test_a_repeated_send_is_stored_once_while_the_first_waits(transport, receiver):
    one = message()
    assert transport.send("q", [one], timeout=1) == [None]
    assert transport.send("q", [one], timeout=1) == [None]
    assert len(claim(receiver)[0]) == 1


def test_what_is_sent_is_a_copy(transport, receiver):
    headers = {"k": "v"}
    sent = message(headers=headers)
    transport.send("q", [sent], timeout=1)
    headers["k"] = "spoilt"
    sent.body = b"spoilt"
    (got,), _ = claim(receiver)
    assert (got.message.body, dict(got.message.headers)) == (b"x", {"k": "v"})


def test_of_many_takers_one_wins(transport):
    for _ in range(50):
        transport.send("q", [message()], timeout=1)
        gate = threading.Barrier(8)
        got = []

        def take(gate=gate, got=got):
            receiver = transport.open_receiver(["q"], prefetch=1, visibility_timeout=30)
            gate.wait(30)
            claimed, _ = claim(receiver)
            got.extend(claimed)
            receiver.ack(claimed)

        threads = [threading.Thread(target=take) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(got) == 1


def test_closing_a_receiver_makes_visible_what_it_held_and_nothing_else(transport, receiver):
    other = transport.open_receiver(["q"], prefetch=1, visibility_timeout=30)
    transport.send("q", [message(b"mine"), message(b"theirs")], timeout=1)
    claim(receiver, 1)
    (theirs,), _ = claim(other, 1)
    receiver.close(timeout=1)
    receiver.close(timeout=1)
    assert transport.depth("q", timeout=1) == Depth(1, 1, 0)
    assert other.ack([theirs]) == []


def test_purge_leaves_what_is_held(transport, receiver):
    transport.send("q", [message(), message(), message(delay=5)], timeout=1)
    (held,), _ = claim(receiver, 1)
    assert transport.purge("q", timeout=1) == 2
    assert transport.depth("q", timeout=1) == Depth(0, 1, 0)
    assert receiver.ack([held]) == []


def test_settling_after_the_queue_is_gone_is_lost_not_a_crash(transport, receiver):
    transport.send("q", [message()], timeout=1)
    claimed, _ = claim(receiver)
    transport.delete("q", timeout=1)
    transport.delete("q", timeout=1)
    assert receiver.ack(claimed) == claimed
    assert receiver.release(claimed) == claimed


def test_servers_are_shared_by_name_and_keep_one_clock(clock):
    url = URL("memory", hosts=[(uuid.uuid4().hex, None)])
    first = MemoryTransport.from_url(url, MemoryOptions(), clock=clock)
    second = MemoryTransport.from_url(url, MemoryOptions(), clock=clock)
    assert first.server is second.server
    with pytest.raises(InvalidOption, match="clock"):
        MemoryTransport.from_url(url, MemoryOptions(), clock=ManualClock())


def test_a_closed_transport_says_so(transport):
    transport.close(timeout=1)
    with pytest.raises(Closed):
        transport.send("q", [message()], timeout=1)


@pytest.mark.parametrize("url", ["memory+foo://", "memory://a:1", "memory://a;b"])
@pytest.mark.parametrize("connect", [brokerkit.connect, brokerkit.results])
def test_a_url_that_means_nothing_here_is_refused(url, connect):
    with pytest.raises(InvalidURL, match="memory://name/virtual-host"):
        connect(url)


def test_a_call_that_has_done_acks_tells_a_missing_queue_at_the_next_call(transport):
    transport.declare(Queue(name="gone"), timeout=1)
    receiver = transport.open_receiver(["q", "gone"], prefetch=10, visibility_timeout=30)
    transport.send("q", [message()], timeout=1)
    claimed, _ = claim(receiver)
    transport.delete("gone", timeout=1)
    assert claim(receiver, acks=claimed) == ([], [])
    with pytest.raises(QueueNotFound) as caught:
        claim(receiver)
    assert caught.value.names == ("gone",)
    assert claim(receiver) == ([], [])


def test_a_handler_that_runs_for_longer_than_its_queue_may_be_idle_keeps_it(transport, clock):
    transport.declare(Queue(name="short", expires=20), timeout=1)
    receiver = transport.open_receiver(["short"], prefetch=1, visibility_timeout=30)
    transport.send("short", [message()], timeout=1)
    claimed, _ = claim(receiver)
    for _ in range(4):
        clock.advance(10)
        assert receiver.extend(claimed, visibility_timeout=30) == []
    assert receiver.ack(claimed) == []
