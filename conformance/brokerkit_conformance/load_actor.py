"""What the workers of a load do: a producer sends, a consumer takes and settles; both write down each step.

They run as processes of their own, started by `python -m brokerkit_conformance.actor`, or as threads where an engine lives
within one process. What happened is in the event log; what they tell besides only says how far they are.
"""

from __future__ import annotations

import contextlib
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeAlias

import brokerkit
from brokerkit.errors import BrokerkitError, ConnectionLost, LeaseLost, NotConnected, OperationTimeout, OutcomeUnknown
from brokerkit_conformance.faults import clock_from_environment
from brokerkit_conformance.history import EventLog, Operation, Verb

if TYPE_CHECKING:
    from brokerkit import Broker, Consumer, Delivery

__all__ = ["Connect", "Orders", "Task", "Tell", "perform", "perform_here"]

Connect: TypeAlias = "Callable[[Callable[[Any], None]], Broker]"
"""Opens a broker with a listener of its events."""

_LOOK: Final = 0.25  # seconds that one receive waits
_PULSE: Final = 0.05
_OBEYED: Final = 60.0  # seconds after which a worker that is held goes on by itself
_OPEN: Final = (OutcomeUnknown, ConnectionLost, OperationTimeout)


class Tell(Protocol):
    """Says how far a worker is."""

    def __call__(self, what: str, **fields: Any) -> None:
        """Say one thing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What one worker is to do.

    Attributes:
        kind: of worker.
        name: of the worker, in the histories.
        log: path of its event log.
        queue: that it works on.
        seed: of all that it leaves to chance.
        count: messages to send; None for until it is stopped.
        burst: messages that are sent without a pause.
        pause: seconds between two bursts, or that a consumer works on a message; a half to one and a half of it.
        delay: seconds, of each send.
        grouped: each producer sends with an ordering key of its own.
        prefetch: of a consumer.
        lease: the visibility timeout that it asks for, in seconds.
        releases: the share of deliveries that it gives back.
        unawaited: the share of acks whose answer it does not wait for.
        held: it waits to be let go before it begins.
        pulse: it tells when it stood still for longer than so many seconds; None: never.
    """

    kind: Literal["produce", "consume"]
    name: str
    log: str
    queue: str
    seed: int = 0
    count: int | None = None
    burst: int = 1
    pause: float = 0.0
    delay: float = 0.0
    grouped: bool = False
    prefetch: int = 10
    lease: float = 30.0
    releases: float = 0.0
    unawaited: float = 0.0
    held: bool = False
    pulse: float | None = None


class Orders:
    """What a worker is told while it works. Thread-safe."""

    def __init__(self) -> None:
        self.stopped = threading.Event()
        self._free = threading.Event()
        self._free.set()

    def obey(self, word: str) -> None:
        """Take an order: "stop", or "hold", with the next message in hand, and "go"."""
        if word == "hold":
            self._free.clear()
            return
        if word == "stop":
            self.stopped.set()
        self._free.set()

    @property
    def held(self) -> bool:
        """Whether it is to stand where it is."""
        return not self._free.is_set()

    def wait(self) -> None:
        """Wait to be let go."""
        self._free.wait(_OBEYED)


def perform(task: Task, connect: Connect, tell: Tell, orders: Orders) -> None:
    """Do what a task says, until it is done or the worker is stopped."""
    with EventLog(task.log, task.name) as log:
        worker = (_Producer if task.kind == "produce" else _Consumer)(task, log, tell, orders)
        with connect(worker.heard) as broker, _pulse(task.pulse, tell):
            worker.begin()
            worker.work(broker)
    tell("done")


def perform_here(url: str, options: dict[str, Any], settings: dict[str, Any], tell: Tell) -> None:
    """Do what a task says as the only work of this process: SIGTERM stops it, and so do orders, a line of stdin each."""
    orders = Orders()
    signal.signal(signal.SIGTERM, lambda *_: orders.obey("stop"))

    def listen() -> None:
        for line in sys.stdin:
            orders.obey(line.strip())

    threading.Thread(target=listen, name="orders", daemon=True).start()

    def connect(heard: Callable[[Any], None]) -> Broker:
        return brokerkit.connect(url, clock=clock_from_environment(), on_event=heard, **options)

    perform(Task(**settings), connect, tell, orders)


class _Worker:
    def __init__(self, task: Task, log: EventLog, tell: Tell, orders: Orders) -> None:
        self.task = task
        self.log = log
        self.tell = tell
        self.orders = orders
        self.random = random.Random(f"{task.seed} {task.name}")  # noqa: S311 - a plan, no secret
        self.troubles = 0

    def begin(self) -> None:
        if self.task.held:
            self.orders.obey("hold")
        self.tell("ready")
        self.orders.wait()

    def work(self, broker: Broker) -> None:
        raise NotImplementedError

    def heard(self, event: Any) -> None:
        """Listen to the broker: after trouble with the server an answer may be about an earlier try."""
        if event.name in ("retrying", "receiver_failed"):
            self.troubles += 1

    def rest(self) -> None:
        if self.task.pause:
            self.orders.stopped.wait(self.task.pause * self.random.uniform(0.5, 1.5))


