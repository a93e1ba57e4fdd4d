"""The contract: what a plugin implements, and what it may expect of the core.

Duties of every method, written once:

* **Threads.** All methods may be called from any thread at any time; `ack`, `extend`, `release` and `close` must not wait
  for a `receive` that blocks.
* **Forks.** None: in a forked child the core builds a new object from the same URL and never touches the inherited one.
* **Time.** `timeout` is in seconds and above 0; no method blocks longer. `receive` may come back earlier, empty-handed.
  `close` ends a blocked `receive` within a second. Waiting goes through the injected `Clock` where no server is involved.
* **Retry.** Never: the client library's own repeats are off, the core has the one retry layer.
* **Errors.** Raise what the client raises; the core translates by `errors`. Errors of `brokerkit.errors` pass through.
  After a lost connection a method raises once, and the next call opens it anew; deliveries of before are lost.
* **Secrets.** Never logged, never in a text.
* **Batches** are non-empty; slicing to the server's size is the plugin's work. A batch has one outcome per item, in order.
* **Stale receipts never reach the server**: the plugin fences by its epoch and by `Received.deadline` first. A receipt is
  good for its own message, queue and virtual host only.
* **Names and options** were checked by the core against `capabilities`; nothing that is absent there is asked for.

A new power is a new `Supports…` class; a new fact is a new field of `Capabilities`; the classes here do not grow.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Protocol, Self

from brokerkit.capabilities import Capabilities, ResultCapabilities
from brokerkit.errors import ErrorTable
from brokerkit.models import Depth, Message, Outcome, Queue, Received, Record
from brokerkit.options import Options
from brokerkit.url import URL

__all__ = [
    "SETTLE_TIMEOUT",
    "Clock",
    "Receiver",
    "ResultBackend",
    "SupportsDepth",
    "SupportsEvictionCheck",
    "SupportsFanout",
    "SupportsParts",
    "SupportsRequester",
    "SupportsWait",
    "Transport",
]


SETTLE_TIMEOUT: Final = 10.0
"""Seconds that settling may take where its caller names none."""


class Clock(Protocol):
    """Time, injected so that tests can move it. Nobody else in brokerkit looks at the time or sleeps."""

    def time(self) -> float:
        """Seconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never goes back."""
        ...

    def wait(self, condition: threading.Condition, timeout: float | None) -> bool:
        """Wait on a held condition for at most `timeout` seconds of this clock; False if the time passed."""
        ...


class Transport(ABC):
    """The driver of one message broker."""

    options_type: ClassVar[type[Options]]
    """The plugin's own options, beside those of `BrokerOptions`."""

    errors: ClassVar[ErrorTable]
    """Client error → ours."""

    capabilities: Capabilities
    """Facts, known before any I/O."""

    @classmethod
    @abstractmethod
    def from_url(cls, url: URL, options: Any, *, clock: Clock) -> Self:
        """Build from a URL whose query was already turned into `options`. Connects lazily: no I/O here.

        Raises:
            InvalidURL: the URL's host or path makes no sense for this engine.
        """

    @abstractmethod
    def declare(self, queue: Queue, *, timeout: float) -> None:
        """Create a queue; idempotent, and safe when many do it at once.

        Raises:
            InconsistencyError: it exists with other settings (`max_attempts` excepted).
        """

    @abstractmethod
    def delete(self, name: str, *, timeout: float) -> None:
        """Remove a queue with its messages and bindings; nothing happens if there is none."""

    @abstractmethod
    def purge(self, name: str, *, timeout: float) -> int:
        """Remove all messages that nobody holds, and return how many.

        Raises:
            QueueNotFound: there is no such queue.
        """

    @abstractmethod
    def send(self, name: str, messages: Sequence[Message], *, timeout: float) -> Sequence[Outcome]:
        """Store messages in a queue, in order. When it returns, those with outcome None are as durable as promised.

        Raises:
            QueueNotFound: there is no such queue; nothing was stored.
            Exception: a client error of the whole call; the core takes it that any message may have been stored.
        """

    @abstractmethod
    def open_receiver(self, names: Sequence[str], *, prefetch: int, visibility_timeout: float) -> Receiver:
        """Claim one or many queues for a consumer. May do no I/O; a missing queue shows at `receive`."""

    @abstractmethod
    def close(self, *, timeout: float) -> None:
        """Let go of all connections; idempotent. Receivers were closed before."""


class Receiver(ABC):
    """One consumer's claim on one or many queues."""

    @abstractmethod
    def receive(
        self, *, limit: int, timeout: float, acks: Sequence[Received] = ()
    ) -> tuple[Sequence[Received], Sequence[Received]]:
        """Ack finished deliveries and claim new ones, in one round trip where the server can.

        Returns at once when any message is due, with at most `limit`; else waits for up to `timeout`, which may be 0: it
        looks once at least, for half a second where it must, and raises if it could not look at all.
        Each claim is atomic: taken from the ready ones and recorded with deadline and receipt in one step. Leases that
        have ended are reclaimed here, oldest first. Over several queues the order is fair: each gets its turn.

        Returns:
            The new deliveries, and those of `acks` whose lease was lost.

        Raises:
            QueueNotFound: queues of this receiver are gone, named; the other queues go on. Never from a call that has done
                `acks`, as nobody would learn which were lost; it is told by the next one.
        """

    @abstractmethod
    def ack(self, deliveries: Sequence[Received], *, timeout: float = SETTLE_TIMEOUT) -> Sequence[Received]:
        """Settle for good. Returns those whose lease was lost."""

    @abstractmethod
    def extend(
        self, deliveries: Sequence[Received], *, visibility_timeout: float, timeout: float = SETTLE_TIMEOUT
    ) -> Sequence[Received]:
        """Prolong leases to `visibility_timeout` from now, and set each `deadline`. Returns those that were lost."""

    @abstractmethod
    def release(
        self,
        deliveries: Sequence[Received],
        *,
        delay: float = 0.0,
        counted: bool = True,
        timeout: float = SETTLE_TIMEOUT,
    ) -> Sequence[Received]:
        """Give back, at once or after `delay` seconds. Returns those whose lease was lost.

        Args:
            deliveries: what to give back; each keeps its place in the order where the engine has one.
            delay: seconds, from 0.
            counted: False if it never reached a handler: the attempt is given back where the server can.
            timeout: of the call.
        """

    @abstractmethod
    def close(self, *, timeout: float) -> None:
        """End the claim; idempotent. The core has released what was unsettled; what is left becomes visible at once."""


