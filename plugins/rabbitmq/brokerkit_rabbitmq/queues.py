"""Queues: declaring, deleting, purging and counting."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Final, final

from amqp import exceptions

from brokerkit.errors import InconsistencyError, OperationTimeout, QueueNotFound
from brokerkit.models import Depth, Queue
from brokerkit_rabbitmq.answers import QUEUE_DECLARE_OK, QUEUE_DELETE_OK, QUEUE_PURGE_OK, read_count
from brokerkit_rabbitmq.errors import is_missing
from brokerkit_rabbitmq.layout import check_name, queue_arguments
from brokerkit_rabbitmq.methods import queue_declare, queue_delete, queue_purge
from brokerkit_rabbitmq.server import Server

__all__ = ["Queues"]

_MOST_KNOWN: Final = 10_000


@final
class Queues:
    """The queues of one transport. Thread-safe.

    Args:
        server: the server.
        kind: "quorum" or "classic", of what is declared.
    """

    def __init__(self, server: Server, kind: str) -> None:
        self._server = server
        self._kind = kind
        self._lock = threading.Lock()
        self._known: dict[str, Queue] = {}
        self._turns: dict[str, threading.Lock] = {}

    def known(self, name: str) -> Queue | None:
        """Return a queue's settings, if it was declared here."""
        return self._known.get(name)

    def vanishes(self, name: str) -> bool:
        """Tell whether a queue goes by itself, as far as is known here."""
        known = self._known.get(name)
        return known is not None and known.expires is not None

    @contextlib.contextmanager
    def room(self, name: str, *, deadline: float) -> Iterator[int | None]:
        """Tell how many messages a bounded queue takes, while no other thread of ours sends to it; None for any number.

        The server's own bound is loose: it refuses when it was exceeded, a quorum queue until a fifth of it is free.
        """
        known = self._known.get(name)
        if known is None or known.max_length is None:
            yield None
            return
        with self._lock:
            turn = self._turns.setdefault(name, threading.Lock())
        if not turn.acquire(timeout=max(deadline - self._server.clock.monotonic(), 0.0)):
            raise OperationTimeout(f"other sends to {name!r} took all the time")
        try:
            found = self._server.look(name, deadline=deadline)
            if found is None:
                raise QueueNotFound(name)
            yield max(known.max_length - found.messages, 0)
        finally:
            turn.release()

    def declare(self, queue: Queue, *, deadline: float) -> None:
        """Create a queue; and for one whose messages expire in the server, the queue that they go to."""
        check_name(queue.name)
        wanted = [queue]
        if queue.message_ttl is not None and not queue.name.endswith(".dead"):
            wanted.insert(0, Queue(name=f"{queue.name}.dead", max_attempts=None))
        new = [self._server.look(each.name, deadline=deadline) is None for each in wanted]
        for each in wanted:
            self._declare(each, deadline)
        if any(new) and self._kind == "quorum":
            self._server.secure(deadline=deadline)
        with self._lock:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[queue.name] = queue

    def delete(self, name: str, *, deadline: float) -> None:
        """Remove a queue with its messages and bindings."""
        check_name(name)
        self._known.pop(name, None)
        self._turns.pop(name, None)
        self._server.ask(lambda n: queue_delete(n, name), QUEUE_DELETE_OK, deadline=deadline)

    def purge(self, name: str, *, deadline: float) -> int:
        """Remove all that is ready, and return how many."""
        try:
            found = self._server.ask(lambda n: queue_purge(n, name), QUEUE_PURGE_OK, deadline=deadline)
        except exceptions.NotFound as error:
            if is_missing(error):
                raise QueueNotFound(name) from None
            raise
        return read_count(found.args)

    def depth(self, name: str, *, deadline: float) -> Depth:
        """Count what is ready; AMQP tells no more."""
        found = self._server.look(name, deadline=deadline)
        if found is None:
            raise QueueNotFound(name)
        return Depth(ready=found.messages, in_flight=None, delayed=None)

    def _declare(self, queue: Queue, deadline: float) -> None:
        arguments = queue_arguments(queue, self._kind)
        try:
            self._server.ask(
                lambda n: queue_declare(n, queue.name, arguments=arguments), QUEUE_DECLARE_OK, deadline=deadline
            )
        except exceptions.PreconditionFailed as error:
            raise InconsistencyError(
                f"queue {queue.name!r} exists with other settings, which are not {queue} as a {self._kind} queue: "
                f"{error.reply_text}"
            ) from error
        except exceptions.ResourceLocked as error:
            raise InconsistencyError(
                f"queue {queue.name!r} belongs to another connection: {error.reply_text}"
            ) from error
