"""One consumer: `kombu.Consumer` on a channel of its own, drained while somebody receives."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import kombu

from brokerkit.abc import SETTLE_TIMEOUT, Receiver
from brokerkit.errors import Closed, Unsupported
from brokerkit.models import Message, Received, new_id

__all__ = ["HIGHEST", "KombuReceiver"]

HIGHEST: Final = 9
"""In kombu's Redis transport 0 is the most urgent priority; here 9 is."""

_SLICE: Final = 0.05  # seconds of one drain, between which others may settle
_PAUSE: Final = 0.005  # seconds between two looks for the answer to a BRPOP
_YEAR: Final = 31_536_000.0


class KombuReceiver(Receiver):
    """Drains, acks and requeues by kombu's own calls. Not fenced: an ack of whatever age is kombu's to judge.

    Args:
        connect: opens a connection.
        names: of the queues.
        backwards: whether kombu's priorities are, which they are on Redis.
    """

    def __init__(self, connect: Callable[[], Any], names: Sequence[str], *, backwards: bool) -> None:
        self._connect = connect
        self._names = names
        self._backwards = backwards
        self._turns = _Turns()
        self._connection: Any = None
        self._channel: Any = None
        self._buffer: deque[Received] = deque()
        self._held: set[Received] = set()
        self._closed = False
        self._ended = threading.Event()

    def receive(
        self, *, limit: int, timeout: float, acks: Sequence[Received] = ()
    ) -> tuple[Sequence[Received], Sequence[Received]]:
        """`drain_events` until something came or time is up. kombu has no call that acks and receives in one."""
        lost = self.ack(acks) if acks else []
        end = time.monotonic() + timeout
        under_way = False
        while True:
            with self._turns.last():
                if self._closed:
                    return [], lost
                before = len(self._buffer)
                left = max(end - time.monotonic(), 0.0)
                # longer than 0, kombu would send the next BRPOP as soon as one is answered, and never be done
                self._drain(limit, 0.0 if under_way and (self._buffer or not left) else min(_SLICE, left))
                # a BRPOP that is on its way may bring a message at any moment, and would keep it from everybody until the
                # next drain. A worker always drains; a bridge that is called now and then has to see it through.
                under_way = bool(getattr(self._channel, "_in_poll", None))
                more = before < len(self._buffer) < limit  # one drain brings one message
                if not under_way and not more and (self._buffer or time.monotonic() >= end):
                    return [self._buffer.popleft() for _ in range(min(limit, len(self._buffer)))], lost
            if under_way and (self._buffer or not left):
                self._ended.wait(_PAUSE)

    def ack(self, deliveries: Sequence[Received], *, timeout: float = SETTLE_TIMEOUT) -> Sequence[Received]:  # noqa: ARG002
        """`Message.ack`. It tells nobody whether there was still something to ack, so nothing is ever told to be lost."""
        return self._settle(deliveries, lambda message: message.ack())

    def release(
        self,
        deliveries: Sequence[Received],
        *,
        delay: float = 0.0,  # noqa: ARG002 - declared absent
        counted: bool = True,  # noqa: ARG002 - nothing is counted
        timeout: float = SETTLE_TIMEOUT,  # noqa: ARG002
    ) -> Sequence[Received]:
        """`Message.requeue`."""
        return self._settle(deliveries, lambda message: message.requeue())

    def extend(
        self,
        deliveries: Sequence[Received],
        *,
        visibility_timeout: float,  # noqa: ARG002
        timeout: float = SETTLE_TIMEOUT,  # noqa: ARG002
    ) -> Sequence[Received]:
        """There is no call of kombu's to prolong a lease.

        Raises:
            Unsupported: for any delivery of this receiver.
        """
        if any(received in self._held for received in deliveries):
            raise Unsupported("extend: kombu cannot prolong the claim on a message")
        return list(deliveries)  # another one's

    def close(self, *, timeout: float) -> None:  # noqa: ARG002
        """`Connection.release`, which closes the channel; kombu then restores what was not acked."""
        self._closed = True
        self._ended.set()
        with self._turns.first():
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.release()
            self._buffer.clear()
            self._held.clear()

    # -- inside, in turns --------------------------------------------------------------------------------------------

    def _drain(self, limit: int, seconds: float) -> None:
        channel = self._opened()
        broken = self._connection.connection_errors  # after which a worker of Celery's makes a new one
        want = limit - len(self._buffer)
        if want > 0:
            # as Celery's worker raises and lowers it: kombu takes no more than what was asked for
            channel.basic_qos(0, len(self._held) + want, False)
        try:
            self._connection.drain_events(timeout=seconds)
        except TimeoutError:  # what kombu raises when nothing came
            pass
        except broken:
            self._drop()
            raise

    def _opened(self) -> Any:
        if self._connection is None:
            connection = self._connect()
            try:
                channel = connection.channel()
                for name in self._names:
                    got = partial(self._got, name)
                    kombu.Consumer(channel, [kombu.Queue(name)], on_message=got).consume()
            except Exception:
                connection.collect()
                raise
            self._connection, self._channel = connection, channel
        return self._channel

    def _drop(self) -> None:
        """Let go of a broken connection. What it delivered is left to kombu: whoever acks it is told that it is lost."""
        connection, self._connection = self._connection, None
        self._buffer.clear()
        self._held.clear()
        if connection is not None:
            connection.collect()

    def _got(self, name: str, message: Any) -> None:
        received = Received(
            message=_message(message, backwards=self._backwards),
            queue=name,
            receipt=message,
            attempt=None,  # kombu knows "redelivered" or not, which is no count
            # kombu tells a consumer no end of its claim, and Celery's worker looks for none; so the bridge knows none
            deadline=time.monotonic() + _YEAR,
        )
        self._held.add(received)
        self._buffer.append(received)

    def _settle(self, deliveries: Sequence[Received], settle: Callable[[Any], object]) -> list[Received]:
        lost = []
        with self._turns.first():
            if self._closed:
                raise Closed("the consumer is closed")
            for received in deliveries:
                if received not in self._held:  # settled before, or of a connection that broke
                    lost.append(received)
                    continue
                settle(received.receipt)
                self._held.discard(received)
        return lost


class _Turns:
    """One thread at a time, as kombu asks; those that settle go before the one that drains."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._busy = False
        self._hurrying = 0

    @contextmanager
    def first(self) -> Iterator[None]:
        """Take the next turn."""
        with self._condition:
            self._hurrying += 1
            self._condition.wait_for(lambda: not self._busy)
            self._hurrying -= 1
            self._busy = True
        yield from self._turn()

    @contextmanager
    def last(self) -> Iterator[None]:
        """Take a turn when nobody else wants one."""
        with self._condition:
            self._condition.wait_for(lambda: not self._busy and not self._hurrying)
            self._busy = True
        yield from self._turn()

    def _turn(self) -> Iterator[None]:
        try:
            yield
        finally:
            with self._condition:
                self._busy = False
                self._condition.notify_all()


def _message(message: Any, *, backwards: bool) -> Message:
    properties: Mapping[str, Any] = message.properties
    body = message.body or b""
    priority = properties.get("priority")
    return Message(
        id=str(properties.get("message_id") or new_id(time.time())),
        body=body.encode() if isinstance(body, str) else bytes(body),
        # "redelivered" is put there by kombu itself when it restores a message
        priority=HIGHEST - int(priority) if backwards and priority is not None else 0,
        headers={str(k): str(v) for k, v in (message.headers or {}).items() if k != "redelivered"},
    )
