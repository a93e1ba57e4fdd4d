"""Laws of Consumer and Delivery on the memory transport, with a clock that the test moves."""

import contextlib
import threading
import uuid

import pytest

import brokerkit
from brokerkit.errors import (
    AlreadySettled,
    Closed,
    ConnectionLost,
    LeaseLost,
    QueueNotFound,
    Throttled,
    Unsupported,
)
from brokerkit.testing import Faults, ManualClock, wait_until


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def events():
    return []


@pytest.fixture
def broker(clock, events):
    options = {"retry_delay": 1.0, "visibility_timeout": 30, "retry_policy": {"interval_start": 0, "interval_step": 0}}
    with brokerkit.connect(f"memory://{uuid.uuid4().hex}", clock=clock, on_event=events.append, **options) as b:
        b.declare("q", max_attempts=3)
        yield b


def names(events):
    return [event.name for event in events]


def test_an_acked_message_never_comes_again(broker, clock):
    broker.send("q", 1)
    with broker.consumer("q") as consumer:
        consumer.receive(0).ack(wait=True)
        clock.advance(1000)
        assert consumer.receive(0) is None
    assert broker.depth("q") == brokerkit.Depth(0, 0, 0)


def test_a_coalesced_ack_reaches_the_server_without_another_receive(broker, clock):
    broker.send("q", 1)
    with broker.consumer("q") as consumer:
        delivery = consumer.receive(0)
        clock.wait_for_waiters(1)  # the tending thread sleeps until the lease needs it
        delivery.ack()
        wait_until(lambda: clock.advance(0.02) or broker.depth("q").in_flight == 0)


def test_close_flushes_acks_and_gives_back_the_rest_at_once(broker):
    broker.send_many("q", range(4))
    consumer = broker.consumer("q", prefetch=4)
    consumer.receive(0).ack()
    held = consumer.receive(0)
    consumer.close()
    consumer.close()
    assert broker.depth("q") == brokerkit.Depth(3, 0, 0)
    with pytest.raises(LeaseLost):
        held.ack()
    with broker.consumer("q") as again:
        attempts = {d.payload: d.attempt for d in (again.receive(0) for _ in range(3))}
    assert attempts == {1: 2, 2: 1, 3: 1}  # what never reached a handler keeps its attempt


def test_the_first_settlement_counts(broker):
    broker.send("q", 1)
    with broker.consumer("q") as consumer:
        delivery = consumer.receive(0)
        delivery.ack()
        for again in (delivery.ack, delivery.release, delivery.dead_letter, delivery.extend):
            with pytest.raises(AlreadySettled):
                again()
        assert delivery.settled


def test_of_many_threads_that_settle_one_wins(broker):
    broker.send("q", 1)
    with broker.consumer("q") as consumer:
        delivery = consumer.receive(0)
        won = []
        gate = threading.Barrier(8)

        def settle(how):
            gate.wait()
            with contextlib.suppress(AlreadySettled, LeaseLost):
                how()
                won.append(how)

        threads = [threading.Thread(target=settle, args=(how,)) for how in [delivery.ack, delivery.release] * 4]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(won) == 1


def test_release_gives_back_at_once_and_counts_the_attempt(broker):
    broker.send("q", 1)
    with broker.consumer("q") as consumer:
        consumer.receive(0).release()
        assert consumer.receive(0).attempt == 2


def test_release_with_a_delay_waits_that_long(broker, clock):
    broker.send("q", 1)
    with broker.consumer("q") as consumer:
        consumer.receive(0).release(5)
        clock.advance(4.9)
        assert consumer.receive(0) is None
        clock.advance(0.2)
        assert consumer.receive(0).attempt == 2
        broker.send("q", 2)
        again = consumer.receive(0)
        with pytest.raises(Unsupported, match="at least 0"):
            again.release(-1)


def test_a_delayed_message_is_never_early(broker, clock):
    broker.send("q", 1, delay=10)
    with broker.consumer("q") as consumer:
        clock.advance(9.99)
        assert consumer.receive(0) is None
        clock.advance(0.02)
        assert consumer.receive(0).payload == 1


def test_a_waiting_receive_wakes_for_a_send_and_for_a_delay(broker, clock):
    got = []
    with broker.consumer("q") as consumer:
        thread = threading.Thread(target=lambda: got.append(consumer.receive(60).payload))
        thread.start()
        clock.wait_for_waiters(1)
        broker.send("q", "delayed", delay=30)
        clock.wait_for_waiters(1)
        while thread.is_alive():
            clock.advance(0.5)
            thread.join(0.005)
        assert got == ["delayed"]


