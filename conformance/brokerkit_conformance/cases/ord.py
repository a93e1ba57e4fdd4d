"""ORD: order, for engines that claim it."""

from __future__ import annotations

from itertools import pairwise

from brokerkit.errors import ConfigurationError
from brokerkit_conformance.bench import Bench, check
from brokerkit_conformance.casebook import case, without
from brokerkit_conformance.cases._probes import works_order
from brokerkit_conformance.cases._refused import refused


@case("ORD-01")
def no_inversion(bench: Bench) -> None:
    """Ten thousand messages of one producer, singly and in batches: one consumer gets them in their order."""
    queue = bench.queue()
    sent = [bench.broker.send(queue, b"0") for _ in range(20)]
    while len(sent) < 10_000:  # noqa: PLR2004 - the law's number
        sent += bench.broker.send_many(queue, [b"x"] * min(1 + len(sent) % 999, 10_000 - len(sent)))
    receiver = bench.receiver(queue, lease=20 * bench.lease)
    came: list[str] = []
    while len(came) < len(sent):
        got, _ = receiver.receive(limit=min(777, bench.capabilities.max_batch), timeout=0.0)
        check(got, f"{len(sent) - len(came)} of 10,000 are missing")
        came += [received.message.id for received in got]
    place = {message_id: number for number, message_id in enumerate(sent)}
    inversions = sum(place[a] > place[b] for a, b in pairwise(came))
    check(not inversions, f"{inversions} neighbours came in the wrong order")


@case("ORD-03")
def place_of_a_release(bench: Bench) -> None:
    """A message that comes back keeps its place before younger ones, whatever brought it back."""
    queue = bench.queue()
    key = "one" if bench.capabilities.order == "group" else None
    sent = bench.broker.send_many(queue, [b"%d" % i for i in range(6)], ordering_key=key)
    closing = bench.receiver(queue)
    bench.claim(closing, 2)
    closing.close(timeout=5.0)
    releasing = bench.receiver(queue)
    releasing.release(bench.claim(releasing, 2)[::-1])
    triggers = ["a close", "a release"]
    if bench.timed:
        bench.claim(bench.receiver(queue), 2)
        bench.let_pass(bench.past_lease())
        triggers.append("the end of a lease")
    came = [delivery.id for delivery in bench.collect(queue)]
    check(came == sent, f"after {', '.join(triggers)} the order is {[sent.index(i) for i in came]}")
    bench.measured["triggers"] = ", ".join(triggers)


@without("order", "order=queue")
def no_order(bench: Bench) -> None:
    """Without an order of any kind, an ordering_key is refused before any I/O; and what comes is in no order."""
    queue = bench.queue()
    if bench.capabilities.order == "none":
        refused(lambda: bench.broker.send(queue, b"x", ordering_key="one"), ConfigurationError, "ordering_key='one'")
    bench.silent(queue, why="what was refused is not sent")
    works_order(bench)
