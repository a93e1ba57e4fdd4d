"""Harnesses of results over rpc: another engine's harness, whose broker carries the results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from brokerkit.capabilities import Impossible
from brokerkit.options import BrokerOptions
from brokerkit_conformance.harness import Admin, Harness, MovableClock, load
from brokerkit_conformance.reference import MemoryHarness
from brokerkit_conformance.storage import Role, StorageMap

__all__ = ["OverRpc", "RpcMemoryHarness", "RpcRedisHarness", "RpcSqliteHarness"]

_NOTHING: Final = Impossible("a result is in the memory of its process, or one of the messages that the broker keeps")
_STORAGE: Final[StorageMap] = dict.fromkeys(Role, _NOTHING)


class OverRpc(Harness):
    """Result stores only, `rpc+` before each broker URL of another harness. The broker itself has its own run.

    Args:
        inner: the broker's harness.
    """

    def __init__(self, inner: Harness) -> None:
        self.inner = inner
        self.lease = inner.lease

    def start(self) -> None:
        """Start what carries the results."""
        self.inner.start()
        self.server, self.emulator = self.inner.server, self.inner.emulator

    def stop(self) -> None:
        """Stop it."""
        self.inner.stop()

    def results_urls(self) -> Sequence[str]:
        """Two virtual hosts of the broker: each has reply queues of its own."""
        return [f"rpc+{url}" for url in self.inner.urls()]

    def results_options(self) -> Mapping[str, Any]:
        """The transport's own; what every broker has means nothing here."""
        return {name: value for name, value in self.inner.options().items() if name not in BrokerOptions.names()}

    def clock(self) -> MovableClock | None:
        """As the broker waits, so wait its readers."""
        return self.inner.clock()

    def prepare(self) -> tuple[str, str] | None:
        """As the broker needs it."""
        return self.inner.prepare()

    def admin(self, url: str, *, clock: Any = None) -> Admin:  # noqa: ARG002 - there is nothing to reach
        """Nobody's: what a server keeps of results is only messages, whose own laws are tried with the broker."""
        return Admin()

    def server_settings(self) -> Mapping[str, str]:
        """The broker's."""
        return self.inner.server_settings()

    def storage_map(self) -> StorageMap:
        """Nothing of its own."""
        return _STORAGE


class RpcMemoryHarness(OverRpc):
    """`rpc+memory://`."""

    def __init__(self) -> None:
        super().__init__(MemoryHarness())


class RpcSqliteHarness(OverRpc):
    """`rpc+sqlite://`, where the SQLAlchemy plugin is installed: requester and workers are processes of one machine."""

    def __init__(self) -> None:
        super().__init__(load("sqlite"))


class RpcRedisHarness(OverRpc):
    """`rpc+redis://`, where the Redis plugin is installed: over a network, with a proxy in between."""

    def __init__(self) -> None:
        super().__init__(load("redis"))
