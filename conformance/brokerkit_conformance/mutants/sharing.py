"""Defects that show when many threads share something, and when much is opened and closed."""

from __future__ import annotations

import threading
from typing import Any

from brokerkit.broker import Broker
from brokerkit.consumer import Consumer
from brokerkit.delivery import Delivery
from brokerkit.errors import TransportError
from brokerkit.memory import MemoryReceiver, MemoryServer, MemoryTransport
from brokerkit_conformance.mutants.planting import Patch, mutant


@mutant("THR-01", "CON-07", source="PEERS: channels shared between threads")
def sends_that_meet_are_lost(patch: Patch) -> None:
    """Of two threads that send at the same moment, one is told that its message is stored, and it is not."""
    busy = threading.Lock()

    def make(send: Any) -> Any:
        def mutated(self: Any, name: str, messages: Any, *, timeout: float) -> Any:
            if not busy.acquire(blocking=False):
                return [None] * len(messages)
            try:
                threading.Event().wait(0.001)
                return send(self, name, messages, timeout=timeout)
            finally:
                busy.release()

        return mutated

    patch.wrap(MemoryTransport, "send", make)


@mutant("THR-02", source="sqlite3: objects of one thread")
def one_thread_only(patch: Patch) -> None:
    """A receiver works in the thread alone that opened it."""
    patch.wrap(MemoryReceiver, "__init__", _note_thread)

    def make(call: Any) -> Any:
        def mutated(self: Any, *args: Any, **kwargs: Any) -> Any:
            if self.thread != threading.get_ident():
                raise TransportError("objects created in a thread can only be used in that same thread")
            return call(self, *args, **kwargs)

        return mutated

    for name in ("receive", "ack"):
        patch.wrap(MemoryReceiver, name, make)


@mutant("THR-06", source="LAWS 2")
def deliveries_travel(patch: Patch) -> None:
    """A delivery is pickled, without what settles it."""
    patch.value(Delivery, "__reduce__", lambda self: (str, (self.id,)))


@mutant("THR-06", source="LAWS 2")
def brokers_travel(patch: Patch) -> None:
    """A broker is pickled, and is something else on arrival."""
    patch.value(Broker, "__reduce__", lambda self: (str, (str(self.url),)))


@mutant("CON-04", source="kombu: several winners")
def two_winners(patch: Patch) -> None:
    """A message that is claimed at the moment of its sending goes to two."""

    def make(lease: Any) -> Any:
        def mutated(self: Any, queue: Any, stored: Any, *rest: Any) -> Any:
            received = lease(self, queue, stored, *rest)
            if stored.claims == 1 and stored.seq % 7 == 0:
                self._store(queue, stored.message)
            return received

        return mutated

    patch.wrap(MemoryServer, "_lease", make)


@mutant("CON-10", source="LAWS 2")
def close_waits_for_messages(patch: Patch) -> None:
    """Closing waits until a receive that is under way has got something."""

    def make(close: Any) -> Any:
        def mutated(self: Any, timeout: float | None = None) -> None:
            while self._fetching:
                threading.Event().wait(0.01)
            close(self, timeout)

        return mutated

    patch.wrap(Consumer, "close", make)


@mutant("CON-10", source="LAWS 2")
def close_takes_what_was_accepted(patch: Patch) -> None:
    """Closing a broker takes back what it has sent last."""
    last: list[Any] = []

    def make_send(send: Any) -> Any:
        def mutated(self: Any, name: str, messages: Any, *, timeout: float) -> Any:
            last[:] = [self.server, (self.virtual_host, name)]
            return send(self, name, messages, timeout=timeout)

        return mutated

    def make_close(close: Any) -> Any:
        def mutated(self: Any, *, timeout: float) -> None:
            if last:
                with last[0].condition:
                    last[0].purge(last[1])
            close(self, timeout=timeout)

        return mutated

    patch.wrap(MemoryTransport, "send", make_send)
    patch.wrap(MemoryTransport, "close", make_close)


def _note_thread(init: Any) -> Any:
    def mutated(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        self.thread = threading.get_ident()

    return mutated
