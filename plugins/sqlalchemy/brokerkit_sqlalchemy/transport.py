"""The SQL transport: queues, sending and topics. Claiming and settling are in `receiver`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self, final

from brokerkit.abc import Clock, Receiver, SupportsDepth, SupportsFanout, Transport
from brokerkit.capabilities import Capabilities
from brokerkit.errors import ErrorTable, InconsistencyError, InvalidMessage, OperationTimeout, QueueFull, QueueNotFound
from brokerkit.models import Depth, Message, Outcome, Queue, pack_headers
from brokerkit.options import Options
from brokerkit.url import URL
from brokerkit_sqlalchemy import bindings, topics
from brokerkit_sqlalchemy.client import Cursor, Database
from brokerkit_sqlalchemy.engine import database_name
from brokerkit_sqlalchemy.errors import ERRORS
from brokerkit_sqlalchemy.options import SQLAlchemyTransportOptions
from brokerkit_sqlalchemy.promises import transport_capabilities
from brokerkit_sqlalchemy.receiver import SQLAlchemyReceiver
from brokerkit_sqlalchemy.rows import row_of, settings_of
from brokerkit_sqlalchemy.statements import DELAYED, LEASED, READY, Statements
from brokerkit_sqlalchemy.watch import Waiter, Watch, watch_of

__all__ = ["SQLAlchemyTransport"]

_STEP = 10_000  # rows that one transaction removes, so that others get their turn
_SWEEP_EVERY = 1.0


@final
class SQLAlchemyTransport(Transport, SupportsFanout, SupportsDepth):
    """`sqlite:///file.db`, `sqlalchemy+sqlite:///file.db`: queues in a database that all processes of a host share.

    Thread-safe. Each object of `sqlite:///:memory:` has a database of its own.
    """

    options_type: ClassVar[type[Options]] = SQLAlchemyTransportOptions
    errors: ClassVar[ErrorTable] = ERRORS
    capabilities: Capabilities = transport_capabilities(in_memory=False, synchronous="FULL")

    def __init__(self, database: Database, options: SQLAlchemyTransportOptions, *, clock: Clock) -> None:
        self.capabilities = transport_capabilities(in_memory=database.in_memory, synchronous=options.synchronous)
        self._database = database
        self._sql: Statements = database.layout.sql
        self._options = options
        self._vhost = options.virtual_host
        self._clock = clock
        self._swept_at = float("-inf")
        self._shared_watch: Watch | None = None

    @classmethod
    def from_url(cls, url: URL, options: SQLAlchemyTransportOptions, *, clock: Clock) -> Self:
        """Build from a URL; see `Transport.from_url`."""
        return cls(Database(database_name(url), options, clock), options, clock=clock)

    # -- queues ----------------------------------------------------------------------------------------------------

    def declare(self, queue: Queue, *, timeout: float) -> None:
        """See `Transport.declare`."""

        def work(cursor: Cursor) -> None:
            now = self._database.time.now()
            self._sweep(cursor, now)
            row = cursor.execute(self._sql.find_queue, (self._vhost, queue.name, now)).fetchone()
            if row is None:
                settings = (queue.expires, queue.message_ttl, queue.max_length, queue.max_priority)
                unused_at = None if queue.expires is None else now + queue.expires
                cursor.execute(self._sql.add_queue, (self._vhost, queue.name, *settings, unused_at))
                return
            known = settings_of(queue, row)
            if known != queue:
                raise InconsistencyError(f"queue {queue.name!r} exists as {known}, which is not {queue}")
            if queue.expires is not None:
                cursor.execute(self._sql.use_queue, (now, row[0]))

        self._database.write(work, timeout=timeout)

    def delete(self, name: str, *, timeout: float) -> None:
        """See `Transport.delete`."""

        def work(cursor: Cursor) -> None:
            cursor.execute(self._sql.drop_queue, (self._vhost, name))
            cursor.execute(self._sql.drop_bindings)

        self._database.write(work, timeout=timeout)
        self._watch.notify((name,))
        end = self._clock.monotonic() + timeout
        while self._database.write(self._remove_dropped, timeout=self._left(end)):
            pass

    def purge(self, name: str, *, timeout: float) -> int:
        """See `Transport.purge`."""
        end = self._clock.monotonic() + timeout

        def work(cursor: Cursor) -> int:
            now = self._database.time.now()
            queue_id = self._find(cursor, name, now)[0]
            cursor.execute(self._sql.ripen, (queue_id, now, _STEP))
            texts = (self._sql.purge_ready, self._sql.purge_delayed)
            return sum(cursor.execute(sql, (queue_id, _STEP)).rowcount for sql in texts)

        purged = step = self._database.write(work, timeout=timeout)
        while step >= _STEP:
            step = self._database.write(work, timeout=self._left(end))
            purged += step
        return purged

    def depth(self, name: str, *, timeout: float) -> Depth:
        """See `SupportsDepth.depth`."""

        def work(cursor: Cursor) -> dict[int, int]:
            now = self._database.time.now()
            queue_id = self._find(cursor, name, now)[0]
            counts = {READY: 0, LEASED: 0, DELAYED: 0}
            for state, count in cursor.execute(self._sql.depth, (queue_id, now, queue_id)):
                counts[state] += count
            return counts

        counts = self._database.look(work, timeout=timeout)
        return Depth(ready=counts[READY], in_flight=counts[LEASED], delayed=counts[DELAYED])

    # -- sending ---------------------------------------------------------------------------------------------------

    def send(self, name: str, messages: Sequence[Message], *, timeout: float) -> Sequence[Outcome]:
        """See `Transport.send`."""
        outcomes: Sequence[Outcome] = [None]
        if len(messages) > 1 or not self._send_one(name, messages[0], timeout):
            outcomes = self._database.write(lambda cursor: self._store(cursor, name, messages), timeout=timeout)
        self._watch.notify((name,))
        return outcomes

    def _send_one(self, name: str, message: Message, timeout: float) -> bool:
        """Store one message by a single statement, if the queue is there and unbounded and the message is new."""
        now = self._database.now(timeout=timeout)
        state = DELAYED if message.delay > 0 else READY
        stored = (message.id, state, message.priority, now + message.delay, now, message.ttl)
        where = (self._vhost, name, now, message.priority)
        row = (*stored, pack_headers(message.headers), message.body, *where)
        return self._database.execute(self._sql.send_one, row, timeout=timeout) == 1

    def _store(self, cursor: Cursor, name: str, messages: Sequence[Message]) -> list[Outcome]:
        now = self._database.time.now()
        queue_id, _, message_ttl, max_length, max_priority = self._find(cursor, name, now)
        outcomes: list[Outcome] = [
            InvalidMessage(f"priority {message.priority}: queue {name!r} takes at most {max_priority}")
            if message.priority > max_priority
            else None
            for message in messages
        ]
        rows = [row_of(queue_id, message, now, message_ttl) for message in messages]
        if max_length is None:
            cursor.executemany(self._sql.insert, [r for r, o in zip(rows, outcomes, strict=True) if o is None])
            return outcomes
        length: int = cursor.execute(self._sql.count_messages, (queue_id,)).fetchone()[0]
        for i, row in enumerate(rows):
            if outcomes[i] is not None:
                continue
            if length < max_length:
                length += cursor.execute(self._sql.insert, row).rowcount
            elif cursor.execute(self._sql.find_message, row[:2]).fetchone() is None:
                outcomes[i] = QueueFull(f"queue {name!r} holds its max_length of {max_length} messages")
        return outcomes

    # -- topics ----------------------------------------------------------------------------------------------------

    def bind(self, name: str, topic: str, pattern: str, *, timeout: float) -> None:
        """See `SupportsFanout.bind`."""
        scope = topics.scope_of(self._options)

        def work(cursor: Cursor) -> None:
            now = self._database.time.now()
            self._sweep(cursor, now)
            queue_id = self._find(cursor, name, now)[0]
            topics.check_agreement(cursor, self._sql, scope, topic, now)
            bindings.bind(cursor, self._sql, queue_id, self._vhost, scope.binding(topic, pattern))

        self._database.write(work, timeout=timeout)

    def unbind(self, name: str, topic: str, pattern: str, *, timeout: float) -> None:
        """See `SupportsFanout.unbind`."""
        scope = topics.scope_of(self._options)

        def work(cursor: Cursor) -> None:
            row = cursor.execute(self._sql.find_queue, (self._vhost, name, self._database.time.now())).fetchone()
            if row is not None:
                bindings.unbind(cursor, self._sql, row[0], scope.binding(topic, pattern))

        self._database.write(work, timeout=timeout)

    def publish(self, topic: str, messages: Sequence[Message], *, timeout: float) -> Sequence[Outcome]:
        """See `SupportsFanout.publish`."""
        scope = topics.scope_of(self._options)

        def work(cursor: Cursor) -> list[str] | InconsistencyError:
            now = self._database.time.now()
            self._sweep_at_times(cursor, now)
            topics.check_agreement(cursor, self._sql, scope, topic, now)
            queues = topics.hearing(cursor, self._sql, scope, topic, now)
            gone = topics.drop_orphans(cursor, self._sql, scope, topic)
            return gone or self._copy(cursor, queues, messages, now)

        copied = self._database.write(work, timeout=timeout)
        if isinstance(copied, InconsistencyError):
            return [copied] * len(messages)
        self._watch.notify(copied)
        return [None] * len(messages)

    def _copy(
        self, cursor: Cursor, queues: Sequence[topics.Subscriber], messages: Sequence[Message], now: float
    ) -> list[str]:
        """Store a copy of each message in every queue that hears it, and return these queues."""
        heard = [(queue, [message for message in messages if queue.hears(message.routing_key)]) for queue in queues]
        rows = [row_of(queue.id, message, now, queue.message_ttl) for queue, copies in heard for message in copies]
        cursor.executemany(self._sql.insert, rows)
        for queue, copies in heard:
            if copies and queue.max_length is not None:
                self._shorten(cursor, queue.id, queue.max_length)
        return [queue.name for queue, copies in heard if copies]

    def _shorten(self, cursor: Cursor, queue_id: int, max_length: int) -> None:
        """Drop the oldest waiting copies of a queue that is over its bound, and count the gap."""
        over = cursor.execute(self._sql.count_messages, (queue_id,)).fetchone()[0] - max_length
        if over > 0:
            dropped = cursor.execute(self._sql.drop_oldest, (queue_id, over)).rowcount
            cursor.execute(self._sql.count_dropped, (dropped, queue_id))

    # -- receiving, and the end ------------------------------------------------------------------------------------

    def open_receiver(self, names: Sequence[str], *, prefetch: int, visibility_timeout: float) -> Receiver:  # noqa: ARG002 - `limit` bounds each claim
        """See `Transport.open_receiver`."""
        waiter = Waiter(
            self._watch,
            names,
            self._clock,
            connect=None if self._database.in_memory else self._database.extra_connection,
            longest_pause=self._options.polling_interval,
        )
        return SQLAlchemyReceiver(
            self._database,
            self._vhost,
            names,
            waiter,
            visibility_timeout=visibility_timeout,
            sweep=self._sweep_at_times,
        )

    def close(self, *, timeout: float) -> None:
        """See `Transport.close`."""
        self._database.close(timeout=timeout)

    # -- parts -----------------------------------------------------------------------------------------------------

    @property
    def _watch(self) -> Watch:
        # looked up at the first use, since it asks the file system for the file's real name
        if self._shared_watch is None:
            self._shared_watch = watch_of(self._database.path)
        return self._shared_watch

    def _find(self, cursor: Cursor, name: str, now: float) -> tuple[Any, ...]:
        row: tuple[Any, ...] | None = cursor.execute(self._sql.find_queue, (self._vhost, name, now)).fetchone()
        if row is None:
            raise QueueNotFound(name)
        return row

    def _sweep_at_times(self, cursor: Cursor, now: float) -> None:
        if self._clock.monotonic() >= self._swept_at + _SWEEP_EVERY:
            self._sweep(cursor, now)

    def _sweep(self, cursor: Cursor, now: float) -> None:
        """Drop queues that nobody has consumed for their `expires`, and some messages of dropped ones."""
        self._swept_at = self._clock.monotonic()
        if cursor.execute(self._sql.drop_unused_queues, (now,)).rowcount:
            cursor.execute(self._sql.drop_bindings)
        self._remove_dropped(cursor)

    def _remove_dropped(self, cursor: Cursor) -> bool:
        """Remove messages of deleted queues, a bounded number; tell whether there may be more."""
        for (queue_id,) in cursor.execute(self._sql.dropped_queues).fetchall():
            if cursor.execute(self._sql.delete_messages, (queue_id, _STEP)).rowcount == _STEP:
                return True
            cursor.execute(self._sql.delete_queue, (queue_id,))
        return False

    def _left(self, end: float) -> float:
        left = end - self._clock.monotonic()
        if left <= 0:
            raise OperationTimeout("there is more to remove than the timeout allows; call again to go on")
        return left
