"""The memory engine as a server with bounded room and prepared statements, so that defects in both can be planted in it."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from brokerkit.errors import StorageFull
from brokerkit.memory import MemoryServer
from brokerkit_conformance.harness import Admin, FullServer
from brokerkit_conformance.mutants.served import ServedHarness
from brokerkit_conformance.reference import STORAGE, MemoryHarness
from brokerkit_conformance.storage import StorageMap

__all__ = ["CrampedHarness", "Room"]


class Room:
    """The state of the one server of a process: whether it has room, and how often it forgot its statements."""

    full = False
    forgot = 0


class CrampedHarness(ServedHarness):
    """`memory://` declared as a server of its own, which can be full. In one process only: no actor reaches it."""

    def start(self) -> None:
        """Let stores fail while there is no room."""
        super().start()

        def make(store: Any) -> Any:
            def bounded(self: Any, queue: Any, message: Any) -> None:
                if Room.full:
                    raise StorageFull("there is no room")
                store(self, queue, message)

            return bounded

        self._patch.wrap(MemoryServer, "_store", make)

    def results_urls(self) -> Sequence[str]:
        """None: only its queues are bounded."""
        return ()

    def private_urls(self) -> tuple[Sequence[str], Sequence[str]]:
        """A new server."""
        return MemoryHarness().private_urls()

    def admin(self, url: str, *, clock: Any = None) -> Admin:  # noqa: ARG002 - it goes by the machine's
        """One that can make the server forget."""
        return _Forgetting()

    def storage_map(self) -> StorageMap:
        """As of memory."""
        return STORAGE

    @contextlib.contextmanager
    def full_server(self) -> Iterator[FullServer]:
        """The server, bounded or not."""

        def bound(full: bool) -> None:  # noqa: FBT001 - one of two states
            Room.full = full

        try:
            yield FullServer(self.private_urls()[0][0], {}, bound)
        finally:
            Room.full = False


class _Forgetting(Admin):
    def keys(self) -> Collection[str]:
        return ()

    def remove(self, keys: Collection[str]) -> None:
        """There are none."""

    def forget_statements(self) -> None:
        Room.forgot += 1
