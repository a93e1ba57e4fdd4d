"""What a case may kill, and how it comes up again: a server, or the processes that an embedded engine lives in."""

from __future__ import annotations

import socket
import time
from typing import Any, Final

from brokerkit.url import URL
from brokerkit_conformance.actors import Actor
from brokerkit_conformance.bench import Bench
from brokerkit_conformance.faults import sigkill
from brokerkit_conformance.harness import ServerControl
from brokerkit_conformance.model import HarnessError, Inconclusive, NotRun
from brokerkit_conformance.timeline import RealTime, eventually

__all__ = ["DEEDS", "Doomed", "control_of"]

DEEDS: Final = "brokerkit_conformance.cases._deeds"


def control_of(bench: Bench) -> ServerControl:
    """Return the control of the bench's own server; the case ends as NOT_RUN if the harness brings none."""
    control = bench.harness.server_control(bench.urls[0])
    if control is None:
        raise NotRun("the harness brings no control of its server, so that it cannot be killed or restarted")
    return control


class Doomed:
    """A new server of the case's own; or, for an embedded engine, what the processes given here have open.

    An embedded engine lives in the processes that use it: its crash is the SIGKILL of all of them at once. So none but
    them may have it open; what the case itself opens, it closes before.
    """

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        bench.private(doomed=True)
        self._control = None if bench.capabilities.embedded else control_of(bench)
        self._actors: list[Actor] = []

    def actor(self, *words: str, **settings: Any) -> Actor:
        """Start a process that will be killed, too."""
        self._actors.append(actor := self._bench.actor(*words, **settings))
        return actor

    def deed(self, name: str, *queues: str, **settings: Any) -> Actor:
        """Start a process that does one of `_deeds`."""
        return self.actor(f"{DEEDS}:{name}", *queues, **settings)

    def kill(self) -> None:
        """Kill it by SIGKILL, and see that it is dead. The processes die last, so that what they logged is all there is."""
        if self._control is not None:
            self._control.kill9()
            self._see_that_nobody_answers()
        elif not self._actors:
            raise HarnessError("nobody has the embedded engine open, so nothing was killed")
        for actor in self._actors:
            sigkill(actor)

    def start(self) -> None:
        """Let it come up again, with what is on its disk. An embedded engine does so when it is opened next."""
        if self._control is not None:
            self._control.start()

    def outage(self) -> float:
        """Return how many real seconds it is away between a kill and the answer after it, by trying it; 0 if embedded."""
        if self._control is None:
            return 0.0
        began = time.monotonic()
        self._control.kill9()
        self._control.start()
        return time.monotonic() - began

    def _see_that_nobody_answers(self) -> None:
        for host, port in URL.parse(self._bench.urls[0]).hosts:
            if not eventually(RealTime(0.0), lambda h=host, p=port or 0: not _answers(h, p), 2.0):  # type: ignore[misc]
                raise Inconclusive(f"after the server was killed, somebody still answers at port {port}")


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=2.0).close()
    except OSError:
        return False
    return True
