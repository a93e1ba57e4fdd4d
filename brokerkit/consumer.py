"""Consumer: takes messages from one or many queues and gives them to handlers."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, final

from brokerkit import _forks
from brokerkit._clock import sleep
from brokerkit._events import Event
from brokerkit._leases import Leases
from brokerkit._retry import fail
from brokerkit._run import run_handlers
from brokerkit._settling import Settling
from brokerkit.delivery import Delivery
from brokerkit.errors import BrokerkitError, Closed, DecodeError, FanoutGap
from brokerkit.models import Received

if TYPE_CHECKING:
    from brokerkit.broker import Broker

__all__ = ["Consumer"]

_MAX_BLOCK: Final = 1.0
"""Seconds that one receive may block: bounds how late `stop` and `close` are noticed by a waiting server call."""


@final
class Consumer:
    """Takes messages from queues, holding at most `prefetch` unsettled ones. Made by `Broker.consumer`.

    Leases are kept alive for as long as this process works, prefetched messages included. Use it as a context manager, or
    close it: what it holds then goes back at once.

    Thread-safe: several threads may receive from one consumer. Not for use in a forked child.

    Attributes:
        queues: what it consumes.
    """

    def __init__(
        self, broker: Broker, queues: tuple[str, ...], *, prefetch: int, visibility_timeout: float, auto_ack: bool
    ) -> None:
        self.queues = queues
        self._broker = broker
        self._prefetch = prefetch
        self._auto_ack = auto_ack
        self._clock = broker.clock
        self._buffer: deque[Received] = deque()
        self._turn = threading.Condition()
        self._awaiting = 0
        self._failures = 0
        self._fetching = False
        self._stopping = False
        self._closed = False
        receiver = broker.transport.open_receiver(queues, prefetch=prefetch, visibility_timeout=visibility_timeout)
        self._leases = Leases(
            receiver,
            broker.clock,
            visibility_timeout,
            extends=broker.capabilities.lease.extend,
            lost=self._tell_lost,
            failed=self._tell_failed,
            made_room=self._made_room,
        )
        self._settling = Settling(broker, self._leases, visibility_timeout, self._made_room)
        _forks.watch(self)

    @property
    def prefetch(self) -> int:
        """How many unsettled deliveries it may hold: fixed for its life, as not every server lets it be changed."""
        return self._prefetch

    def receive(self, timeout: float | None = None) -> Delivery | None:
        """Return the next delivery, or None if none came in time.

        Args:
            timeout: seconds to wait, from 0; the broker's `timeout` option by default.

        Raises:
            QueueNotFound: a queue is gone; the others go on.
            FanoutGap: a bounded subscriber queue dropped copies; told once, before what comes after the gap.
            BrokerkitError: the server could not be asked until the deadline.
            Closed: the consumer was closed.
        """
        seconds = self._broker.options.timeout if timeout is None else timeout
        now = self._clock.monotonic()
        deadline = now + seconds
        while True:
            try:
                received = self._buffer.popleft()
            except IndexError:
                if not self._fetch(deadline):
                    return None
            else:
                delivery = self._hand_over(received, now)
                if delivery is not None:
                    return delivery
            now = self._clock.monotonic()

    def __iter__(self) -> Iterator[Delivery]:
        """Yield deliveries until `stop` or `close`. Waits out lost connections; other errors end the loop."""
        while not self.stopping:
            try:
                delivery = self.receive(_MAX_BLOCK)
            except BrokerkitError as error:
                if isinstance(error, Closed) and self._stopping:
                    return
                if not error.retryable:
                    raise
                self._tell_failed(error)
                continue
            if delivery is not None:
                yield delivery

    def run(
        self, handler: Callable[[Delivery], object], *, concurrency: int = 1, shutdown_timeout: float | None = 30.0
    ) -> None:
        """Call `handler` with each delivery, in `concurrency` threads, until `stop`, SIGTERM or SIGINT.

        A handler that returns acks; one that raises an Exception is treated as by `with delivery`. On a signal (if this is
        the main thread) running handlers end their work, then everything else goes back and the consumer is closed. A
        queue that is gone, a gap or a lost connection is an event, and the consumer goes on.

        Args:
            handler: called with a `Delivery`; may settle it by itself.
            concurrency: threads, from 1.
            shutdown_timeout: seconds that running handlers get to end; None for as long as they need. Messages of those
                that do not end in time go back.
        """
        run_handlers(self, handler, concurrency, shutdown_timeout, self._tell_failed)

    def stop(self) -> None:
        """Take no more messages: ends the loops of `run` and of iteration. Safe in a signal handler's thread."""
        self._stopping = True

    @property
    def stopping(self) -> bool:
        """Whether `stop` or `close` was called."""
        return self._stopping

    def close(self, timeout: float | None = None) -> None:
        """Send the acks that wait, give back all that is unsettled, and end the claim; idempotent.

        Args:
            timeout: seconds for the server's part; the broker's `timeout` option by default.
        """
        with self._turn:
            if self._closed:
                return
            self._closed = self._stopping = True
            self._turn.notify_all()
            while self._fetching:
                self._clock.wait(self._turn, _MAX_BLOCK)
        self._leases.close()
        seconds = self._broker.options.timeout if timeout is None else timeout
        self._broker.forget(self)
        self._settling.give_all_back(list(self._buffer), seconds)
        self._buffer.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Consumer of {', '.join(map(repr, self.queues))}{', closed' if self._closed else ''}>"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a Consumer holds leases and is not pickled; make one where you consume")

    def after_fork(self) -> None:
        """In a forked child: this consumer is the parent's."""
        self._turn = threading.Condition()
        self._fetching = False
        self._closed = self._stopping = True
        self._buffer.clear()
        self._leases.abandon()

    def _fetch(self, deadline: float) -> bool:
        """Fill the buffer; False when the deadline has passed. One thread fetches, the others wait for what it brings."""
        room = self._take_turn(deadline)
        if room <= 0:
            return bool(self._buffer)
        try:
            return self._fetch_now(room, deadline)
        finally:
            with self._turn:
                self._fetching = False
                self._turn.notify_all()

    def _take_turn(self, deadline: float) -> int:
        """Wait for the turn to fetch, and return how many to fetch; 0 if another thread brought some, or time is up."""
        with self._turn:
            self._awaiting += 1  # before the look at what is held: who makes room after it sees that we wait
            try:
                while True:
                    if self._closed:
                        raise Closed(f"this consumer of {self.queues} is closed, or belongs to the parent process")
                    if self._buffer:
                        return 0
                    room = min(self._prefetch - self._leases.outstanding(), self._broker.capabilities.max_batch)
                    if not self._fetching and room > 0:
                        self._fetching = True
                        return room
                    left = deadline - self._clock.monotonic()
                    if left <= 0:
                        return 0
                    self._clock.wait(self._turn, left)
            finally:
                self._awaiting -= 1

    def _fetch_now(self, room: int, deadline: float) -> bool:
        leases = self._leases
        finished = leases.take_finished()
        acks = [delivery.received for delivery in finished]
        left = max(deadline - self._clock.monotonic(), 0.0)
        try:
            claimed, lost = leases.receiver.receive(limit=room, timeout=min(left, _MAX_BLOCK), acks=acks)
        except BaseException as error:
            leases.put_back(finished)  # also those of who is interrupted
            if not isinstance(error, Exception):
                raise
            translated = self._broker.caller.translate(error, f"receive from {', '.join(map(repr, self.queues))}")
        else:
            self._failures = 0
            leases.acked(finished, lost)
            if claimed:
                leases.hold(claimed)
                self._buffer.extend(claimed)
                return True
            return self._clock.monotonic() < deadline
        if not translated.retryable or not self._pause(deadline):
            fail(translated)
        self._tell_failed(translated)
        return True

    def _pause(self, deadline: float) -> bool:
        """Wait before another try after a failure; False, at once, if the deadline comes first."""
        policy = self._broker.options.retry_policy
        seconds = min(policy.interval_start + policy.interval_step * self._failures, policy.interval_max)
        self._failures += 1
        if self._clock.monotonic() + seconds >= deadline:
            return False
        sleep(self._clock, seconds)
        return True

    def _hand_over(self, received: Received, now: float) -> Delivery | None:
        """Return a delivery for a claim, or None if it does not reach the handler."""
        if received not in self._leases.held:
            return None  # its lease was lost while it waited in the buffer
        if received.deadline <= now:  # after a freeze we may be here before who tends the leases
            if self._leases.drop(received):
                self._tell_lost(received, None, "its time passed")
            return None
        if received.gap:
            dropped, received.gap = received.gap, 0
            self._buffer.appendleft(received)
            self._broker.emit(Event(name="fanout_gap", queue=received.queue, reason=f"{dropped} copies were dropped"))
            raise FanoutGap(received.queue, dropped)
        unfit = self._settling.unfit(received)
        if unfit is not None:
            self._settling.bury(received, *unfit)
            return None
        try:
            payload: Any = self._broker.codec.decode(received.message.body, received.message.headers)
        except DecodeError as error:
            self._settling.bury(received, "undecodable", str(error))
            return None
        delivery = Delivery(self._settling, received, payload)
        self._leases.held[received] = delivery
        if self._auto_ack and not self._settling.settled_at_once(delivery):
            return None
        return delivery

    def _made_room(self) -> None:
        if self._awaiting:
            with self._turn:
                self._turn.notify_all()

    def _tell_lost(self, received: Received, delivery: Delivery | None, why: str) -> None:
        self._broker.emit(
            Event(
                name="lease_lost",
                queue=received.queue,
                message_id=received.message.id,
                attempt=received.attempt,
                reason=why if delivery is not None else f"{why}, before a handler had it",
            )
        )
        self._made_room()

    def _tell_failed(self, error: Exception) -> None:
        translated = self._broker.caller.translate(error, f"consume {', '.join(map(repr, self.queues))}")
        self._broker.emit(Event(name="receiver_failed", reason=str(translated), error=translated))
