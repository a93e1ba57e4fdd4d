"""Laws of the Broker on the memory transport: declare, send, publish, limits before I/O, retry, life."""

import pickle
import threading
import uuid

import pytest

import brokerkit
from brokerkit.errors import (
    AccessDenied,
    Closed,
    ConnectionLost,
    InconsistencyError,
    InvalidMessage,
    InvalidName,
    InvalidOption,
    MessageTooLarge,
    NotConnected,
    OutcomeUnknown,
    QueueFull,
    QueueNotFound,
    SendFailed,
    Throttled,
    Unsupported,
)
from brokerkit.models import Queue
from brokerkit.testing import Faults, ManualClock


@pytest.fixture
def broker():
    with brokerkit.connect(f"memory://{uuid.uuid4().hex}", retry_policy={"interval_start": 0.001}) as b:
        b.declare("q")
        yield b


def bodies(broker, queue="q"):
    with broker.consumer(queue) as consumer:
        found = []
        while (delivery := consumer.receive(0)) is not None:
            found.append(delivery.payload)
            delivery.ack()
    return found


def test_a_message_comes_back_as_it_was_sent(broker):
    sent = broker.send("q", {"to": "ada"}, headers={"k": "v", "leer": ""}, priority=5)
    with broker.consumer("q") as consumer, consumer.receive(0) as delivery:
        assert delivery.payload == {"to": "ada"}
        assert delivery.id == sent
        assert delivery.headers["k"] == "v"
        assert delivery.headers["leer"] == ""
        assert delivery.message.priority == 5
        assert delivery.attempt == 1
        assert abs(delivery.message.sent_at - broker.clock.time()) < 60


def test_bytes_travel_untouched(broker):
    raw = bytes(range(256))
    broker.send("q", raw)
    broker.send("q", b"")
    assert bodies(broker) == [raw, b""]


def test_many_messages_keep_their_order(broker):
    ids = broker.send_many("q", range(1000))
    assert len(set(ids)) == 1000
    assert bodies(broker) == list(range(1000))


def test_sending_nothing_is_fine(broker):
    assert broker.send_many("q", []) == []


def test_a_send_to_an_undeclared_queue_says_what_to_do(broker):
    with pytest.raises(QueueNotFound, match=r"broker.declare\('nowhere'\)"):
        broker.send("nowhere", 1)
    with pytest.raises(QueueNotFound):
        broker.depth("nowhere")
    with pytest.raises(QueueNotFound):
        broker.purge("nowhere")


def test_declaring_is_idempotent_and_disagreement_is_told(broker):
    broker.declare("bounded", max_length=3)
    broker.declare("bounded", max_length=3, max_attempts=1)
    with pytest.raises(InconsistencyError, match="max_length=4"):
        broker.declare("bounded", max_length=4)
    assert broker.declare(Queue(name="object")).name == "object"


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"max_lenght": 3}, "max_length"),
        ({"max_length": 0}, "max_length=0"),
        ({"expires": -1}, "expires=-1"),
        ({"message_ttl": float("nan")}, "message_ttl=nan"),
        ({"max_attempts": 0}, "max_attempts=0"),
        ({"max_priority": 10}, "max_priority=10"),
    ],
)
def test_a_wrong_setting_is_named(broker, settings, named):
    with pytest.raises(InvalidOption, match=named):
        broker.declare("other", **settings)


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 300, "\ud800", 7, None])
def test_an_impossible_name_is_refused_before_any_io(broker, name):
    faults = Faults(broker.transport)
    for call in (broker.declare, broker.delete, broker.purge, broker.depth, broker.consumer):
        with pytest.raises(InvalidName):
            call(name)
    with pytest.raises(InvalidName):
        broker.send(name, 1)
    with pytest.raises(InvalidName):
        broker.publish(name, 1)
    assert not faults.calls


@pytest.mark.parametrize(
    ("sending", "named"),
    [
        ({"priority": 10}, "priority=10"),
        ({"priority": -1}, "priority=-1"),
        ({"priority": 1.5}, "priority=1.5"),
        ({"delay": -1}, "delay=-1"),
        ({"delay": "soon"}, "delay='soon'"),
        ({"delay": 1e12}, "delay=1e"),
        ({"ttl": 0}, "ttl=0"),
        ({"headers": {"n": 1}}, "header 'n'"),
        ({"headers": {"bk-topic": "x"}}, "bk-topic"),
        ({"headers": {"Content-Type": "x"}}, "Content-Type"),
        ({"headers": {"": "x"}}, "header name"),
        ({"headers": {"s": "\ud800"}}, "surrogate"),
        ({"headers": ["a"]}, "mapping"),
    ],
)
def test_a_message_that_no_engine_takes_is_refused_before_any_io(broker, sending, named):
    faults = Faults(broker.transport)
    with pytest.raises(InvalidMessage, match=named):
        broker.send("q", 1, **sending)
    with pytest.raises(InvalidMessage, match=named):
        broker.send_many("q", [1, 2], **sending)
    assert not faults.calls


def test_a_power_that_the_engine_lacks_is_refused_before_any_io(broker):
    faults = Faults(broker.transport)
    with pytest.raises(Unsupported, match="dedup"):
        broker.send("q", 1, dedup_key="k")
    assert not faults.calls


def test_an_unknown_sending_option_is_refused_with_the_nearest(broker):
    with pytest.raises(InvalidOption, match="'priority'"):
        broker.send("q", 1, prioritty=5)


