"""Receiving from several queues of a cluster: a claim for each, and one ear for all of them. See ADR 0017."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, final

from redis import exceptions

from brokerkit.abc import SETTLE_TIMEOUT, Receiver
from brokerkit.errors import OperationTimeout
from brokerkit.models import Received
from brokerkit_redis.line import Line, LineId
from brokerkit_redis.losses import Losses
from brokerkit_redis.receiver import RedisReceiver, by_queue
from brokerkit_redis.server import Server

__all__ = ["ClusterReceiver"]

_REST: Final = 1.0  # seconds for which a queue is left alone whose node did not answer
_MESSAGE: Final = b"message"
_CHANNEL: Final = 1


@final
class _Part:
    """One of the queues: its own receiver, and when to look there."""

    def __init__(self, name: str, receiver: RedisReceiver) -> None:
        self.name = name
        self.receiver = receiver
        self.look_at = float("-inf")
        self.missing = False


@final
class ClusterReceiver(Receiver):
    """One consumer's claim on several queues, whose keys are in several slots. Thread-safe.

    There is one step of claiming for each queue. A queue is looked at when it says that something is ready, on a channel to
    which this subscribes; when something was found there the last time; and now and then.

    Args:
        server: the cluster.
        names: the queues.
        visibility_timeout: of each claim, in seconds.
        rotate: begin with another queue each time.
    """

    def __init__(self, server: Server, names: Sequence[str], *, visibility_timeout: float, rotate: bool) -> None:
        self._server = server
        self._client = server.client
        self._clock = server.clock
        self._rotate = rotate
        self._losses = Losses()
        self._parts = {
            name: _Part(
                name,
                RedisReceiver(server, [name], visibility_timeout=visibility_timeout, rotate=False, losses=self._losses),
            )
            for name in dict.fromkeys(names)
        }
        self._order = deque(self._parts.values())
        self._channels = {server.key(name) + b"w": part for name, part in self._parts.items()}
        self._ears = deque(self._channels)
        self._ear = self._new_ear()
        self._subscribed: LineId | None = None
        self._turn = threading.Lock()
        self._closed = False

    # -- receiving -------------------------------------------------------------------------------------------------

    def receive(
        self, *, limit: int, timeout: float, acks: Sequence[Received] = ()
    ) -> tuple[Sequence[Received], Sequence[Received]]:
        """See `Receiver.receive`."""
        end = self._clock.monotonic() + timeout
        if acks and self._losses.any:
            return [], self.ack(acks)  # alone, so that one of the next calls has none, and can raise
        self._losses.tell()
        for part in self._parts.values():
            part.receiver.verify_bindings(end)  # before anything is claimed, which an error would leave to nobody
        with self._turn:
            lost = self._settle(acks, lambda part, group: part.ack(group))
            try:
                found = self._await(limit, end, quiet=bool(acks))
            except (exceptions.RedisError, OSError):
                if not acks:
                    raise
                found = []  # it is told by the next call, as nobody hears of `lost` from a call that raises
        return found, lost

    def _await(self, limit: int, end: float, *, quiet: bool) -> list[Received]:
        self._subscribe()
        while not self._closed:
            found = self._look(limit)
            if found:
                return found
            self._losses.note_missing([part.name for part in self._parts.values() if part.missing], len(self._parts))
            if quiet and self._losses.any:
                break
            self._losses.tell()
            now = self._clock.monotonic()
            if now >= end:
                break
            self._listen(min(end, *(part.look_at for part in self._order)) - now)
        return []

    def _look(self, limit: int) -> list[Received]:
        """Claim from each queue that is due, until there are enough."""
        found: list[Received] = []
        failure: Exception | None = None
        for part in list(self._order):
            if len(found) >= limit:
                break
            if part.look_at > self._clock.monotonic():
                continue
            try:
                claimed = self._claim(part, limit - len(found))
            except (exceptions.RedisError, OSError) as error:
                # it rests for as long as it kept the others waiting, at least
                part.look_at = self._clock.monotonic() + max(_REST, self._clock.monotonic() - part.look_at)
                failure = failure or error
                if self._channels[self._ears[0]] is part:
                    self._change_ear()
                continue
            found += claimed
        if found and self._rotate:
            self._order.rotate(-1 - self._order.index(self._parts[found[-1].queue]))
        if failure and not found:
            raise failure
        return found

    def _claim(self, part: _Part, limit: int) -> list[Received]:
        part.look_at = began = self._clock.monotonic()
        found, rest = part.receiver.look(limit)
        part.missing = bool(found.missing)
        part.look_at = began if found.deliveries else began + rest
        return found.deliveries

    # -- hearing ---------------------------------------------------------------------------------------------------

    def _subscribe(self) -> None:
        """Make sure that we hear of what is ready from now on."""
        if self._subscribed is not None and self._ear.id == self._subscribed:
            return
        if self._closed:
            return
        try:
            # one answer each; a message among them is no loss, as all are looked at next
            self._ear.run([("SUBSCRIBE", channel) for channel in self._channels], timeout=self._server.patience)
        except (exceptions.RedisError, OSError):
            self._change_ear()
            raise
        self._subscribed = self._ear.id
        for part in self._order:
            part.look_at = float("-inf")

    def _listen(self, seconds: float) -> None:
        """Wait until a queue says that something is ready, and note all that have said so."""
        wait = max(seconds, 0.0)
        while True:
            try:
                said = self._ear.poll(wait)
            except (exceptions.RedisError, OSError):
                if self._closed:
                    return
                self._change_ear()
                raise
            if said is None:
                return
            if said[0] == _MESSAGE and (part := self._channels.get(said[_CHANNEL])):
                part.look_at = float("-inf")
                wait = 0.0

    def _change_ear(self) -> None:
        """Listen at another node the next time: each hears what is told at any."""
        self._ear.close()
        self._subscribed = None
        self._ears.rotate(-1)
        self._ear = self._new_ear()

    def _new_ear(self) -> Line:
        return self._client.line(self._ears[0])

    # -- settling --------------------------------------------------------------------------------------------------

    def ack(self, deliveries: Sequence[Received], *, timeout: float = SETTLE_TIMEOUT) -> Sequence[Received]:
        """See `Receiver.ack`."""
        end = self._clock.monotonic() + timeout
        return self._settle(deliveries, lambda part, group: part.ack(group, timeout=self._left(end)))

    def release(
        self,
        deliveries: Sequence[Received],
        *,
        delay: float = 0.0,
        counted: bool = True,
        timeout: float = SETTLE_TIMEOUT,
    ) -> Sequence[Received]:
        """See `Receiver.release`."""
        end = self._clock.monotonic() + timeout

        def release(part: RedisReceiver, group: Sequence[Received]) -> Sequence[Received]:
            return part.release(group, delay=delay, counted=counted, timeout=self._left(end))

        return self._settle(deliveries, release)

    def extend(
        self, deliveries: Sequence[Received], *, visibility_timeout: float, timeout: float = SETTLE_TIMEOUT
    ) -> Sequence[Received]:
        """See `Receiver.extend`."""
        end = self._clock.monotonic() + timeout

        def extend(part: RedisReceiver, group: Sequence[Received]) -> Sequence[Received]:
            return part.extend(group, visibility_timeout=visibility_timeout, timeout=self._left(end))

        return self._settle(deliveries, extend)

    def close(self, *, timeout: float) -> None:
        """See `Receiver.close`."""
        end = self._clock.monotonic() + timeout
        self._closed = True
        self._ear.close()  # which ends a wait
        if not self._turn.acquire(timeout=timeout):
            raise OperationTimeout("a receive that waits could not be ended")
        failure: Exception | None = None
        try:
            self._ear.close()
            for part in self._order:
                try:
                    part.receiver.close(timeout=self._left(end))
                except (exceptions.RedisError, OSError) as error:  # the others are closed all the same
                    failure = error
        finally:
            self._turn.release()
        if failure:
            raise failure

    def _settle(
        self,
        deliveries: Sequence[Received],
        settle: Callable[[RedisReceiver, Sequence[Received]], Sequence[Received]],
    ) -> list[Received]:
        """Settle queue by queue; one whose node fails keeps none of the others from being settled."""
        lost: list[Received] = []
        failure: Exception | None = None
        for queue, group in by_queue(deliveries).items():
            try:
                lost += settle(self._parts[queue].receiver, group)
            except (exceptions.RedisError, OSError) as error:
                failure = error
        if failure:
            raise failure
        return lost

    def _left(self, end: float) -> float:
        return max(end - self._clock.monotonic(), 0.05)
