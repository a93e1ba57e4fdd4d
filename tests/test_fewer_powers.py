"""What an engine does not declare is refused or left alone before any I/O, even where its object has the method."""

import queue
import uuid
from dataclasses import replace

import pytest

import brokerkit
from brokerkit.capabilities import Absent
from brokerkit.errors import Unsupported
from brokerkit.memory import MemoryTransport
from brokerkit.memory.transport import MemoryReceiver
from brokerkit.testing import ManualClock

MEMORY = MemoryTransport.capabilities


@pytest.fixture
def declare(monkeypatch):
    """Let the memory engine declare something else, and connect to it."""
    opened = []

    def declare(*, clock=None, on_event=None, **changes):
        monkeypatch.setattr(MemoryTransport, "capabilities", replace(MEMORY, **changes))
        opened.append(brokerkit.connect(f"memory://{uuid.uuid4().hex}", clock=clock, on_event=on_event))
        opened[-1].declare("q")
        return opened[-1]

    yield declare
    for broker in opened:
        broker.close()


@pytest.fixture
def asked(monkeypatch):
    """Take down the calls that reach the engine."""
    calls = []
    for kind, name in ((MemoryTransport, "bind"), (MemoryTransport, "publish"), (MemoryReceiver, "extend")):
        method = getattr(kind, name)

        def noted(*args, _method=method, _name=name, **kwargs):
            calls.append(_name)
            return _method(*args, **kwargs)

        monkeypatch.setattr(kind, name, noted)
    return calls


def test_undeclared_topics_are_refused_although_the_object_supports_them(declare, asked):
    broker = declare(fanout=Absent("not built"))
    for call in (broker.bind, broker.unbind):
        with pytest.raises(Unsupported, match="no fanout \\(not built\\)"):
            call("q", "t")
    with pytest.raises(Unsupported, match="no fanout"):
        broker.publish("t", b"x")
    assert asked == []


def test_without_patterns_only_the_one_that_matches_all_is_taken(declare, asked):
    broker = declare(fanout=replace(MEMORY.fanout, patterns=False))
    with pytest.raises(Unsupported, match=r"pattern 'a\.\*'"):
        broker.bind("q", "t", "a.*")
    assert asked == []
    broker.bind("q", "t")
    broker.publish("t", b"x", routing_key="a.b")
    assert asked == ["bind", "publish"]


def test_an_undeclared_depth_is_refused(declare):
    with pytest.raises(Unsupported, match="cannot count"):
        declare(depth=()).depth("q")


def test_what_cannot_be_prolonged_is_not_and_its_end_is_told(declare, asked):
    clock = ManualClock()
    events = queue.SimpleQueue()
    broker = declare(clock=clock, on_event=events.put, lease=replace(MEMORY.lease, extend=False))
    broker.send("q", b"x")
    with broker.consumer("q", visibility_timeout=8) as consumer:
        delivery = consumer.receive(0)
        with pytest.raises(Unsupported, match="cannot prolong"):
            delivery.extend()
        clock.wait_for_waiters(1)  # who tends the leases
        clock.advance(9)
        assert events.get(timeout=20).name == "lease_lost"
        assert delivery.lease_lost
    assert asked == []
