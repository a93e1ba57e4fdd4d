"""The bench: what a case works with. Each case has one of its own, with names of its own, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import brokerkit
from brokerkit import registry
from brokerkit.abc import Receiver, ResultBackend, Transport
from brokerkit.capabilities import Capabilities, ResultCapabilities
from brokerkit.models import Message, Received, new_id
from brokerkit.options import ResultOptions, gather, resolve
from brokerkit.results import results
from brokerkit.url import URL
from brokerkit_conformance.actors import Actor
from brokerkit_conformance.gates import Subject
from brokerkit_conformance.harness import Harness
from brokerkit_conformance.model import HarnessError, NotRun
from brokerkit_conformance.storage import Storage
from brokerkit_conformance.timeline import MovedTime, RealTime, SystemTime, Timeline, eventually

if TYPE_CHECKING:
    from brokerkit import Broker, Consumer, DeadLetter, Delivery
    from brokerkit.results import ResultStore

__all__ = ["HANG", "Bench", "check", "new_namespace"]

HANG: Final = 20.0
"""Real seconds after which anything that should have ended counts as hanging."""


def check(condition: object, message: str) -> None:
    """Fail the case with a sentence unless the condition holds; unlike `assert` also under `python -O`."""
    if not condition:
        raise AssertionError(message)


def new_namespace(law_id: str) -> str:
    """Return what all names of one run of one case begin with: never the same twice."""
    return f"bk{secrets.token_hex(4)}-{law_id.lower()}"


class Bench:
    """Opens brokers and stores, moves or awaits time, and closes and deletes everything at the end.

    Attributes:
        harness: how the engine is reached.
        time: the time of this case.
        measured: numbers that the case took down, by name.
        urls: the harness's broker URLs.
        results_urls: its result store URLs.
    """

    def __init__(self, harness: Harness, subject: Subject, namespace: str) -> None:
        self.harness = harness
        self._subject = subject
        self._namespace = namespace
        self._undo = contextlib.ExitStack()
        self._threads: list[_Thread] = []
        self._queues: list[tuple[str, str]] = []
        self._url_of: dict[Broker, str] = {}
        self._consumers: list[Consumer] = []
        self._default: Broker | None = None
        self._default_store: ResultStore | None = None
        self.measured: dict[str, Any] = {}
        self.urls = list(harness.urls())
        self.results_urls = list(harness.results_urls())
        clock = harness.clock()
        self.time: Timeline = RealTime(harness.lease) if clock is None else MovedTime(clock)

    # -- names and time --------------------------------------------------------------------------------------------

    def name(self, suffix: str = "q") -> str:
        """Return a name of this case's own, for a queue, a topic or a result."""
        return f"{self._namespace}-{suffix}"

    def key(self, suffix: str = "q", store: ResultStore | None = None) -> str:
        """Return the id of a result of this case's own, which a store can read; those of `results` by default."""
        return (store or self.results).own_id(self.name(suffix))

    @property
    def lease(self) -> float:
        """The visibility timeout to ask for: short, yet not below what the engine takes. Without a broker it measures time."""
        transport = self._subject.transport
        return self.time.lease if transport is None else max(self.time.lease, transport.lease.min)

    @property
    def slack(self) -> float:
        """What is added to every declared bound, in seconds."""
        return self.time.slack

    @property
    def timed(self) -> bool:
        """Whether claims end at their visibility timeout: by the server, or where a connection holds them by the plugin."""
        return self.capabilities.lease.scope == "message" or self.capabilities.redelivery.lease_end is not None

    def lease_end_bound(self, lease: float | None = None) -> float:
        """Return within how many seconds of its claim an abandoned message is promised to be back."""
        late = self.capabilities.redelivery.lease_end
        if late is None:
            raise AssertionError(
                "its leases end, and it declares that nothing comes back then: each slow handler loses some"
            )
        return (self.lease if lease is None else lease) + late + self.slack

    def past_lease(self) -> float:
        """Return a time after which an unkept lease has certainly ended, to show that something does not come back."""
        return 1.2 * self.lease + (self.capabilities.redelivery.lease_end or 0)

    def let_pass(self, seconds: float) -> None:
        """Let so many seconds pass."""
        self.time.let_pass(seconds)

    def wait_until(self, condition: Callable[[], Any], *, within: float, what: str) -> None:
        """Fail unless a condition becomes true within so many seconds."""
        check(eventually(self.time, condition, within), f"{what}: not within {within:g} s")

    # -- engines ---------------------------------------------------------------------------------------------------

    @property
    def capabilities(self) -> Capabilities:
        """What the transport declares."""
        if self._subject.transport is None:
            raise HarnessError("a case of a transport ran without one")
        return self._subject.transport

    @property
    def results_capabilities(self) -> ResultCapabilities:
        """What the result backend declares."""
        if self._subject.results is None:
            raise HarnessError("a case of a result store ran without one")
        return self._subject.results

    def connect(self, *, url: str | None = None, **options: Any) -> Broker:
        """Open a broker on the engine under test."""
        given = {"visibility_timeout": self.lease, "retry_delay": 0.0, **self.harness.options(), **options}
        broker = brokerkit.connect(url or self.urls[0], clock=self.time.clock, **given)
        self._url_of[broker] = url or self.urls[0]
        self._undo.callback(broker.close)
        return broker

    def twin(self) -> Bench:
        """Return another bench on the same URLs, as another run of the same case would have; finished at the end."""
        other = Bench(self.harness, self._subject, new_namespace("twin"))
        other.urls, other.results_urls, other.time = self.urls, self.results_urls, self.time
        self._undo.callback(other.finish)
        return other

    def private(self, *, doomed: bool = False, results: bool = False) -> None:
        """From here on, work on a new server of this case's own, which it may break.

        Args:
            doomed: it will be killed, frozen or restarted as well.
            results: it has to be one that stores results.
        """
        urls = self.harness.doomed_urls() if doomed else self.harness.private_urls()
        had_broker = bool(self.urls)
        self.urls, self.results_urls = map(list, urls)
        if not (self.urls if had_broker and not results else self.results_urls):
            raise NotRun("the harness gives no server that a case may break")

    def storage(self, url: str | None = None) -> Storage:
        """Open foreign access to what the server of a URL stores, the broker's by default."""
        roles = self.harness.storage_map()
        admin = self.harness.admin(url or (self.urls or self.results_urls)[0], clock=self.time.clock)
        if admin is None or roles is None:
            raise NotRun("the harness brings no foreign access: no admin, or no storage map")
        self._undo.callback(admin.close)
        return Storage(admin, roles)

    def store(self, *, url: str | None = None, **options: Any) -> ResultStore:
        """Open a result store on the engine under test."""
        given = {**self.harness.results_options(), **options}
        store = results(url or self.results_urls[0], clock=self.time.clock, **given)
        self._undo.callback(store.close)
        return store

    def backend(self, url: str | None = None) -> ResultBackend:
        """Open a bare result backend, for what only the contract can say, or somebody behind the core's back."""
        parsed = URL.parse(url or self.results_urls[0])
        kind: type[ResultBackend] = registry.find(parsed, "result_backend").load()
        given = gather(parsed, self.harness.results_options(), None)
        _, options = resolve(given, ResultOptions, kind.options_type, scheme=parsed.full_scheme)
        backend = kind.from_url(parsed.with_query(()), options, clock=self.time.clock or SystemTime())
        self._undo.callback(backend.close, timeout=5.0)
        return backend

    @property
    def broker(self) -> Broker:
        """One broker, opened when it is first asked for."""
        if self._default is None:
            self._default = self.connect()
        return self._default

    @property
    def results(self) -> ResultStore:
        """One result store, opened when it is first asked for."""
        if self._default_store is None:
            self._default_store = self.store()
        return self._default_store

    @property
    def transport(self) -> Transport:
        """The plugin's own object behind `broker`, for what only the contract can say."""
        return self.broker.transport

    def second_url(self, urls: Sequence[str], what: str) -> str:
        """Return the second of the harness's URLs, or end the case as NOT_RUN."""
        if len(urls) < 2:  # noqa: PLR2004 - the first and the second
            raise NotRun(f"the harness gives no second {what}")
        return urls[1]

    # -- sending and receiving -------------------------------------------------------------------------------------

    def queue(self, suffix: str = "q", *, broker: Broker | None = None, **settings: Any) -> str:
        """Declare a queue of this case's own, and return its name. It is deleted at the end."""
        name = self.name(suffix)
        owner = broker or self.broker
        owner.declare(name, **settings)
        self.remember(name, broker=owner)
        return name

    def remember(self, name: str, *, broker: Broker | None = None) -> None:
        """Delete a queue, and its dead queue, at the end."""
        self._queues.append((self._url_of[broker or self.broker], name))

    def consumer(self, *queues: str, broker: Broker | None = None, **settings: Any) -> Consumer:
        """Open a consumer, closed at the end."""
        consumer = (broker or self.broker).consumer(*queues, **settings)
        self._undo.callback(consumer.close)
        self._consumers.append(consumer)
        return consumer

    def receive(self, consumer: Consumer, within: float) -> Delivery | None:
        """Return the next delivery, or None if there is none within so many seconds."""
        with self.time.running():
            return consumer.receive(timeout=within)

    def expect(self, consumer: Consumer, *, within: float | None = None, what: str = "the message") -> Delivery:
        """Return the next delivery; fail if there is none."""
        bound = self.lease if within is None else within
        delivery = self.receive(consumer, bound)
        if delivery is None:
            raise AssertionError(f"{what} did not come within {bound:g} s")
        return delivery

    def collect(
        self, queue: str, consumer: Consumer | None = None, *, settle: Callable[[Delivery], None] | None = None
    ) -> list[Delivery]:
        """Send a marker to a queue, and take everything up to it; that nothing else comes is shown, not slept for.

        Without a `consumer` a new one takes, and so do all others of the case: an open one may have prefetched something.
        """
        seen: list[Delivery] = []
        for other in [] if consumer else [c for c in self._consumers if queue in c.queues and not c.stopping]:
            while (prefetched := self.receive(other, 0.0)) is not None:
                seen.append(prefetched)
                (settle or _ack)(prefetched)
        own = consumer or self.consumer(queue)
        marker = self.broker.send(queue, b"marker")
        while True:
            delivery = self.expect(own, what="the marker that was sent after all else")
            if delivery.id == marker:
                delivery.ack(wait=True)
                break
            seen.append(delivery)
            (settle or _ack)(delivery)
        while self.capabilities.order != "queue" and (late := self.receive(own, 0.5)) is not None:
            seen.append(late)  # without an order the marker may have overtaken something
            (settle or _ack)(late)
        if consumer is None:
            own.close()
        return seen

    def silent(self, queue: str, consumer: Consumer | None = None, *, why: str) -> None:
        """Fail if anything at all is ready in a queue."""
        extra = self.collect(queue, consumer)
        check(not extra, f"{why}, yet came: {[(d.id, d.attempt, d.body[:40]) for d in extra]}")

    def dead_letters(self, queue: str, broker: Broker | None = None) -> list[DeadLetter]:
        """Return a queue's dead letters."""
        with self.time.running():
            return (broker or self.broker).dead_letters(queue)

    # -- the contract itself ---------------------------------------------------------------------------------------

    def receiver(self, *queues: str, broker: Broker | None = None, lease: float | None = None) -> Receiver:
        """Open a bare receiver: nobody keeps its leases, nobody settles for it."""
        transport = (broker or self.broker).transport
        receiver = transport.open_receiver(queues, prefetch=1000, visibility_timeout=lease or self.lease)
        self._undo.callback(receiver.close, timeout=5.0)
        return receiver

    def claim(self, receiver: Receiver, count: int = 1, *, within: float | None = None) -> list[Received]:
        """Claim exactly `count` messages; fail if they do not come in time."""
        bound = self.lease if within is None else within
        end = self.time.now() + bound
        claimed: list[Received] = []
        with self.time.running():
            while len(claimed) < count and (left := end - self.time.now()) > 0:
                got, _ = receiver.receive(limit=count - len(claimed), timeout=left)
                claimed += got
        check(len(claimed) == count, f"{len(claimed)} of {count} messages came within {bound:g} s")
        return claimed

    def send_message(self, queue: str, body: bytes = b"x", **fields: Any) -> Message:
        """Send by the contract itself, and return what was sent."""
        message = Message(
            id=new_id(time.time() if self.time.clock is None else self.time.clock.time()), body=body, **fields
        )
        (outcome,) = self.transport.send(queue, [message], timeout=10.0)
        if outcome is not None:
            raise outcome
        return message

    def actor(
        self, *words: str, url: str | None = None, env: Mapping[str, str] | None = None, **settings: Any
    ) -> Actor:
        """Start a process of its own that works on the same URL; it is killed at the end.

        Args:
            words: the verb, then the queues.
            url: another one than the first of the harness.
            env: what to add to its environment, such as `faults.environment_of`.
            settings: of the verb.
        """
        options = {"visibility_timeout": self.lease, "retry_delay": 0.0, **self.harness.options()}
        actor = Actor(url or self.urls[0], options, words, settings, prepare=self.harness.prepare(), env=env)
        self._undo.callback(actor.kill)
        return actor

    def folder(self) -> Path:
        """Return a new folder, for the logs of actors; it is removed at the end."""
        return Path(self._undo.enter_context(tempfile.TemporaryDirectory(prefix="brokerkit-conformance-")))

    # -- threads and the end ---------------------------------------------------------------------------------------

    def thread(self, work: Callable[[], object], name: str = "worker") -> threading.Thread:
        """Run something beside; whatever it raises fails the case at the end."""
        thread = _Thread(work, f"{self._namespace}-{name}")
        self._threads.append(thread)
        thread.start()
        return thread

    def join(self) -> None:
        """Wait for all threads of this case, and raise what they raised."""
        threads, self._threads = self._threads, []
        with self.time.running():
            for thread in threads:
                thread.join(HANG)
        for thread in threads:
            check(not thread.is_alive(), f"thread {thread.name} hangs")
            if thread.error is not None:
                raise thread.error

    def finish(self) -> None:
        """Join all threads, close everything, delete every queue; what fails in this fails the case."""
        try:
            self.join()
        finally:
            with self.time.running():
                self._undo.close()
            self._delete_queues()

    def _delete_queues(self) -> None:
        for url in {url for url, _ in self._queues}:
            with brokerkit.connect(url, clock=self.time.clock, **self.harness.options()) as cleaner:
                for name in [name for where, name in self._queues if where == url]:
                    cleaner.delete(name)
                    if not name.endswith(".dead"):
                        cleaner.delete(f"{name}.dead")


class _Thread(threading.Thread):
    def __init__(self, work: Callable[[], object], name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._work = work
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - raised again by join
            self.error = error


def _ack(delivery: Delivery) -> None:
    delivery.ack(wait=True)
