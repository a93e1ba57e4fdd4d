"""The memory transport: the contract over a `MemoryServer` of this process."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import ClassVar, Self

from brokerkit.abc import SETTLE_TIMEOUT, Clock, Receiver, SupportsDepth, SupportsFanout, Transport
from brokerkit.capabilities import Capabilities, Delay, Durability, Fanout, Impossible, Lease, Priority, Redelivery
from brokerkit.errors import Closed, ErrorTable, InconsistencyError, InvalidOption, QueueNotFound
from brokerkit.memory.options import MemoryOptions, server_name
from brokerkit.memory.server import Binding, MemoryServer
from brokerkit.models import Depth, Message, Outcome, Queue, Received
from brokerkit.options import Options
from brokerkit.url import URL

__all__ = ["CAPABILITIES", "MemoryReceiver", "MemoryTransport", "server_named"]

CAPABILITIES = Capabilities(
    product="memory",
    shared="process",
    embedded=True,
    lease=Lease(
        scope="message", min=0.001, max=31_536_000.0, max_hold=None, extend=True, resolution=0.001, time_source="host"
    ),
    redelivery=Redelivery(release=0.05, close=0.05, lease_end=0.05, kill=None),
    attempts="exact",
    uncounted_release=True,
    settle="confirmed",
    idempotent_send=True,
    order="queue",
    delay=Delay(max=31_536_000.0, late=0.05, survives=False),
    release_delay=31_536_000.0,
    priority=Priority(levels=10),
    message_ttl=True,
    queue_expires=True,
    max_length=True,
    dedup=Impossible("memory keeps no history of messages"),
    fanout=Fanout(durable=True, patterns=True, copies="one", overflow="gap", vanish=0.0),
    depth=("ready", "in_flight", "delayed"),
    durability=Durability(restart=False, kill=False, power_loss="no"),
    one_claim=True,
    max_message=256 * 1024 * 1024,
    max_batch=10_000,
    max_name=255,
    evictable=(),
    group_commit=False,
    failover=Impossible("it is embedded: there is no host"),
    tls=Impossible("it is embedded: nothing leaves the process"),
)

_servers: dict[tuple[int, str], MemoryServer] = {}


def server_named(name: str, clock: Clock) -> MemoryServer:
    """Return this process's server of a name, made on first use; it lives as long as the process.

    Raises:
        InvalidOption: it runs by another clock.
    """
    # by process: a forked child must not meet the parent's server, whose lock may have been held
    server = _servers.setdefault((os.getpid(), name), MemoryServer(clock))
    if server.clock is not clock:
        raise InvalidOption(f"option 'clock': memory://{name} already runs by another clock; use another name")
    return server


class MemoryTransport(Transport, SupportsFanout, SupportsDepth):
    """`memory://[name][/virtual host]`: a broker within this process; brokers of one name share it.

    For tests, examples, and as the specification of what every other transport does. A forked child starts empty.
    """

    options_type: ClassVar[type[Options]] = MemoryOptions
    errors: ClassVar[ErrorTable] = ErrorTable()
    capabilities = CAPABILITIES

    def __init__(self, server: MemoryServer, virtual_host: str, options: MemoryOptions) -> None:
        self.server = server
        self.virtual_host = virtual_host
        self.options = options
        self._closed = False

    @classmethod
    def from_url(cls, url: URL, options: MemoryOptions, *, clock: Clock) -> Self:
        """Build from `memory://name/virtual-host`.

        Raises:
            InvalidURL: it has more than that.
        """
        return cls(server_named(server_name(url), clock), url.virtual_host, options)

    def declare(self, queue: Queue, *, timeout: float) -> None:  # noqa: ARG002 - nothing here waits
        """See `Transport.declare`."""
        with self._open().condition:
            self.server.declare(self.virtual_host, queue)

    def delete(self, name: str, *, timeout: float) -> None:  # noqa: ARG002
        """See `Transport.delete`."""
        with self._open().condition:
            self.server.delete((self.virtual_host, name))

    def purge(self, name: str, *, timeout: float) -> int:  # noqa: ARG002
        """See `Transport.purge`."""
        with self._open().condition:
            return self.server.purge((self.virtual_host, name))

    def depth(self, name: str, *, timeout: float) -> Depth:  # noqa: ARG002
        """See `SupportsDepth.depth`."""
        with self._open().condition:
            return self.server.depth((self.virtual_host, name))

    def send(self, name: str, messages: Sequence[Message], *, timeout: float) -> Sequence[Outcome]:  # noqa: ARG002
        """See `Transport.send`."""
        with self._open().condition:
            return self.server.send((self.virtual_host, name), messages)

    def bind(self, name: str, topic: str, pattern: str, *, timeout: float) -> None:  # noqa: ARG002
        """See `SupportsFanout.bind`."""
        with self._open().condition:
            self.server.bind(self._binding(name, topic, pattern))

    def unbind(self, name: str, topic: str, pattern: str, *, timeout: float) -> None:  # noqa: ARG002
        """See `SupportsFanout.unbind`."""
        with self._open().condition:
            self.server.unbind(self._binding(name, topic, pattern))

    def publish(self, topic: str, messages: Sequence[Message], *, timeout: float) -> Sequence[Outcome]:  # noqa: ARG002
        """See `SupportsFanout.publish`."""
        with self._open().condition:
            return self.server.publish(self.virtual_host, self._binding("", topic, ""), messages)

    def open_receiver(self, names: Sequence[str], *, prefetch: int, visibility_timeout: float) -> Receiver:  # noqa: ARG002
        """See `Transport.open_receiver`."""
        return MemoryReceiver(self._open(), self.virtual_host, names, visibility_timeout)

    def close(self, *, timeout: float) -> None:  # noqa: ARG002
        """See `Transport.close`."""
        self._closed = True

    def _open(self) -> MemoryServer:
        if self._closed:
            raise Closed("the memory transport is closed")
        return self.server

    def _binding(self, name: str, topic: str, pattern: str) -> Binding:
        prefix = self.options.fanout_prefix
        address = (self.virtual_host, name)
        patterns = self.options.fanout_patterns
        if isinstance(prefix, str):
            return Binding(address, "named", prefix, patterns, topic, pattern)
        if prefix:
            return Binding(address, "vhost", self.virtual_host, patterns, topic, pattern)
        return Binding(address, "global", "", patterns, topic, pattern)


class MemoryReceiver(Receiver):
    """One consumer's claim on queues of a memory server."""

    def __init__(
        self, server: MemoryServer, virtual_host: str, names: Sequence[str], visibility_timeout: float
    ) -> None:
        self._server = server
        self._virtual_host = virtual_host
        self._names = list(names)
        self._visibility_timeout = visibility_timeout
        self._reported: set[str] = set()
        self._untold: list[str] = []
        self._closed = False

    def receive(
        self, *, limit: int, timeout: float, acks: Sequence[Received] = ()
    ) -> tuple[Sequence[Received], Sequence[Received]]:
        """See `Receiver.receive`."""
        server = self._server
        with server.condition:
            lost = self._settle(acks)
            deadline = server.clock.monotonic() + timeout
            self._note_receiving(1)
            try:
                while True:
                    self._restore_bindings(told_now=not acks)
                    claimed, missing = self._claim(limit)
                    if claimed or self._closed:
                        return claimed, lost
                    if acks and (missing or self._untold):
                        return [], lost  # told at the next call, as nobody hears of `lost` from a call that raises
                    self._report(missing)
                    if not acks:
                        self._report_lost()
                    left = min([deadline, *self._due()]) - server.clock.monotonic()
                    if deadline <= server.clock.monotonic():
                        return [], lost
                    server.clock.wait(server.condition, max(left, 0.0))
            finally:
                self._note_receiving(-1)

    def ack(self, deliveries: Sequence[Received], *, timeout: float = SETTLE_TIMEOUT) -> Sequence[Received]:  # noqa: ARG002
        """See `Receiver.ack`."""
        with self._server.condition:
            return self._settle(deliveries)

    def extend(
        self,
        deliveries: Sequence[Received],
        *,
        visibility_timeout: float,
        timeout: float = SETTLE_TIMEOUT,  # noqa: ARG002
    ) -> Sequence[Received]:
        """See `Receiver.extend`."""
        lost = []
        with self._server.condition:
            for received in deliveries:
                deadline = self._server.extend(self._address(received.queue), received.receipt, visibility_timeout)
                if deadline is None:
                    lost.append(received)
                else:
                    received.deadline = deadline
        return lost

    def release(
        self,
        deliveries: Sequence[Received],
        *,
        delay: float = 0.0,
        counted: bool = True,
        timeout: float = SETTLE_TIMEOUT,  # noqa: ARG002
    ) -> Sequence[Received]:
        """See `Receiver.release`."""
        with self._server.condition:
            return [
                received
                for received in deliveries
                if not self._server.release(self._address(received.queue), received.receipt, delay, counted=counted)
            ]

    def close(self, *, timeout: float) -> None:  # noqa: ARG002 - nothing here waits
        """See `Receiver.close`."""
        with self._server.condition:
            self._closed = True
            self._server.leave(self)

    def _settle(self, deliveries: Sequence[Received]) -> list[Received]:
        return [r for r in deliveries if not self._server.ack(self._address(r.queue), r.receipt)]

    def _claim(self, limit: int) -> tuple[list[Received], list[str]]:
        """Claim from all queues in turn, beginning with another one each time; also name those that are gone."""
        claimed: list[Received] = []
        missing: list[str] = []
        for name in self._names:
            try:
                claimed += self._server.claim(self._address(name), limit - len(claimed), self._visibility_timeout, self)
            except QueueNotFound:
                missing.append(name)
        if claimed:
            self._names.append(self._names.pop(0))
        return claimed, missing

    def _report(self, missing: list[str]) -> None:
        """Raise once for each queue that is gone, so that the others go on; and always when none is left."""
        new = [name for name in missing if name not in self._reported]
        self._reported = set(missing)
        if new or len(missing) == len(self._names):
            raise QueueNotFound(*(new or missing))

    def _restore_bindings(self, *, told_now: bool) -> None:
        """Bind anew what lost a binding, and raise: what was published meanwhile did not reach it."""
        for name in self._names:
            for binding in self._server.restore_bindings(self._address(name)):
                self._untold.append(f"queue {name!r} to topic {binding.topic!r} with pattern {binding.pattern!r}")
        if self._untold and told_now:
            gone, self._untold = self._untold, []
            raise InconsistencyError(
                f"bindings were gone, and are there again: {'; '.join(gone)}. What was published meanwhile did not reach them"
            )

    def _report_lost(self) -> None:
        """Raise once for messages that were found gone."""
        for name in self._names:
            if ids := self._server.take_lost(self._address(name)):
                raise InconsistencyError(
                    f"queue {name!r}: {len(ids)} messages are gone, though nobody settled them: {ids}"
                )

    def _due(self) -> list[float]:
        due = [self._server.next_due(self._address(name)) for name in self._names if name not in self._reported]
        return [moment for moment in due if moment is not None]

    def _note_receiving(self, change: int) -> None:
        """Count the queues that are being received from: these are in use, however long the wait."""
        for name in self._names:
            queue = self._server.queues.get(self._address(name))
            if queue is not None:
                queue.receiving = max(queue.receiving + change, 0)
                queue.used_at = self._server.clock.monotonic()

    def _address(self, name: str) -> tuple[str, str]:
        return self._virtual_host, name
