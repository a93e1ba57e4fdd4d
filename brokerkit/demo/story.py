"""The story: who does what, and when; the account at its end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Final, Protocol, final

from brokerkit._clock import SYSTEM_CLOCK, sleep
from brokerkit._targets import Target
from brokerkit.broker import Broker
from brokerkit.demo.account import Account, fates_of
from brokerkit.demo.awaiting import Awaiting
from brokerkit.demo.crew import Crew
from brokerkit.demo.eviction import evict
from brokerkit.demo.logbook import Logbook
from brokerkit.demo.plan import Errand, Plan
from brokerkit.demo.producer import Producer
from brokerkit.demo.topic import tell_the_subscribers
from brokerkit.errors import BrokerkitError, Unsupported
from brokerkit.results import ResultStore, State

__all__ = ["Show", "Story"]

_TICK: Final = 0.05
_KILL_AT: Final = 0.15
_FREEZE_AT: Final = 0.35
_KILLED: Final = 0
_FROZEN: Final = 1
_PROBE_SECONDS: Final = 0.3
_GRACE: Final = 5.0
_HALT_SECONDS: Final = 20.0


class Show(Protocol):
    """Who tells the audience. Thread-safe."""

    def progress(self, *, sent: int, handled: int, awaited: int) -> None:
        """Show how far it is."""
        ...

    def say(self, text: str) -> None:
        """Tell what has just happened."""
        ...


@final
class Story:
    """One run against one broker and one result store.

    Args:
        orders: where the broker is.
        receipts: where the result store is; often the same.
        plan: how much of what.
        show: who tells the audience.

    Raises:
        Unsupported: other processes cannot see this broker or store.
    """

    def __init__(self, orders: Target, receipts: Target, plan: Plan, show: Show) -> None:
        self._orders = orders
        self._receipts = receipts
        self._plan = plan
        self._show = show
        self._begun = perf_counter()
        self._account = Account(fates=fates_of((), killed=None, frozen=None, poison=plan.poison), poison=plan.poison)

    def run(self) -> Account:
        """Play it, and account for everything. Removes what it made, and ends its processes, in every case."""
        with ExitStack() as stack:
            broker = stack.enter_context(self._orders.broker())
            store = stack.enter_context(self._receipts.results(expires=600.0))
            _refuse_private(broker, store)
            plan = self._plan
            broker.declare(plan.queue, max_attempts=plan.max_attempts)
            broker.declare(plan.scratch)
            stack.callback(self._tidy, broker, store)
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="brokerkit-demo-")))
            crew = stack.enter_context(Crew(folder, plan.workers, self._errand))
            self._until(lambda: crew.book.ready() == plan.workers, crew)
            self._show.say(
                f"{plan.workers} workers are ready: {', '.join(str(crew.pid(i)) for i in range(plan.workers))}"
            )
            producer = Producer(broker, store, plan)
            awaiting = Awaiting(producer, plan)
            meanwhile = threading.Thread(target=self._meanwhile, args=(store,), name="meanwhile", daemon=True)
            stack.callback(self._halt, producer, meanwhile)
            self._play(crew, broker, producer, awaiting, meanwhile)
            crew.end()
            crew.book.read()
            self._count(crew.book, broker, producer, awaiting)
        self._account.seconds = perf_counter() - self._begun
        return self._account

    def _play(
        self, crew: Crew, broker: Broker, producer: Producer, awaiting: Awaiting, meanwhile: threading.Thread
    ) -> None:
        plan = self._plan

        def tell() -> None:
            self._show.progress(sent=producer.sent, handled=len(crew.book.done), awaited=awaiting.finished)

        producer.start()
        awaiting.start()
        self._until(lambda: len(crew.book.done) >= plan.orders * _KILL_AT, crew, tell)
        self._kill(crew)
        self._until(lambda: len(crew.book.done) >= plan.orders * _FREEZE_AT, crew, tell)
        held = self._freeze(crew, broker)
        since = perf_counter()
        meanwhile.start()
        self._until(
            lambda: held in crew.book.done and perf_counter() - since > plan.visibility_timeout + 0.5, crew, tell
        )
        crew.wake(_FROZEN)
        self._show.say(
            f"woke worker {_FROZEN + 1} after {perf_counter() - since:.1f} s: its leases have ended, others did its work"
        )
        self._until(lambda: producer.ended and awaiting.ended and self._all_is_quiet(broker, crew.book), crew, tell)
        for thread in (producer, awaiting, meanwhile):
            thread.join(max(plan.patience + _GRACE - (perf_counter() - self._begun), 0.0))
        tell()

    def _kill(self, crew: Crew) -> None:
        held = self._caught_at_work(crew, _KILLED, lambda: True)
        crew.kill(_KILLED)
        self._show.say(f"killed worker {_KILLED + 1} (pid {crew.pid(_KILLED)}, SIGKILL) while it held order {held}")

    def _freeze(self, crew: Crew, broker: Broker) -> int | None:
        held = self._caught_at_work(crew, _FROZEN, lambda: self._others_can_go_on(broker))
        self._show.say(
            f"froze worker {_FROZEN + 1} (pid {crew.pid(_FROZEN)}, SIGSTOP) while it held order {held}; "
            f"its leases end after {self._plan.visibility_timeout:g} s"
        )
        return held

    def _caught_at_work(self, crew: Crew, worker: int, fit: Callable[[], bool]) -> int | None:
        """Freeze a worker in the midst of an order that can be handled, and return which."""
        while True:
            crew.freeze(worker)
            crew.book.read()
            held = crew.book.at_work(worker)
            # nobody would ever finish a spoilt one, and the end of the freeze waits for that
            if held is not None and held not in self._plan.poison and fit():
                return held
            if self._too_late() or len(crew.book.done) >= self._plan.sound:
                self._account.troubles.append(f"worker {worker + 1} could not be caught at work")
                return held
            crew.wake(worker)
            sleep(SYSTEM_CLOCK, _TICK / 5)

    def _others_can_go_on(self, broker: Broker) -> bool:
        """Tell whether the frozen worker holds no lock on an embedded engine's file: that would freeze all the others too."""
        try:
            if broker.capabilities.embedded:
                broker.send(self._plan.scratch, b"", timeout=_PROBE_SECONDS)
            with self._receipts.results(timeout=_PROBE_SECONDS) as store:
                if store.capabilities.embedded:
                    store.set_state(self._plan.scratch, State.STARTED)
        except BrokerkitError:
            return False
        return True

    def _meanwhile(self, store: ResultStore) -> None:
        """While the frozen worker's leases run out: topics and evicted results."""
        account = self._account
        try:
            heard = tell_the_subscribers(self._orders, self._plan)
            account.isolated_by, account.published = heard.isolated_by, heard.published
            account.copies, account.heard, account.leaked = heard.copies, heard.heard, heard.leaked
            self._show.say(
                f"published {heard.published} notices in two virtual hosts ({heard.isolated_by}): "
                f"{heard.heard} of {heard.copies} copies heard, {heard.leaked} leaked"
            )
        except BrokerkitError as error:
            account.troubles.append(f"topics: {error}")
        evicted = evict(self._receipts, store, self._plan)
        account.evicted, account.reported_lost = evicted.records, evicted.reported_lost
        account.report_seconds = evicted.slowest
        if not evicted.waiting_told_apart:
            account.troubles.append("a result that is still to come was not reported as waiting")
        self._show.say(
            f"deleted {evicted.records} records that were waited for: {evicted.reported_lost} waiters were told that they "
            f"are lost, the last after {evicted.slowest * 1000:.0f} ms"
        )

    def _all_is_quiet(self, broker: Broker, book: Logbook) -> bool:
        plan = self._plan
        if len(book.done) < plan.sound:
            return False
        return not broker.capabilities.depth or not _left(broker, plan.queue)

    def _until(self, done: Callable[[], bool], crew: Crew, tell: Callable[[], None] = lambda: None) -> None:
        """Read the logs and show the progress until something is so, or patience ends."""
        while True:
            crew.book.read()
            tell()
            if done():
                return
            fell = crew.fell()
            if fell:
                raise RuntimeError(f"workers ended by themselves: {fell}")
            if self._too_late():
                self._account.troubles.append(f"it was not over after {self._plan.patience:g} s")
                return
            sleep(SYSTEM_CLOCK, _TICK)

    def _too_late(self) -> bool:
        return perf_counter() - self._begun > self._plan.patience

    def _count(self, book: Logbook, broker: Broker, producer: Producer, awaiting: Awaiting) -> None:
        plan, account = self._plan, self._account
        account.sent = producer.sent
        account.fates = fates_of(book.entries, killed=_KILLED, frozen=_FROZEN, poison=plan.poison)
        letters = broker.dead_letters(plan.queue, limit=plan.orders)
        account.dead = frozenset(broker.codec.decode(one.body, one.headers)["order"] for one in letters)
        account.left = _left(broker, plan.queue) if broker.capabilities.depth else 0
        account.awaited, account.wrong_results = awaiting.right, plan.orders - awaiting.right
        account.troubles += [*producer.troubles, *awaiting.troubles]

    def _halt(self, producer: Producer, meanwhile: threading.Thread) -> None:
        """Let the threads that make something come to their end, before it is all removed."""
        producer.stop()
        for thread in (producer, meanwhile):
            if thread.is_alive():
                thread.join(_HALT_SECONDS)

    def _tidy(self, broker: Broker, store: ResultStore) -> None:
        plan = self._plan
        for queue in (plan.queue, f"{plan.queue}.dead", plan.scratch):
            broker.delete(queue)
        store.forget(plan.scratch, *map(plan.result_id, range(plan.orders)))

    def _errand(self, log: Path) -> Errand:
        plan = self._plan
        return Errand(
            broker=self._orders.broker_url.render(reveal_secrets=True),
            results=self._receipts.results_url.render(reveal_secrets=True),
            queue=plan.queue,
            log=str(log),
            visibility_timeout=plan.visibility_timeout,
            prefetch=plan.prefetch,
            max_attempts=plan.max_attempts,
        )


def _refuse_private(broker: Broker, store: ResultStore) -> None:
    for engine in (broker.capabilities, store.capabilities):
        if engine.shared == "process":
            raise Unsupported(
                f"{engine.product} lives in one process, and the demonstration works with several; "
                "give it another URL, or none for an SQLite file"
            )


def _left(broker: Broker, queue: str) -> int:
    depth = broker.depth(queue)
    return (depth.ready or 0) + (depth.in_flight or 0) + (depth.delayed or 0)
