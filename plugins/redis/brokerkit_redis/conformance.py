"""How the conformance suite reaches Redis: a private server for all cases, new ones for those that break theirs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal

from brokerkit_conformance import Admin, FullServer, Harness, Role, ServerControl, StorageMap

from brokerkit.capabilities import Impossible
from brokerkit.servers import Redis
from brokerkit_redis.foreign import RedisAdmin

__all__ = ["RedisHarness"]

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


class RedisHarness(Harness):
    """Private servers of Redis that write down every change, as brokers should; two databases are two virtual hosts."""

    lease = 1.0
    aof: Literal["always"] = "always"

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._servers: dict[str, Redis] = {}
        self._main: Redis | None = None

    def start(self) -> None:
        """Start the server of most cases."""
        self._main = self._new()
        self.server = f"Redis {self._version(self._main)}"
        self.emulator = False

    def stop(self) -> None:
        """Stop all servers."""
        self._stack.close()

    def urls(self) -> Sequence[str]:
        """Two databases of one server."""
        return self._two(self._main) if self._main else ()

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
        urls = self._two(self._new())
        return urls, urls

    def wrong_credentials(self) -> Sequence[str]:
        """A wrong password, for a server that asks for one."""
        server = self._new(acl=True)
        return (_other_password(server.url()),)

    def admin(self, url: str, *, clock: Any = None) -> Admin:  # noqa: ARG002 - Redis goes by its own
        """Redis's own client."""
        return RedisAdmin(url)

    def server_control(self, url: str) -> ServerControl | None:
        """The server itself."""
        return self._servers.get(url.rpartition("/")[0])

    def server_settings(self) -> Mapping[str, str]:
        """Persistence and eviction, as the server says."""
        names = ("appendonly", "appendfsync", "save", "maxmemory", "maxmemory-policy", "hz")
        if self._main is None:
            return {}
        flat = [self._main.command("CONFIG", "GET", name) for name in names]
        return {name: value[1].decode() for name, value in zip(names, flat, strict=True) if value}

    def storage_map(self) -> StorageMap:
        """Every key, and every field of those that hold many."""
        return _STORAGE

    @contextlib.contextmanager
    def full_server(self) -> Iterator[FullServer]:
        """A server whose memory is bounded, and that evicts nothing."""
        server = self._new(settings={"maxmemory-policy": "noeviction"})

        def bound(full: bool) -> None:  # noqa: FBT001 - one of two states
            used = int(dict(_told(server, "memory"))["used_memory"])
            server.command("CONFIG", "SET", "maxmemory", used + 200_000 if full else 0)

        yield FullServer(server.url(), {}, bound)

    def refusals(self) -> Mapping[str, contextlib.AbstractContextManager[FullServer]]:
        """Servers that were made a replica, lack memory altogether, or have too many clients."""
        return {
            "read only": self._refusing(("REPLICAOF", "127.0.0.1", 1), ("REPLICAOF", "NO", "ONE")),
            "full": self._refusing(("CONFIG", "SET", "maxmemory", 1), ("CONFIG", "SET", "maxmemory", 0)),
        }

    @contextlib.contextmanager
    def _refusing(self, begin: Sequence[Any], end: Sequence[Any]) -> Iterator[FullServer]:
        server = self._new(settings={"maxmemory-policy": "noeviction"})
        yield FullServer(server.url(), {}, lambda full: server.command(*(begin if full else end)))

    def evicting_urls(self) -> tuple[str | None, str | None]:
        """A server that evicts."""
        server = self._new(maxmemory="16mb")
        return server.url(), server.url()

    def _new(self, **settings: Any) -> Redis:
        server = self._stack.enter_context(Redis(**{"aof": self.aof, **settings}))
        self._servers[server.url().rpartition("/")[0]] = server
        return server

    def _two(self, server: Redis) -> tuple[str, str]:
        return server.url(), server.url(database=1)

    def _version(self, server: Redis) -> str:
        return dict(_told(server, "server"))["redis_version"]


def _told(server: Redis, section: str) -> Iterator[tuple[str, str]]:
    for line in server.command("INFO", section).decode().splitlines():
        name, colon, value = line.partition(":")
        if colon:
            yield name, value


def _other_password(url: str) -> str:
    before, _, rest = url.partition("@")
    return f"{before.rpartition(':')[0]}:wrong@{rest}"
