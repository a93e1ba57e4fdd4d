"""A consumer that wakes up too late: what it had claimed before is not its own any more."""

import uuid

import pytest

import brokerkit
from brokerkit._leases import Leases
from brokerkit.testing import ManualClock


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def starved(monkeypatch):
    """After a freeze the thread that receives may run before the one that tends the leases: here that one never runs."""
    monkeypatch.setattr(Leases, "wake", lambda _: None)


@pytest.mark.usefixtures("starved")
def test_what_others_have_settled_is_not_handed_over_from_the_buffer(clock):
    events = []
    url = f"memory://{uuid.uuid4().hex}"
    with brokerkit.connect(url, clock=clock, on_event=events.append, visibility_timeout=30) as broker:
        broker.declare("q")
        first, second = broker.send_many("q", [b"1", b"2"])
        frozen = broker.consumer("q", prefetch=2)
        assert frozen.receive(timeout=0).id == first
        clock.advance(30)
        with broker.consumer("q", prefetch=2) as other:
            taken = [other.receive(timeout=0), other.receive(timeout=0)]
            for delivery in taken:
                delivery.ack(wait=True)
        assert [delivery.id for delivery in taken] == [first, second]
        assert frozen.receive(timeout=0) is None
    assert [(event.name, event.message_id) for event in events] == [("lease_lost", second)]


@pytest.mark.usefixtures("starved")
def test_until_its_lease_ends_a_message_is_handed_over_from_the_buffer(clock):
    with brokerkit.connect(f"memory://{uuid.uuid4().hex}", clock=clock, visibility_timeout=30) as broker:
        broker.declare("q")
        sent = broker.send_many("q", [b"1", b"2"])
        consumer = broker.consumer("q", prefetch=2)
        came = [consumer.receive(timeout=0).id]
        clock.advance(29.9)
        assert [*came, consumer.receive(timeout=0).id] == sent
