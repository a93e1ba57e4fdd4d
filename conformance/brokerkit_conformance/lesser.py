"""Engines that do less than `memory://`, and say so: the suite is tried on them, so that it fits more than one design.

Each really lacks what it does not declare, but for `Modest`, which has everything and declares little.
"""

from __future__ import annotations

import itertools
import math
import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Final, Self

from brokerkit.abc import Clock, Receiver, Transport
from brokerkit.capabilities import Absent, Capabilities, Fanout, Impossible, Redelivery
from brokerkit.errors import ErrorTable, InvalidMessage
from brokerkit.memory import MemoryOptions, MemoryTransport
from brokerkit.memory.transport import MemoryReceiver
from brokerkit.models import Message, Outcome, Queue, Received
from brokerkit.options import Options
from brokerkit.url import URL
from brokerkit_conformance.reference import STORAGE, MemoryHarness
from brokerkit_conformance.registering import Registration
from brokerkit_conformance.storage import Role, StorageMap

__all__ = [
    "Attached",
    "AttachedHarness",
    "Bare",
    "BareHarness",
    "LesserHarness",
    "Modest",
    "ModestHarness",
    "Partial",
    "PartialHarness",
    "Tethered",
    "TetheredHarness",
    "Uncounted",
    "UncountedHarness",
    "Unextended",
    "UnextendedHarness",
]

_NONE: Final = Absent("it is left out on purpose")
_MEMORY: Final[Capabilities] = MemoryTransport.capabilities
_LEAST: Final = replace(
    _MEMORY,
    product="lesser",
    order="none",
    depth=(),
    delay=_NONE,
    release_delay=_NONE,
    priority=_NONE,
    message_ttl=_NONE,
    queue_expires=_NONE,
    max_length=_NONE,
    dedup=_NONE,
    fanout=_NONE,
)


class Modest(MemoryTransport):
    """All that memory can do, of which next to nothing is declared."""

    capabilities = replace(_LEAST, attempts="flag", lease=replace(_MEMORY.lease, extend=False))


class Bare(Transport):
    """Messages and leases, and nothing else: it ignores what it does not know, and keeps no order."""

    options_type: ClassVar[type[Options]] = MemoryOptions
    errors: ClassVar[ErrorTable] = ErrorTable()
    capabilities = _LEAST

    def __init__(self, memory: MemoryTransport) -> None:
        self._memory = memory
        self._turn = itertools.count()

    @classmethod
    def from_url(cls, url: URL, options: Any, *, clock: Clock) -> Self:
        """See `Transport.from_url`."""
        return cls(MemoryTransport.from_url(url, options, clock=clock))

    def declare(self, queue: Queue, *, timeout: float) -> None:
        """See `Transport.declare`."""
        self._memory.declare(Queue(name=queue.name), timeout=timeout)

    def delete(self, name: str, *, timeout: float) -> None:
        """See `Transport.delete`."""
        self._memory.delete(name, timeout=timeout)

    def purge(self, name: str, *, timeout: float) -> int:
        """See `Transport.purge`."""
        return self._memory.purge(name, timeout=timeout)

    def send(self, name: str, messages: Sequence[Message], *, timeout: float) -> Sequence[Outcome]:
        """See `Transport.send`. Priorities that rise turn the order of a memory queue round, ten messages at a time."""
        turned = [replace(m, priority=next(self._turn) % 10, delay=0.0, ttl=None) for m in messages]
        return self._memory.send(name, turned, timeout=timeout)

    def open_receiver(self, names: Sequence[str], *, prefetch: int, visibility_timeout: float) -> Receiver:  # noqa: ARG002
        """See `Transport.open_receiver`."""
        return _BareReceiver(self._memory.server, self._memory.virtual_host, names, visibility_timeout)

    def close(self, *, timeout: float) -> None:
        """See `Transport.close`."""
        self._memory.close(timeout=timeout)


class _BareReceiver(MemoryReceiver):
    def _claim(self, limit: int) -> tuple[list[Received], list[str]]:
        claimed, missing = super()._claim(limit)
        for received in claimed:
            received.message = replace(received.message, priority=0)
        return claimed, missing

    def release(self, deliveries: Sequence[Received], *, delay: float = 0.0, **others: Any) -> Sequence[Received]:  # noqa: ARG002
        return super().release(deliveries, **others)


class Partial(MemoryTransport):
    """Half of several powers: topics without patterns and bounds, delays of sends alone. What else is asked it refuses."""

    capabilities = replace(
        _MEMORY,
        product="partial",
        fanout=Fanout(durable=True, patterns=False, copies="one", overflow="gap", vanish=None),
        release_delay=_NONE,
        message_ttl=_NONE,
        queue_expires=_NONE,
        max_length=_NONE,
        max_message=None,
        depth=("ready",),
        attempts="approximate",
        uncounted_release=False,
    )

    def declare(self, queue: Queue, *, timeout: float) -> None:
        """See `Transport.declare`."""
        if queue.expires or queue.message_ttl or queue.max_length:
            raise InvalidMessage("a queue has no settings")
        super().declare(queue, timeout=timeout)

    def send(self, name: str, messages: Sequence[Message], *, timeout: float) -> Sequence[Outcome]:
        """See `Transport.send`."""
        if any(message.ttl for message in messages):
            raise InvalidMessage("a message cannot expire")
        return super().send(name, messages, timeout=timeout)

    def bind(self, name: str, topic: str, pattern: str, *, timeout: float) -> None:  # noqa: ARG002
        """See `SupportsFanout.bind`."""
        super().bind(name, topic, "#", timeout=timeout)

    def open_receiver(self, names: Sequence[str], *, prefetch: int, visibility_timeout: float) -> Receiver:  # noqa: ARG002
        """See `Transport.open_receiver`."""
        return _PartialReceiver(self.server, self.virtual_host, names, visibility_timeout)