def test_a_message_that_is_too_large_is_refused_with_the_limit(broker):
    faults = Faults(broker.transport)
    limit = broker.capabilities.max_message
    with pytest.raises(MessageTooLarge, match=str(limit)):
        broker.send("q", b"x" * (limit + 1))
    assert not faults.calls


def test_a_full_queue_refuses_the_rest_of_a_batch_and_says_which(broker):
    broker.declare("small", max_length=2)
    with pytest.raises(SendFailed) as caught:
        broker.send_many("small", ["a", "b", "c"], timeout=0.05)
    outcomes = [error for _, error in caught.value.outcomes]
    assert outcomes[:2] == [None, None]
    assert isinstance(outcomes[2], QueueFull)
    assert bodies(broker, "small") == ["a", "b"]


def test_a_lost_answer_is_repeated_and_stored_once(broker):
    faults = Faults(broker.transport)
    faults.fail("send", ConnectionLost("cut"), times=3, after=True)
    broker.send("q", "once")
    assert faults.calls["send"] == 4
    assert bodies(broker) == ["once"]


def test_an_answer_that_never_comes_is_unknown_not_unsent(broker):
    faults = Faults(broker.transport)
    faults.fail("send", ConnectionLost("cut"), times=10_000)
    with pytest.raises(OutcomeUnknown, match="may still arrive"):
        broker.send("q", 1, timeout=0.05)
    with pytest.raises(SendFailed) as caught:
        broker.send_many("q", [1, 2], timeout=0.05)
    assert all(isinstance(error, OutcomeUnknown) for _, error in caught.value.outcomes)


def test_what_was_unknown_once_stays_unknown_when_a_repeat_is_refused(broker):
    faults = Faults(broker.transport)
    faults.fail("send", ConnectionLost("cut"))
    faults.fail("send", AccessDenied("rotated"))
    with pytest.raises(OutcomeUnknown):
        broker.send("q", 1)


def test_a_connection_that_was_never_made_sent_nothing(broker):
    faults = Faults(broker.transport)
    faults.fail("send", NotConnected("refused"), times=10_000)
    with pytest.raises(NotConnected):
        broker.send("q", 1, timeout=0.05)


def test_what_cannot_succeed_is_not_repeated(broker):
    faults = Faults(broker.transport)
    faults.fail("send", AccessDenied("no"))
    with pytest.raises(AccessDenied):
        broker.send("q", 1)
    assert faults.calls["send"] == 1


def test_the_deadline_bounds_all_repeats_together():
    clock = ManualClock()
    broker = brokerkit.connect(
        "memory://deadline", clock=clock, timeout=10, retry_policy={"interval_start": 4.0, "interval_max": 4.0}
    )
    faults = Faults(broker.transport)
    faults.fail("declare", Throttled("busy"), times=1000)
    raised = []

    def declare():
        with pytest.raises(Throttled) as caught:
            broker.declare("q")
        raised.append(caught.value)

    thread = threading.Thread(target=declare)
    thread.start()
    while thread.is_alive():
        if clock.waiters():
            clock.advance(1.0)
        thread.join(0.01)
    assert raised
    assert clock.monotonic() <= 10
    assert 2 <= faults.calls["declare"] <= 6


def test_after_close_every_call_says_closed(broker):
    broker.close()
    broker.close()
    for call in (
        lambda: broker.send("q", 1),
        lambda: broker.declare("q"),
        lambda: broker.consumer("q"),
        lambda: broker.depth("q"),
        lambda: broker.publish("t", 1),
        lambda: broker.transport,
    ):
        with pytest.raises(Closed):
            call()


def test_fifty_threads_share_one_broker(broker):
    def send(number):
        for i in range(20):
            broker.send("q", [number, i])

    threads = [threading.Thread(target=send, args=(n,)) for n in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(bodies(broker)) == [[n, i] for n in range(50) for i in range(20)]


def test_a_broker_is_not_pickled_and_shows_no_secret():
    broker = brokerkit.connect("memory://user:hunter2@secret/vhost")
    assert "hunter2" not in repr(broker) + str(broker.url) + repr(broker.options)
    with pytest.raises(TypeError, match="URL") as caught:
        pickle.dumps(broker)
    assert "hunter2" not in str(caught.value)


def test_a_secret_in_a_driver_error_is_masked():
    with brokerkit.connect("memory://user:hunter2@masked") as broker:
        Faults(broker.transport).fail("declare", ValueError("login of hunter2 failed"))
        with pytest.raises(brokerkit.errors.TransportError) as caught:
            broker.declare("q")
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in str(caught.value.__cause__)


def test_a_visibility_timeout_out_of_range_is_refused_with_the_range(broker):
    with pytest.raises(Unsupported, match=r"0\.001"):
        broker.consumer("q", visibility_timeout=1e9)
    with pytest.raises(InvalidOption, match="prefetch"):
        broker.consumer("q", prefetch=0)
    with pytest.raises(InvalidName):
        broker.consumer()


def test_headers_count_by_their_bytes(broker):
    limit = broker.capabilities.max_message
    broker.send("q", b"x" * (limit - 4), headers={"k": "abc"})
    with pytest.raises(MessageTooLarge):
        broker.send("q", b"x" * (limit - 4), headers={"k": "ab\u20ac"})
