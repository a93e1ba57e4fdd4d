"""The memory engine served to other processes, so that defects which only processes show can be planted in it too.

The suite's own process holds the engine; actors reach it over a socket in the file system, through a transport that
forwards every call of the contract. Nothing of this is fit for use outside of tests of the suite.
"""

from __future__ import annotations

import secrets
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.connection import Client, Connection, Listener
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import brokerkit
from brokerkit.abc import SETTLE_TIMEOUT, Receiver, ResultBackend, SupportsDepth, SupportsFanout, Transport
from brokerkit.capabilities import Capabilities
from brokerkit.memory import MemoryReceiver, MemoryResultBackend, MemoryTransport
from brokerkit.memory import results as memory_results
from brokerkit.memory import transport as memory_transport
from brokerkit.models import Received
from brokerkit.url import URL
from brokerkit_conformance.harness import Harness
from brokerkit_conformance.mutants.planting import Patch

__all__ = ["NetworkedHarness", "ServedHarness", "hung_up", "join", "join_network", "served"]

# headers are read-only mappings, which pickle does not know
ForkingPickler.register(MappingProxyType, lambda mapping: (dict, (dict(mapping),)))

_KEY: Final = b"brokerkit-conformance"
_RECEIVING: Final = ("ack", "extend", "release")


class ServedHarness(Harness):
    """`memory://` for several processes of this machine."""

    lease = 0.6

    def __init__(self) -> None:
        self._name = f"served-{secrets.token_hex(6)}"
        self._folder = tempfile.TemporaryDirectory(prefix="brokerkit-served-")
        self._address = str(Path(self._folder.name, "socket"))
        self._patch = Patch()
        self._server: _Server | None = None

    def start(self) -> None:
        """Declare what is true of an engine that is served, and listen."""
        self._patch.value(MemoryTransport, "capabilities", served(MemoryTransport.capabilities))
        self._patch.value(memory_results, "CAPABILITIES", served(memory_results.CAPABILITIES))
        self._server = _Server(self._address)

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
        return f"{__name__}:join", self._address


class NetworkedHarness(ServedHarness):
    """The same over TCP: the port stands in the URL, so that a proxy can be put before it."""

    def start(self) -> None:
        """Declare what is true of an engine on a network, and listen."""
        super().start()
        self._patch.value(MemoryTransport, "capabilities", replace(MemoryTransport.capabilities, embedded=False))
        self._patch.value(memory_transport, "server_name", lambda _: self._name)  # through whatever port
        self._network = _Server(("127.0.0.1", 0), "AF_INET")

    def stop(self) -> None:
        """Stop listening."""
        self._network.close()
        super().stop()

    def urls(self) -> Sequence[str]:
        """Two virtual hosts behind one port."""
        host, port = self._network.address
        return f"memory://{host}:{port}/one", f"memory://{host}:{port}/two"

    def results_urls(self) -> Sequence[str]:
        """None: nothing is asked of them here."""
        return ()

    def prepare(self) -> tuple[str, str]:
        """Let actors connect to the port of their URL."""
        return f"{__name__}:join_network", ""


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
    remote = _Remote(address, "AF_UNIX")
    build: Any = lambda kind: classmethod(lambda _, url, *__, **___: kind(remote, url.render(reveal_secrets=True)))  # noqa: E731
    MemoryTransport.from_url = build(_RemoteTransport)  # type: ignore[method-assign]
    MemoryResultBackend.from_url = build(_RemoteResults)  # type: ignore[method-assign]


def join_network(_: str) -> None:
    """In an actor: let `memory://host:port` lead to the engine behind that port."""

    def build(_: Any, url: URL, *__: Any, **___: Any) -> Any:
        return _RemoteTransport(_Remote(url.hosts[0], "AF_INET"), url.render(reveal_secrets=True))

    MemoryTransport.from_url = classmethod(build)  # type: ignore[method-assign, assignment]


