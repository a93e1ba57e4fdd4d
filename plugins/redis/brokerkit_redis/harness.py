"""What the conformance suite needs of any form of Redis: private servers, foreign access, limits."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

from brokerkit_conformance import Admin, FullServer, Harness, Role, ServerControl, StorageMap

from brokerkit.capabilities import Impossible
from brokerkit.servers import Redis
from brokerkit.url import URL
from brokerkit_redis.foreign import RedisAdmin, VirtualHost

__all__ = ["AnyRedis", "Running"]

_STORAGE: Final[StorageMap] = {
    Role.TOPOLOGY: "queue/[^/]*/{name}",
    Role.BODY: "message/[^/]*/{name}/.*",
    Role.HELD: "message/[^/]*/{name}/leased/.*",
    Role.IN_FLIGHT: "leases/[^/]*/{name}",
    Role.SCHEDULE: "schedule/[^/]*/{name}",
    Role.PRIORITY: "ready/[^/]*/{name}/[0-9]/",
    Role.MUTEX: Impossible("each claim takes back what is due by itself, in one step of the server"),
    Role.DEDUPE: Impossible("a message's id is where its body is kept"),
    Role.BINDING: "binding/[^/]*/[^/]*/{name}/.*",
    Role.RESULT: "result/[^/]*/{name}",
    Role.BOOKKEEPING: "(returned|wake|floor)/.*|version/.*",
}
_OPTIONS: Final = {"persistence": "aof"}
_LITTLE: Final = 200_000  # bytes that a full server has left


class Running(ServerControl, contextlib.AbstractContextManager[Any], Protocol):
    """A server or a fleet of them, started as a context."""


class AnyRedis(Harness):
    """Private servers that write down every change, as brokers should."""

    lease = 1.0
    title = "Redis"
    virtual_hosts: Sequence[VirtualHost] = (VirtualHost(0, "bk:"), VirtualHost(1, "bk:"))

    def __init__(self) -> None:
        self.servers = contextlib.ExitStack()
        self._known: dict[int | None, Any] = {}
        self._main: Any = None

    def start(self) -> None:
        """Start the server of most cases."""
        self._main = self._new()
        self.server = f"{self.title} {dict(_told(self.writable(self._main)[0], 'server'))['redis_version']}"
        self.emulator = False

    def stop(self) -> None:
        """Stop all servers."""
        self.servers.close()

    def urls(self) -> Sequence[str]:
        """Two virtual hosts of one server."""
        return self._all(self._main) if self._main else ()

    def results_urls(self) -> Sequence[str]:
        """The same two."""
        return self.urls()

    def options(self) -> Mapping[str, Any]:
        """What the server is set to."""
        return _OPTIONS

    def results_options(self) -> Mapping[str, Any]:
        """What the server is set to."""
        return _OPTIONS

    def private_urls(self) -> tuple[Sequence[str], Sequence[str]]:
        """A new server for both."""
        urls = self._all(self._new())
        return urls, urls

    def wrong_credentials(self) -> Sequence[str]:
        """A user whom nobody knows."""
        return [self.urls()[0].replace("://", "://nobody:wrong@", 1)]

    def admin(self, url: str, *, clock: Any = None) -> Admin:  # noqa: ARG002 - Redis goes by its own
        """Redis's own client."""
        server = self.known(url)
        return RedisAdmin(
            [node.url() for node in self.writable(server)], self.virtual_hosts, self._all(server).index(url)
        )

    def server_control(self, url: str) -> ServerControl | None:
        """The server itself, with all its nodes."""
        control: ServerControl | None = self.known(url)
        return control

    def server_settings(self) -> Mapping[str, str]:
        """Persistence and eviction, as the server says."""
        names = ("appendonly", "appendfsync", "save", "maxmemory", "maxmemory-policy", "hz")
        if self._main is None:
            return {}
        flat = [self.writable(self._main)[0].command("CONFIG", "GET", name) for name in names]
        return {name: value[1].decode() for name, value in zip(names, flat, strict=True) if value}

    def storage_map(self) -> StorageMap:
        """Every key, and every field of those that hold many."""
        return _STORAGE

    @contextlib.contextmanager
    def full_server(self) -> Iterator[FullServer]:
        """A server whose memory is bounded, and that evicts nothing."""
        server = self._new()

        def bound(full: bool) -> None:  # noqa: FBT001 - one of two states
            for node in self.writable(server):
                used = int(dict(_told(node, "memory"))["used_memory"])
                node.command("CONFIG", "SET", "maxmemory", used + _LITTLE if full else 0)

        yield FullServer(self.url_of(server, 0), {}, bound)

    def refusals(self) -> Mapping[str, contextlib.AbstractContextManager[FullServer]]:
        """Servers that lack memory altogether."""
        return {"full": self.refusing(("CONFIG", "SET", "maxmemory", 1), ("CONFIG", "SET", "maxmemory", 0))}

    @contextlib.contextmanager
    def refusing(self, begin: Sequence[Any], end: Sequence[Any]) -> Iterator[FullServer]:
        """A new server that refuses between two commands."""
        server = self._new()

        def bound(full: bool) -> None:  # noqa: FBT001 - one of two states
            for node in self.writable(server):
                node.command(*(begin if full else end))

        yield FullServer(self.url_of(server, 0), {}, bound)

    def evicting_urls(self) -> tuple[str | None, str | None]:
        """A server that evicts."""
        server = self._new()
        for node in self.writable(server):
            node.command("CONFIG", "SET", "maxmemory", "16mb", "maxmemory-policy", "allkeys-lru")
        return self.url_of(server, 0), self.url_of(server, 0)

    def _new(self) -> Any:
        return self.begin(self.make())

    def begin(self, server: Any) -> Any:
        """Start a server, and know it by its URLs from now on."""
        self.servers.enter_context(server)
        self._known[_place(self.url_of(server, 0))] = server
        return server

    def known(self, url: str) -> Any:
        """Return the server that a URL leads to, by its port; None if it is not ours."""
        return self._known.get(_place(url))

    def _all(self, server: Any) -> Sequence[str]:
        return [self.url_of(server, number) for number in range(len(self.virtual_hosts))]

    # -- what differs between the forms ----------------------------------------------------------------------------

    @abstractmethod
    def make(self) -> Running:
        """Return a new server that is not started."""

    @abstractmethod
    def url_of(self, server: Any, number: int) -> str:
        """Return the URL of one of its virtual hosts."""

    @abstractmethod
    def writable(self, server: Any) -> Sequence[Redis]:
        """Return the nodes that take writes."""


def _place(url: str) -> int | None:
    return URL.parse(url).hosts[0][1]


def _told(server: Redis, section: str) -> Iterator[tuple[str, str]]:
    for line in server.command("INFO", section).decode().splitlines():
        name, colon, value = line.partition(":")
        if colon:
            yield name, value
