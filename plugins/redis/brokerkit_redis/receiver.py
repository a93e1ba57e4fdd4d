"""Claiming and settling: one consumer's claim on queues of a Redis server."""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Sequence
from itertools import chain
from typing import Any, Final, NamedTuple, final

from redis import exceptions

from brokerkit.abc import SETTLE_TIMEOUT, Clock, Receiver
from brokerkit.errors import OperationTimeout
from brokerkit.models import Received
from brokerkit_redis.client import Call, Client
from brokerkit_redis.layout import delivery_of
from brokerkit_redis.losses import Losses
from brokerkit_redis.scripts import ACK, CLAIM, EXTEND, RELEASE
from brokerkit_redis.server import Server

__all__ = ["Found", "RedisReceiver", "by_queue"]

_LONGEST_BLOCK: Final = 1.0  # seconds; a wake token that got lost with its finder costs no more than this
_SHORTEST_BLOCK: Final = 0.005
_TOGETHER: Final = 8  # queues up to which the next claim is sent behind the wait, in the same round trip
_LARGE: Final = 48 * 1024  # bytes of bodies from which copying them in a script costs more than another round trip
_SETTLE_AT_ONCE: Final = 2000
_VERIFY_EVERY: Final = 1.0  # seconds between two looks at the queues' bindings


class Found(NamedTuple):
    """What a claim found; `look_again` is in seconds from the server's now, None if nothing is known to come."""

    deliveries: list[Received]
    missing: list[str]
    look_again: float | None