class _Producer(_Worker):
    _sending: str | None = None

    def work(self, broker: Broker) -> None:
        number = 0
        while not self.orders.stopped.is_set() and number != self.task.count:
            self._send(broker, f"{self.task.name}-{number}")
            number += 1
            if number % self.task.burst == 0:
                self.rest()

    def heard(self, event: Any) -> None:
        super().heard(event)
        if event.name == "retrying" and self._sending is not None:
            self.log.note(Verb.SEND, message=self._sending, queue=self.task.queue)

    def _send(self, broker: Broker, token: str) -> None:
        key = self.task.name if self.task.grouped else None
        delay = self.task.delay
        doing = self.log.begin(Verb.SEND, message=token, queue=self.task.queue, delay=delay, group=key)
        self._sending = token
        try:
            broker.send(self.task.queue, token.encode(), delay=delay, ordering_key=key)
        except BrokerkitError as error:
            self._sending = None
            is_open = isinstance(error, _OPEN) and not isinstance(error, NotConnected)
            (doing.unknown if is_open else doing.fail)(error)
            self.tell("refused", error=str(error))
        else:
            self._sending = None
            doing.ok()
            self.tell("accepted", token=token)


class _Consumer(_Worker):
    def __init__(self, task: Task, log: EventLog, tell: Tell, orders: Orders) -> None:
        super().__init__(task, log, tell, orders)
        self._handed = 0
        self._names: dict[str, tuple[str, str]] = {}

    def work(self, broker: Broker) -> None:
        consumer = broker.consumer(self.task.queue, prefetch=self.task.prefetch, visibility_timeout=self.task.lease)
        while not self.orders.stopped.is_set():
            self._take(consumer)
        closing = self.log.begin(Verb.CLOSE)
        consumer.close()
        closing.ok()

    def heard(self, event: Any) -> None:
        super().heard(event)
        if event.name == "lease_lost" and event.message_id in self._names:
            token, name = self._names[event.message_id]
            self.log.note(Verb.LEASE_LOST, message=token, queue=self.task.queue, delivery=name)

    def _take(self, consumer: Consumer) -> None:
        doing = self.log.begin(Verb.RECEIVE, queue=self.task.queue)
        try:
            delivery = consumer.receive(timeout=_LOOK)
        except BrokerkitError as error:
            doing.fail(error)
            if not error.retryable:
                raise
            return
        if delivery is None:
            doing.ok()
            return
        self._handed += 1
        token, name = delivery.body.decode("latin-1"), f"{self.task.name}/{self._handed}"
        self._names[delivery.id] = (token, name)
        doing.ok(message=token, delivery=name, attempt=delivery.attempt)
        self.tell("received", token=token)
        if self.orders.held:
            self.tell("holding", token=token)
            self.orders.wait()
        self.rest()
        self._settle(delivery, token, name)

    def _settle(self, delivery: Delivery, token: str, name: str) -> None:
        releasing = self.random.random() < self.task.releases
        awaited = self.random.random() >= self.task.unawaited
        doing = self.log.begin(
            Verb.RELEASE if releasing else Verb.ACK, message=token, queue=self.task.queue, delivery=name
        )
        before = self.troubles
        try:
            if releasing:
                delivery.release()
            else:
                delivery.ack(wait=awaited)
        except LeaseLost as error:
            # after trouble the first try may have settled it, and the repeat found it gone
            if self.troubles == before:
                doing.fail(error)
            else:
                self._settled(doing, token, error, releasing=releasing)
        except BrokerkitError as error:
            self._settled(doing, token, error, releasing=releasing)
        else:
            self._settled(doing, token, None if awaited or releasing else "not waited for", releasing=releasing)

    def _settled(self, doing: Operation, token: str, doubt: object, *, releasing: bool) -> None:
        """Write down that it is settled, or, with a doubt, that it may be: then it comes back to somebody, or never."""
        if doubt is None:
            doing.ok()
        else:
            doing.unknown(doubt)
        self.tell("released" if releasing else "settled", token=token)


@contextlib.contextmanager
def _pulse(longest: float | None, tell: Tell) -> Iterator[None]:
    """Tell when this process stood still for long although nobody stopped it: what it kept may be lost by that."""
    ended = threading.Event()

    def beat(longest: float) -> None:
        before = time.monotonic()
        while not ended.wait(_PULSE):
            now = time.monotonic()
            if now - before > longest:
                tell("stood_still", began=before, ended=now)
            before = now

    if longest is not None:
        threading.Thread(target=beat, args=(longest,), name="pulse", daemon=True).start()
    try:
        yield
    finally:
        ended.set()
