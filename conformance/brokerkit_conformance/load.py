"""A load: producers and consumers of their own, a history of all that they do, and its judgement.

The workers are processes, or threads where the engine lives within one process. Nothing here knows what is allowed: the
history checker decides, by what the engine declares and what the run did to its workers.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from brokerkit_conformance.bench import HANG, Bench, check
from brokerkit_conformance.history import (
    Checked,
    Drain,
    Excuse,
    FaultKind,
    FaultRecord,
    Found,
    Phase,
    Promises,
    Standing,
    Verb,
    join,
    read_events,
)
from brokerkit_conformance.history import check as judge
from brokerkit_conformance.load_actor import Orders, Task, perform
from brokerkit_conformance.model import Broken, Inconclusive

if TYPE_CHECKING:
    from brokerkit import Broker, DeadLetter, Delivery
    from brokerkit_conformance.actors import Actor

__all__ = ["Load", "Worker"]

_LOOK: Final = 0.05
_PATIENCE: Final = 6.0
_PATIENCE_OF_MOVED_TIME: Final = 2.5
_STARVED: Final = 1 / 2
"""Of a lease: a process that stood still for longer, without a fault of ours, shows nothing."""


class Worker:
    """One producer or consumer. Thread-safe.

    Attributes:
        task: what it does.
        actor: its process; None if it is a thread.
        ended: whether it was ended, in whatever way.
    """

    def __init__(self, bench: Bench, task: Task, url: str | None) -> None:
        self.task = task
        self.actor: Actor | None = None
        self.ended = False
        self._told: list[dict[str, Any]] = []
        self._news = threading.Condition()
        self._orders = Orders()
        if bench.capabilities.shared != "process":
            self.actor = bench.actor("load", url=url, **asdict(task))
            return

        def connect(heard: Callable[[Any], None]) -> Broker:
            return bench.connect(url=url, on_event=heard)

        bench.thread(lambda: perform(task, connect, self._tell, self._orders), task.name)

    @property
    def name(self) -> str:
        """Its name in the histories."""
        return self.task.name

    def told(self, what: str) -> list[dict[str, Any]]:
        """Return what it has told so far of one kind."""
        told = [] if self.actor is None else self.actor.events(what)
        with self._news:
            return told + [each for each in self._told if each["what"] == what]

    def wait_for(self, what: str, *, count: int = 1) -> None:
        """Return when it has told so many of one kind; fail if it does not."""
        if self.actor is not None:
            self.actor.wait_for(what, count=count)
            return
        with self._news:
            come = self._news.wait_for(lambda: sum(each["what"] == what for each in self._told) >= count, HANG)
        check(come, f"{self.name} never came to {what!r}")

    def say(self, word: Literal["stop", "hold", "go"]) -> None:
        """Give it an order."""
        if self.actor is not None:
            self.actor.say(word)
        self._orders.obey(word)

    def leave(self) -> None:
        """Let it end in good order, and wait until it has; nothing happens if it has ended."""
        if self.ended:
            return
        self.say("stop")
        self.wait_for("done")
        self.ended = True
        if self.actor is not None:
            check(self.actor.join() == 0, f"{self.name} did not end in good order")

    def hold(self) -> None:
        """Return when it stands still with a message in hand; `say` "go" lets it go on."""
        before = len(self.told("holding"))
        self.say("hold")
        self.wait_for("holding", count=before + 1)

    def died(self) -> None:
        """Note that it was killed: what it had begun to settle may be settled, and nobody will tell."""
        told = {each["token"] for each in self.told("settled")}
        acks = {e.message for e in read_events(self.task.log).events if e.verb is Verb.ACK and e.phase is Phase.INVOKE}
        self.ended = True
        for token in acks - told:
            self._tell("settled", token=token)

    def _tell(self, what: str, **fields: Any) -> None:
        with self._news:
            self._told.append({"what": what, **fields})
            self._news.notify_all()


class Load:
    """One run on a queue of its own. As a context manager it stops its workers at the end.

    Attributes:
        bench: where it runs.
        queue: that the workers share.
        lease: the visibility timeout of the consumers, in seconds.
        workers: all that ever were, by name.
        faults: that were made; add to it.
        patience: real seconds without any progress after which what is missing is taken not to come.
    """

    def __init__(self, bench: Bench, *, lease: float | None = None, seed: int = 0) -> None:
        bound = bench.capabilities.lease
        self.bench = bench
        self.queue = bench.queue()
        # a lease that nobody is to see the end of is long: a busy machine must not end it
        self.lease = min(max(lease or 50 * bench.lease, bound.min), bound.max)
        self.workers: dict[str, Worker] = {}
        self.faults: list[FaultRecord] = []
        self.patience = _PATIENCE if bench.time.clock is None else _PATIENCE_OF_MOVED_TIME
        self._seed = seed
        self._folder = bench.folder()
        self._numbers = itertools.count(1)
        self._running = contextlib.ExitStack()
        self._running.enter_context(bench.time.running())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for worker in self.workers.values():
            if not worker.ended:
                worker.say("stop")
        self._running.close()

    # -- workers ---------------------------------------------------------------------------------------------------

    def producers(self, number: int, *, url: str | None = None, **settings: Any) -> list[Worker]:
        """Start producers, and return when they are ready; settings are those of `Task`."""
        grouped = self.bench.capabilities.order == "group"
        return self._start([self._task("produce", grouped=grouped, **settings) for _ in range(number)], url)

    def consumers(self, number: int, *, url: str | None = None, **settings: Any) -> list[Worker]:
        """Start consumers, and return when they are ready; settings are those of `Task`."""
        return self._start([self._task("consume", lease=self.lease, **settings) for _ in range(number)], url)

    def living(self, kind: str = "consume") -> list[Worker]:
        """Return those of a kind that have not ended."""
        return [worker for worker in self.workers.values() if worker.task.kind == kind and not worker.ended]

    def count(self, what: str) -> int:
        """Return how often something was told by all workers together."""
        return sum(len(worker.told(what)) for worker in self.workers.values())

    def tokens(self, what: str) -> set[str]:
        """Return the messages of which something was told."""
        return {str(each["token"]) for worker in self.workers.values() for each in worker.told(what)}

    # -- the course of things --------------------------------------------------------------------------------------

    def until(self, count: int, what: str = "settled") -> None:
        """Return when so much was told by all together; fail if nothing moves any more before."""
        self._while_it_moves(lambda: self.count(what) >= count)
        check(self.count(what) >= count, f"nothing moves any more: {self.count(what)} of {count} messages {what}")

    def until_settled(self) -> None:
        """Return when the producers have ended and all that they sent is settled, or nothing moves any more."""
        for producer in self.living("produce"):
            if producer.task.count is None:
                producer.leave()
            else:
                self._while_it_moves(lambda each=producer: each.told("done"))  # type: ignore[misc]
        self._while_it_moves(lambda: self.tokens("accepted") <= self.tokens("settled"))

    def judge(self, *, excuses: Collection[Excuse] = frozenset(Excuse), ordered: bool = True) -> Checked:
        """End all workers, read what is left, and judge the whole.

        Args:
            excuses: kinds of excuse that this run gave reason for; others are none.
            ordered: whether first deliveries keep the declared order; not where members give back what they never looked at.

        Raises:
            Broken: what the history shows is not as the engine promises.
            Inconclusive: a fault had no effect, or the run is not fit to show anything.
            AssertionError: messages were left that nobody got to settle.
        """
        for kind in ("produce", "consume"):
            for worker in self.living(kind):
                worker.leave()
        self._running.close()
        unsettled = len(self.tokens("accepted") - self.tokens("settled"))
        logs = [read_events(worker.task.log) for worker in self.workers.values()]
        checked = judge(join(logs, self.faults, self._drain()), self._promises(excuses, ordered=ordered))
        if checked.standing is Standing.INCONCLUSIVE:
            raise Inconclusive("; ".join(checked.reasons))
        if checked.findings:
            self._refuse_starved()
            raise Broken(checked.findings)
        check(not unsettled, f"the consumers came to a stop while {unsettled} messages were left")
        self.bench.measured.update({name: count for name, count in checked.counts.items() if count})
        return checked

    # -- steps -----------------------------------------------------------------------------------------------------

    def _task(self, kind: Literal["produce", "consume"], **settings: Any) -> Task:
        name = f"{kind[0]}{next(self._numbers)}"
        pulse = self.lease * _STARVED if kind == "consume" and self.bench.time.clock is None else None
        log = str(self._folder / f"{name}.jsonl")
        return Task(kind=kind, name=name, log=log, queue=self.queue, seed=self._seed, pulse=pulse, **settings)

    def _start(self, tasks: Iterable[Task], url: str | None) -> list[Worker]:
        started = [Worker(self.bench, task, url) for task in tasks]
        self.workers |= {worker.name: worker for worker in started}
        for worker in started:
            worker.wait_for("ready")
        return started

    def _while_it_moves(self, done: Callable[[], object]) -> None:
        # what a fault takes away is back when the lease has ended
        patience = self.patience + (self.lease if self.faults else 0.0)
        pause = threading.Event()
        moved, since = -1, time.monotonic()
        while not done() and time.monotonic() - since < patience:
            now = sum(len(worker.told(what)) for worker in self.workers.values() for what in ("accepted", "received"))
            if now != moved:
                moved, since = now, time.monotonic()
            pause.wait(_LOOK)

    def _drain(self) -> Drain:
        """Read the queue to its end, when all leases have ended, and the dead letters."""
        bench = self.bench
        ends = [fault.began for fault in self.faults if fault.kind is not FaultKind.TERM]
        if ends:
            left = max(ends) + self.lease + (bench.capabilities.redelivery.lease_end or 0.0) - time.monotonic()
            bench.let_pass(max(left, 0.0) + 0.1)
        began = time.monotonic()
        found = bench.collect(self.queue)
        dead = bench.dead_letters(self.queue)
        return Drain(
            complete=True,
            began=began,
            ended=time.monotonic(),
            found=tuple(self._found(delivery) for delivery in found),
            dead=tuple(self._found(letter) for letter in dead),
        )

    def _found(self, message: Delivery | DeadLetter) -> Found:
        return Found(message.body.decode("latin-1"), self.queue)

    def _promises(self, excuses: Collection[Excuse], *, ordered: bool) -> Promises:
        powers = self.bench.capabilities
        consumers = [worker.task for worker in self.workers.values() if worker.task.kind == "consume"]
        declared = Promises.of(
            powers,
            lease=self.lease,
            kept_alive=powers.lease.extend or powers.lease.scope == "connection",
            prefetch=any(task.prefetch > 1 for task in consumers),
        )
        return replace(
            declared,
            excuses=declared.excuses & frozenset(excuses),
            order=declared.order if ordered else "none",
        )

    def _refuse_starved(self) -> None:
        """What is wrong may be the machine's fault, if it let a worker lose its leases."""
        for worker in self.workers.values():
            frozen = [f for f in self.faults if f.kind is FaultKind.FREEZE and f.target == worker.name]
            for gap in worker.told("stood_still"):
                if not any(f.began <= gap["ended"] and gap["began"] <= (f.ended or f.began) for f in frozen):
                    took = gap["ended"] - gap["began"]
                    raise Inconclusive(f"the machine let {worker.name} stand still for {took:.1f} s")
