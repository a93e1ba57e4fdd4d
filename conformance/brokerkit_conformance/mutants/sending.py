"""Defects in sending and receiving."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from brokerkit.broker import Broker
from brokerkit.errors import ConnectionLost
from brokerkit.memory import MemoryReceiver, MemoryServer, MemoryTransport
from brokerkit.models import new_id
from brokerkit_conformance.mutants.planting import Patch, mutant


def _stored_as(patch: Patch, change: Any) -> None:
    """Change each message on its way into the store; None drops it."""

    def make(store: Any) -> Any:
        def mutated(self: Any, queue: Any, message: Any) -> None:
            changed = change(message)
            if changed is not None:
                store(self, queue, changed)

        return mutated

    patch.wrap(MemoryServer, "_store", make)


def _short_of(patch: Patch, most: int) -> None:
    """Drop silently what is beyond so many in a queue."""

    def make(store: Any) -> Any:
        return lambda self, queue, message: store(self, queue, message) if len(queue.messages) < most else None

    patch.wrap(MemoryServer, "_store", make)


@mutant("PUB-01", "ACK-13", source="LAWS 1.9, go-cloud")
def only_ten_headers(patch: Patch) -> None:
    """Keeps the first ten headers only."""
    _stored_as(patch, lambda m: replace(m, headers=dict(list(m.headers.items())[:10])))


@mutant("PUB-01", source="PEERS c")
def content_type_lost(patch: Patch) -> None:
    """Forgets the content type, so that payloads come as bytes."""
    _stored_as(patch, lambda m: replace(m, headers={k: v for k, v in m.headers.items() if k != "content-type"}))


@mutant("PUB-02", "ACK-15", source="LAWS 1.9, go-cloud")
def drops_beyond_13(patch: Patch) -> None:
    """Drops what is beyond 13 queued messages."""
    _short_of(patch, 13)


@mutant("PUB-02", "PUB-24", source="LAWS 1.9, kombu")
def queue_capped_at_5(patch: Patch) -> None:
    """A queue holds five messages; more are dropped."""
    _short_of(patch, 5)


@mutant("VIS-17", source="LAWS 1.9, watermill")
def drops_beyond_10000(patch: Patch) -> None:
    """Drops what is beyond 10,000 queued messages."""
    _short_of(patch, 10_000)


@mutant("PUB-01", "PUB-02", "PUB-13", source="LAWS 1.9, watermill")
def everything_twice(patch: Patch) -> None:
    """Stores each message twice."""

    def make(store: Any) -> Any:
        return lambda self, queue, message: (store(self, queue, message), store(self, queue, message))[0]

    patch.wrap(MemoryServer, "_store", make)


@mutant("PUB-03", "ACK-13", source="LAWS 1.9, go-cloud and kombu")
def body_cut_at_4k(patch: Patch) -> None:
    """Cuts bodies at 4 KiB."""
    _stored_as(patch, lambda m: replace(m, body=m.body[:4096]))


@mutant("PUB-03", source="LAWS 1.9, watermill")
def body_cut_at_1k(patch: Patch) -> None:
    """Cuts bodies at 1 KiB."""
    _stored_as(patch, lambda m: replace(m, body=m.body[:1024]))


@mutant("PUB-03", "RED-05", source="LAWS 1.9, watermill")
def non_utf8_replaced(patch: Patch) -> None:
    """Replaces what is no UTF-8 in a body."""
    _stored_as(patch, lambda m: replace(m, body=m.body.decode(errors="replace").encode()))


@mutant("PUB-04", "DLQ-02", source="LAWS 1.9, watermill")
def non_ascii_headers_dropped(patch: Patch) -> None:
    """Drops headers that are not ASCII."""
    _stored_as(patch, lambda m: replace(m, headers={k: v for k, v in m.headers.items() if (k + v).isascii()}))


@mutant("PUB-04", source="PEERS c")
def header_values_stripped(patch: Patch) -> None:
    """Strips spaces and control characters from header values."""
    _stored_as(patch, lambda m: replace(m, headers={k: v.strip().replace("\x00", "") for k, v in m.headers.items()}))


@mutant("PUB-05", source="LAWS 1.9, go-cloud and watermill")
def empty_body_dropped(patch: Patch) -> None:
    """Drops messages without a body."""
    _stored_as(patch, lambda m: m if m.body else None)


@mutant("PUB-05", "DLQ-02", source="LAWS 1.9, go-cloud and watermill")
def empty_header_dropped(patch: Patch) -> None:
    """Drops headers without a value."""
    _stored_as(patch, lambda m: replace(m, headers={k: v for k, v in m.headers.items() if v}))


@mutant("PUB-01", "PUB-02", "PUB-03", source="LAWS 1.9, watermill")
def send_fails_yet_stores(patch: Patch) -> None:
    """Raises an error for each send, and has stored the message all the same."""

    def make(send: Any) -> Any:
        def mutated(self: Any, name: Any, messages: Any, *, timeout: float) -> Any:
            send(self, name, messages, timeout=timeout)
            raise ConnectionLost("planted")

        return mutated

    patch.wrap(MemoryTransport, "send", make)


@mutant("ORD-01", "ACK-17", source="LAWS 1.9, watermill")
def neighbours_swapped(patch: Patch) -> None:
    """Stores each second message before its neighbour."""

    def make(send: Any) -> Any:
        def mutated(self: Any, address: Any, messages: Any) -> Any:
            pairs = (messages[i : i + 2][::-1] for i in range(0, len(messages), 2))
            return send(self, address, [message for pair in pairs for message in pair])

        return mutated

    patch.wrap(MemoryServer, "send", make)


@mutant("PUB-09", source="LAWS 2")
def receive_spins(patch: Patch) -> None:
    """A receive that finds nothing comes back at once, so that its caller spins."""

    def make(receive: Any) -> Any:
        return lambda self, *, limit, timeout, acks=(): receive(self, limit=limit, timeout=0.0, acks=acks)  # noqa: ARG005

    patch.wrap(MemoryReceiver, "receive", make)


@mutant("PUB-10", "PUB-09", source="LAWS 1.9, go-cloud")
def receive_deaf(patch: Patch) -> None:
    """A receive that waits hears neither its own time-out nor a close for a long time."""

    def make(receive: Any) -> Any:
        def mutated(self: Any, *, limit: int, timeout: float, acks: Any = ()) -> Any:
            if timeout:
                end = self._server.clock.monotonic() + 12.0
                while self._server.clock.monotonic() < end:
                    claimed = receive(self, limit=limit, timeout=0.2, acks=acks)
                    acks = ()
                    if claimed[0]:
                        return claimed
                    with self._server.condition:
                        self._closed = False
                return [], []
            return receive(self, limit=limit, timeout=timeout, acks=acks)

        return mutated

    patch.wrap(MemoryReceiver, "receive", make)


@mutant("PUB-11", source="LAWS 2")
def usable_after_close(patch: Patch) -> None:
    """A closed broker goes on as if nothing had happened."""
    patch.value(Broker, "_open", lambda self: self._transport)
    patch.value(MemoryTransport, "_open", lambda self: self.server)


@mutant("PUB-12", "DLQ-05", source="LAWS 2")
def full_queue_lies(patch: Patch) -> None:
    """A full queue drops what is sent to it, and says that it was stored."""

    def make(accept: Any) -> Any:
        return lambda self, queue, message: None if self._is_full(queue) else accept(self, queue, message)

    patch.wrap(MemoryServer, "_accept", make)


@mutant("PUB-13", "ACK-13", source="LAWS 2")
def new_id_on_redelivery(patch: Patch) -> None:
    """A redelivered message has a new id."""
    _redelivered_as(patch, lambda message: replace(message, id=new_id(0.0)))


def _redelivered_as(patch: Patch, change: Any) -> None:
    def make(lease: Any) -> Any:
        def mutated(self: Any, queue: Any, stored: Any, *rest: Any) -> Any:
            received = lease(self, queue, stored, *rest)
            if stored.claims > 1:
                received.message = change(received.message)
            return received

        return mutated

    patch.wrap(MemoryServer, "_lease", make)


@mutant("ACK-13", source="LAWS 1.9, watermill")
def corrupt_on_redelivery(patch: Patch) -> None:
    """A redelivered message has a spoilt body."""
    _redelivered_as(patch, lambda message: replace(message, body=message.body[::-1]))


@mutant("ACK-13", source="LAWS 1.9, go-cloud and watermill")
def headers_lost_on_redelivery(patch: Patch) -> None:
    """A redelivered message has lost its headers."""
    _redelivered_as(patch, lambda message: replace(message, headers={}))
