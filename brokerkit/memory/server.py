"""The memory broker itself: queues, leases and topics behind one lock. The executable specification of the contract.

Each law is one small method, so that it can be read, and broken one at a time by the suite's mutants. Callers hold
`condition`. Time is the clock's monotonic time only.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

from brokerkit.abc import Clock
from brokerkit.errors import InconsistencyError, InvalidMessage, QueueFull, QueueNotFound
from brokerkit.models import Depth, Message, Outcome, Queue, Received, topic_matches

__all__ = ["Address", "Binding", "MemoryServer", "Receipt", "StoredMessage", "StoredQueue"]

Address = tuple[str, str]
"""A queue's virtual host and name."""

Receipt = tuple[int, int]
"""A message's sequence number, and which of its claims this is."""


@dataclass(slots=True, eq=False)
class StoredMessage:
    """A message in a queue. `version` rises with every change of state, so that old heap entries are recognised."""

    seq: int
    message: Message
    expires_at: float | None
    state: Literal["ready", "delayed", "leased", "gone"] = "gone"
    due: float = 0.0
    attempt: int = 0
    claims: int = 0
    owner: object = None
    version: int = 0


@dataclass(slots=True, eq=False)
class StoredQueue:
    """A queue: what is ready by priority and age, what waits by its due time, and everything by number.

    `lost` has the ids of messages that were found gone, although nobody settled them. `bound` has its bindings once more,
    by which the loss of one is seen: true, if it was found gone and nobody was told yet.
    """

    settings: Queue
    used_at: float
    ready: list[tuple[int, int, int, StoredMessage]] = field(default_factory=list)
    waiting: list[tuple[float, int, int, StoredMessage]] = field(default_factory=list)
    messages: dict[int, StoredMessage] = field(default_factory=dict)
    ids: dict[str, int] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    bound: dict[Binding, bool] = field(default_factory=dict)
    dropped: int = 0
    receiving: int = 0


@dataclass(frozen=True, slots=True)
class Binding:
    """A queue hears a topic of one scope. `kind` and `patterns` are how its owner set fanout_prefix and fanout_patterns."""

    queue: Address
    kind: Literal["vhost", "named", "global"]
    scope: str
    patterns: bool
    topic: str
    pattern: str