class SupportsFanout(ABC):
    """Topics: every queue bound with a matching pattern gets its own copy."""

    @abstractmethod
    def bind(self, name: str, topic: str, pattern: str, *, timeout: float) -> None:
        """Bind a queue to a topic; idempotent; effective when it returns.

        Raises:
            QueueNotFound: there is no such queue.
            InconsistencyError: others use this topic with another `fanout_prefix` or `fanout_patterns`.
        """

    @abstractmethod
    def unbind(self, name: str, topic: str, pattern: str, *, timeout: float) -> None:
        """Undo one `bind`; nothing happens if there is none."""

    @abstractmethod
    def publish(self, topic: str, messages: Sequence[Message], *, timeout: float) -> Sequence[Outcome]:
        """Copy each message to every queue bound with a pattern that matches its `routing_key`; none is fine.

        All copies of one message are stored in one step, or none is.

        Raises:
            InconsistencyError: others use this topic with another `fanout_prefix` or `fanout_patterns`.
        """


class SupportsDepth(ABC):
    """Counting what is in a queue."""

    @abstractmethod
    def depth(self, name: str, *, timeout: float) -> Depth:
        """Return how many messages the queue holds.

        Raises:
            QueueNotFound: there is no such queue.
        """


class ResultBackend(ABC):
    """The driver of one result store."""

    options_type: ClassVar[type[Options]]
    """The plugin's own options, beside those of `ResultOptions`."""

    errors: ClassVar[ErrorTable]
    """Client error → ours."""

    capabilities: ResultCapabilities
    """Facts, known before any I/O."""

    @classmethod
    @abstractmethod
    def from_url(cls, url: URL, options: Any, *, clock: Clock) -> Self:
        """Build from a URL whose query was already turned into `options`. Connects lazily: no I/O here."""

    @abstractmethod
    def put(self, records: Sequence[Record], *, ttl: float | None, timeout: float) -> Sequence[Outcome]:
        """Store records; keys are distinct. Compare-and-set in the server: what is final is never replaced.

        The outcome of a record that was kept out, by a final one or by `if_absent`, is `AlreadyFinal`.

        Args:
            records: what to store.
            ttl: seconds to keep them from now; None for ever.
            timeout: of the call.

        Raises:
            Exception: a client error of the whole call; the core takes it that any record may have been stored.
        """

    @abstractmethod
    def get(self, keys: Sequence[str], *, timeout: float) -> Sequence[Record | None]:
        """Return the records, or None where there is none, in the order of `keys`. Reading changes nothing.

        A record past its time to live that the store still remembers comes with `expired=True`.
        """

    @abstractmethod
    def delete(self, keys: Sequence[str], *, timeout: float) -> None:
        """Remove records; nothing happens where there is none."""

    @abstractmethod
    def close(self, *, timeout: float) -> None:
        """Let go of all connections; idempotent."""


class SupportsWait(ABC):
    """A store that wakes waiters by itself. Without it the core polls, all awaited keys in one `get`."""

    @abstractmethod
    def wait(self, seen: Mapping[str, Record | None], *, timeout: float) -> Sequence[str]:
        """Wait until a record differs from what was `seen`, and return the keys that changed; empty on time-out."""


class SupportsParts(ABC):
    """A store of several servers, each of which has its part of the keys: one that is away must not hold up the others."""

    @abstractmethod
    def get_parts(self, keys: Sequence[str], *, timeout: float) -> Sequence[Record | Exception | None]:
        """As `ResultBackend.get`, with the client's error in the place of each record whose server failed."""


class SupportsRequester(ABC):
    """A store whose results go to whoever asked for them (`readers="requester"`): its ids say to whom.

    Without I/O. Any store of the same server takes any such id, and brings the record to its requester.
    """

    @abstractmethod
    def own_id(self, id: str) -> str:  # noqa: A002 - the word of the API
        """Return the id under which this process can read a result: made of a text, or itself if it is one already.

        Raises:
            NotRequester: it is another process's.
        """

    @abstractmethod
    def check_id(self, id: str) -> None:  # noqa: A002
        """Refuse an id that does not say whose it is.

        Raises:
            InvalidName: and the text says where to take one from.
        """

    @abstractmethod
    def check_reader(self, id: str) -> None:  # noqa: A002
        """Refuse an id whose result this process cannot read.

        Raises:
            NotRequester: it is another process's.
        """


class SupportsEvictionCheck(ABC):
    """A server whose settings decide whether it drops what it stores; of a transport or of a result backend.

    What is certain before any I/O stands in the capabilities.
    """

    @abstractmethod
    def evictable(self, *, timeout: float) -> Sequence[str]:
        """Ask the server what it may drop by itself; empty if nothing. Where the answer is refused, say so in words."""
