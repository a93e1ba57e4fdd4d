"""How the suite reaches kombu and Celery: a private Redis, a file, or nothing at all."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from brokerkit import servers
from brokerkit.url import URL
from brokerkit_conformance.harness import FullServer, Harness
from brokerkit_conformance.incumbent.admin import STORAGE, RedisAdmin
from brokerkit_conformance.incumbent.registering import Registration
from brokerkit_conformance.model import HarnessError
from brokerkit_conformance.storage import StorageMap

__all__ = ["KombuMemory", "KombuRedis", "KombuSQLite"]


class _Kombu(Harness):
    def __init__(self) -> None:
        self._registration = Registration(version("kombu"))

    def start(self) -> None:
        """Let the registry know the schemes."""
        self._registration.begin()

    def stop(self) -> None:
        """Let it forget them."""
        self._registration.end()


class KombuMemory(_Kombu):
    """kombu's memory transport, which has no virtual hosts: one URL."""

    product = "none"

    def urls(self) -> Sequence[str]:
        """The one of this process."""
        return ("kombu+memory://incumbent",)


class KombuSQLite(_Kombu):
    """kombu's sqlalchemy transport, which has no virtual hosts: its tables' names are the process's.

    Each case gets a file of its own: every poll of kombu's takes SQLite's one lock for writers, and cases would wait for each
    other.
    """

    product = f"SQLite {sqlite3.sqlite_version}"

    def __init__(self) -> None:
        super().__init__()
        self._folder = Path(tempfile.mkdtemp(prefix="brokerkit-kombu-sqlite-"))
        self._files = itertools.count()

    def stop(self) -> None:
        """Remove the files."""
        super().stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def urls(self) -> Sequence[str]:
        """One file, a new one each time."""
        return (f"kombu+sqlite:///{self._folder}/broker{next(self._files)}.db",)

    def options(self) -> Mapping[str, Any]:
        """None: whatever option it is given goes to `create_engine`."""
        return {}


class KombuRedis(_Kombu):
    """kombu's redis transport, topics by topic exchanges, and Celery's redis result backend, on a private Redis.

    Each case gets databases of its own: kombu's sweeper looks at all of a database with the sweeper's own timeout, so that
    cases with different leases would undo each other.
    """

    product = ""

    def __init__(self) -> None:
        super().__init__()
        self._servers = [_redis()]
        self._databases = itertools.count()
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start the server.

        Raises:
            HarnessError: there is none on this machine, or the client library is missing.
        """
        try:
            version("redis")
            self._servers[0].start()
            self.product = f"Redis {self._servers[0].version()}"
        except Exception as error:
            raise HarnessError(f"kombu's redis transport cannot be tried: {type(error).__name__}: {error}") from error
        super().start()

    def stop(self) -> None:
        """Kill the servers, and remove their files."""
        super().stop()
        for server in self._servers:
            server.close()

    def urls(self) -> Sequence[str]:
        """Two databases of one server, new ones each time."""
        return self._two(self._servers[0], "kombu+redis", next(self._databases))

    def results_urls(self) -> Sequence[str]:
        """Two others."""
        return self._two(self._servers[0], "celery+redis", next(self._databases))

    def private_urls(self) -> tuple[Sequence[str], Sequence[str]]:
        """A new server for both."""
        server = self._new()
        return self._two(server, "kombu+redis", 0), self._two(server, "celery+redis", 1)

    def evicting_urls(self) -> tuple[str, str]:
        """Redis by `allkeys-lru`, which drops any key."""
        server = self._new({"maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"})
        return self._two(server, "kombu+redis", 0)[0], self._two(server, "celery+redis", 1)[0]

    @contextlib.contextmanager
    def full_server(self) -> Iterator[FullServer]:
        """Redis that may use no more memory than it does, and drops nothing."""
        server = self._new()

        def bound(full: bool) -> None:  # noqa: FBT001 - one of two states
            server.command("CONFIG", "SET", "maxmemory", "1" if full else "0")

        yield FullServer(self._two(server, "kombu+redis", 0)[0], self.options(), bound)

    def admin(self, url: str, *, clock: Any = None) -> RedisAdmin:  # noqa: ARG002 - Redis goes by its own
        """A connection of our own to the server of a URL."""
        return RedisAdmin(self._of(url).command, int(URL.parse(url).virtual_host))

    def server_control(self, url: str) -> servers.Redis:
        """The server itself."""
        return self._of(url)

    def storage_map(self) -> StorageMap:
        """Which keys play which role, by kombu's and Celery's source."""
        return STORAGE

    def _of(self, url: str) -> servers.Redis:
        port = URL.parse(url).hosts[0][1]
        with self._lock:
            return next(each for each in self._servers if f":{port}/" in each.url())

    def _new(self, settings: Mapping[str, str] | None = None) -> servers.Redis:
        server = _redis(settings)
        server.start()
        with self._lock:
            self._servers.append(server)
        return server

    def _two(self, server: servers.Redis, scheme: str, number: int) -> tuple[str, str]:
        first, second = (server.url(database=2 * number + i).partition("://")[2] for i in range(2))
        return f"{scheme}://{first}", f"{scheme}://{second}"


def _redis(settings: Mapping[str, str] | None = None) -> servers.Redis:
    # "save": as Redis comes, it writes all to disk when it ends in order
    return servers.Redis(settings={"databases": "4096", "save": "3600 1", **(settings or {})})
