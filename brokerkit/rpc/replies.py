"""The reply queue of this process, and taking results from it into the inbox.

There is no thread of its own: whoever waits or looks takes what has come, one thread at a time, and the others are woken
by the inbox. All stores of one broker and the same options share one reply queue in a process.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar, final

from brokerkit._events import Event, emit
from brokerkit._retry import Caller
from brokerkit._secrets import masker
from brokerkit.abc import Clock, Receiver, Transport
from brokerkit.capabilities import Capabilities, is_missing
from brokerkit.errors import BrokerkitError, Closed, InconsistencyError, OperationTimeout, OutcomeUnknown, QueueNotFound
from brokerkit.models import Message, Outcome, Queue, Received, Record, new_id
from brokerkit.options import RetryPolicy
from brokerkit.rpc.addressing import decode, encode_mark, new_address, queue_name
from brokerkit.rpc.inbox import Inbox
from brokerkit.rpc.options import BrokerAddress, RpcOptions

__all__ = ["Replies", "replies_of"]

T = TypeVar("T")

_BATCH: Final = 100
_ROUNDS: Final = 100  # of taking, in one look: others may store faster than we read
_MAX_TAKEN: Final = 1000
_ONCE: Final = RetryPolicy(max_retries=0)
_FRESH: Final = 60.0  # seconds for which a reply queue that was there counts as there


@final
class Replies:
    """One reply queue with its inbox. Thread-safe.

    Attributes:
        address: what the ids of its results begin with.
        inbox: what was received, or is waited for.
        transport: for sending as well.
        caller: calls the transport once, and translates its errors.
    """

    def __init__(self, broker: BrokerAddress, options: RpcOptions, clock: Clock) -> None:
        self.address = new_address()
        self.inbox = Inbox(clock, options.max_records)
        self.transport: Transport = broker.plugin.from_url(broker.url, broker.options, clock=clock)
        self.caller = Caller(
            errors=broker.plugin.errors,
            policy=_ONCE,
            timeout=_FRESH,
            clock=clock,
            mask=masker([*broker.url.secrets, *broker.options.secrets]),
            listener=None,
        )
        self.users = 0
        self._broker = broker
        self._options = options
        self._clock = clock
        self._queue = _queue(queue_name(self.address), options, self.transport.capabilities)
        self._receiver: Receiver | None = None
        self._there_at: float | None = None
        self._taking = False
        self._closed = False
        self._taken: OrderedDict[str, None] = OrderedDict()
        self._sent: dict[str, Outcome | None] = {}

    def same(self, broker: BrokerAddress, options: RpcOptions, clock: Clock) -> bool:
        """Tell whether a store with these settings may share this reply queue."""
        return (self._broker, self._options) == (broker, options) and self._clock is clock

    # -- the queue ---------------------------------------------------------------------------------------------------

    def open(self, timeout: float) -> None:
        """Make sure that the reply queue is there: what is sent from now on has a place to go."""
        now = self._clock.monotonic()
        if self._there_at is None or now - self._there_at > min(_FRESH, self._options.queue_expires / 4):
            self._declare(timeout)

    def close(self, timeout: float) -> None:
        """Delete the reply queue and let go of the connections. A server that is away lets it expire by itself."""
        with self.inbox.server.condition:
            self._closed = True
            receiver, declared = self._receiver, self._there_at is not None
            self.inbox.server.condition.notify_all()
        try:
            if receiver is not None:
                self._call("close the reply queue", lambda left: receiver.close(timeout=left), timeout)
            if declared:
                name = self._queue.name
                self._call("delete the reply queue", lambda left: self.transport.delete(name, timeout=left), timeout)
        except BrokerkitError as error:
            emit(None, Event(name="receiver_failed", queue=self._queue.name, reason=str(error), error=error))
        finally:
            self._call("close", lambda left: self.transport.close(timeout=left), timeout)
            self.inbox.close(timeout=timeout)

    def _declare(self, timeout: float) -> None:
        self._call("declare the reply queue", lambda left: self.transport.declare(self._queue, timeout=left), timeout)
        self._there_at = self._clock.monotonic()

    # -- taking ------------------------------------------------------------------------------------------------------

    def look(self, timeout: float) -> None:
        """Take what is there now. Where another thread is taking, a mark behind it shows that it has come."""
        self.open(timeout)
        if not self._begin():
            self.send_here([Message(id=new_id(self._clock.time()), body=encode_mark())], timeout)
            return
        try:
            end = self._clock.monotonic() + timeout
            for _ in range(_ROUNDS):
                left = end - self._clock.monotonic()
                if left <= 0 or not self._take(0.0, left):
                    return
        finally:
            self._end()

    def wait(
        self, seen: Mapping[str, Record | None], timeout: float, *, ended: Callable[[], bool] = lambda: False
    ) -> Sequence[str]:
        """Take results until a record differs from what was seen, and return the keys that do; empty on time-out."""
        self.open(timeout)
        changed: list[str] = []

        def done() -> bool:
            changed[:] = dict.fromkeys([*self.inbox.differing(seen), *self.inbox.maybe_lost(seen)])
            return bool(changed) or ended()

        self._pump(done, timeout, wake_at=lambda: self.inbox.next_end(seen))
        return changed

    def send_here(self, messages: Sequence[Message], timeout: float) -> list[Outcome]:
        """Send to our own queue, and return what became of the messages when they came, or were lost with the queue."""
        end = self._clock.monotonic() + timeout
        self.open(timeout)
        ids = [message.id for message in messages]
        with self.inbox.server.condition:
            self._sent |= dict.fromkeys(ids)
        try:
            losses, outcomes = self._send_to_us(messages, timeout)
            waiting = {i for i, outcome in zip(ids, outcomes, strict=True) if outcome is None}

            def arrived() -> bool:
                return self.inbox.losses != losses or not any(self._sent[i] is None for i in waiting)

            if not self._pump(arrived, max(end - self._clock.monotonic(), 0.001)):
                raise OperationTimeout(
                    f"results that were sent to our own reply queue did not come within {timeout:g} s"
                )
            return [outcome or _told(self._sent[i]) for i, outcome in zip(ids, outcomes, strict=True)]
        finally:
            with self.inbox.server.condition:
                for i in ids:
                    self._sent.pop(i, None)

    def send(self, address: str, messages: Sequence[Message], timeout: float) -> list[Outcome]:
        """Send to a reply queue; errors are ours, also those of the outcomes."""
        name = queue_name(address)
        doing = "send results to their requester"
        outcomes = self._call(doing, lambda left: self.transport.send(name, messages, timeout=left), timeout)
        return [None if outcome is None else self.caller.translate(outcome, doing) for outcome in outcomes]

    def _send_to_us(self, messages: Sequence[Message], timeout: float) -> tuple[int, list[Outcome]]:
        """Send, and return how many losses there were before; make the queue anew if it is gone."""
        losses = self.inbox.losses
        try:
            return losses, self.send(self.address, messages, timeout)
        except QueueNotFound as error:
            self._lost(error, losses, timeout)
        losses = self.inbox.losses
        return losses, self.send(self.address, messages, timeout)

    def _pump(
        self, done: Callable[[], bool], timeout: float, wake_at: Callable[[], float] = lambda: float("inf")
    ) -> bool:
        """Take results until `done`, asked under the inbox's lock; False if the time is up."""
        condition, end = self.inbox.server.condition, self._clock.monotonic() + timeout
        while True:
            with condition:
                while True:
                    self._check_open()
                    if done():
                        return True
                    now = self._clock.monotonic()
                    if now >= end:
                        return False
                    left = max(min(end, wake_at()) - now, 0.001)
                    if not self._taking:
                        self._taking = True
                        break
                    self._clock.wait(condition, left)
            try:
                self._take(left, left)
            finally:
                self._end()

    def _begin(self) -> bool:
        with self.inbox.server.condition:
            self._check_open()
            if self._taking:
                return False
            self._taking = True
            return True

    def _end(self) -> None:
        with self.inbox.server.condition:
            self._taking = False
            self.inbox.server.condition.notify_all()

    def _take(self, seconds: float, timeout: float) -> bool:
        """Move what has come into the inbox, and tell whether anything had. One thread at a time."""
        if self._receiver is None:
            lease = self.transport.capabilities.lease
            visibility = min(max(self._broker.visibility_timeout, lease.min), lease.max)
            self._receiver = self.transport.open_receiver(
                [self._queue.name], prefetch=_BATCH, visibility_timeout=visibility
            )
        receiver, losses = self._receiver, self.inbox.losses
        try:
            received, _ = self._call(
                "receive results", lambda _: receiver.receive(limit=_BATCH, timeout=seconds), timeout
            )
        except (QueueNotFound, InconsistencyError) as error:
            self._lost(error, losses, timeout)
            return True
        self._there_at = self._clock.monotonic()
        for one in received:
            self._put(one)
        if received:
            self._call("settle results", lambda left: receiver.ack(received, timeout=left), timeout)
        return bool(received)

    def _put(self, received: Received) -> None:
        """Put one result into the inbox: once, however often it is delivered."""
        message = received.message
        if message.id in self._taken:
            return
        try:
            record, ttl = decode(message.body)
        except ValueError as error:
            reason = f"something else wrote to the reply queue: {error}"
            emit(None, Event(name="receiver_failed", queue=self._queue.name, message_id=message.id, reason=reason))
            return
        outcome: Outcome = None
        if record is not None:
            (outcome,) = self.inbox.put([record], ttl=0.0 if received.expired else ttl, timeout=1.0)
        self._taken[message.id] = None
        if len(self._taken) > _MAX_TAKEN:
            self._taken.popitem(last=False)
        with self.inbox.server.condition:
            if message.id in self._sent:
                self._sent[message.id] = outcome or _STORED
                self.inbox.server.condition.notify_all()

    def _lost(self, error: BrokerkitError, losses: int, timeout: float) -> None:
        """Tell all waiters that what was in the queue is gone, and make it anew for what is still to come."""
        emit(None, Event(name="receiver_failed", queue=self._queue.name, reason=str(error), error=error))
        self._declare(timeout)
        self.inbox.lose(losses)

    def _call(self, doing: str, function: Callable[[float], T], timeout: float) -> T:
        return self.caller.call(doing, function, timeout=timeout)

    def _check_open(self) -> None:
        if self._closed:
            raise Closed("the reply queue is closed")


