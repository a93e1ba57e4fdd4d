"""The memory result store without a broker beside it, so that what is planted in it meets the cases of results alone."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from brokerkit._clock import SYSTEM_CLOCK
from brokerkit.capabilities import Durability
from brokerkit.errors import StorageFull
from brokerkit.memory import MemoryResultBackend
from brokerkit.memory import results as memory_results
from brokerkit_conformance.harness import FullServer
from brokerkit_conformance.mutants import restartable
from brokerkit_conformance.mutants.planting import Patch
from brokerkit_conformance.mutants.restartable import RestartableHarness
from brokerkit_conformance.mutants.served import NetworkedHarness, served
from brokerkit_conformance.reference import MemoryHarness

__all__ = ["NetworkedStore", "RestartableStore", "Store", "StoreAlone", "records_of", "store_came_up"]

_ROOM: Final = 20


class StoreAlone:
    """Marks a harness that brings a result store and no broker."""


class Store(StoreAlone, MemoryHarness):
    """`memory://`, which has room for no more than a few records while it is bounded."""

    def __init__(self) -> None:
        self._patch = Patch()
        self._bounded = False

    def start(self) -> None:
        """Declare that it is a server of its own, so that it can be full, and let it be bounded."""

        def make(put: Any) -> Any:
            def bounded(backend: Any, record: Any, ttl: float | None) -> Any:
                if self._bounded and len(backend.server.records) > _ROOM:
                    return self.refuse(backend)
                return put(backend, record, ttl)

            return bounded

        self._patch.wrap(MemoryResultBackend, "_put_one", make)
        self._patch.value(memory_results, "CAPABILITIES", served(memory_results.CAPABILITIES))

    def stop(self) -> None:
        """Let it be as it was."""
        self._patch.undo()

    @staticmethod
    def refuse(backend: Any) -> Exception:  # noqa: ARG004 - a mutant needs it
        """There is no room. Mutants replace this."""
        return StorageFull("there is no room")

    def urls(self) -> Sequence[str]:
        """None."""
        return ()

    def results_urls(self) -> Sequence[str]:
        """Two virtual hosts of one new server."""
        name = f"store-{secrets.token_hex(6)}"
        return f"memory://{name}/one", f"memory://{name}/two"

    def private_urls(self) -> tuple[Sequence[str], Sequence[str]]:
        """Every server is a case's own."""
        return (), self.results_urls()

    def evicting_urls(self) -> tuple[None, str]:
        """One that is bounded drops what was not used for longest."""
        return None, f"{self.results_urls()[0]}?max_records=100"

    @contextlib.contextmanager
    def full_server(self) -> Iterator[FullServer]:
        """A server, bounded or not."""

        def bound(full: bool) -> None:  # noqa: FBT001 - one of two states
            self._bounded = full

        try:
            yield FullServer(self.results_urls()[0], {}, bound)
        finally:
            self._bounded = False


class NetworkedStore(StoreAlone, NetworkedHarness):
    """`memory://` behind a port."""

    def urls(self) -> Sequence[str]:
        """None."""
        return ()

    def results_urls(self) -> Sequence[str]:
        """Two virtual hosts behind one port."""
        return NetworkedHarness.urls(self)


class RestartableStore(StoreAlone, RestartableHarness):
    """`memory://` behind a port, with a control; what is stored survives a kill."""

    def start(self) -> None:
        """Declare that it does."""
        super().start()
        lasting = Durability(restart=True, kill=True, power_loss="no")
        self._patch.value(memory_results, "CAPABILITIES", replace(memory_results.CAPABILITIES, durability=lasting))
        self._patch.value(restartable, "came_up", lambda _, *, killed: store_came_up(self._name, killed=killed))

    def urls(self) -> Sequence[str]:
        """None."""
        return ()

    def results_urls(self) -> Sequence[str]:
        """Two virtual hosts behind the proxy."""
        return RestartableHarness.urls(self)

    def private_urls(self) -> tuple[Sequence[str], Sequence[str]]:
        """The same."""
        return (), self.results_urls()


def store_came_up(name: str, *, killed: bool) -> None:
    """The server is there again. Nothing is lost. Mutants replace this."""


def records_of(name: str) -> Any:
    """Return the store of a server of this process."""
    return memory_results.results_named(name, SYSTEM_CLOCK)
