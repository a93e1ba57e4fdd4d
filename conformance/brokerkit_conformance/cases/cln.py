"""CLN: what is left behind after close."""

from __future__ import annotations

import threading
from collections import Counter

from brokerkit.capabilities import Fanout
from brokerkit_conformance.bench import Bench, check
from brokerkit_conformance.casebook import case
from brokerkit_conformance.cases._order import as_sent


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
            key = store.own_id(bench.name(f"{_}-{i}"))
            store.set_result(key, i)
            check(store.pending(key).result(timeout=0) == i, "a wait for what is there failed")
        store.close()
    _only_those(bench, before)


def _only_those(bench: Bench, before: list[threading.Thread]) -> None:
    known = set(before)

    def new() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread not in known and thread.is_alive()]

    bench.wait_until(lambda: len(new()) <= 1, within=2 + bench.slack, what=f"threads end after close: {Counter(new())}")
    bench.measured["threads left"] = len(new())


@case("CLN-04")
def nothing_left_on_the_server(bench: Bench) -> None:
    """After the queues and results of an application are removed nothing of it is left on the server."""
    bench.private()
    queue, topic = bench.queue(max_attempts=1), bench.name("topic")
    storage = bench.storage()
    fanout = bench.capabilities.fanout
    if isinstance(fanout, Fanout):
        bench.broker.bind(queue, topic, "a.#" if fanout.patterns else "#")
        bench.broker.publish(topic, b"x", routing_key="a")
    bench.broker.send_many(queue, [b"x"] * 5)
    consumer = bench.consumer(queue)
    bench.expect(consumer).ack(wait=True)
    bench.expect(consumer).dead_letter("no")
    bench.expect(consumer)
    if bench.results_urls:
        store = bench.store(url=bench.results_urls[0])
        store.set_result(store.own_id(bench.name("result")), 1)
        store.forget(store.own_id(bench.name("result")))
    own = bench.name("")
    check(any(own in key for key in storage.everything()), "while it worked no key of it was on the server")
    with bench.time.running():
        consumer.close()
    bench.broker.delete(queue)
    bench.broker.delete(f"{queue}.dead")
    left = sorted(key for key in storage.everything() if own in key)
    check(not left, f"{len(left)} keys are left, such as {left[:3]}")


@case("CLN-09")
def abandoned_iterator(bench: Bench) -> None:
    """Who leaves the loop over a consumer gives back what was not settled, when the consumer is closed."""
    queue = bench.queue()
    sent = bench.broker.send_many(queue, [b"x"] * 6)
    consumer = bench.consumer(queue, prefetch=4)
    acked = ""
    for number, delivery in enumerate(consumer):
        if number == 1:
            break  # in hand, and two more are prefetched
        delivery.ack()
        acked = delivery.id
    with bench.time.running():
        consumer.close()
    left = [message_id for message_id in sent if message_id != acked]
    check(as_sent(bench, [d.id for d in bench.collect(queue)], left), "not everything that was unsettled came back")
