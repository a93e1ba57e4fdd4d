"""CLN, second part: what grows when much is opened and closed. Counted in this process, hence alone."""

from __future__ import annotations

import gc
import os
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import brokerkit
from brokerkit_conformance.bench import Bench, check
from brokerkit_conformance.casebook import case

if TYPE_CHECKING:
    from brokerkit import Broker

_CYCLES: Final = 400
_WARM_UP: Final = 100
_SPARE: Final = 3  # descriptors and threads of the interpreter, or that are on their way out
_SPARE_BYTES: Final = 6 << 20  # a leak of 16 KB in each cycle shows; what the allocator keeps for itself does not


@dataclass(frozen=True, slots=True)
class _Held:
    """What this process holds.

    Attributes:
        descriptors: open ones; 0 where the system does not tell.
        threads: that live.
        bytes: of memory in use; 0 where the system does not tell.
    """

    descriptors: int
    threads: int
    bytes: int

    @classmethod
    def now(cls) -> _Held:
        """Count, after everything that can be collected was."""
        gc.collect()
        own = Path("/proc/self/fd") if Path("/proc/self/fd").exists() else Path("/dev/fd")
        descriptors = len(os.listdir(own)) if own.exists() else 0  # noqa: PTH208 - only the number
        memory = Path("/proc/self/statm")
        pages = int(memory.read_text().split()[1]) if memory.exists() else 0
        return cls(descriptors, threading.active_count(), pages * os.sysconf("SC_PAGE_SIZE"))


@case("CLN-03", alone=True)
def thousand_cycles(bench: Bench) -> None:
    """Four hundred times a broker is opened, used and closed: descriptors, threads and memory stay as they are.

    The law's thousand cycles are scaled, for time. What the first hundred leave does not count: imports, caches, and what
    the allocator keeps.
    """
    queue = bench.queue()

    def cycle(number: int) -> None:
        with _opened(bench) as broker:
            broker.send(queue, b"x")
            if number % 5 == 0:
                consumer = broker.consumer(queue, prefetch=10)
                taken = 0
                while taken < 5 and (delivery := consumer.receive(0.0)) is not None:  # noqa: PLR2004 - as many as came
                    delivery.ack()
                    taken += 1
                consumer.close()

    flat(bench, cycle, _WARM_UP, _CYCLES)


@case("CON-11", alone=True)
def churn_with_traffic(bench: Bench) -> None:
    """Consumers and brokers come and go by the dozen while messages flow: none is lost or doubled, and nothing is left."""
    queue, sent, acked = bench.queue(), Counter[str](), Counter[str]()

    def send() -> None:
        for _ in range(10):
            sent.update(bench.broker.send_many(queue, [b"x"] * 10))

    def churn() -> None:
        for _ in range(5):
            with _opened(bench) as broker, broker.consumer(queue, prefetch=5) as consumer:
                for _ in range(7):  # and some more are prefetched
                    if (delivery := consumer.receive(0.2)) is None:
                        break
                    delivery.ack(wait=True)
                    acked[delivery.id] += 1

    def round_(_: int) -> None:
        with bench.time.running():
            for work in (send, churn, churn, churn):
                bench.thread(work)
            bench.join()

    flat(bench, round_, 1, 2)
    acked.update(delivery.id for delivery in bench.collect(queue))
    check(set(acked) == set(sent), f"{len(sent)} were sent, {len(acked)} came")
    check(set(acked.values()) == {1}, f"{sum(n > 1 for n in acked.values())} came more than once")


def _opened(bench: Bench) -> Broker:
    """Return a broker that the bench does not keep, as it keeps all of its own."""
    options = {"visibility_timeout": bench.lease, **bench.harness.options()}
    return brokerkit.connect(bench.urls[0], clock=bench.time.clock, **options)


def flat(bench: Bench, cycle: Any, warm_up: int, cycles: int) -> None:
    """Fail if the process holds more after many cycles than after the first ones."""
    for number in range(warm_up):
        cycle(number)
    before = _Held.now()
    for number in range(cycles):
        cycle(number)
    bench.wait_until(
        lambda: _Held.now().threads <= before.threads + _SPARE, within=2 + bench.slack, what="threads end after close"
    )
    after = _Held.now()
    bench.measured["after, before"] = f"{after}, {before}"
    more = after.descriptors - before.descriptors
    check(more <= _SPARE, f"{more} more descriptors are open after {cycles} cycles")
    grown = after.bytes - before.bytes
    check(grown <= _SPARE_BYTES, f"memory grew by {grown >> 10} KB in {cycles} cycles")
