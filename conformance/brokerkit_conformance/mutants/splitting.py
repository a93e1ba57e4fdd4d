"""Defects in processes of their own: forks, signals and the interpreter's end. They are planted there."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final

from brokerkit import _leases
from brokerkit.broker import Broker
from brokerkit.consumer import Consumer
from brokerkit.errors import InconsistencyError, QueueNotFound
from brokerkit.memory import MemoryReceiver, MemoryServer
from brokerkit.memory import transport as memory_transport
from brokerkit_conformance.mutants.planting import Patch, mutant
from brokerkit_conformance.mutants.served import NetworkedHarness, ServedHarness, join, join_network
from brokerkit_conformance.reference import MemoryHarness

__all__ = ["plant"]

_planted = ""
_for_good: Final = Patch()
_defects: Final[dict[str, Callable[[], None]]] = {}


def plant(name: str) -> None:
    """In a process of its own: let it have a defect."""
    if name in _defects:
        _defects[name]()


def plant_networked(name: str) -> None:
    """The same, where `memory://host:port` leads to the suite's process."""
    join_network("")
    plant(name)


def plant_served(told: str) -> None:
    """The same, where `memory://` leads to the suite's process."""
    name, address = json.loads(told)
    join(json.dumps(address))
    plant(name)


class ApartHarness(MemoryHarness):
    """`memory://`, whose processes apart have the defect that was planted here."""

    def prepare(self) -> tuple[str, str]:
        """Plant it there, too."""
        return f"{__name__}:plant", _planted


class ApartServedHarness(ServedHarness):
    """`memory://` for several processes, of which those apart have the defect that was planted here."""

    def prepare(self) -> tuple[str, str]:
        """Plant it there, too."""
        return f"{__name__}:plant_served", json.dumps([_planted, self._address])


class ApartNetworkedHarness(NetworkedHarness):
    """`memory://` over TCP, whose processes apart have the defect that was planted here."""

    def prepare(self) -> tuple[str, str]:
        """Plant it there, too."""
        return f"{__name__}:plant_networked", _planted


def _apart(*kills: str, source: str, harness: Any = ApartHarness) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Register a defect of processes apart."""

    def register(defect: Callable[[], None]) -> Callable[[], None]:
        def planting(patch: Patch) -> None:
            patch.value(sys.modules[__name__], "_planted", defect.__name__)

        planting.__name__, planting.__doc__ = defect.__name__, defect.__doc__
        _defects[defect.__name__] = defect
        mutant(*kills, source=source, harness=harness)(planting)
        return defect

    return register


@_apart("THR-03", source="PEERS: a socket shared after a fork", harness=ApartNetworkedHarness)
def children_use_the_parents_connection() -> None:
    """A forked child goes on with what the parent had open."""
    _for_good.value(Broker, "after_fork", lambda _: None)


@_apart("THR-04", source="LAWS 2")
def children_inherit_held_locks() -> None:
    """A forked child uses the locks of its parent's threads, which hold them most of the time."""
    _for_good.value(memory_transport, "os", SimpleNamespace(getpid=lambda: 1))

    def make(store: Any) -> Any:
        def mutated(self: Any, *args: Any) -> None:
            store(self, *args)
            threading.Event().wait(0.005)

        return mutated

    _for_good.wrap(MemoryServer, "_store", make)


@_apart("THR-05", source="LAWS 2")
def children_consume_for_their_parent() -> None:
    """A forked child's consumer has what the parent's had prefetched."""
    _for_good.value(Consumer, "after_fork", lambda _: None)


@_apart("THR-10", source="LAWS 2")
def waits_swallow_interrupts() -> None:
    """A wait for messages goes on when a signal's handler has raised."""
    receive = MemoryReceiver.receive

    def mutated(self: Any, **settings: Any) -> Any:
        while True:
            try:
                return receive(self, **settings)
            except KeyboardInterrupt:
                continue

    _for_good.value(MemoryReceiver, "receive", mutated)


@_apart("THR-10", source="LAWS 2")
def interrupts_break_the_consumer() -> None:
    """A consumer whose receive was interrupted never receives again."""
    receive = MemoryReceiver.receive
    broken: list[Any] = []

    def mutated(self: Any, *, limit: int, timeout: float, acks: Any = ()) -> Any:
        try:
            return receive(self, limit=0 if self in broken else limit, timeout=timeout, acks=acks)
        except KeyboardInterrupt:
            broken.append(self)
            raise

    _for_good.value(MemoryReceiver, "receive", mutated)


@_apart("THR-11", source="PEERS: threads that are not daemons")
def the_interpreter_never_ends() -> None:
    """A thread of ours keeps the process alive."""
    threads = SimpleNamespace(
        Condition=threading.Condition,
        current_thread=threading.current_thread,
        Thread=lambda **given: threading.Thread(**{**given, "daemon": False}),
    )
    _for_good.value(_leases, "threading", threads)


@_apart("THR-11", source="PEERS: exceptions ignored in __del__")
def noise_at_the_end() -> None:
    """A handle that is collected late complains."""

    def complain(_: Any) -> None:
        raise LookupError("its parts are gone already")

    _for_good.value(Consumer, "__del__", complain)


@_apart("CON-05", source="LAWS 2", harness=ApartServedHarness)
def declares_only_once() -> None:
    """A queue that is there is refused, whoever made it."""
    known = Broker.declare

    def mutated(self: Any, queue: Any, **settings: Any) -> Any:
        with contextlib.suppress(QueueNotFound):
            self.depth(queue)
            raise InconsistencyError(f"{queue} exists")
        return known(self, queue, **settings)

    _for_good.value(Broker, "declare", mutated)
