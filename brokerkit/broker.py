"""Broker: what users hold. `connect` makes one from a URL."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, Unpack, final
from weakref import WeakSet

from brokerkit import _dead_letters, _forks, registry
from brokerkit._clock import SYSTEM_CLOCK
from brokerkit._composing import Composer, Sending, Settings
from brokerkit._dead_letters import DeadLetter
from brokerkit._events import Event, Listener, emit
from brokerkit._retry import Caller
from brokerkit._risk import check_eviction
from brokerkit._secrets import masker, secrets_in
from brokerkit._sending import Sender
from brokerkit.abc import Clock, SupportsDepth, SupportsFanout, Transport
from brokerkit.capabilities import Capabilities, Fanout, require
from brokerkit.consumer import Consumer
from brokerkit.errors import Closed, InvalidName, InvalidOption, Unsupported
from brokerkit.models import Depth, Message, Queue, check_name
from brokerkit.options import BrokerOptions, Options, gather, resolve
from brokerkit.serialization import Codec
from brokerkit.url import URL

__all__ = ["Broker", "connect"]


def connect(
    url: str | URL,
    *,
    transport_options: Mapping[str, Any] | None = None,
    clock: Clock | None = None,
    on_event: Listener | None = None,
    **options: Any,
) -> Broker:
    """Return a broker for a URL; the URL's scheme picks the plugin. Connects when it is first used.

    Options may stand in the URL's query, here as keywords, or in `transport_options`: all three mean the same. Those of
    every broker are in `BrokerOptions`, an engine's own in its plugin's README.

    Args:
        url: such as "memory://", "sqlite:///orders.db", "redis://localhost:6379/0".
        transport_options: options in one dict, as Celery's users know it.
        clock: for tests; the system's by default.
        on_event: called with each `Event`, from any thread.
        **options: options by name.

    Raises:
        ConfigurationError: the URL or an option is wrong, or no plugin serves the scheme; before any I/O.

    Warns:
        EvictionRisk: the engine may drop what it stores; with the option `strict` it is refused instead.
    """
    parsed = URL.parse(url)
    plugin: type[Transport] = registry.find(parsed, "transport").load()
    given = gather(parsed, options, transport_options)
    core, own = resolve(given, BrokerOptions, plugin.options_type, scheme=parsed.full_scheme)
    assert isinstance(core, BrokerOptions)  # noqa: S101 - for the type checker
    mask = masker([*parsed.secrets, *secrets_in("", given)])
    broker = Broker(plugin, parsed.with_query(()), core, own, clock=clock or SYSTEM_CLOCK, on_event=on_event, mask=mask)
    powers = broker.capabilities
    check_eviction(powers.product, powers.evictable, broker.transport, broker.caller, strict=core.strict)
    return broker


@final
class Broker:
    """A connection to one message broker: declare queues, send, publish, consume.

    Thread-safe: share one in the whole process. After a fork the child's copy opens its own connection; consumers stay with
    the parent. Use it as a context manager, or close it.

    Attributes:
        url: the engine's address, without options. Its texts show no secret.
        options: the portable options.
        transport_options: the engine's own options.
        clock: where time comes from.
    """

    def __init__(
        self,
        plugin: type[Transport],
        url: URL,
        options: BrokerOptions,
        transport_options: Options,
        *,
        clock: Clock,
        on_event: Listener | None,
        mask: Callable[[str], str],
    ) -> None:
        self.url = url
        self.options = options
        self.transport_options = transport_options
        self.clock = clock
        self.codec = Codec(serializer=options.serializer, compression=options.compression, accept=options.accept)
        self._plugin = plugin
        self._on_event = on_event
        self._transport = plugin.from_url(url, transport_options, clock=clock)
        self._declared: dict[str, Queue] = {}
        self._consumers: WeakSet[Consumer] = WeakSet()
        self._closed = False
        self.caller = Caller(
            errors=plugin.errors,
            policy=options.retry_policy,
            timeout=options.timeout,
            clock=clock,
            mask=mask,
            listener=on_event,
        )
        self._composer = Composer(self.codec, self.capabilities, clock)
        self._sender = Sender(self._open, self.caller)
        _forks.watch(self)

    # -- queues ------------------------------------------------------------------------------------------------------

    def declare(self, queue: str | Queue, **settings: Unpack[Settings]) -> Queue:
        """Create a queue; idempotent.

        Args:
            queue: its name, with the settings of `Queue` as keywords; or a `Queue`.
            **settings: max_attempts, expires, message_ttl, max_length, max_priority; see `Queue`.

        Raises:
            InvalidName: the name is empty, too long, or has control characters.
            InvalidOption: a setting is unknown or out of range.
            Unsupported: the engine lacks a power that was asked for.
            InconsistencyError: the queue exists with other settings.
        """
        declared = self._composer.queue(queue, settings, default_attempts=self.options.max_attempts)
        self.declare_queue(declared)
        self._declared[declared.name] = declared
        return declared

    def delete(self, queue: str) -> None:
        """Remove a queue with its messages and bindings; nothing happens if there is none."""
        self._check_queue(queue)
        self._declared.pop(queue, None)
        self.caller.call(f"delete {queue!r}", lambda left: self._open().delete(queue, timeout=left))

    def purge(self, queue: str) -> int:
        """Remove all messages of a queue that no consumer holds, and return how many."""
        self._check_queue(queue)
        return self.caller.call(f"purge {queue!r}", lambda left: self._open().purge(queue, timeout=left))

    def depth(self, queue: str) -> Depth:
        """Return how many messages a queue holds.

        Raises:
            Unsupported: the engine cannot count.
            QueueNotFound: there is no such queue.
        """
        self._check_queue(queue)
        transport = self._open()
        if not self.capabilities.depth or not isinstance(transport, SupportsDepth):
            raise Unsupported(f"depth: {self.capabilities.product} cannot count messages")
        return self.caller.call(f"depth of {queue!r}", lambda left: transport.depth(queue, timeout=left))

    # -- sending -----------------------------------------------------------------------------------------------------

    def send(self, queue: str, payload: Any, *, timeout: float | None = None, **sending: Unpack[Sending]) -> str:
        """Store one message in a queue, and return its id. When this returns, the message is accepted and will not be lost.

        Args:
            queue: a declared queue.
            payload: bytes travel as they are; all else is encoded by the broker's serializer.
            timeout: deadline with all repeats, in seconds; the broker's `timeout` option by default.
            **sending: headers (text to text), priority (0 to 9, higher is sooner), delay and ttl (seconds), ordering_key,
                dedup_key; see `Message`.

        Raises:
            ConfigurationError: the message is not one that this engine can take; before any I/O.
            MessageTooLarge: the text names the limit; before any I/O.
            QueueNotFound: there is no such queue.
            OutcomeUnknown: the connection broke, repeats included; the message may still arrive.
            TransportError: it was refused, and is not stored.
        """
        self._check_queue(queue)
        message = self._composer.message(payload, sending)
        self._sender.send_one(queue, message, timeout)
        return message.id

    def send_many(
        self, queue: str, payloads: Iterable[Any], *, timeout: float | None = None, **sending: Unpack[Sending]
    ) -> list[str]:
        """Store many messages in a queue, in order, in as few round trips as the engine allows; return their ids.

        Args and errors are those of `send`; all messages are checked before the first is sent.

        Raises:
            SendFailed: some were not stored; `outcomes` has an id and None or an error for each.
        """
        self._check_queue(queue)
        messages = self._composer.messages(payloads, sending)
        self._sender.send_many(queue, messages, timeout)
        return [message.id for message in messages]

    def send_messages(self, queue: str, messages: Sequence[Message]) -> None:
        """Store ready-made messages, ids and headers included; for those who move messages between queues."""
        self._check_queue(queue)
        if len(messages) == 1:
            self._sender.send_one(queue, messages[0], None)
        else:
            self._sender.send_many(queue, messages, None)

    # -- topics ------------------------------------------------------------------------------------------------------

    def bind(self, queue: str, topic: str, pattern: str = "#") -> None:
        """Let a queue hear a topic; effective when this returns; idempotent.

        Args:
            queue: a declared queue.
            topic: its name, within the virtual host or prefix that `fanout_prefix` says.
            pattern: matched with the routing key: words between dots, `*` is one word, `#` any number.

        Raises:
            Unsupported: the engine has no topics, or no patterns and this is another than `#`.
            InconsistencyError: others use this topic with another `fanout_prefix` or `fanout_patterns`.
        """
        fanout = self._fanout(topic, queue, pattern)
        self.caller.call(f"bind {queue!r} to {topic!r}", lambda left: fanout.bind(queue, topic, pattern, timeout=left))

    def unbind(self, queue: str, topic: str, pattern: str = "#") -> None:
        """Undo one `bind`; nothing happens if there is none."""
        fanout = self._fanout(topic, queue, pattern)
        self.caller.call(
            f"unbind {queue!r} from {topic!r}", lambda left: fanout.unbind(queue, topic, pattern, timeout=left)
        )

    def publish(
        self,
        topic: str,
        payload: Any,
        *,
        routing_key: str = "",
        timeout: float | None = None,
        **sending: Unpack[Sending],
    ) -> str:
        """Copy a message to every queue bound to a topic with a matching pattern, and return its id.

        No bound queue is fine. Args and errors are otherwise those of `send`.
        """
        return self.publish_many(topic, [payload], routing_key=routing_key, timeout=timeout, **sending)[0]

    def publish_many(
        self,
        topic: str,
        payloads: Iterable[Any],
        *,
        routing_key: str = "",
        timeout: float | None = None,
        **sending: Unpack[Sending],
    ) -> list[str]:
        """Publish many messages with one routing key, in order; return their ids."""
        self._fanout(topic)
        messages = self._composer.messages(payloads, sending, topic=topic, routing_key=routing_key)
        self._sender.publish(topic, messages, timeout)
        return [message.id for message in messages]

    # -- consuming ---------------------------------------------------------------------------------------------------

    def consumer(
        self,
        *queues: str,
        prefetch: int | None = None,
        visibility_timeout: float | None = None,
        auto_ack: bool = False,
    ) -> Consumer:
        """Return a consumer of one or many queues, which get their turns fairly.

        Args:
            *queues: declared queues; a missing one shows at the first receive.
            prefetch: unsettled deliveries that it may hold; the broker's option by default.
            visibility_timeout: seconds after which a dead consumer's messages go to others; the broker's option by default.
            auto_ack: at most once: each message is settled before the handler has it, and lost if the handler dies.

        Raises:
            Unsupported: the visibility timeout is out of the engine's range.
        """
        if not queues:
            raise InvalidName("a consumer needs the name of at least one queue")
        for queue in queues:
            self._check_queue(queue)
        seconds = self.options.visibility_timeout if visibility_timeout is None else visibility_timeout
        self.check_visibility_timeout(seconds)
        held = self.options.prefetch if prefetch is None else prefetch
        if held < 1:
            raise InvalidOption(f"option 'prefetch' is {held}; it must be at least 1")
        self._open()
        consumer = Consumer(
            self, tuple(dict.fromkeys(queues)), prefetch=held, visibility_timeout=seconds, auto_ack=auto_ack
        )
        self._consumers.add(consumer)
        return consumer

    # -- dead letters ------------------------------------------------------------------------------------------------

    def dead_letters(self, queue: str, limit: int = 100) -> list[DeadLetter]:
        """Return up to `limit` dead letters of a queue, oldest first; they stay where they are."""
        self._check_queue(queue)
        return _dead_letters.peek(self, queue, limit)

    def redrive(self, queue: str, limit: int | None = None) -> int:
        """Move dead letters back to their queue, as they were, with attempts counted anew; return how many."""
        self._check_queue(queue)
        return _dead_letters.redrive(self, queue, limit)

    # -- life --------------------------------------------------------------------------------------------------------

    @property
    def capabilities(self) -> Capabilities:
        """What the engine can do."""
        return self._transport.capabilities

    @property
    def transport(self) -> Transport:
        """The plugin's object, for what brokerkit does not cover.

        Raises:
            Closed: the broker was closed.
        """
        return self._open()

    def close(self, timeout: float | None = None) -> None:
        """Close all consumers, then the connections; idempotent. `timeout` is in seconds, for each step."""
        if self._closed:
            return
        for consumer in list(self._consumers):
            consumer.close(timeout)
        self._closed = True
        self._transport.close(timeout=self.options.timeout if timeout is None else timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Broker {self.url}{', closed' if self._closed else ''}>"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a Broker holds connections and is not pickled; send its URL and connect there")

    def after_fork(self) -> None:
        """In a forked child: build a driver of our own, and leave the inherited one alone."""
        _forks.abandon(self._transport)
        self._consumers = WeakSet()
        if not self._closed:
            self._transport = self._plugin.from_url(self.url, self.transport_options, clock=self.clock)
        self._sender = Sender(self._open, self.caller)

    # -- for the core's own parts ------------------------------------------------------------------------------------

    def declare_queue(self, queue: Queue) -> None:
        """Create a queue without remembering it."""
        self.caller.call(f"declare {queue.name!r}", lambda left: self._open().declare(queue, timeout=left))

    def max_attempts(self, queue: str) -> int | None:
        """Return after how many failed deliveries a queue's messages are dead-lettered."""
        declared = self._declared.get(queue)
        return self.options.max_attempts if declared is None else declared.max_attempts

    def check_visibility_timeout(self, seconds: float) -> None:
        """Refuse what the engine cannot do, with its range."""
        lease = self.capabilities.lease
        if not lease.min <= seconds <= lease.max:
            raise Unsupported(
                f"visibility_timeout={seconds:g}: {self.capabilities.product} takes {lease.min:g} to {lease.max:g} s"
            )

    def emit(self, event: Event) -> None:
        """Log an event and tell the listener."""
        emit(self._on_event, event)

    def forget(self, consumer: Consumer) -> None:
        """Drop a closed consumer."""
        self._consumers.discard(consumer)

    def _open(self) -> Transport:
        if self._closed:
            raise Closed(f"the broker of {self.url} is closed")
        return self._transport

    def _fanout(self, topic: str, queue: str | None = None, pattern: str = "#") -> SupportsFanout:
        transport = self._open()
        fanout: Fanout = require(self.capabilities, "fanout", asked=f"topic {topic!r}")
        if not isinstance(transport, SupportsFanout) or not (pattern == "#" or fanout.patterns):
            raise Unsupported(f"topic {topic!r} by pattern {pattern!r}: {self.capabilities.product} has no such topics")
        check_name(topic, what="topic", max_bytes=self.capabilities.max_name)
        if queue is not None:
            self._check_queue(queue)
        return transport

    def _check_queue(self, queue: str) -> None:
        check_name(queue, what="queue", max_bytes=self.capabilities.max_name)