def test_higher_priority_comes_first_and_fifo_within_one(broker):
    for priority in (0, 5, 0, 9, 5):
        broker.send("q", [priority, broker.depth("q").ready], priority=priority)
    with broker.consumer("q", prefetch=1) as consumer:
        order = []
        while (delivery := consumer.receive(0)) is not None:
            order.append(delivery.payload)
            delivery.ack()
    assert order == [[9, 3], [5, 1], [5, 4], [0, 0], [0, 2]]


def test_the_lease_of_a_slow_handler_is_kept_and_it_runs_once(broker, clock, events):
    broker.send("q", 1)
    with broker.consumer("q") as slow, broker.consumer("q") as other:
        delivery = slow.receive(0)
        for _ in range(60):  # 150 s: five times the visibility timeout
            before = delivery.deadline
            clock.wait_for_waiters(1)
            clock.advance(2.5)
            if before - clock.monotonic() < 19:
                wait_until(lambda before=before: delivery.deadline > before)
            assert other.receive(0) is None
        delivery.ack(wait=True)
    assert not names(events)


def test_prefetched_messages_are_kept_too(broker, clock):
    broker.send_many("q", [1, 2])
    with broker.consumer("q", prefetch=2) as slow, broker.consumer("q") as other:
        first = slow.receive(0)
        for _ in range(20):
            before = first.deadline
            clock.wait_for_waiters(1)
            clock.advance(2.5)
            if before - clock.monotonic() < 19:
                wait_until(lambda before=before: first.deadline > before)
            assert other.receive(0) is None
        assert slow.receive(0).payload == 2


def test_a_frozen_consumer_loses_its_lease_and_is_told(broker, clock, events):
    broker.send("q", 1)
    with broker.consumer("q") as frozen, broker.consumer("q") as other:
        held = frozen.receive(0)
        clock.advance(31)  # as after SIGSTOP: no time to prolong anything
        second = other.receive(0)
        assert second.attempt == 2
        wait_until(lambda: held.lease_lost)
        for late in (held.ack, held.release, held.extend):
            with pytest.raises(LeaseLost):
                late()
        second.ack(wait=True)
    assert "lease_lost" in names(events)


def test_a_late_coalesced_ack_is_an_event_and_harms_nobody(broker, clock, events):
    broker.send("q", 1)
    with broker.consumer("q") as first, broker.consumer("q") as second:
        held = first.receive(0)
        faults = Faults(broker.transport)
        Faults(first._leases.receiver).fail("extend", ConnectionLost("cut"), times=1000)
        clock.advance(31)
        new = second.receive(0)
        with contextlib.suppress(LeaseLost):
            held.ack()
        wait_until(lambda: clock.advance(0.02) or "lease_lost" in names(events))
        assert held.lease_lost
        assert broker.depth("q").in_flight == 1
        new.ack(wait=True)
        assert not faults.calls["send"]


def test_a_failing_handler_is_retried_with_growing_pauses_then_dead_lettered(broker, clock, events):
    sent = broker.send("q", {"n": 1}, headers={"k": "v"}, priority=3)
    with broker.consumer("q") as consumer:
        for attempt, pause in ((1, 1.0), (2, 2.0), (3, None)):
            with consumer.receive(0) as delivery:
                assert delivery.attempt == attempt
                raise ValueError("no such customer")
            if pause:
                clock.advance(pause - 0.1)
                assert consumer.receive(0) is None
                clock.advance(0.2)
        clock.advance(1000)
        assert consumer.receive(0) is None
    (letter,) = broker.dead_letters("q")
    assert (letter.id, letter.body, letter.reason, letter.origin, letter.attempts) == (
        sent,
        b'{"n":1}',
        "failed",
        "q",
        3,
    )
    assert letter.detail == "ValueError: no such customer"
    assert letter.headers["k"] == "v"
    assert letter.dead_at == pytest.approx(clock.time(), abs=1100)
    assert names(events).count("handler_failed") == 3
    assert names(events).count("dead_lettered") == 1


