"""The memory engine served to other processes and over a network, so that defects which only they show can be planted.

The suite's own process holds the engine, behind a socket. Nothing of this is fit for use outside of tests of the suite.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import ssl
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from brokerkit.capabilities import Capabilities
from brokerkit.errors import StorageBroken, StorageFull, Throttled
from brokerkit.memory import MemoryReceiver, MemoryResultBackend, MemoryTransport
from brokerkit.memory import results as memory_results
from brokerkit.url import URL
from brokerkit_conformance.harness import FullServer, Harness, SecureServer
from brokerkit_conformance.mutants import secure
from brokerkit_conformance.mutants.answering import Answering
from brokerkit_conformance.mutants.planting import Patch
from brokerkit_conformance.mutants.remote import RemoteResults, RemoteTransport

__all__ = ["NetworkedHarness", "ServedHarness", "hung_up", "join", "join_network", "served"]

_USER: Final = ("suite", "let-me-in")
_REFUSALS: Final = {
    "loading": Throttled("it is about to start"),
    "read only": StorageBroken("it takes nothing"),
    "full": StorageFull("it has no room"),
    "throttled": Throttled("it is asked too much"),
}


class ServedHarness(Harness):
    """`memory://` for several processes of this machine: actors reach it over a socket, this process holds it."""

    lease = 0.6

    def __init__(self) -> None:
        self._name = f"served-{secrets.token_hex(6)}"
        self._folder = tempfile.TemporaryDirectory(prefix="brokerkit-served-")
        self._address = str(Path(self._folder.name, "socket"))
        self._patch = Patch()
        self._server: Answering | None = None

    def start(self) -> None:
        """Declare what is true of an engine that is served, and listen."""
        self._server = self._listen()
        self._patch.value(MemoryTransport, "capabilities", served(MemoryTransport.capabilities))
        self._patch.value(memory_results, "CAPABILITIES", served(memory_results.CAPABILITIES))

    def stop(self) -> None:
        """Stop listening, and put back what was declared."""
        if self._server is not None:
            self._server.close()
        self._patch.undo()
        self._folder.cleanup()

    def urls(self) -> Sequence[str]:
        """Two virtual hosts."""
        return f"memory://{self._name}/one", f"memory://{self._name}/two"

    def results_urls(self) -> Sequence[str]:
        """Two virtual hosts."""
        return self.urls()

    def prepare(self) -> tuple[str, str]:
        """Let actors reach this process."""
        return f"{__name__}:join", json.dumps(self._address)

    def _listen(self) -> Answering:
        return Answering(self._address, self._name, user=None, gone=_tell)


class NetworkedHarness(ServedHarness):
    """The same over TCP, and for everybody: this process, too, comes in by the port that stands in the URL.

    So a proxy can be put before it, and every fault of a connection can be made.
    """

    lease = 2.0  # every call takes two threads of this one process

    def __init__(self) -> None:
        super().__init__()
        self._doors: list[Answering] = []

    def start(self) -> None:
        """Declare what is true of an engine on a network, and let `memory://host:port` lead there."""
        super().start()
        broker, results = MemoryTransport.capabilities, memory_results.CAPABILITIES
        networked = replace(broker, embedded=False, shared="network", failover=True, tls=True)
        self._patch.value(MemoryTransport, "capabilities", networked)
        self._patch.value(MemoryTransport, "options_type", secure.SecureOptions)
        self._patch.value(memory_results, "CAPABILITIES", replace(results, embedded=False, shared="network"))
        _lead(self._patch.value, _addresses_of)

    def stop(self) -> None:
        """Close the doors with TLS, too."""
        for door in self._doors:
            door.close()
        super().stop()

    def urls(self) -> Sequence[str]:
        """Two virtual hosts behind one port."""
        assert self._server is not None  # noqa: S101 - for the type checker
        host, port = self._server.address
        who = ":".join(_USER)
        return f"memory://{who}@{host}:{port}/one", f"memory://{who}@{host}:{port}/two"

    def wrong_credentials(self) -> Sequence[str]:
        """The right door, and the wrong key."""
        return [url.replace(_USER[1], "let-me-in-as-well") for url in self.urls()[:1]]

    def refusals(self) -> Mapping[str, AbstractContextManager[FullServer]]:
        """See `Harness.refusals`."""
        return {reason: self._refusing(error) for reason, error in _REFUSALS.items()}

    def tls(self) -> SecureServer:
        """The same engine behind doors with TLS."""
        assert self._server is not None  # noqa: S101 - for the type checker
        folder = Path(tempfile.mkdtemp(dir=self._folder.name))

        def door(certificate: ssl.SSLContext) -> int:
            opened = Answering(("127.0.0.1", 0), self._name, user=_USER, gone=_tell, tls=certificate)
            self._doors.append(opened)
            return int(opened.address[1])

        return secure.doors(folder, self._server.address[1], door, ":".join(_USER))

    @contextlib.contextmanager
    def _refusing(self, error: Exception) -> Iterator[FullServer]:
        server = Answering(("127.0.0.1", 0), f"served-{secrets.token_hex(6)}", user=None, gone=_tell)

        def bound(refusing: bool) -> None:  # noqa: FBT001 - one of two states
            server.refusing = error if refusing else None

        host, port = server.address
        try:
            yield FullServer(f"memory://{host}:{port}/one", {}, bound)
        finally:
            server.close()

    def prepare(self) -> tuple[str, str]:
        """Let actors connect to the port of their URL."""
        return f"{__name__}:join_network", ""

    def _listen(self) -> Answering:
        return Answering(("127.0.0.1", 0), self._name, user=_USER, gone=_tell)


def served(capabilities: Any) -> Any:
    """Return capabilities as they are when several processes share the engine."""
    shared = replace(capabilities, shared="host")
    if isinstance(shared, Capabilities):
        return replace(shared, redelivery=replace(shared.redelivery, kill=0.05))
    return shared


def hung_up(receiver: MemoryReceiver) -> None:
    """The process that opened a receiver has gone: nothing happens, its leases end by themselves. Mutants replace this."""


def join(address: str) -> None:
    """In an actor: let `memory://` lead to the engine behind a socket."""
    _lead(setattr, lambda _: [json.loads(address)])


def join_network(_: str) -> None:
    """In an actor: let `memory://host:port` lead to the engine behind that port."""
    _lead(setattr, _addresses_of)


def _lead(put: Callable[[Any, str, Any], object], addresses_of: Callable[[URL], Sequence[Any]]) -> None:
    """Let URLs lead elsewhere, where they have an address."""
    kinds: list[tuple[Any, Any]] = [(MemoryTransport, RemoteTransport), (MemoryResultBackend, RemoteResults)]
    for here, remote in kinds:
        before = here.from_url

        def build(_: Any, url: URL, options: Any, *, clock: Any, before: Any = before, remote: Any = remote) -> Any:
            addresses = addresses_of(url)
            return remote(addresses, url, options) if addresses else before(url, options, clock=clock)

        put(here, "from_url", classmethod(build))


def _addresses_of(url: URL) -> Sequence[tuple[str, int]]:
    """Return the hosts and ports that stand in a URL."""
    return [(host, port) for host, port in url.hosts if port is not None]


def _tell(receiver: MemoryReceiver) -> None:
    hung_up(receiver)  # looked up each time, so that a mutant's is found
