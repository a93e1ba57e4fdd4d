"""The memory engine as a server that can be killed and restarted, and that keeps what it has: the control of crash cases.

A proxy stands before it. A kill cuts all connections and refuses new ones; a start lets them in again. What a real server
does with its disk in between is played by `came_up`, which mutants replace.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import replace

import brokerkit
from brokerkit.capabilities import Durability
from brokerkit.memory import MemoryServer, MemoryTransport
from brokerkit.memory.transport import server_named
from brokerkit_conformance.faults import Injection, Proxy, Refuse
from brokerkit_conformance.mutants import served
from brokerkit_conformance.mutants.planting import Patch
from brokerkit_conformance.mutants.served import NetworkedHarness

__all__ = ["CarryingHarness", "RestartableHarness", "came_up", "join_and_plant"]


def came_up(server: MemoryServer, *, killed: bool) -> None:
    """The server is there again, after a kill or an orderly end. Nothing is lost. Mutants replace this."""


class RestartableHarness(NetworkedHarness):
    """`memory://` on a port, with a control; its one server is a case's own, as its mutants try one case at a time."""

    def start(self) -> None:
        """Declare that it survives whatever happens to it, and put a proxy before it."""
        super().start()
        lasting = Durability(restart=True, kill=True, power_loss="no")
        self._patch.value(MemoryTransport, "capabilities", replace(MemoryTransport.capabilities, durability=lasting))
        assert self._server is not None  # noqa: S101 - for the type checker
        self._behind = self._server.address
        self._proxy = Proxy(*self._behind)

    def stop(self) -> None:
        """Stop both."""
        self._proxy.close()
        super().stop()

    def urls(self) -> Sequence[str]:
        """Two virtual hosts behind the proxy."""
        return [url.replace(f":{self._behind[1]}/", f":{self._proxy.port}/") for url in super().urls()]

    def results_urls(self) -> Sequence[str]:
        """None: its mutants are of the broker."""
        return ()

    def private_urls(self) -> tuple[Sequence[str], Sequence[str]]:
        """The same."""
        return self.urls(), ()

    def server_control(self, url: str) -> _Control:  # noqa: ARG002 - there is one
        """The proxy's."""
        return _Control(self._proxy, self._name)


class CarryingHarness(served.ServedHarness):
    """`memory://` served, with a defect in the core of the actors themselves.

    Attributes:
        carried: what a mutant puts here, "module:function", is planted in every actor; nothing by default.
    """

    carried = ""

    def prepare(self) -> tuple[str, str]:
        """Let actors reach this process, and plant what they carry."""
        return f"{__name__}:join_and_plant", f"{self.carried}|{super().prepare()[1]}"


class _Control:
    def __init__(self, proxy: Proxy, name: str) -> None:
        self._proxy = proxy
        self._name = name
        self._refusing: Injection | None = None
        self._killed = False

    def kill9(self) -> None:
        self._end(killed=True)

    def start(self) -> None:
        with brokerkit.connect("memory://") as broker:
            server = server_named(self._name, broker.clock)
        with server.condition:
            came_up(server, killed=self._killed)
            server.condition.notify_all()
        assert self._refusing is not None  # noqa: S101 - it was ended before
        self._refusing.lift()

    def restart(self) -> None:
        self._end(killed=False)
        self.start()

    def pause(self) -> None:
        raise NotImplementedError("no case of a mutant asks for it")

    resume = pause

    def _end(self, *, killed: bool) -> None:
        self._killed = killed
        self._refusing = self._proxy.inject(Refuse())
        self._proxy.kill_connections()


def join_and_plant(argument: str) -> None:
    """In an actor: reach the engine, and plant a defect in this process for good."""
    carried, _, address = argument.partition("|")
    if carried:
        module, _, function = carried.partition(":")
        getattr(importlib.import_module(module), function)(Patch())
    served.join(address)