class _Stored(Exception):
    """Stands for the outcome None of what has come, where None means that it has not."""


_STORED: Final = _Stored()


def _told(outcome: Outcome) -> Outcome:
    if outcome is None:
        return OutcomeUnknown("the reply queue was gone before the result came")
    return None if outcome is _STORED else outcome


def _queue(name: str, options: RpcOptions, powers: Capabilities) -> Queue:
    """Return the reply queue's settings, as far as the engine has the power for them."""
    return Queue(
        name=name,
        max_attempts=None,
        expires=None if is_missing(powers.queue_expires) else options.queue_expires,
        max_length=None if is_missing(powers.max_length) else options.max_length,
    )


@final
class _Shared:
    """The reply queues of one process, and who uses them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.open: list[Replies] = []

    def take(self, broker: BrokerAddress, options: RpcOptions, clock: Clock) -> Replies:
        """Return the one that fits, or a new one."""
        with self.lock:
            found = next((one for one in self.open if one.same(broker, options, clock)), None)
            if found is None:
                found = Replies(broker, options, clock)
                self.open.append(found)
            found.users += 1
            return found

    def leave(self, replies: Replies) -> bool:
        """Note that a store uses it no longer, and tell whether it was the last."""
        with self.lock:
            replies.users -= 1
            if replies.users == 0:
                self.open.remove(replies)
            return replies.users == 0


# By process: a forked child must not meet the parent's, whose lock may have been held. `setdefault` is one step.
_processes: dict[int, _Shared] = {}


def replies_of(broker: BrokerAddress, options: RpcOptions, clock: Clock) -> tuple[Replies, Callable[[], bool]]:
    """Return this process's reply queue at a broker, and what to call when it is used no longer: True if by nobody."""
    shared = _processes.setdefault(os.getpid(), _Shared())
    replies = shared.take(broker, options, clock)
    return replies, lambda: shared.leave(replies)
