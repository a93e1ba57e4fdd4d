"""The memory engine as a client sees it who reaches it over a socket: the contract, forwarded call by call."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final

from brokerkit.abc import (
    SETTLE_TIMEOUT,
    Receiver,
    ResultBackend,
    SupportsDepth,
    SupportsFanout,
    SupportsWait,
    Transport,
)
from brokerkit.errors import ConnectionLost
from brokerkit.memory import MemoryResultBackend, MemoryTransport
from brokerkit.memory import results as memory_results
from brokerkit.models import Received, Record
from brokerkit.url import URL
from brokerkit_conformance.mutants import secure
from brokerkit_conformance.mutants.answering import Hello
from brokerkit_conformance.mutants.wire import Lines

__all__ = ["RemoteReceiver", "RemoteResults", "RemoteTransport"]

_GRACE: Final = 1.5  # seconds that an answer may come later than a server that waits was told to wait
_LONG: Final = 600.0  # seconds that an answer may take which does not stop to come
_OPEN: Final = 5.0  # seconds for a receiver to be opened anew


class RemoteReceiver(Receiver):
    """A receiver of the server, opened when it is first used, and anew after a connection was lost. Thread-safe."""

    def __init__(self, lines: Lines, names: Sequence[str], prefetch: int, visibility_timeout: float) -> None:
        self._lines = lines
        self._how = {"names": list(names), "prefetch": prefetch, "visibility_timeout": visibility_timeout}
        self._lock = threading.Lock()
        self._number: int | None = None
        self._generation = -1

    def receive(self, *, limit: int, timeout: float, acks: Sequence[Received] = ()) -> Any:
        """See `Receiver.receive`."""
        most = timeout + _GRACE
        how = {"limit": limit, "timeout": timeout, "acks": list(acks)}
        # as long as bytes come it goes on: a huge message on a slow line is no silence
        claimed, lost = self._ask("receive", _LONG, (), how, silence=most)
        return claimed, [r for r in acks if r.receipt in lost]

    def ack(self, deliveries: Sequence[Received], *, timeout: float = SETTLE_TIMEOUT) -> Sequence[Received]:
        """See `Receiver.ack`."""
        return self._settle("ack", deliveries, timeout=timeout)

    def extend(
        self, deliveries: Sequence[Received], *, visibility_timeout: float, timeout: float = SETTLE_TIMEOUT
    ) -> Sequence[Received]:
        """See `Receiver.extend`."""
        return self._settle("extend", deliveries, timeout=timeout, visibility_timeout=visibility_timeout)

    def release(
        self,
        deliveries: Sequence[Received],
        *,
        delay: float = 0.0,
        counted: bool = True,
        timeout: float = SETTLE_TIMEOUT,
    ) -> Sequence[Received]:
        """See `Receiver.release`."""
        return self._settle("release", deliveries, timeout=timeout, delay=delay, counted=counted)

    def close(self, *, timeout: float) -> None:
        """See `Receiver.close`. One that was lost with its connection has nothing to close."""
        with self._lock:
            number, self._number = self._number, None
            lost = self._generation != self._lines.generation
        if number is not None and not lost:
            self._lines.call((number, "close", (), {"timeout": timeout}), timeout)

    def _settle(
        self, method: str, deliveries: Sequence[Received], *, timeout: float, **settings: Any
    ) -> list[Received]:
        lost, deadlines = self._ask(method, timeout, (list(deliveries),), {"timeout": timeout, **settings})
        for received in deliveries:
            received.deadline = deadlines[received.receipt]
        return [r for r in deliveries if r.receipt in lost]

    def _ask(self, method: str, timeout: float, args: Any, kwargs: Any, **how: Any) -> Any:
        number = self._opened(timeout)
        try:
            return self._lines.call((number, method, args, kwargs), timeout, **how)
        except ConnectionLost:
            with self._lock:
                self._generation = -1
            raise

    def _opened(self, timeout: float) -> int:
        """Return the number by which the server knows us."""
        with self._lock:
            if self._number is None or self._generation != self._lines.generation:
                generation = self._lines.generation
                self._number = int(self._lines.call((None, "open_receiver", (), self._how), min(timeout, _OPEN)))
                self._generation = generation
            return self._number


class _Forwarder:
    """Sends calls of the contract to the server."""

    kind = ""

    def __init__(self, addresses: Sequence[Any], url: URL, options: Any) -> None:
        session = secrets.token_hex(8)
        user = (url.username, url.password)
        hello = Hello(session, user, self.kind, url.virtual_host, options)
        self.lines = Lines(addresses, hello, secure.trusting(options))

    def close(self, *, timeout: float) -> None:  # noqa: ARG002 - there is nobody to wait for
        """Let go of all connections."""
        self.lines.close()


def _forwarding(*names: str) -> dict[str, Any]:
    def forward(name: str) -> Any:
        return lambda self, *args, **kwargs: self.lines.call((None, name, args, kwargs), kwargs["timeout"])

    return {name: forward(name) for name in names}


def _open_receiver(self: Any, names: Sequence[str], *, prefetch: int, visibility_timeout: float) -> Receiver:
    return RemoteReceiver(self.lines, names, prefetch, visibility_timeout)


def _wait(self: Any, seen: Mapping[str, Record | None], *, timeout: float) -> Any:
    most = timeout + _GRACE
    return self.lines.call((None, "wait", (dict(seen),), {"timeout": timeout}), most, silence=most)


# made by `type`, as the contract's abstract methods are all forwarded alike
RemoteTransport: Any = type(
    "RemoteTransport",
    (_Forwarder, Transport, SupportsFanout, SupportsDepth),
    _forwarding("declare", "delete", "purge", "depth", "send", "bind", "unbind", "publish")
    | {
        "__doc__": "The memory transport, elsewhere.",
        "kind": "transport",
        "open_receiver": _open_receiver,
        "from_url": MemoryTransport.from_url,
        "options_type": MemoryTransport.options_type,
        "errors": MemoryTransport.errors,
        "capabilities": property(lambda _: MemoryTransport.capabilities),
    },
)
RemoteResults: Any = type(
    "RemoteResults",
    (_Forwarder, ResultBackend, SupportsWait),
    _forwarding("put", "get", "delete")
    | {
        "__doc__": "The memory result backend, elsewhere.",
        "kind": "results",
        "wait": _wait,
        "from_url": MemoryResultBackend.from_url,
        "options_type": MemoryResultBackend.options_type,
        "errors": MemoryResultBackend.errors,
        "capabilities": property(lambda _: memory_results.CAPABILITIES),
    },
)
