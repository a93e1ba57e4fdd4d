"""Faults for the workers of a load: each proves its effect, and stands in the run's history."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from brokerkit_conformance.faults import (
    Cut,
    Fault,
    HalfOpen,
    KillConnections,
    Proxy,
    Signalled,
    Way,
    prove,
    sigcont,
    sigkill,
    sigstop,
    sigterm,
)
from brokerkit_conformance.history import FaultKind, FaultRecord

if TYPE_CHECKING:
    from brokerkit_conformance.actors import Actor
    from brokerkit_conformance.load import Load, Worker

__all__ = ["Faults"]

_ALL: Final = "*"
_SHORT: Final = 0.1
"""Of a lease: what stands still for so long loses nothing that it holds."""
_LONG: Final = 1.3
"""Of a lease: what stands still for so long has lost everything."""


class Faults:
    """Makes faults in a load. Not thread-safe.

    Args:
        load: the run.
        proxy: that all workers go through; None if there is no network.
        seed: of all that is left to chance.
    """

    def __init__(self, load: Load, proxy: Proxy | None = None, seed: int = 0) -> None:
        self._load = load
        self._proxy = proxy
        self._random = random.Random(seed)  # noqa: S311 - a plan, no secret
        for fault in _NETWORK if proxy is not None else ():
            prove(fault, proxy).demand()

    def kill(self, worker: Worker) -> None:
        """SIGKILL: the first time with a message in hand, then so, or at a moment of chance."""
        first = all(fault.kind is not FaultKind.KILL for fault in self._load.faults)
        if first or self._random.random() < 0.5:  # noqa: PLR2004 - a coin
            worker.hold()
        signalled = sigkill(_actor_of(worker))
        worker.died()
        self._note(FaultKind.KILL, worker.name, signalled, None)

    def end(self, worker: Worker) -> None:
        """SIGTERM: it ends in good order, and gives back what it holds."""
        signalled = sigterm(_actor_of(worker))
        worker.ended = True
        self._note(FaultKind.TERM, worker.name, signalled, signalled.seen)

    def freeze(self, worker: Worker, *, past_lease: bool) -> None:
        """SIGSTOP with a message in hand, and SIGCONT before or after the lease has ended; it goes on at once."""
        worker.hold()
        process = _actor_of(worker)
        signalled = sigstop(process)
        try:
            threading.Event().wait(self._load.lease * (_LONG if past_lease else _SHORT))
        finally:
            worker.say("go")  # read when it wakes, so that nothing of it is late but what the freeze made late
            woken = sigcont(process)
        self._note(FaultKind.FREEZE, worker.name, signalled, woken.seen)

    def disconnect(self) -> None:
        """Reset all connections of all workers."""
        with self._injected(KillConnections(), FaultKind.DISCONNECT):
            pass

    def lose_an_answer(self) -> None:
        """The server has done what some worker asked for, and the worker never hears of it."""
        with self._injected(Cut(way=Way.DOWN), FaultKind.DISCONNECT):
            pass

    def stall(self) -> None:
        """The connections of all workers stand and carry nothing, for less than it takes to lose a lease."""
        with self._injected(HalfOpen(), FaultKind.STALL):
            threading.Event().wait(self._load.lease * _SHORT)

    # -- steps -----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _injected(self, fault: Fault, kind: FaultKind) -> Iterator[None]:
        assert self._proxy is not None  # noqa: S101 - for the type checker
        began = time.monotonic()
        with self._proxy.inject(fault) as injection:
            effect = injection.wait()
            yield
        record = FaultRecord(
            kind=kind,
            target=_ALL,
            began=began,
            ended=time.monotonic(),
            proved=effect.bit,
            evidence=str(effect),
        )
        self._load.faults.append(record)

    def _note(self, kind: FaultKind, target: str, signalled: Signalled, ended: float | None) -> None:
        record = FaultRecord(
            kind=kind, target=target, began=signalled.sent, ended=ended, proved=True, evidence=signalled.evidence
        )
        self._load.faults.append(record)


_NETWORK: Final[tuple[Fault, ...]] = (KillConnections(), Cut(way=Way.DOWN), HalfOpen())


def _actor_of(worker: Worker) -> Actor:
    assert worker.actor is not None  # noqa: S101 - laws with faults need processes
    return worker.actor