class _PartialReceiver(MemoryReceiver):
    def release(
        self, deliveries: Sequence[Received], *, delay: float = 0.0, counted: bool = True, timeout: float = 1.0
    ) -> Sequence[Received]:
        if delay:
            raise InvalidMessage("a release has no delay")
        del counted
        return super().release(deliveries, timeout=timeout)


class Unextended(MemoryTransport):
    """Its leases end at their time, whatever their holders do."""

    capabilities = replace(_MEMORY, product="unextended", lease=replace(_MEMORY.lease, extend=False))

    def open_receiver(self, names: Sequence[str], *, prefetch: int, visibility_timeout: float) -> Receiver:  # noqa: ARG002
        """See `Transport.open_receiver`."""
        return _UnextendedReceiver(self.server, self.virtual_host, names, visibility_timeout)


class _UnextendedReceiver(MemoryReceiver):
    def extend(self, deliveries: Sequence[Received], **others: Any) -> Sequence[Received]:  # noqa: ARG002
        raise InvalidMessage("nobody may ask for this")


class Attached(MemoryTransport):
    """Its claims last as long as their connection."""

    capabilities = replace(
        _MEMORY,
        product="attached",
        lease=replace(_MEMORY.lease, scope="connection", extend=False),
        redelivery=Redelivery(release=0.05, close=0.05, lease_end=None, kill=None),
    )

    def open_receiver(self, names: Sequence[str], *, prefetch: int, visibility_timeout: float) -> Receiver:  # noqa: ARG002
        """See `Transport.open_receiver`."""
        return _UnextendedReceiver(self.server, self.virtual_host, names, math.inf)


class Tethered(MemoryTransport):
    """Its claims are held by their connection, and end at their time all the same."""

    capabilities = replace(_MEMORY, product="tethered", lease=replace(_MEMORY.lease, scope="connection"))


class Uncounted(MemoryTransport):
    """It does not count deliveries."""

    capabilities = replace(_MEMORY, product="uncounted", attempts="flag")

    def open_receiver(self, names: Sequence[str], *, prefetch: int, visibility_timeout: float) -> Receiver:  # noqa: ARG002
        """See `Transport.open_receiver`."""
        return _UncountedReceiver(self.server, self.virtual_host, names, visibility_timeout)


class _UncountedReceiver(MemoryReceiver):
    def _claim(self, limit: int) -> tuple[list[Received], list[str]]:
        claimed, missing = super()._claim(limit)
        for received in claimed:
            received.attempt = None
        return claimed, missing


class LesserHarness(MemoryHarness):
    """Memory's harness for one of these engines, known to the registry while it runs.

    Attributes:
        kind: the engine.
    """

    kind: ClassVar[type[Transport]]

    def __init__(self) -> None:
        self._scheme = f"lesser-{self.kind.__name__.lower()}"
        target = f"{self.kind.__module__}:{self.kind.__qualname__}"
        self._registration = Registration(
            f"brokerkit-{self._scheme}", "0", {"brokerkit.transports": {self._scheme: target}}
        )

    def start(self) -> None:
        """Let the registry know the scheme."""
        self._registration.begin()

    def stop(self) -> None:
        """Let it forget it."""
        self._registration.end()

    def urls(self) -> Sequence[str]:
        """Two virtual hosts of one new server."""
        name = f"conformance-{secrets.token_hex(6)}"
        return f"{self._scheme}://{name}/one", f"{self._scheme}://{name}/two"

    def results_urls(self) -> Sequence[str]:
        """Memory's own."""
        return MemoryHarness.urls(self)

    def private_urls(self) -> tuple[Sequence[str], Sequence[str]]:
        """Every server is a case's own."""
        urls = self.urls()
        return urls, [url.replace(self._scheme, "memory", 1) for url in urls]

    def evicting_urls(self) -> tuple[None, str]:
        """Memory's own."""
        return None, f"{self.results_urls()[0]}?max_records=100"


class ModestHarness(LesserHarness):
    """Of `Modest`."""

    kind = Modest


class BareHarness(LesserHarness):
    """Of `Bare`."""

    kind = Bare


class PartialHarness(LesserHarness):
    """Of `Partial`."""

    kind = Partial


class UnextendedHarness(LesserHarness):
    """Of `Unextended`."""

    kind = Unextended


class AttachedHarness(LesserHarness):
    """Of `Attached`."""

    kind = Attached

    def storage_map(self) -> StorageMap:
        """What memory notes of claims is not looked at: they end with their receiver."""
        noted = "waiting/[^/]*/[^/]*/leased/.*"
        return {
            **super().storage_map(),
            Role.IN_FLIGHT: Impossible("a claim is its receiver's own"),
            Role.BOOKKEEPING: f"{STORAGE[Role.BOOKKEEPING]}|{noted}",
        }


class TetheredHarness(LesserHarness):
    """Of `Tethered`."""

    kind = Tethered


class UncountedHarness(LesserHarness):
    """Of `Uncounted`."""

    kind = Uncounted