def test_redrive_gives_dead_letters_back_as_they_were(broker):
    sent = broker.send("q", 1, headers={"k": "v"})
    with broker.consumer("q") as consumer:
        consumer.receive(0).dead_letter("rejected", "not today")
        assert broker.dead_letters("q")[0].detail == "not today"
        assert broker.dead_letters("q")[0].reason == "rejected"
        assert broker.redrive("q") == 1
        again = consumer.receive(0)
        assert (again.id, again.attempt, dict(again.headers)) == (
            sent,
            1,
            {"k": "v", "content-type": "application/json"},
        )
    assert broker.dead_letters("q") == []
    assert broker.redrive("q") == 0


def test_killed_workers_do_not_feed_a_poison_message_for_ever(broker, clock):
    broker.send("q", "oom")
    receiver = broker.transport.open_receiver(["q"], prefetch=1, visibility_timeout=1)
    for _ in range(7):  # 2 * max_attempts + 1 claims that nobody settled
        assert receiver.receive(limit=1, timeout=0.01)[0]
        clock.advance(1)
    with broker.consumer("q") as consumer:
        assert consumer.receive(0) is None
    assert broker.dead_letters("q")[0].reason == "crashed"


def test_an_undecodable_message_goes_aside_with_its_raw_bytes_and_blocks_nobody(broker):
    message = brokerkit.Message(id=uuid.uuid4().hex, body=b"\xff{", headers={"content-type": "application/json"})
    broker.send_messages("q", [message])
    broker.send("q", "next")
    with broker.consumer("q") as consumer:
        assert consumer.receive(0).payload == "next"
    (letter,) = broker.dead_letters("q")
    assert (letter.reason, letter.body) == ("undecodable", b"\xff{")


def test_a_pickle_is_never_loaded(broker, tmp_path):
    bomb = b"cos\nsystem\n(S'touch " + str(tmp_path / "pwned").encode() + b"'\ntR."
    headers = {"content-type": "application/x-python-serialize", "content-encoding": "binary"}
    broker.send_messages("q", [brokerkit.Message(id=uuid.uuid4().hex, body=bomb, headers=headers)])
    with broker.consumer("q") as consumer:
        assert consumer.receive(0) is None
    assert broker.dead_letters("q")[0].reason == "undecodable"
    assert not (tmp_path / "pwned").exists()


def test_an_expired_message_is_dead_lettered_not_dropped(broker, clock):
    broker.send("q", "stale", ttl=5)
    broker.send("q", "fresh")
    clock.advance(5)
    with broker.consumer("q") as consumer:
        assert consumer.receive(0).payload == "fresh"
    assert broker.dead_letters("q")[0].reason == "expired"


def test_when_the_dead_queue_cannot_be_reached_the_message_stays(broker, clock, events):
    broker.send("q", 1)
    faults = Faults(broker.transport)
    with broker.consumer("q") as consumer:
        delivery = consumer.receive(0)
        faults.fail("send", brokerkit.errors.StorageFull("no room"), times=1)
        with pytest.raises(brokerkit.errors.StorageFull):
            delivery.dead_letter()
        delivery.dead_letter()
    assert len(broker.dead_letters("q")) == 1


def test_a_keyboard_interrupt_releases_and_passes_on(broker):
    broker.send("q", 1)
    with broker.consumer("q") as consumer:
        with pytest.raises(KeyboardInterrupt), consumer.receive(0):
            raise KeyboardInterrupt
        assert consumer.receive(0).attempt == 2


def test_prefetch_bounds_what_is_unsettled(broker):
    broker.send_many("q", range(10))
    with broker.consumer("q", prefetch=3) as consumer:
        held = [consumer.receive(0) for _ in range(3)]
        assert consumer.receive(0) is None
        assert broker.depth("q").in_flight == 3
        held[0].ack()
        assert consumer.receive(0).payload == 3


def test_room_made_by_another_thread_wakes_a_waiting_receive(broker, clock):
    broker.send_many("q", range(2))
    with broker.consumer("q", prefetch=1) as consumer:
        held = consumer.receive(0)
        got = []
        thread = threading.Thread(target=lambda: got.append(consumer.receive(60).payload))
        thread.start()
        clock.wait_for_waiters(2)  # the tending thread, and the one that waits for room
        held.ack()
        thread.join(20)
        assert got == [1]