class _Server:
    """Performs the calls of other processes: one thread for each of their threads."""

    def __init__(self, address: Any, family: str = "AF_UNIX") -> None:
        self._targets: dict[Any, Any] = {}
        self._lock = threading.Lock()
        self._listener = Listener(address, family, authkey=_KEY)
        self.address: Any = self._listener.address
        threading.Thread(target=self._accept, name="served-memory", daemon=True).start()

    def close(self) -> None:
        """Let nobody else in."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection = self._listener.accept()
            except (OSError, EOFError):
                return
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: Connection[Any, Any]) -> None:
        opened: list[MemoryReceiver] = []
        try:
            while True:
                order = connection.recv()
                try:
                    answer = True, self._perform(opened, *order)
                except Exception as error:  # noqa: BLE001 - goes to the other process
                    answer = False, error
                connection.send(answer)
        except (EOFError, OSError):
            for receiver in opened:
                hung_up(receiver)

    def _perform(
        self, opened: list[MemoryReceiver], target: Any, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        answer = getattr(self._target(target), method)(*args, **kwargs)
        if method == "open_receiver":
            opened.append(answer)
            number = id(answer)
            self._targets[number] = answer
            return number
        if method == "receive":
            claimed, lost = answer
            return claimed, [r.receipt for r in lost]
        if method in _RECEIVING:
            return [r.receipt for r in answer], {r.receipt: r.deadline for r in args[0]}
        return answer

    def _target(self, target: Any) -> Any:
        with self._lock:
            if target not in self._targets:
                kind, text, client = target
                url = URL.parse(text)
                made: Any = MemoryTransport if kind == "transport" else MemoryResultBackend
                own: Any = made.from_url(url, made.options_type(), clock=_clock())
                own.remote = client
                self._targets[target] = own
            return self._targets[target]


def _clock() -> Any:
    """Return the clock of the core, by which the engines of this process run."""
    with brokerkit.connect("memory://") as broker:
        return broker.clock


class _Remote:
    """Calls the server; each thread has a connection of its own, so that none waits for another."""

    def __init__(self, address: Any, family: str) -> None:
        self._address = address
        self._family = family
        self._local = threading.local()

    def call(self, target: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        """Perform one call there."""
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = Client(self._address, self._family, authkey=_KEY)
        connection.send((target, method, args, kwargs))
        fine, answer = connection.recv()
        if not fine:
            raise answer
        return answer


def _forwarding(*names: str) -> dict[str, Any]:
    def forward(name: str) -> Any:
        return lambda self, *args, **kwargs: self.remote.call(self.target, name, *args, **kwargs)

    return {name: forward(name) for name in names}


class _RemoteReceiver(Receiver):
    def __init__(self, remote: _Remote, number: int) -> None:
        self._remote = remote
        self._number = number

    def receive(self, *, limit: int, timeout: float, acks: Sequence[Received] = ()) -> Any:
        claimed, lost = self._remote.call(self._number, "receive", limit=limit, timeout=timeout, acks=list(acks))
        return claimed, [r for r in acks if r.receipt in lost]

    def ack(self, deliveries: Sequence[Received], *, timeout: float = SETTLE_TIMEOUT) -> Any:
        return self._settle("ack", deliveries, timeout=timeout)

    def extend(
        self, deliveries: Sequence[Received], *, visibility_timeout: float, timeout: float = SETTLE_TIMEOUT
    ) -> Any:
        return self._settle("extend", deliveries, visibility_timeout=visibility_timeout, timeout=timeout)

    def release(
        self,
        deliveries: Sequence[Received],
        *,
        delay: float = 0.0,
        counted: bool = True,
        timeout: float = SETTLE_TIMEOUT,
    ) -> Any:
        return self._settle("release", deliveries, delay=delay, counted=counted, timeout=timeout)

    def close(self, *, timeout: float) -> None:
        self._remote.call(self._number, "close", timeout=timeout)

    def _settle(self, method: str, deliveries: Sequence[Received], **settings: Any) -> list[Received]:
        lost, deadlines = self._remote.call(self._number, method, list(deliveries), **settings)
        for received in deliveries:
            received.deadline = deadlines[received.receipt]
        return [r for r in deliveries if r.receipt in lost]


class _Forwarder:
    kind = ""

    def __init__(self, remote: _Remote, url: str) -> None:
        self.remote = remote
        self.target = (self.kind, url, secrets.token_hex(4))

    def open_receiver(self, names: Sequence[str], *, prefetch: int, visibility_timeout: float) -> Receiver:
        number = self.remote.call(
            self.target, "open_receiver", list(names), prefetch=prefetch, visibility_timeout=visibility_timeout
        )
        return _RemoteReceiver(self.remote, number)


_TRANSPORT = ("declare", "delete", "purge", "depth", "send", "bind", "unbind", "publish", "close")
_RemoteTransport: Any = type(
    "_RemoteTransport",
    (_Forwarder, Transport, SupportsFanout, SupportsDepth),
    _forwarding(*_TRANSPORT)
    | {
        "kind": "transport",
        "from_url": MemoryTransport.from_url,
        "options_type": MemoryTransport.options_type,
        "errors": MemoryTransport.errors,
        "capabilities": served(MemoryTransport.capabilities),
    },
)
_RemoteResults: Any = type(
    "_RemoteResults",
    (_Forwarder, ResultBackend),
    _forwarding("put", "get", "delete", "close")
    | {
        "kind": "results",
        "from_url": MemoryResultBackend.from_url,
        "options_type": MemoryResultBackend.options_type,
        "errors": MemoryResultBackend.errors,
        "capabilities": served(memory_results.CAPABILITIES),
    },
)
