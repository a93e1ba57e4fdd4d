"""The memory server after somebody reached into it: what is left is served, what is gone is told once."""

from __future__ import annotations

import pytest

from brokerkit.errors import InconsistencyError
from brokerkit.memory import MemoryOptions, MemoryReceiver, MemoryServer, MemoryTransport
from brokerkit.models import Message, Queue
from brokerkit.testing import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def server(clock: ManualClock) -> MemoryServer:
    server = MemoryServer(clock)
    transport = MemoryTransport(server, "", MemoryOptions())
    transport.declare(Queue(name="q"), timeout=1)
    transport.send("q", [Message(id=f"m{i}", body=b"x", priority=i) for i in range(3)], timeout=1)
    return server


def receiver_of(server: MemoryServer) -> MemoryReceiver:
    return MemoryReceiver(server, "", ["q"], 30.0)


def ids_of(receiver: MemoryReceiver) -> list[str]:
    return [received.message.id for received in receiver.receive(limit=9, timeout=0)[0]]


def test_a_lost_order_of_what_is_ready_is_made_anew(server: MemoryServer) -> None:
    server.queues["", "q"].ready.clear()
    assert ids_of(receiver_of(server)) == ["m2", "m1", "m0"]


def test_a_lost_order_of_leases_is_made_anew(server: MemoryServer, clock: ManualClock) -> None:
    assert len(ids_of(receiver_of(server))) == 3
    server.queues["", "q"].waiting.clear()
    assert ids_of(receiver_of(server)) == []
    clock.advance(31)
    assert ids_of(receiver_of(server)) == ["m2", "m1", "m0"]


def test_a_lost_message_is_told_once_and_can_be_sent_again(server: MemoryServer) -> None:
    del server.queues["", "q"].messages[2]
    receiver = receiver_of(server)
    assert ids_of(receiver) == ["m2", "m0"]
    with pytest.raises(InconsistencyError, match=r"'q': 1 messages are gone.*'m1'"):
        ids_of(receiver)
    assert ids_of(receiver) == []
    MemoryTransport(server, "", MemoryOptions()).send("q", [Message(id="m1", body=b"x")], timeout=1)
    assert ids_of(receiver) == ["m1"]


def bound(server: MemoryServer, *patterns: str) -> MemoryTransport:
    transport = MemoryTransport(server, "", MemoryOptions())
    for pattern in patterns:
        transport.bind("q", "orders", pattern, timeout=1)
    return transport


def test_a_binding_that_is_gone_is_told_once_and_made_anew(server: MemoryServer) -> None:
    bound(server, "eu.*", "us.*")
    receiver = receiver_of(server)
    receiver.receive(limit=3, timeout=0)
    there = dict(server.bindings)
    del server.bindings[next(b for b in there if b.pattern == "eu.*")]
    with pytest.raises(InconsistencyError, match=r"'q'.*'orders'.*'eu\.\*'") as caught:
        receiver.receive(limit=1, timeout=0)
    assert "us.*" not in str(caught.value)
    assert server.bindings.keys() == there.keys()
    assert receiver.receive(limit=1, timeout=0) == ([], [])


def test_with_acks_a_lost_binding_is_told_by_the_next_call(server: MemoryServer) -> None:
    bound(server, "eu.*")
    receiver = receiver_of(server)
    claimed, _ = receiver.receive(limit=3, timeout=0)
    server.bindings.clear()
    assert receiver.receive(limit=1, timeout=0, acks=claimed) == ([], [])
    with pytest.raises(InconsistencyError, match="orders"):
        receiver.receive(limit=1, timeout=0)


def test_who_binds_again_does_not_hide_a_loss_from_the_receiver(server: MemoryServer) -> None:
    bound(server, "eu.*")
    server.bindings.clear()
    bound(server, "eu.*", "eu.*")
    with pytest.raises(InconsistencyError, match="orders"):
        receiver_of(server).receive(limit=1, timeout=0)


def test_what_was_unbound_is_not_missed(server: MemoryServer) -> None:
    transport = bound(server, "eu.*")
    transport.unbind("q", "orders", "eu.*", timeout=1)
    transport.unbind("no such queue", "orders", "eu.*", timeout=1)
    assert len(receiver_of(server).receive(limit=3, timeout=0)[0]) == 3
    assert not server.bindings
