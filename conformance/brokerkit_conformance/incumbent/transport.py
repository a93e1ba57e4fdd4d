"""`kombu+redis://`, `kombu+memory://`, `kombu+sqlite://`: kombu's own transports behind the contract, one call for one call."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Final, Self

import kombu
from kombu.exceptions import OperationalError

from brokerkit.abc import Clock, Receiver, SupportsDepth, SupportsFanout, Transport
from brokerkit.capabilities import is_missing
from brokerkit.errors import Closed, ConnectionLost, ErrorTable, InvalidURL, NotConnected, Rule, StorageFull
from brokerkit.models import Depth, Message, Outcome, Queue
from brokerkit.options import Options
from brokerkit.url import URL
from brokerkit_conformance.incumbent.options import KombuOptions
from brokerkit_conformance.incumbent.promises import TRANSPORTS
from brokerkit_conformance.incumbent.receiver import HIGHEST, KombuReceiver

__all__ = ["KombuTransport"]

# our driver → kombu's scheme
_SCHEMES: Final = {"memory": "memory", "redis": "redis", "sqlite": "sqla+sqlite"}
_FULL: Final = "used memory > 'maxmemory'"
_LOST: Final = frozenset(  # of what kombu's transports call recoverable, all that loses the connection
    {
        ("redis", "ConnectionError"),
        ("redis", "InvalidResponse"),
        ("redis", "TimeoutError"),
        ("redis", "BusyLoadingError"),
        ("sqlalchemy", "OperationalError"),  # for SQLite: "database is locked"
    }
)


def _is_connection_error(error: Exception) -> bool:
    # by name: the clients are imported only where they are used
    return (type(error).__module__.partition(".")[0], type(error).__name__) in _LOST


class KombuTransport(Transport, SupportsDepth):
    """One `kombu.Connection` for sending and declaring, under a lock, as kombu's connections are for one thread at a time."""

    options_type: ClassVar[type[Options]] = KombuOptions
    errors: ClassVar[ErrorTable] = ErrorTable(
        Rule(OperationalError, ConnectionLost),
        Rule(OSError, ConnectionLost),
        Rule(Exception, ConnectionLost, when=_is_connection_error),
        Rule(Exception, StorageFull, when=lambda error: _FULL in str(error)),
    )

    def __init__(self, url: str, driver: str, options: KombuOptions) -> None:
        self.capabilities = TRANSPORTS[driver]
        self._url = url
        self._driver = driver
        self._options = options
        self._lock = threading.RLock()
        self._connection: Any = None
        self._closed = False

    @classmethod
    def from_url(cls, url: URL, options: KombuOptions, *, clock: Clock) -> Self:  # noqa: ARG003 - kombu has its own time
        """Build from `kombu+DRIVER://…`; the rest of the URL is kombu's own.

        Raises:
            InvalidURL: the driver is none of those tried, or there is a second host, and no way for it to be used.
        """
        if url.driver not in _SCHEMES:
            raise InvalidURL(f"{url}: write one of {', '.join(f'kombu+{driver}://' for driver in _SCHEMES)}")
        if len(url.hosts) > 1 and is_missing(TRANSPORTS[url.driver].failover):
            raise InvalidURL(f"{url}: kombu's {url.driver} has no second host")
        topics = not is_missing(TRANSPORTS[url.driver].fanout)
        kind: Any = _WithTopics if topics else cls
        made: Self = kind(";".join(_one_by_one(url)), url.driver, options)
        return made

    # -- queues ------------------------------------------------------------------------------------------------------

    def declare(self, queue: Queue, *, timeout: float) -> None:  # noqa: ARG002 - kombu's calls take none
        """As Celery declares its queues: with a direct exchange of the queue's name, and bound to it."""
        with self._channel() as channel:
            exchange = kombu.Exchange(queue.name, type="direct", durable=True)
            kombu.Queue(queue.name, exchange, routing_key=queue.name)(channel).declare()

    def delete(self, name: str, *, timeout: float) -> None:  # noqa: ARG002
        """`queue_delete` for the messages, which the Redis transport does for queues with bindings only; hence `purge` too."""
        with self._channel() as channel:
            channel.queue_purge(name)
            channel.queue_delete(name)

    def purge(self, name: str, *, timeout: float) -> int:  # noqa: ARG002
        """`queue_purge`."""
        with self._channel() as channel:
            return int(channel.queue_purge(name) or 0)

    def depth(self, name: str, *, timeout: float) -> Depth:  # noqa: ARG002
        """`queue_declare` answers with a count. Not `passive`: the Redis transport then denies that an empty queue exists."""
        with self._channel() as channel:
            return Depth(channel.queue_declare(queue=name, durable=True, auto_delete=False).message_count, None, None)

    # -- sending -----------------------------------------------------------------------------------------------------

    def send(self, name: str, messages: Sequence[Message], *, timeout: float) -> Sequence[Outcome]:  # noqa: ARG002
        """`Producer.publish` to the default exchange, as Celery sends its tasks."""
        with self._channel() as channel:
            producer = kombu.Producer(channel)
            for message in messages:
                self._put(producer, message, exchange="", routing_key=name)
        return [None] * len(messages)

    # -- receiving, and the end --------------------------------------------------------------------------------------

    def open_receiver(self, names: Sequence[str], *, prefetch: int, visibility_timeout: float) -> Receiver:  # noqa: ARG002
        """Return a receiver with a connection of its own: a connection has one `visibility_timeout`."""
        if self._closed:
            raise Closed("the connection to kombu is closed")
        return KombuReceiver(
            lambda: self._connect(visibility_timeout),
            names,
            backwards=self._driver == "redis",
        )

    def close(self, *, timeout: float) -> None:  # noqa: ARG002
        """`Connection.release`."""
        with self._lock:
            self._closed = True
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.release()

    def _put(self, producer: Any, message: Message, *, exchange: str, routing_key: str) -> None:
        settings: dict[str, Any] = {}
        if self._driver == "redis":
            settings["priority"] = HIGHEST - message.priority
        producer.publish(
            message.body,
            exchange=exchange,
            routing_key=routing_key,
            content_type="application/octet-stream",
            content_encoding="binary",
            headers=dict(message.headers),
            message_id=message.id,
            retry=False,
            **settings,
        )

    @contextmanager
    def _channel(self) -> Iterator[Any]:
        """Lend the connection's channel; after an error the next caller gets a new connection."""
        with self._lock:
            if self._closed:
                raise Closed("the connection to kombu is closed")
            if self._connection is None:
                self._connection = self._connect(None)
                self._connection.bridge_channel = self._connection.channel()
            try:
                yield self._connection.bridge_channel
            except Exception:
                broken, self._connection = self._connection, None
                broken.collect()
                raise

    def _connect(self, visibility_timeout: float | None) -> Any:
        options: dict[str, Any] = {}
        if self._driver != "sqlite":  # whose every option goes to `create_engine`, which refuses kombu's own
            options["polling_interval"] = self._options.polling_interval
        if self._driver == "redis":
            options["unacked_restore_throttle"] = self._options.unacked_restore_throttle
            options["socket_timeout"] = self._options.socket_timeout
            if visibility_timeout is not None:
                options["visibility_timeout"] = visibility_timeout
        connection = kombu.Connection(self._url, transport_options=options, connect_timeout=5)
        try:
            # `connect` would wait for two seconds and try again, which is what the core does
            connection.ensure_connection(max_retries=0)
        except OperationalError as error:
            raise NotConnected(str(error)) from error
        return connection


