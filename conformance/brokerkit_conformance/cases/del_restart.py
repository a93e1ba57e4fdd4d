"""DEL and ORD over a crash: what waits for its time still comes at its time, and what is in order stays so."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from brokerkit_conformance.bench import Bench, check
from brokerkit_conformance.casebook import case
from brokerkit_conformance.cases._crashing import Doomed
from brokerkit_conformance.model import Inconclusive

_EACH: Final = 10


@case("DEL-06", crowd=True)
def waiting_survives_a_crash(bench: Bench) -> None:
    """Delayed messages over a kill of their consumer, and of what stores them: none early, none lost, none twice."""
    late: float = bench.capabilities.delay.late  # type: ignore[union-attr] # the gate has seen it
    doomed = Doomed(bench)
    least = 1.0 + bench.lease / 2 + 2 * doomed.outage()
    due: dict[str, float] = {}
    with bench.connect() as broker:
        broker.declare(queue := bench.name())
        bench.remember(queue, broker=broker)
        waiting = doomed.actor("run", queue, seconds=0.0)
        waiting.wait_for("ready")
        for delay in (least, least + bench.lease / 2):
            began = bench.time.now()
            due.update(dict.fromkeys(broker.send_many(queue, [b"x"] * _EACH, delay=delay), began + delay))
    doomed.kill()
    doomed.start()
    if waiting.events("received") or bench.time.now() >= min(due.values()):
        raise Inconclusive("the first delay had passed before the kill was over")
    consumer = bench.consumer(queue)
    came: list[str] = []
    while len(came) < len(due):
        left = max(due.values()) + late + bench.slack - bench.time.now()
        delivery = bench.expect(consumer, within=max(left, 0.0), what=f"delayed message {len(came) + 1} of {len(due)}")
        early = due[delivery.id] - bench.time.now()
        check(early < 0.01, f"it came {early:.3f} s before its time, after a kill")  # noqa: PLR2004 - clocks of two reads
        came.append(delivery.id)
        delivery.ack(wait=True)
    check(len(set(came)) == len(due), "a delayed message came twice after a kill")
    bench.measured["late after a kill"] = bench.time.now() - max(due.values())
    bench.silent(queue, consumer, why="all delayed ones had come")


@case("ORD-05", crowd=True)
def order_survives_a_crash(bench: Bench) -> None:
    """Those that nobody had, and those that somebody held, come in the order of their sending after a kill."""
    doomed = Doomed(bench)
    keys: list[str | None] = [None] if bench.capabilities.order == "queue" else ["one", "two"]
    sent: dict[str, tuple[str | None, int]] = {}
    with bench.connect() as broker:
        broker.declare(queue := bench.name())
        bench.remember(queue, broker=broker)
        for number in range(60):
            key = keys[number % len(keys)]
            sent[broker.send(queue, b"%d" % number, ordering_key=key)] = (key, number)
    acking = doomed.actor("consume", queue, count=10, do="ack", then="hang", prefetch=20)
    acking.wait_for("ready")
    doomed.kill()
    doomed.start()
    acked = {event["id"] for event in acking.events("acked")}
    bench.let_pass(bench.past_lease())
    came = [delivery.id for delivery in bench.collect(queue)]
    left = set(came) if bench.capabilities.settle == "confirmed" else set(came) - acked  # what is sent may be under way
    check(left == set(sent) - acked, f"{len(set(came))} of {len(sent) - len(acked)} came after the kill")
    for key in keys:
        numbers = [sent[message_id][1] for message_id in came if sent[message_id][0] == key]
        check(all(a < b for a, b in pairwise(numbers)), f"after a kill the order is {numbers}")
