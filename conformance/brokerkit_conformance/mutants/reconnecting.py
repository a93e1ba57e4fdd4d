"""Defects in what a client does when its connection breaks, and in what it leaves behind."""

from __future__ import annotations

import logging
import socket
import threading
from contextlib import suppress
from typing import Any, Final

from brokerkit.errors import ConnectionLost, NotConnected, QueueNotFound
from brokerkit.memory import MemoryTransport
from brokerkit_conformance.faults import biting
from brokerkit_conformance.mutants import wire
from brokerkit_conformance.mutants.planting import Patch, mutant
from brokerkit_conformance.mutants.remote import RemoteReceiver, RemoteTransport
from brokerkit_conformance.mutants.served import NetworkedHarness

_OFTEN: Final = 100


@mutant("FLT-12", source="celery 8030: the catatonic worker", harness=NetworkedHarness)
def never_reopened(patch: Patch) -> None:
    """A receiver goes on with what its lost connection had opened."""

    def make(opened: Any) -> Any:
        return lambda self, timeout: opened(self, timeout) if self._number is None else self._number

    patch.wrap(RemoteReceiver, "_opened", make)


@mutant("FLT-17", source="LAWS 2", harness=NetworkedHarness)
def reconnects_in_a_hot_loop(patch: Patch) -> None:
    """The client tries again by itself, at once and often, beside the repeats of the core."""

    def make(call: Any) -> Any:
        def mutated(self: Any, *args: Any, **kwargs: Any) -> Any:
            for _ in range(_OFTEN):
                with suppress(ConnectionLost):
                    return call(self, *args, **kwargs)
            return call(self, *args, **kwargs)

        return mutated

    patch.wrap(wire.Lines, "call", make)


@mutant("CLN-05", source="LAWS 2", harness=NetworkedHarness)
def a_thread_for_each_connection(patch: Patch) -> None:
    """Each connection that is tried starts a thread, which never ends."""

    def make(init: Any) -> Any:
        def mutated(self: Any, *args: Any) -> None:
            threading.Thread(target=threading.Event().wait, name="heartbeat", daemon=True).start()
            init(self, *args)

        return mutated

    patch.wrap(wire.Line, "__init__", make)


@mutant("FLT-12", source="LAWS 2", harness=NetworkedHarness)
def sockets_are_not_closed(patch: Patch) -> None:
    """A connection that broke keeps its socket."""
    kept: list[socket.socket] = []
    patch.value(wire, "hang_up", kept.append)


@mutant("CLN-01", source="LAWS 2", harness=NetworkedHarness)
def close_lets_them_rest(patch: Patch) -> None:
    """Closing a broker leaves the connections that were not in use."""

    def mutated(self: Any) -> None:
        self._closed = True

    patch.value(wire.Lines, "close", mutated)


@mutant("FAN-13", source="PEERS: subscriptions that begin anew", harness=NetworkedHarness)
def the_gap_is_forgotten(patch: Patch) -> None:
    """A subscriber that comes back begins with what is new, and nobody tells it of the gap."""
    opened: set[tuple[str, ...]] = set()

    def make(open_receiver: Any) -> Any:
        def mutated(self: Any, names: Any, **settings: Any) -> Any:
            with self.server.condition:
                for name in names if tuple(names) in opened else ():
                    self.server.purge((self.virtual_host, name))
            opened.add(tuple(names))
            return open_receiver(self, names, **settings)

        return mutated

    patch.wrap(MemoryTransport, "open_receiver", make)


@mutant("VIS-23", source="LAWS 2", harness=NetworkedHarness)
def leases_kept_in_mind_alone(patch: Patch) -> None:
    """After a connection was lost the client extends leases in its own books, and asks nobody."""

    def make(extend: Any) -> Any:
        def mutated(self: Any, deliveries: Any, *, visibility_timeout: float, timeout: float = 10.0) -> Any:
            if not self._lines.generation:
                return extend(self, deliveries, visibility_timeout=visibility_timeout, timeout=timeout)
            for received in deliveries:
                received.deadline += visibility_timeout
            return []

        return mutated

    patch.wrap(RemoteReceiver, "extend", make)


@mutant("FLT-01", "OBS-01", source="LAWS 2", harness=NetworkedHarness)
def nothing_listens_is_in_doubt(patch: Patch) -> None:
    """That nobody could be reached is told as a connection that broke, with an outcome that nobody knows."""

    def make(init: Any) -> Any:
        def mutated(self: Any, *args: Any) -> None:
            try:
                init(self, *args)
            except NotConnected as error:
                raise ConnectionLost(str(error)) from error

        return mutated

    patch.wrap(wire.Line, "__init__", make)


@mutant("HAR-01", source="go-cloud: the harness's nil object", harness=NetworkedHarness)
def absence_is_guessed(patch: Patch) -> None:
    """That a queue does not exist is told by the client, from what it remembers of declarations."""
    known: set[str] = set()

    def declaring(declare: Any) -> Any:
        def mutated(self: Any, queue: Any, **kwargs: Any) -> None:
            known.add(queue.name)
            declare(self, queue, **kwargs)

        return mutated

    def guessing(call: Any) -> Any:
        def mutated(self: Any, name: str, *args: Any, **kwargs: Any) -> Any:
            if name not in known:
                raise QueueNotFound(name)
            return call(self, name, *args, **kwargs)

        return mutated

    patch.wrap(RemoteTransport, "declare", declaring)
    patch.wrap(RemoteTransport, "send", guessing)
    patch.wrap(RemoteTransport, "purge", guessing)


@mutant("HAR-02", source="LAWS 4.2: faults without effect")
def garbage_that_is_none(patch: Patch) -> None:
    """The proxy says that it garbles, and passes everything unchanged."""

    async def mutated(self: Any, stream: Any, piece: Any, forward: Any) -> None:
        self._bite(stream.link, len(piece.body))
        await forward(piece)

    patch.value(biting._Garbling, "carry", mutated)  # noqa: SLF001 - to break it


@mutant("URL-11", source="celery 9997 and kombu 1085: the lost connection's URL in the log", harness=NetworkedHarness)
def lost_connections_are_told_with_their_keys(patch: Patch) -> None:
    """The client logs what a connection was to be made with, when it cannot be made."""

    def make(init: Any) -> Any:
        def mutated(self: Any, address: Any, hello: Any, *args: Any, **kwargs: Any) -> None:
            try:
                init(self, address, hello, *args, **kwargs)
            except ConnectionLost:
                logging.getLogger("client").debug("no connection by %r", hello)
                raise

        return mutated

    patch.wrap(wire.Line, "__init__", make)
