"""PRE: prefetch. A consumer holds as much as it was told, and no more; and what it holds does not spoil."""

from __future__ import annotations

import threading
from collections import Counter

from brokerkit_conformance.bench import Bench, check
from brokerkit_conformance.casebook import case


@case("PRE-01")
def one_at_a_time(bench: Bench) -> None:
    """With prefetch 1 the second message comes after the first was settled, and goes to others meanwhile."""
    queue = bench.queue()
    first, second, third = bench.broker.send_many(queue, [b"1", b"2", b"3"])
    consumer = bench.consumer(queue, prefetch=1)
    held = bench.expect(consumer)
    check(bench.receive(consumer, bench.lease / 4) is None, "a second message came before the first was settled")
    other = bench.consumer(queue, prefetch=1, broker=bench.connect())
    taken = bench.expect(other, what="the second message, for another consumer,")
    check({held.id, taken.id} <= {first, second, third}, "strange messages came")
    held.ack()
    last = bench.expect(consumer, what="the next message, after the first was acked,")
    check({held.id, taken.id, last.id} == {first, second, third}, "one message came twice")
    last.ack()
    taken.ack()


@case("PRE-02")
def never_more_than_asked(bench: Bench) -> None:
    """Eight threads and prefetch 4: never more than 4 unsettled, neither here nor at the server."""
    queue = bench.queue()
    sent = bench.broker.send_many(queue, [b"%d" % i for i in range(60)])
    consumer = bench.connect().consumer(queue, prefetch=4)
    lock, holding, most, done = threading.Lock(), set[str](), [0, 0], list[str]()

    def handle(delivery: object) -> None:
        with lock:
            holding.add(delivery.id)  # type: ignore[attr-defined]
            most[0] = max(most[0], len(holding))
            if len(done) % 10 == 0 and "in_flight" in bench.capabilities.depth:
                most[1] = max(most[1], bench.broker.depth(queue).in_flight or 0)
            # leaves the set before it is acked, so that what is counted is certainly unsettled
            holding.discard(delivery.id)  # type: ignore[attr-defined]
            done.append(delivery.id)  # type: ignore[attr-defined]

    bench.thread(lambda: consumer.run(handle, concurrency=8))
    with bench.time.running():
        bench.wait_until(lambda: len(done) >= len(sent), within=20 * bench.lease, what="all 60 are handled")
        consumer.stop()
    bench.join()
    check(max(most) <= 4, f"{max(most)} were unsettled at once with prefetch 4")  # noqa: PLR2004
    check(Counter(done) == Counter(sent), "messages were lost or repeated")
    held = bench.consumer(queue, prefetch=4)
    bench.broker.send_many(queue, [b"%d" % i for i in range(10)])
    got = [bench.receive(held, bench.lease / 8) for _ in range(5)]
    check(
        [d is not None for d in got] == [True] * 4 + [False], f"{sum(d is not None for d in got)} came with prefetch 4"
    )


@case("PRE-04")
def no_hoarding(bench: Bench) -> None:
    """A greedy consumer that came first leaves what is beyond its prefetch to the one that comes later."""
    queue = bench.queue()
    sent = bench.broker.send_many(queue, [b"%d" % i for i in range(40)])
    greedy = bench.consumer(queue, prefetch=10)
    mine = {bench.expect(greedy).id for _ in range(10)}
    late = bench.consumer(queue, prefetch=100, broker=bench.connect())
    rest = {bench.expect(late, what=f"one of the 30 that the first consumer may not hold ({i})").id for i in range(30)}
    check(not mine & rest, "both consumers hold one message")
    check(mine | rest == set(sent), "messages are missing")


@case("PRE-05")
def prefetched_do_not_spoil(bench: Bench) -> None:
    """While a handler takes three leases, what is prefetched behind it neither goes to others nor counts an attempt."""
    queue = bench.queue()
    sent = bench.broker.send_many(queue, [b"%d" % i for i in range(5)])
    consumer = bench.consumer(queue, prefetch=10)
    first = bench.expect(consumer)
    other = bench.connect()
    for _ in range(3):
        bench.let_pass(bench.lease)
        bench.silent(queue, bench.consumer(queue, broker=other), why="all is prefetched by a consumer that lives")
    first.ack(wait=True)
    rest = [bench.expect(consumer) for _ in range(4)]
    check([first.id, *(d.id for d in rest)] == sent or bench.capabilities.order == "none", "out of order")
    check(all(d.attempt in (1, None) for d in rest), f"attempts {[d.attempt for d in rest]} at the first delivery")
    for delivery in rest:
        delivery.ack(wait=True)
    bench.let_pass(bench.past_lease())
    bench.silent(queue, why="all were acked")


@case("PRE-07")
def pause_and_resume(bench: Bench) -> None:
    """A consumer that was stopped gets nothing; one that is started afterwards gets all, and no lease is left behind."""
    queue = bench.queue()
    handled: list[str] = []
    first = bench.connect().consumer(queue, prefetch=3)
    running = bench.thread(lambda: first.run(lambda delivery: handled.append(delivery.id)))
    before = bench.broker.send_many(queue, [b"%d" % i for i in range(5)])
    with bench.time.running():
        bench.wait_until(lambda: len(handled) >= 5, within=10 * bench.lease, what="5 are handled")  # noqa: PLR2004
        first.stop()
        running.join(10)
    paused = bench.broker.send_many(queue, [b"%d" % i for i in range(5)])
    bench.let_pass(bench.lease / 4)
    check(Counter(handled) == Counter(before), "a stopped consumer handled something")
    if "in_flight" in bench.capabilities.depth:
        check(bench.broker.depth(queue).in_flight == 0, "a stopped consumer still holds leases")
    came = [delivery.id for delivery in bench.collect(queue)]
    check(Counter(came) == Counter(paused), f"{len(came)} of the 5 sent meanwhile came after the resumption")


@case("PRE-08")
def one_hot_queue(bench: Bench) -> None:
    """One consumer over three queues, one of them full: the others get their turn within a few fetches."""
    hot = bench.queue("hot")
    cold = [bench.queue("cold1"), bench.queue("cold2")]
    bench.broker.send_many(hot, [b"hot"] * 120)
    wanted = {bench.broker.send(queue, b"cold") for queue in cold}
    consumer = bench.consumer(hot, *cold, prefetch=5)
    position = 0
    while wanted and position < 60:  # noqa: PLR2004 - 12 fetches of 5
        delivery = bench.expect(consumer)
        position += 1
        wanted.discard(delivery.id)
        delivery.ack()
    check(not wanted, f"{len(wanted)} cold queues starved for {position} deliveries of the hot one")
    bench.measured["deliveries until all had their turn"] = position