def test_at_most_once_settles_before_the_handler_has_it(broker):
    broker.send("q", 1)
    with broker.consumer("q", auto_ack=True) as consumer:
        delivery = consumer.receive(0)
        assert delivery.settled
        assert broker.depth("q") == brokerkit.Depth(0, 0, 0)
        with delivery:
            raise ValueError("lost by choice")
    assert broker.depth("q") == brokerkit.Depth(0, 0, 0)


def test_one_consumer_serves_many_queues_fairly(broker):
    queues = [f"q{i}" for i in range(20)]
    for queue in queues:
        broker.declare(queue)
        broker.send_many(queue, [queue] * 50)
    with broker.consumer(*queues, prefetch=1) as consumer:
        first = []
        for _ in range(40):
            delivery = consumer.receive(0)
            first.append(delivery.payload)
            delivery.ack()
    assert sorted(first) == sorted(queues * 2)


def test_a_deleted_queue_is_told_once_and_the_others_go_on(broker):
    broker.declare("other")
    with broker.consumer("q", "other") as consumer:
        broker.delete("q")
        with pytest.raises(QueueNotFound) as caught:
            consumer.receive(0)
        assert caught.value.names == ("q",)
        broker.send("other", 1)
        assert consumer.receive(0).payload == 1


def test_a_lost_connection_is_waited_out(broker, events):
    faults = Faults(broker.transport)
    broker.send("q", 1)
    with broker.consumer("q") as consumer:
        faults.fail("receive", ConnectionLost("cut"), times=3)
        assert consumer.receive(5).payload == 1
    assert names(events).count("receiver_failed") == 3


def test_an_outage_longer_than_the_wait_is_an_error_not_silence(broker):
    faults = Faults(broker.transport)
    with broker.consumer("q") as consumer:
        faults.fail("receive", Throttled("busy"), times=10_000)
        with pytest.raises(Throttled):
            consumer.receive(0)


def test_acks_that_ride_along_with_an_interrupted_receive_are_sent_again(broker):
    faults = Faults(broker.transport)
    broker.send("q", 1)
    with broker.consumer("q") as consumer:
        consumer.receive(0).ack()
        faults.fail("receive", KeyboardInterrupt(), times=1)
        with pytest.raises(KeyboardInterrupt):
            consumer.receive(0)
    assert broker.depth("q") == brokerkit.Depth(0, 0, 0)


def test_acks_that_could_not_be_sent_are_sent_again(broker, clock):
    faults = Faults(broker.transport)
    broker.send("q", 1)
    with broker.consumer("q") as consumer:
        delivery = consumer.receive(0)
        clock.wait_for_waiters(1)
        faults.fail("ack", ConnectionLost("cut"), times=3)
        delivery.ack()
        wait_until(lambda: clock.advance(0.02) or broker.depth("q").in_flight == 0)
    assert faults.calls["ack"] >= 4


def test_closing_while_others_receive_ends_their_wait(broker, clock):
    consumer = broker.consumer("q")
    ended = []

    def receive():
        try:
            ended.append(consumer.receive(1000))
        except Closed as error:
            ended.append(error)

    threads = [threading.Thread(target=receive) for _ in range(3)]
    for thread in threads:
        thread.start()
    clock.wait_for_waiters(3)
    closing = threading.Thread(target=consumer.close)
    closing.start()
    while closing.is_alive() or any(thread.is_alive() for thread in threads):
        clock.advance(0.2)
        closing.join(0.005)
    assert len(ended) == 3
    with pytest.raises(Closed):
        consumer.receive(0)


def test_closing_leaves_no_thread_behind(broker):
    before = threading.active_count()
    for _ in range(20):
        broker.send("q", 1)
        with broker.consumer("q") as consumer:
            consumer.receive(0).ack()
    assert threading.active_count() == before


def test_a_handler_cannot_spoil_what_is_redelivered(broker):
    broker.send("q", {"list": [1]}, headers={"k": "v"})
    with broker.consumer("q") as consumer:
        first = consumer.receive(0)
        first.payload["list"].append(2)
        with pytest.raises(TypeError):
            first.headers["k"] = "spoilt"
        first.release()
        second = consumer.receive(0)
        assert (second.payload, second.headers["k"]) == ({"list": [1]}, "v")


def test_a_prefetch_can_be_read_and_not_set(broker):
    with broker.consumer("q", prefetch=3) as consumer:
        with pytest.raises(AttributeError, match="prefetch"):
            consumer.prefetch = 4
        assert consumer.prefetch == 3