class MemoryServer:
    """All queues and bindings of one memory broker. Not thread-safe by itself: hold `condition`."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.condition = threading.Condition(threading.Lock())
        self.queues: dict[Address, StoredQueue] = {}
        self.bindings: dict[Binding, None] = {}
        self._numbers = itertools.count(1)

    # -- queues ----------------------------------------------------------------------------------------------------

    def declare(self, vhost: str, settings: Queue) -> None:
        """Create a queue, or check that it has the same settings."""
        now = self.clock.monotonic()
        self.sweep()
        known = self.queues.get((vhost, settings.name))
        if known is None:
            self.queues[vhost, settings.name] = StoredQueue(settings, now)
            return
        known.used_at = now
        if replace(known.settings, max_attempts=None) != replace(settings, max_attempts=None):
            raise InconsistencyError(f"queue {settings.name!r} exists as {known.settings}, which is not {settings}")

    def queue(self, address: Address) -> StoredQueue:
        """Return a queue that lives."""
        found = self.queues.get(address)
        if found is None or self._is_unused(found):
            self.delete(address)
            raise QueueNotFound(address[1])
        return found

    def delete(self, address: Address) -> None:
        """Remove a queue with its messages and bindings."""
        self.queues.pop(address, None)
        for binding in [b for b in self.bindings if b.queue == address]:
            del self.bindings[binding]
        self.condition.notify_all()

    def sweep(self) -> None:
        """Remove queues that nobody consumed for their `expires`."""
        for address in [address for address, queue in self.queues.items() if self._is_unused(queue)]:
            self.delete(address)

    def purge(self, address: Address) -> int:
        """Remove everything that nobody holds."""
        queue = self.queue(address)
        self._ripen(queue, self.clock.monotonic())
        free = [stored for stored in queue.messages.values() if stored.state in ("ready", "delayed")]
        for stored in free:
            self._remove(queue, stored)
        return len(free)

    def depth(self, address: Address) -> Depth:
        """Count what a queue holds."""
        queue = self.queue(address)
        self._ripen(queue, self.clock.monotonic())
        states = [stored.state for stored in queue.messages.values()]
        return Depth(states.count("ready"), states.count("leased"), states.count("delayed"))

    def _is_unused(self, queue: StoredQueue) -> bool:
        expires = queue.settings.expires
        return expires is not None and not queue.receiving and self.clock.monotonic() >= queue.used_at + expires

    # -- sending ---------------------------------------------------------------------------------------------------

    def send(self, address: Address, messages: Sequence[Message]) -> list[Outcome]:
        """Store messages in a queue, in order."""
        queue = self.queue(address)
        outcomes = [self._accept(queue, message) for message in messages]
        self.condition.notify_all()
        return outcomes

    def publish(self, vhost: str, mine: Binding, messages: Sequence[Message]) -> list[Outcome]:
        """Copy messages to all queues bound in the publisher's scope; `mine` says which scope that is."""
        self.sweep()
        self.check_agreement(vhost, mine)
        for message in messages:
            for address in self._bound(mine, message.routing_key):
                self._copy_to(self.queue(address), message)
        self.condition.notify_all()
        return [None] * len(messages)

    def bind(self, binding: Binding) -> None:
        """Bind a queue."""
        bound = self.queue(binding.queue).bound
        self.check_agreement(binding.queue[0], binding)
        bound[binding] = bound.get(binding, False) or (binding in bound and binding not in self.bindings)
        self.bindings[binding] = None

    def unbind(self, binding: Binding) -> None:
        """Undo one `bind`."""
        self.bindings.pop(binding, None)
        if (queue := self.queues.get(binding.queue)) is not None:
            queue.bound.pop(binding, None)

    def check_agreement(self, vhost: str, mine: Binding) -> None:
        """Refuse a use of a topic that others use with another fanout_prefix or fanout_patterns."""
        for other in self.bindings:
            if other.topic != mine.topic:
                continue
            if other.queue[0] == vhost and other.kind != mine.kind:
                raise InconsistencyError(
                    f"topic {mine.topic!r}: queue {other.queue[1]!r} is bound with a fanout_prefix of kind {other.kind!r}, "
                    f"this side has kind {mine.kind!r}; they would not hear each other"
                )
            if (other.kind, other.scope) == (mine.kind, mine.scope) and other.patterns != mine.patterns:
                raise InconsistencyError(
                    f"topic {mine.topic!r}: queue {other.queue[1]!r} is bound with fanout_patterns={other.patterns}, "
                    f"this side has {mine.patterns}"
                )

    def _bound(self, mine: Binding, routing_key: str) -> list[Address]:
        """Return the queues that hear a routing key: each once, however many of its patterns match."""
        return list(
            dict.fromkeys(
                b.queue
                for b in self.bindings
                if (b.topic, b.kind, b.scope) == (mine.topic, mine.kind, mine.scope)
                and (not b.patterns or topic_matches(b.pattern, routing_key))
            )
        )

    def _copy_to(self, queue: StoredQueue, message: Message) -> None:
        """Store a copy in a subscriber's queue; a bounded one drops its oldest waiting copy and counts the gap."""
        if self._is_full(queue):
            queue.dropped += 1
            oldest = next((s for s in queue.messages.values() if s.state in ("ready", "delayed")), None)
            if oldest is None:
                return
            self._remove(queue, oldest)
        self._store(queue, message)

    def _accept(self, queue: StoredQueue, message: Message) -> Outcome:
        """Store a message sent to a queue, or say why not."""
        if queue.ids.get(message.id) in queue.messages:
            return None  # a repeated send, after an answer that never came
        if message.priority > queue.settings.max_priority:
            most = queue.settings.max_priority
            return InvalidMessage(f"priority {message.priority}: queue {queue.settings.name!r} takes at most {most}")
        if self._is_full(queue):
            return QueueFull(
                f"queue {queue.settings.name!r} holds its max_length of {queue.settings.max_length} messages"
            )
        self._store(queue, message)
        return None

    def _is_full(self, queue: StoredQueue) -> bool:
        return queue.settings.max_length is not None and len(queue.messages) >= queue.settings.max_length

    def _store(self, queue: StoredQueue, message: Message) -> None:
        now = self.clock.monotonic()
        ttl = message.ttl if message.ttl is not None else queue.settings.message_ttl
        stored = StoredMessage(next(self._numbers), self._copy(message), None if ttl is None else now + ttl)
        queue.messages[stored.seq] = stored
        queue.ids[message.id] = stored.seq
        if message.delay > 0:
            self._wait_until(queue, stored, now + message.delay, "delayed")
        else:
            self._make_ready(queue, stored)

    def _copy(self, message: Message) -> Message:
        """Return a copy that no later change of the caller's objects reaches."""
        return replace(message, headers=MappingProxyType(dict(message.headers)))

    # -- claiming --------------------------------------------------------------------------------------------------

    def claim(self, address: Address, limit: int, visibility_timeout: float, owner: object) -> list[Received]:
        """Take up to `limit` ready messages and record them in flight, in one step."""
        queue = self.queue(address)
        now = self.clock.monotonic()
        queue.used_at = now
        self._ripen(queue, now)
        claimed: list[Received] = []
        while len(claimed) < limit and (stored := self._next_ready(queue)) is not None:
            claimed.append(self._lease(queue, stored, now + visibility_timeout, owner, now))
        if claimed and queue.dropped:
            claimed[0].gap, queue.dropped = queue.dropped, 0
        return claimed

    def next_due(self, address: Address) -> float | None:
        """Return when the next delay or lease ends."""
        waiting = self.queue(address).waiting
        while waiting and waiting[0][2] != waiting[0][3].version:
            heapq.heappop(waiting)
        return waiting[0][0] if waiting else None

    def _ripen(self, queue: StoredQueue, now: float) -> None:
        """Make ready what is due: ripe delays, and leases that have ended."""
        if len(queue.ready) + len(queue.waiting) < len(queue.messages):
            self._order_anew(queue)
        while queue.waiting and queue.waiting[0][0] <= now:
            _, _, version, stored = heapq.heappop(queue.waiting)
            if version == stored.version and self._is_there(queue, stored):
                self._make_ready(queue, stored)

    def _next_ready(self, queue: StoredQueue) -> StoredMessage | None:
        while queue.ready:
            _, _, version, stored = heapq.heappop(queue.ready)
            if version == stored.version and self._is_there(queue, stored):
                return stored
        return None

    def _lease(self, queue: StoredQueue, stored: StoredMessage, deadline: float, owner: object, now: float) -> Received:
        stored.attempt += 1
        stored.claims += 1
        stored.owner = owner
        self._wait_until(queue, stored, deadline, "leased")
        return Received(
            message=self._copy(stored.message),
            queue=queue.settings.name,
            receipt=(stored.seq, stored.claims),
            attempt=stored.attempt,
            deadline=deadline,
            expired=stored.expires_at is not None and now >= stored.expires_at,
        )

    # -- what was lost ---------------------------------------------------------------------------------------------

    def take_lost(self, address: Address) -> list[str]:
        """Return the ids of a queue's messages that were found gone, each once."""
        queue = self.queues.get(address)
        if queue is None:
            return []
        lost, queue.lost = queue.lost, []
        return lost

    def restore_bindings(self, address: Address) -> list[Binding]:
        """Bind a queue anew where a binding of it is gone, and return these bindings, each once."""
        queue = self.queues.get(address)
        if queue is None or not (gone := [b for b, told in queue.bound.items() if told or b not in self.bindings]):
            return []
        for binding in gone:
            self.bindings[binding], queue.bound[binding] = None, False
        return gone

    def _is_there(self, queue: StoredQueue, stored: StoredMessage) -> bool:
        """Tell whether a message that stands in an order still exists, and note it if not."""
        if queue.messages.get(stored.seq) is stored:
            return True
        stored.version += 1
        queue.lost.append(stored.message.id)
        return False

    def _order_anew(self, queue: StoredQueue) -> None:
        """Let every message stand in its order again: somebody took them out. One that stands there twice is taken once."""
        for stored in queue.messages.values():
            if stored.state == "ready":
                heapq.heappush(queue.ready, (-stored.message.priority, stored.seq, stored.version, stored))
            elif stored.state in ("leased", "delayed"):
                heapq.heappush(queue.waiting, (stored.due, stored.seq, stored.version, stored))

    # -- settling --------------------------------------------------------------------------------------------------

    def held(self, address: Address, receipt: Receipt) -> tuple[StoredQueue, StoredMessage] | None:
        """Return the message that a receipt is the current claim of: the fence against late settlements."""
        queue = self.queues.get(address)
        stored = queue.messages.get(receipt[0]) if queue else None
        if queue is None or stored is None or stored.claims != receipt[1] or stored.state != "leased":
            return None
        return (queue, stored) if self.clock.monotonic() < stored.due else None

    def ack(self, address: Address, receipt: Receipt) -> bool:
        """Settle for good."""
        if (found := self.held(address, receipt)) is None:
            return False
        self._remove(*found)
        return True

    def extend(self, address: Address, receipt: Receipt, visibility_timeout: float) -> float | None:
        """Prolong a lease, and return its new end."""
        if (found := self.held(address, receipt)) is None:
            return None
        deadline = self.clock.monotonic() + visibility_timeout
        found[0].used_at = self.clock.monotonic()  # a handler that runs for long uses its queue, too
        self._wait_until(*found, deadline, "leased")
        return deadline

    def release(self, address: Address, receipt: Receipt, delay: float, *, counted: bool) -> bool:
        """Give back; the message keeps its place."""
        if (found := self.held(address, receipt)) is None:
            return False
        queue, stored = found
        if not counted:
            stored.attempt -= 1
        if delay > 0:
            self._wait_until(queue, stored, self.clock.monotonic() + delay, "delayed")
        else:
            self._make_ready(queue, stored)
        self.condition.notify_all()
        return True

    def leave(self, owner: object) -> None:
        """Make visible what a closed receiver still held."""
        for queue in self.queues.values():
            for stored in [s for s in queue.messages.values() if s.state == "leased" and s.owner is owner]:
                self._make_ready(queue, stored)
        self.condition.notify_all()

    # -- states ----------------------------------------------------------------------------------------------------

    def _make_ready(self, queue: StoredQueue, stored: StoredMessage) -> None:
        stored.state, stored.version = "ready", stored.version + 1
        heapq.heappush(queue.ready, (-stored.message.priority, stored.seq, stored.version, stored))

    def _wait_until(
        self, queue: StoredQueue, stored: StoredMessage, due: float, state: Literal["delayed", "leased"]
    ) -> None:
        stored.state, stored.due, stored.version = state, due, stored.version + 1
        heapq.heappush(queue.waiting, (due, stored.seq, stored.version, stored))
        self.condition.notify_all()

    def _remove(self, queue: StoredQueue, stored: StoredMessage) -> None:
        stored.state, stored.version = "gone", stored.version + 1
        del queue.messages[stored.seq]
        queue.ids.pop(stored.message.id, None)
