"""The harness of `memory://`, the executable specification: what the suite itself is tried on."""

from __future__ import annotations

import platform
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields
from importlib import metadata
from typing import Any, Final

from brokerkit.abc import Clock
from brokerkit.capabilities import Impossible
from brokerkit.memory import MemoryOptions, MemoryResultBackend, MemoryResultOptions, MemoryServer, MemoryTransport
from brokerkit.memory.results import MemoryResults
from brokerkit.models import Message, new_id
from brokerkit.testing import ManualClock
from brokerkit.url import URL
from brokerkit_conformance.harness import Admin, Harness, MovableClock
from brokerkit_conformance.storage import Role, StorageMap, key

__all__ = ["MemoryAdmin", "MemoryHarness"]

STORAGE: Final[StorageMap] = {
    Role.TOPOLOGY: "queue/[^/]*/{name}",
    Role.BODY: "message/[^/]*/{name}/.*",
    Role.HELD: "message/[^/]*/{name}/leased/.*",
    Role.IN_FLIGHT: "waiting/[^/]*/{name}/leased/.*",
    Role.SCHEDULE: "waiting/[^/]*/{name}/delayed/.*",
    Role.PRIORITY: "ready/[^/]*/{name}/.*",
    Role.MUTEX: Impossible("there is no sweeper; each look ripens what is due"),
    Role.DEDUPE: "id/[^/]*/{name}/.*",
    Role.BINDING: "binding/[^/]*/[^/]*/{name}/.*",
    Role.RESULT: "record/[^/]*/{name}",
    Role.BOOKKEEPING: "server/(clock|condition|numbers)|results/(clock|condition|puts_since_sweep)",
}


class MemoryHarness(Harness):
    """`memory://`: a server and a clock of its own for each case, so that cases can move their time at once."""

    server = f"brokerkit {metadata.version('brokerkit-messaging')} in Python {platform.python_version()}"
    emulator = False

    def urls(self) -> Sequence[str]:
        """Two virtual hosts of one new server."""
        name = f"conformance-{secrets.token_hex(6)}"
        return f"memory://{name}/one", f"memory://{name}/two"

    def results_urls(self) -> Sequence[str]:
        """Two virtual hosts of one new server."""
        return self.urls()

    def private_urls(self) -> tuple[Sequence[str], Sequence[str]]:
        """Every server is a case's own."""
        urls = self.urls()
        return urls, urls

    def evicting_urls(self) -> tuple[None, str]:
        """A result store that is bounded drops what was not used for longest."""
        return None, f"{self.urls()[0]}?max_records=100"

    def clock(self) -> MovableClock:
        """Time that is moved, not waited for."""
        return ManualClock()

    def admin(self, url: str, *, clock: Any = None) -> Admin:
        """The server's objects themselves."""
        return MemoryAdmin(URL.parse(url).with_query(()), clock)

    def server_settings(self) -> Mapping[str, str]:
        """It has none; what it runs by is the suite's."""
        return {"clock": "moved by the suite"}

    def storage_map(self) -> StorageMap:
        """Every attribute of the server has its role."""
        return STORAGE


class MemoryAdmin(Admin):
    """Foreign access to a memory server: reaches into its objects under its lock."""

    def __init__(self, url: URL, clock: Clock) -> None:
        self._vhost = url.virtual_host
        self._server: MemoryServer = MemoryTransport.from_url(url, MemoryOptions(), clock=clock).server
        self._results: MemoryResults = MemoryResultBackend.from_url(url, MemoryResultOptions(), clock=clock).server

    def keys(self) -> Collection[str]:
        """See `Admin.keys`: every attribute, and every element of each container."""
        with self._server.condition, self._results.condition:
            return self._all()

    def remove(self, keys: Collection[str]) -> None:
        """See `Admin.remove`."""
        with self._server.condition, self._results.condition:
            there = self._all()
            for each in keys:
                there[each]()

    def put_raw(self, queue: str, body: bytes, headers: Mapping[str, str]) -> None:
        """See `Admin.put_raw`."""
        with self._server.condition:
            message = Message(id=new_id(self._server.clock.time()), body=body, headers=headers)
            self._server.send((self._vhost, queue), [message])

    def put_damaged(self, queue: str) -> int:
        """See `Admin.put_damaged`: what a transport found unreadable carries the header that says so."""
        self.put_raw(queue, b"", {"bk-malformed": "it was written by something else"})
        return 1

    def disasters(self) -> Mapping[str, Callable[[], object]]:
        """See `Admin.disasters`."""
        return {
            "all keys removed": lambda: self.remove([k for k in self.keys() if not k.startswith(("server", "results"))])
        }

    def _all(self) -> dict[str, Callable[[], object]]:
        """Return every key, and what removes it."""
        server, results = self._server, self._results
        found: dict[str, Callable[[], object]] = {}
        for address, queue in server.queues.items():
            found[key("queue", *address)] = lambda a=address: server.queues.pop(a, None)  # type: ignore[misc]
            found |= _parts_of(address, queue)
        for binding in server.bindings:
            name = key("binding", *binding.queue, binding.topic, binding.kind, binding.scope, binding.pattern)
            found[name] = lambda b=binding: server.bindings.pop(b, None)  # type: ignore[misc]
        for address in results.records:
            found[key("record", *address)] = lambda a=address: results.records.pop(a, None)  # type: ignore[misc]
        others = [key("server", name.strip("_")) for name in vars(server) if name not in ("queues", "bindings")]
        others += [key("results", field.name) for field in fields(results) if field.name != "records"]
        return found | dict.fromkeys(others, _nothing)


def _parts_of(address: tuple[str, str], queue: Any) -> dict[str, Callable[[], object]]:
    found: dict[str, Callable[[], object]] = {}
    for number, stored in queue.messages.items():
        name = key("message", *address, stored.state, stored.message.priority, number)
        found[name] = lambda n=number: queue.messages.pop(n, None)  # type: ignore[misc]
    for kind, heap in (("ready", queue.ready), ("waiting", queue.waiting)):
        for entry in [entry for entry in heap if entry[2] == entry[3].version]:
            place = entry[3].message.priority if kind == "ready" else entry[3].state
            found[key(kind, *address, place, entry[1])] = lambda h=heap, e=entry: _drop(h, e)  # type: ignore[misc]
    for message_id in queue.ids:
        found[key("id", *address, message_id)] = lambda i=message_id: queue.ids.pop(i, None)  # type: ignore[misc]
    known = {"settings", "used_at", "dropped", "receiving", "lost", "bound", "messages", "ready", "waiting", "ids"}
    odd = [field.name for field in fields(queue) if field.name not in known]
    return found | {key("attribute", *address, name): _nothing for name in odd}


def _drop(heap: list[Any], entry: Any) -> None:
    """Take an entry out of a heap, which stays one."""
    heap[:] = sorted(other for other in heap if other is not entry)


def _nothing() -> None:
    """What the server cannot be without is not removed."""
