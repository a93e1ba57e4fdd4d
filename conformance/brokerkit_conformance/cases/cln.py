"""CLN: what is left behind after close."""

from __future__ import annotations

import threading
from collections import Counter

from brokerkit_conformance.bench import Bench, check
from brokerkit_conformance.casebook import case


@case("CLN-02", alone=True)
def threads_after_close(bench: Bench) -> None:
    """After ten brokers and consumers came, worked and went, there are no more threads than before."""
    queue = bench.queue()
    before = threading.enumerate()
    for _ in range(10):
        broker = bench.connect()
        broker.send_many(queue, [b"x"] * 3)
        consumer = broker.consumer(queue)
        for _ in range(3):
            bench.expect(consumer).ack()
        with bench.time.running():
            consumer.close()
            broker.close()
    _only_those(bench, before)


@case("CLN-08", alone=True)
def waits_after_close(bench: Bench) -> None:
    """After a thousand results were stored, awaited and read there are no more threads than before."""
    before = threading.enumerate()
    for _ in range(10):
        store = bench.store()
        for i in range(100):
            store.set_result(bench.name(f"{_}-{i}"), i)
            check(store.pending(bench.name(f"{_}-{i}")).result(timeout=0) == i, "a wait for what is there failed")
        store.close()
    _only_those(bench, before)


def _only_those(bench: Bench, before: list[threading.Thread]) -> None:
    known = set(before)

    def new() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread not in known and thread.is_alive()]

    bench.wait_until(lambda: len(new()) <= 1, within=2 + bench.slack, what=f"threads end after close: {Counter(new())}")
    bench.measured["threads left"] = len(new())