@final
class RedisReceiver(Receiver):
    """One consumer's claim on one or many queues; in a cluster on one, see `cluster_receiver`. Thread-safe.

    Args:
        server: the server.
        names: the queues.
        visibility_timeout: of each claim, in seconds.
        rotate: begin with another queue each time.
        losses: whom to tell of losses, if that is not this receiver's own affair; for a part of a `ClusterReceiver`.
    """

    def __init__(
        self,
        server: Server,
        names: Sequence[str],
        *,
        visibility_timeout: float,
        rotate: bool,
        losses: Losses | None = None,
    ) -> None:
        self._server = server
        self._client: Client = server.client
        self._clock: Clock = server.clock
        self._names = deque(dict.fromkeys(names))
        self._rotate = rotate
        self._lease = visibility_timeout
        self._line = self._client.line(server.key(self._names[0]) + b"w")
        self._turn = threading.Lock()
        self._held: dict[bytes, str] = {}
        self._losses = losses or Losses()
        self._subscribed = losses is not None
        self._bound: set[str] = set()
        self._verify_at = self._clock.monotonic()
        self._shortest_expires: float | None = None
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
        self.verify_bindings(end)  # before anything is claimed, which an error would leave to nobody
        with self._turn:
            lost, held = self._fence(acks)
            found, refused = self._claim(limit, held)
            lost += refused
            while not found.deliveries and not self._closed:
                self._losses.note_missing(found.missing, len(self._names))
                if acks and self._losses.any:
                    break  # told at the next call, as nobody hears of `lost` from a call that raises
                self._losses.tell()
                left = end - self._clock.monotonic()
                if left <= 0:
                    break
                found = self._wait(limit, min(left, self._block_for(found)))
            if found.deliveries:
                self._losses.note_missing(found.missing, len(self._names), partly=True)
        return found.deliveries, lost

    def look(self, limit: int) -> tuple[Found, float]:
        """Claim once, without waiting; returns what was found, and in how many seconds to look again at the latest.

        For the one who waits for this receiver and others. Losses are noted, and not told.
        """
        with self._turn:
            found, _ = self._claim(limit, ())
            return found, self._block_for(found)

    def _claim(self, limit: int, acks: Sequence[Received]) -> tuple[Found, list[Received]]:
        """Ack and claim, in one round trip."""
        acking = self._acking(acks)
        began = self._clock.monotonic()
        calls = [*(call for call, _ in acking), self._claim_call(limit)]
        replies = self._line.run(calls, timeout=self._server.patience)
        ended = self._clock.monotonic()
        lost = []
        for (_, group), numbers in zip(acking, replies, strict=False):
            lost += [group[number - 1] for number in numbers]
            self._forget(group)
        return self._read(replies[-1], began, ended), lost

    def _acking(self, acks: Sequence[Received]) -> list[tuple[Call, list[Received]]]:
        """Return calls that ack, each with what it acks: one for several queues, which are never a cluster's."""
        groups = [
            (queue, group[at : at + _SETTLE_AT_ONCE])
            for queue, group in by_queue(acks).items()
            for at in range(0, len(group), _SETTLE_AT_ONCE)
        ]
        if len(self._names) == 1 or len(groups) == 1:
            return [(ACK.call(self._server.keys(queue), [r.receipt for r in group]), group) for queue, group in groups]
        keys = [*chain.from_iterable(self._server.keys(queue) for queue, _ in groups)]
        args = chain.from_iterable((len(group), *(received.receipt for received in group)) for _, group in groups)
        return [(ACK.call(keys, args), [received for _, group in groups for received in group])] if groups else []

    def _wait(self, limit: int, seconds: float) -> Found:
        """Wait for a wake token, and claim."""
        seconds = max(seconds, _SHORTEST_BLOCK)  # written as 0.000 it would be for ever
        keys = [self._key(name, b"w") for name in self._names]
        block: Call = ("BLPOP", *keys, f"{seconds:.3f}")
        together = len(keys) <= _TOGETHER
        # the claim stands behind the wait in the server's queue, so that who takes a token looks in any case
        self._line.begin([block, self._claim_call(limit)] if together else [block], timeout=self._server.patience)
        try:
            self._line.reply(timeout=seconds)
        except exceptions.ResponseError:  # such as by a cluster that moves the queue
            if together and (found := self._behind_refusal()) and found.deliveries:
                return found
            raise
        if not together:
            return self._claim(limit, ())[0]
        return self._read(self._line.reply(timeout=self._server.patience), None, self._clock.monotonic())

    def _behind_refusal(self) -> Found | None:
        """Read the answer of the claim behind a wait that was refused: it may have succeeded all the same."""
        try:
            return self._read(self._line.reply(timeout=self._server.patience), None, self._clock.monotonic())
        except exceptions.RedisError:
            return None

    def _claim_call(self, limit: int) -> tuple[Any, ...]:
        keys = [*chain.from_iterable(map(self._server.keys, self._names))]
        lease = round(self._lease * 1000)
        return CLAIM.call(keys, (limit, lease, _LARGE, 1, int(self._subscribed)))

    def _read(self, reply: Any, began: float | None, ended: float) -> Found:
        """Read a claim's reply.

        Args:
            reply: of the script.
            began: when it was sent, or None if it waited in the server behind something else.
            ended: when it came.
        """
        now, look_again, answers = reply
        deadline = self._server.deadline(now, self._lease, began, ended)
        names = list(self._names)
        deliveries: list[Received] = []
        missing: list[str] = []
        self._shortest_expires = None
        for answer in answers:
            name = names[answer[0] - 1]
            if answer[1]:
                missing.append(name)
                self._losses.note_absent(name, answer[1])
            else:
                deliveries += self._deliveries(name, answer[2:], deadline, now)
        if deliveries and self._rotate and len(self._names) > 1:
            self._rotate_behind(deliveries[-1].queue)
        return Found(deliveries, missing, (look_again - now) / 1000 if look_again >= 0 else None)

    def _deliveries(self, name: str, answer: Sequence[Any], deadline: float, now: int) -> list[Received]:
        dropped, gone, tokens, bodies, expires, bindings = answer
        if expires:
            seconds = int(expires) / 1000
            self._shortest_expires = min(self._shortest_expires or seconds, seconds)
        (self._bound.add if bindings else self._bound.discard)(name)
        if gone:
            self._losses.note_gone(name, gone)
        if not tokens:
            return []
        self._held.update(dict.fromkeys(tokens, name))
        if not bodies:
            ids = [token[:-9] for token in tokens]
            (bodies,) = self._line.run([("HMGET", self._key(name, b"b"), *ids)], timeout=SETTLE_TIMEOUT)
        if None in bodies:
            self._drop_bodiless(name, [token for token, body in zip(tokens, bodies, strict=True) if body is None])
            tokens = [token for token, body in zip(tokens, bodies, strict=True) if body is not None]
            bodies = [body for body in bodies if body is not None]
        bodies.reverse()  # so that each can go as soon as it is read: large ones would be in memory twice
        claimed = [delivery_of(token, bodies.pop(), name, deadline, now) for token in tokens]
        if dropped and claimed:
            claimed[0].gap = dropped
        return claimed

    def _drop_bodiless(self, name: str, tokens: list[bytes]) -> None:
        """Let go of claims whose message is gone, and tell it."""
        self._line.run([ACK.call(self._server.keys(name), tokens)], timeout=SETTLE_TIMEOUT)
        for token in tokens:
            self._held.pop(token, None)
        self._losses.note_ids(name, [token[:-9].hex() for token in tokens])

    def _block_for(self, found: Found) -> float:
        bounds = [_LONGEST_BLOCK]
        if found.look_again is not None:
            bounds.append(found.look_again)
        if self._shortest_expires is not None:
            bounds.append(self._shortest_expires / 4)
        return max(min(bounds), _SHORTEST_BLOCK)

    def _rotate_behind(self, name: str) -> None:
        """Begin after the queue that was served last."""
        self._names.rotate(-1 - self._names.index(name))

    def verify_bindings(self, end: float) -> None:
        """See now and then whether the bindings of our queues are still there."""
        now = self._clock.monotonic()
        if not self._bound or now < self._verify_at:
            return
        self._verify_at = now + _VERIFY_EVERY
        for name in self._bound & set(self._names):
            self._server.mend_bindings(name, timeout=max(end - now, _LONGEST_BLOCK))

    # -- settling --------------------------------------------------------------------------------------------------

    def ack(self, deliveries: Sequence[Received], *, timeout: float = SETTLE_TIMEOUT) -> Sequence[Received]:
        """See `Receiver.ack`."""
        return self._settle(deliveries, ACK, (), timeout)

    def release(
        self,
        deliveries: Sequence[Received],
        *,
        delay: float = 0.0,
        counted: bool = True,
        timeout: float = SETTLE_TIMEOUT,
    ) -> Sequence[Received]:
        """See `Receiver.release`."""
        return self._settle(deliveries, RELEASE, (round(delay * 1000), 0 if counted else 1), timeout)

    def extend(
        self, deliveries: Sequence[Received], *, visibility_timeout: float, timeout: float = SETTLE_TIMEOUT
    ) -> Sequence[Received]:
        """See `Receiver.extend`."""
        deadline = self._clock.monotonic() + visibility_timeout
        lost = self._settle(deliveries, EXTEND, (round(visibility_timeout * 1000),), timeout, keep=True)
        refused = set(map(id, lost))
        for received in deliveries:
            if id(received) not in refused:
                received.deadline = deadline
        return lost

    def close(self, *, timeout: float) -> None:
        """See `Receiver.close`."""
        end = self._clock.monotonic() + timeout
        self._closed = True
        if not self._turn.acquire(blocking=False):
            self._client.unblock(self._line.id)
            if not self._turn.acquire(timeout=timeout):
                raise OperationTimeout("a receive that waits could not be ended")
        try:
            left: defaultdict[str, list[bytes]] = defaultdict(list)
            for token, queue in list(self._held.items()):  # others may settle meanwhile
                left[queue].append(token)
            self._held.clear()
            for queue, tokens in left.items():
                keys = self._server.keys(queue)
                self._client.run([RELEASE.call(keys, (0, 0, *tokens))], timeout=self._left(end), slot_key=keys[0])
        finally:
            self._line.close()
            self._turn.release()

    def _settle(
        self, deliveries: Sequence[Received], script: Any, args: tuple[Any, ...], timeout: float, *, keep: bool = False
    ) -> list[Received]:
        lost, held = self._fence(deliveries)
        end = self._clock.monotonic() + timeout
        for queue, group in by_queue(held).items():
            for at in range(0, len(group), _SETTLE_AT_ONCE):
                some = group[at : at + _SETTLE_AT_ONCE]
                keys = self._server.keys(queue)
                call = script.call(keys, (*args, *(received.receipt for received in some)))
                (numbers,) = self._client.run([call], timeout=self._left(end), slot_key=keys[0])
                lost += [some[number - 1] for number in numbers]
                if not keep:
                    self._forget(some)
        return lost

    def _fence(self, deliveries: Sequence[Received]) -> tuple[list[Received], list[Received]]:
        """Divide into those whose lease has ended, and those that may be shown to the server."""
        now = self._clock.monotonic()
        lost = [received for received in deliveries if received.deadline <= now]
        if not lost:
            return [], list(deliveries)
        self._forget(lost)
        return lost, [received for received in deliveries if now < received.deadline]

    def _forget(self, deliveries: Sequence[Received]) -> None:
        for received in deliveries:
            self._held.pop(received.receipt, None)

    def _key(self, queue: str, suffix: bytes) -> bytes:
        return self._server.key(queue) + suffix

    def _left(self, end: float) -> float:
        return max(end - self._clock.monotonic(), 0.05)


def by_queue(deliveries: Sequence[Received]) -> dict[str, list[Received]]:
    """Return deliveries by their queue, each queue's in their order."""
    groups: dict[str, list[Received]] = {}
    for received in deliveries:
        group = groups.get(received.queue)
        if group is None:
            groups[received.queue] = [received]
        else:
            group.append(received)
    return groups
