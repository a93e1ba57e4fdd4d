"""The Redis transport: queues, sending and topics. Claiming and settling are in `receiver`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NoReturn, Self, final

from brokerkit.abc import Clock, Receiver, SupportsDepth, SupportsEvictionCheck, SupportsFanout, Transport
from brokerkit.capabilities import Capabilities
from brokerkit.errors import ErrorTable, InconsistencyError, InvalidMessage, QueueFull, QueueNotFound
from brokerkit.models import Depth, Message, Outcome, Queue
from brokerkit.options import Options
from brokerkit.url import URL
from brokerkit_redis.addresses import address_of
from brokerkit_redis.client import Client
from brokerkit_redis.cluster_receiver import ClusterReceiver
from brokerkit_redis.errors import ERRORS
from brokerkit_redis.exchange import Exchange
from brokerkit_redis.layout import Packed, pack, slices
from brokerkit_redis.losses import settings_gone
from brokerkit_redis.options import RedisTransportOptions
from brokerkit_redis.promises import transport_capabilities
from brokerkit_redis.receiver import RedisReceiver
from brokerkit_redis.replicas import Writer
from brokerkit_redis.scripts import DECLARE, MANAGE, SEND, STORE
from brokerkit_redis.server import Server

__all__ = ["RedisTransport"]

_PRIORITY, _FULL = 3, 4  # of store.lua
_NOT_COMMON = 3  # of send.lua
_MOST_KNOWN = 10_000


@final
class RedisTransport(Transport, SupportsFanout, SupportsDepth, SupportsEvictionCheck):
    """`redis://host:port/db` and its kin: queues in a Redis server, Sentinel group or cluster. Thread-safe."""

    options_type: ClassVar[type[Options]] = RedisTransportOptions
    errors: ClassVar[ErrorTable] = ERRORS
    capabilities: Capabilities = transport_capabilities(cluster=False, persistence="none")

    def __init__(self, client: Client, database: int, options: RedisTransportOptions, *, clock: Clock) -> None:
        self.capabilities = transport_capabilities(cluster=client.cluster, persistence=options.persistence)
        self._client = client
        self._clock = clock
        self._options = options
        self._writer = Writer(client, options)
        self._exchange = Exchange(client, self._writer, options, database, clock)
        self._server = Server(client, clock, options, self._exchange.mend)
        self._bounded: set[str] = set()

    @classmethod
    def from_url(cls, url: URL, options: RedisTransportOptions, *, clock: Clock) -> Self:
        """Build from a URL; see `Transport.from_url`."""
        address = address_of(url, options)
        return cls(Client(address, options, clock=clock), address.database, options, clock=clock)

    # -- queues ----------------------------------------------------------------------------------------------------

    def declare(self, queue: Queue, *, timeout: float) -> None:
        """See `Transport.declare`."""
        settings = (_ms(queue.expires), _ms(queue.message_ttl), queue.max_length or "", queue.max_priority)
        other = self._run(queue.name, DECLARE, settings, timeout)
        if other is not None:
            expires, ttl, length, priority = (text.decode() for text in other)
            known = (
                f"expires={_seconds(expires)}, message_ttl={_seconds(ttl)}, max_length={length or None}, "
                f"max_priority={priority}"
            )
            raise InconsistencyError(f"queue {queue.name!r} exists with {known}, which is not {queue}")

    def delete(self, name: str, *, timeout: float) -> None:
        """See `Transport.delete`."""
        end = self._clock.monotonic() + timeout
        fields = self._run(name, MANAGE, ("delete",), timeout)
        self._exchange.forget(fields, timeout=self._left(end))

    def purge(self, name: str, *, timeout: float) -> int:
        """See `Transport.purge`."""
        end = self._clock.monotonic() + timeout
        purged = 0
        while step := self._found(name, self._run(name, MANAGE, ("purge",), self._left(end)))[0]:
            purged += step
        return purged

    def depth(self, name: str, *, timeout: float) -> Depth:
        """See `SupportsDepth.depth`."""
        ready, in_flight, delayed = self._found(name, self._run(name, MANAGE, ("depth",), timeout))
        return Depth(ready=ready, in_flight=in_flight, delayed=delayed)

    # -- sending ---------------------------------------------------------------------------------------------------

    def send(self, name: str, messages: Sequence[Message], *, timeout: float) -> Sequence[Outcome]:
        """See `Transport.send`."""
        end = self._clock.monotonic() + timeout
        return [outcome for some in slices(messages) for outcome in self._send(name, some, end)]

    def _send(self, name: str, messages: Sequence[Message], end: float) -> Sequence[Outcome]:
        packed = [pack(message) for message in messages]
        if name not in self._bounded and self._send_plain(name, messages, packed, self._left(end)):
            return [None] * len(messages)
        flat = [part for each in packed for part in each]
        codes = self._found(name, self._run(name, STORE, flat, self._left(end), replicate=True))
        return [self._outcome(name, message, code) for message, code in zip(messages, codes, strict=True)]

    def _send_plain(self, name: str, messages: Sequence[Message], packed: Sequence[Packed], timeout: float) -> bool:
        """Store messages of one priority without moments in a queue without bounds; False if it is not that."""
        priority = messages[0].priority
        if any(each.ttl or each.delay for each in packed) or any(m.priority != priority for m in messages):
            return False
        pairs = [part for each in packed for part in each[:2]]
        code = self._run(
            name, SEND, (priority, len(packed), *(each.id for each in packed), *pairs), timeout, replicate=True
        )
        if code == _NOT_COMMON:
            if len(self._bounded) >= _MOST_KNOWN:
                self._bounded.clear()
            self._bounded.add(name)
            return False
        if code:
            self._raise_absent(name, code)
        return True

    def _outcome(self, name: str, message: Message, code: int) -> Outcome:
        if code == _PRIORITY:
            return InvalidMessage(f"priority {message.priority}: queue {name!r} does not take so high a one")
        return QueueFull(f"queue {name!r} holds its max_length of messages") if code == _FULL else None

    # -- topics ----------------------------------------------------------------------------------------------------

    def bind(self, name: str, topic: str, pattern: str, *, timeout: float) -> None:
        """See `SupportsFanout.bind`."""
        code = self._exchange.bind(name, topic, pattern, timeout=timeout)
        if code:
            self._raise_absent(name, code)

    def unbind(self, name: str, topic: str, pattern: str, *, timeout: float) -> None:
        """See `SupportsFanout.unbind`."""
        self._exchange.unbind(name, topic, pattern, timeout=timeout)

    def publish(self, topic: str, messages: Sequence[Message], *, timeout: float) -> Sequence[Outcome]:
        """See `SupportsFanout.publish`."""
        end = self._clock.monotonic() + timeout
        parts = slices(messages)
        return [each for some in parts for each in self._exchange.publish(topic, some, timeout=self._left(end))]

    # -- receiving, and the end ------------------------------------------------------------------------------------

    def open_receiver(self, names: Sequence[str], *, prefetch: int, visibility_timeout: float) -> Receiver:  # noqa: ARG002 - `limit` bounds each claim
        """See `Transport.open_receiver`."""
        ordered = sorted(names) if self._options.queue_order_strategy == "sorted" else names
        rotate = self._options.queue_order_strategy == "round_robin"
        if self._client.cluster and len(set(names)) > 1:
            return ClusterReceiver(self._server, ordered, visibility_timeout=visibility_timeout, rotate=rotate)
        return RedisReceiver(self._server, ordered, visibility_timeout=visibility_timeout, rotate=rotate)

    def evictable(self, *, timeout: float) -> Sequence[str]:
        """See `SupportsEvictionCheck.evictable`."""
        return self._client.server_risk(timeout)

    def close(self, *, timeout: float) -> None:
        """See `Transport.close`."""
        self._client.close(timeout=timeout)

    # -- parts -----------------------------------------------------------------------------------------------------

    def _run(self, name: str, script: Any, args: Sequence[Any], timeout: float, *, replicate: bool = False) -> Any:
        keys = self._server.keys(name)
        call = script.call(keys, args)
        if replicate:
            return self._writer.run(call, timeout=timeout, slot_key=keys[0], what=f"queue {name!r}")
        return self._client.run([call], timeout=timeout, slot_key=keys[0])[0]

    def _found(self, name: str, reply: Any) -> list[int]:
        """Return a script's list, which it gives where the queue is there."""
        if isinstance(reply, int):
            self._raise_absent(name, reply)
        found: list[int] = reply
        return found

    def _raise_absent(self, name: str, code: int) -> NoReturn:
        raise QueueNotFound(name) if code == 1 else settings_gone(name)

    def _left(self, end: float) -> float:
        return max(end - self._clock.monotonic(), 0.05)


def _ms(seconds: float | None) -> int | str:
    return "" if seconds is None else max(round(seconds * 1000), 1)


def _seconds(ms: str) -> float | None:
    return int(ms) / 1000 if ms else None