def _one_by_one(url: URL) -> Iterator[str]:
    """Yield kombu's URLs, one for each host."""
    for host in url.hosts or (None,):
        one = URL(
            url.scheme,
            username=url.username,
            password=url.password,
            hosts=() if host is None else (host,),
            path=url.path,
            query=url.query,
        )
        yield f"{_SCHEMES[url.driver]}://{one.render(reveal_secrets=True).partition('://')[2]}"


class _WithTopics(KombuTransport, SupportsFanout):
    """One of those transports whose bindings are the server's, and not each process's own."""

    def publish(self, topic: str, messages: Sequence[Message], *, timeout: float) -> Sequence[Outcome]:  # noqa: ARG002
        """`Producer.publish` to a named exchange, declared first, as `maybe_declare` would."""
        with self._channel() as channel:
            exchange = self._exchange(topic)
            exchange(channel).declare()
            producer = kombu.Producer(channel)
            for message in messages:
                self._put(producer, message, exchange=exchange.name, routing_key=message.routing_key)
        return [None] * len(messages)

    def bind(self, name: str, topic: str, pattern: str, *, timeout: float) -> None:  # noqa: ARG002
        """Declare a queue with its exchange and its routing key, which binds it."""
        with self._channel() as channel:
            kombu.Queue(name, self._exchange(topic), routing_key=pattern)(channel).declare()

    def unbind(self, name: str, topic: str, pattern: str, *, timeout: float) -> None:  # noqa: ARG002
        """`queue_unbind`."""
        with self._channel() as channel:
            exchange = self._exchange(topic)
            exchange(channel).declare()  # the channel has to know its type
            channel.queue_unbind(queue=name, exchange=exchange.name, routing_key=pattern)

    def _exchange(self, topic: str) -> Any:
        """A topic exchange, which is durable and has patterns: the nearest to our topics.

        The name has a prefix, as the exchange of a queue has that queue's name.
        """
        return kombu.Exchange(f"topic.{topic}", type="topic", durable=True)
