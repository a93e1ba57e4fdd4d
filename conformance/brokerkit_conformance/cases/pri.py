"""PRI: higher is sooner, first in first out within one level, and a level stays a message's own."""

from __future__ import annotations

from itertools import pairwise

from brokerkit.errors import ConfigurationError, InvalidMessage, Unsupported
from brokerkit_conformance.bench import Bench, check
from brokerkit_conformance.casebook import case, without
from brokerkit_conformance.cases._probes import works_priority
from brokerkit_conformance.cases._refused import refused


def _in_order(bench: Bench, queue: str, priorities: list[int]) -> list[int]:
    """Send one message a priority, in this order; return the positions in which they came."""
    sent = [bench.broker.send(queue, b"x", priority=priority) for priority in priorities]
    receiver = bench.receiver(queue)
    return [sent.index(received.message.id) for received in bench.claim(receiver, len(sent))]


@case("PRI-01")
def high_first(bench: Bench) -> None:
    """Of what is queued, the higher priority comes first, however late it was sent."""
    came = _in_order(bench, bench.queue(), [0, 0, 9])
    check(came[0] == 2, f"sent with priorities 0, 0, 9, they came in the order {came}")  # noqa: PLR2004


@case("PRI-02")
def fifo_within(bench: Bench) -> None:
    """Within one priority the order of sending is kept."""
    priorities = [(i * 7) % 3 * 4 for i in range(30)]
    came = _in_order(bench, bench.queue(), priorities)
    for level in set(priorities):
        ours = [i for i in came if priorities[i] == level]
        check(ours == sorted(ours), f"within priority {level} they came in the order {ours}")


@case("PRI-03")
def bigger_is_sooner(bench: Bench) -> None:
    """The scale is 0 to 9 and bigger is sooner, on every engine; without a priority it is 0."""
    queue = bench.queue()
    plain = bench.broker.send(queue, b"x")
    sent = [bench.broker.send(queue, b"x", priority=priority) for priority in (0, 9)]
    came = [received.message.id for received in bench.claim(bench.receiver(queue), 3)]
    check(came == [sent[1], plain, sent[0]], "9 is not sooner than 0, or no priority is not the lowest")


@case("PRI-04")
def kept_over_triggers(bench: Bench) -> None:
    """A message that came back by a release, a close or the end of a lease has the priority that it had."""
    for trigger in ("release", "close", "lease end")[: 3 if bench.timed else 2]:
        queue = bench.queue(trigger.replace(" ", "-"))
        low, high = bench.send_message(queue), bench.send_message(queue, priority=9)
        receiver = bench.receiver(queue)
        claimed = bench.claim(receiver, 2)
        if trigger == "release":
            receiver.release(claimed)
        elif trigger == "close":
            receiver.close(timeout=5.0)
        else:
            bench.let_pass(bench.past_lease())
        middle = bench.send_message(queue, priority=5)
        came = [received.message for received in bench.claim(bench.receiver(queue), 3)]
        check(
            [m.id for m in came] == [high.id, middle.id, low.id], f"after a {trigger} it is no longer the most urgent"
        )
        check(came[0].priority == high.priority, f"after a {trigger} it says that its priority is {came[0].priority}")


@case("PRI-05")
def outside_the_scale(bench: Bench) -> None:
    """A priority outside of 0 to 9, or above what the queue takes, is refused, not clamped; and nothing is stored."""
    queue, low = bench.queue(), bench.queue("low", max_priority=3)
    for wrong in (-1, 10, 1000):
        refused(lambda p=wrong: bench.broker.send(queue, b"x", priority=p), ConfigurationError, f"priority={wrong}")  # type: ignore[misc]
    refused(lambda: bench.broker.send(low, b"x", priority=4), InvalidMessage, "priority=4 where 3 is the most")
    bench.silent(queue, why="what was refused is not stored")
    bench.silent(low, why="what was refused is not stored")


@case("PRI-06")
def distinct_levels(bench: Bench) -> None:
    """The engine tells apart exactly as many priorities as it declares."""
    came = _in_order(bench, bench.queue(), list(range(10)))
    # those of one level come in the order of sending: each step back begins a new level
    levels = 1 + sum(later < earlier for earlier, later in pairwise(came))
    declared = bench.capabilities.priority.levels  # type: ignore[union-attr] # the gate has seen it
    bench.measured["levels"] = levels
    check(levels == declared, f"{levels} priorities are distinct, {declared} are declared: {came}")


@case("PRI-08")
def past_the_prefetched(bench: Bench) -> None:
    """What is urgent waits for no more than what a consumer had prefetched before it was sent."""
    queue, prefetch = bench.queue(), 3
    bench.broker.send_many(queue, [b"low"] * 10)
    consumer = bench.consumer(queue, prefetch=prefetch)
    bench.expect(consumer).ack(wait=True)
    urgent = bench.broker.send(queue, b"urgent", priority=9)
    before = 0
    while (delivery := bench.expect(consumer)).id != urgent:
        delivery.ack(wait=True)
        before += 1
    bench.measured["before it"] = before
    check(before <= prefetch, f"{before} less urgent messages came before it, with a prefetch of {prefetch}")


@case("PRI-07")
def starvation(bench: Bench) -> None:
    """Under steady urgent load the rest waits, as higher is sooner without exception, and comes when the load ends."""
    queue = bench.queue()
    consumer = bench.consumer(queue, prefetch=1)
    low = bench.broker.send(queue, b"low")
    first = bench.expect(consumer)
    check(first.id == low, "the only message did not come")
    low = bench.broker.send(queue, b"low")
    bench.broker.send(queue, b"urgent", priority=9)
    first.ack(wait=True)
    urgent, load = 0, 50
    while (delivery := bench.expect(consumer)).id != low:
        urgent += 1
        if urgent < load:
            bench.broker.send(queue, b"urgent", priority=9)
        delivery.ack(wait=True)
    delivery.ack(wait=True)
    bench.measured["urgent messages before one that was not"] = urgent
    strict = bench.capabilities.priority.levels > 1  # type: ignore[union-attr] # the gate has seen it
    check(urgent == load or not strict, f"after {urgent} of {load} urgent messages came one that was not urgent")


@case("PRI-09")
@without("priority")
def no_priorities(bench: Bench) -> None:
    """An engine without priorities refuses one before any I/O; and it has none below that."""
    queue = bench.queue()
    refused(lambda: bench.broker.send(queue, b"x", priority=5), Unsupported, "priority=5")
    bench.silent(queue, why="what was refused is not sent")
    works_priority(bench)
