"""The server as the parts of a transport share it: one connection to ask and to publish on, opened when it is needed."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Sequence
from typing import Final, final

from amqp import exceptions

from brokerkit.abc import Clock
from brokerkit.errors import Closed
from brokerkit.models import Outcome
from brokerkit_rabbitmq.answers import QUEUE_DECLARE_OK, QUEUE_DELETE_OK, Declared, read_declared
from brokerkit_rabbitmq.channel import Channel
from brokerkit_rabbitmq.connecting import Connector
from brokerkit_rabbitmq.errors import Unreachable, is_missing
from brokerkit_rabbitmq.frames import Method
from brokerkit_rabbitmq.link import Link
from brokerkit_rabbitmq.methods import queue_declare, queue_delete
from brokerkit_rabbitmq.publisher import Publisher
from brokerkit_rabbitmq.tender import Tender
from brokerkit_rabbitmq.window import Item

__all__ = ["Server"]

_MOST_SPARE: Final = 8


@final
class Server:
    """One connection for everything but receiving. Thread-safe.

    A question that the server does not like ends its channel; so each has one for itself, which is kept for the next.

    Args:
        connector: opens connections.
        clock: for deadlines.
        tender: looks after connections and receivers.
        heartbeat: of this connection, in seconds.
    """

    def __init__(self, connector: Connector, clock: Clock, tender: Tender, *, heartbeat: int) -> None:
        self.connector = connector
        self.clock = clock
        self.tender = tender
        self._heartbeat = heartbeat
        self._opening = threading.Lock()
        self._open: tuple[Link, Publisher] | None = None
        self._spare: list[tuple[Link, Channel]] = []
        self._closed = False

    def publish(self, exchange: str, items: Sequence[Item], *, deadline: float) -> Sequence[Outcome]:
        """Publish, each message so that it comes back if nobody wants it; see `Publisher.publish`."""
        return self._opened(deadline)[1].publish(exchange, items, mandatory=True, deadline=deadline)

    def ask(self, build: Callable[[int], bytes], answer: int, *, deadline: float) -> Method:
        """Ask the server something.

        Args:
            build: makes the frame, for a channel's number.
            answer: the method that answers.
            deadline: by the clock.

        Raises:
            AMQPError: it refuses; only the question's own channel is lost by that.
            Exception: the connection could not be made, or broke.
        """
        link, channel = self._channel(deadline)
        found = channel.call(build(channel.number), answer, deadline=deadline)
        if len(self._spare) < _MOST_SPARE:
            self._spare.append((link, channel))
        else:
            channel.close(deadline=deadline)
        return found

    def look(self, queue: str, *, deadline: float) -> Declared | None:
        """Return how much is ready in a queue and how many consume it, or None if there is none of that name."""
        try:
            found = self.ask(lambda n: queue_declare(n, queue, passive=True), QUEUE_DECLARE_OK, deadline=deadline)
        except exceptions.NotFound as error:
            if is_missing(error):
                return None
            raise
        return read_declared(found.args)

    def secure(self, *, deadline: float) -> None:
        """See that the quorum queues that were just made survive a crash of the server.

        RabbitMQ keeps the names of new ones in memory for about a second; whoever makes another one lets it write those of
        before. What was confirmed in a queue whose name is lost is out of reach.
        """
        name = f"bk.new.{secrets.token_hex(8)}"
        self.ask(
            lambda n: queue_declare(n, name, arguments={"x-queue-type": "quorum"}), QUEUE_DECLARE_OK, deadline=deadline
        )
        self.ask(lambda n: queue_delete(n, name), QUEUE_DELETE_OK, deadline=deadline)

    def close(self, *, timeout: float) -> None:
        """Close the connection; idempotent."""
        self._closed = True
        opened, self._open = self._open, None
        self._spare.clear()
        if opened is not None:
            opened[0].close(deadline=self.clock.monotonic() + timeout)

    def _channel(self, deadline: float) -> tuple[Link, Channel]:
        link = self._opened(deadline)[0]
        while self._spare:
            try:
                kept, channel = self._spare.pop()
            except IndexError:  # another thread has it
                break
            if kept is link and channel.broken is None:
                return kept, channel
        return link, link.open_channel(_ignore, deadline=deadline)

    def _opened(self, deadline: float) -> tuple[Link, Publisher]:
        """Return the connection, a new one if that of before has broken."""
        opened = self._open
        if opened is not None and opened[0].broken is None:
            return opened
        if not self._opening.acquire(timeout=max(deadline - self.clock.monotonic(), 0.0)):
            raise Unreachable("another thread tried to connect all the time")
        try:
            self._refuse_if_closed()
            if self._open is None or self._open[0].broken is not None:
                link = self.connector.open(
                    deadline=deadline, heartbeat=self._heartbeat, purpose="publisher", unwanted=lambda: self._closed
                )
                self._open = link, Publisher(link, self.clock)
                self._refuse_if_closed()  # `close` came meanwhile, and did not see this one
            return self._open
        finally:
            self._opening.release()

    def _refuse_if_closed(self) -> None:
        if self._closed:
            self.close(timeout=0.0)
            raise Closed("this transport is closed")


def _ignore(method: Method) -> None:
    """Nothing comes unasked here that would matter."""
