"""DEL: delays. Never early, late by no more than declared, once."""

from __future__ import annotations

import math
from typing import Any

from brokerkit.errors import ConfigurationError, Unsupported
from brokerkit_conformance.bench import Bench, check
from brokerkit_conformance.casebook import case, without
from brokerkit_conformance.cases._order import as_sent
from brokerkit_conformance.cases._probes import works_delay, works_release_delay
from brokerkit_conformance.cases._refused import refused


def _late(bench: Bench) -> float:
    late: float = bench.capabilities.delay.late  # type: ignore[union-attr] # the gate has seen it
    return late


@case("DEL-01")
def never_early(bench: Bench) -> None:
    """A delayed message does not come before its time, whoever looks for it, and comes once."""
    queue, delay = bench.queue(), bench.lease / 2
    began = bench.time.now()
    sent = bench.broker.send(queue, b"later", delay=delay)
    consumer = bench.consumer(queue)
    plain = bench.broker.send(queue, b"now")
    first = bench.expect(consumer)
    check(first.id == plain, "it came at once")
    first.ack()
    delivery = bench.expect(consumer, within=delay + _late(bench) + bench.slack)
    after = bench.time.now() - began
    bench.measured["after seconds"] = after
    check(delivery.id == sent and after >= delay - 0.01, f"delayed by {delay:g} s, it came after {after:.3f} s")
    delivery.ack(wait=True)
    bench.silent(queue, consumer, why="it came once")


@case("DEL-02")
def not_late(bench: Bench) -> None:
    """In an idle system it comes within what is declared after its time."""
    queue = bench.queue()
    consumer = bench.consumer(queue)
    for delay in (0.3, bench.lease / 3):
        began = bench.time.now()
        bench.broker.send(queue, b"x", delay=delay)
        bench.expect(consumer, within=delay + _late(bench) + bench.slack).ack(wait=True)
        bench.measured[f"late after {delay:g} s"] = bench.time.now() - began - delay


@case("DEL-03")
def no_delay(bench: Bench) -> None:
    """A delay of 0 is none; a negative one is refused."""
    queue = bench.queue()
    sent = [bench.broker.send(queue, b"x", delay=delay) for delay in (0, 0.0)]
    for wrong in (-1, -0.001):
        refused(lambda d=wrong: bench.broker.send(queue, b"x", delay=d), ConfigurationError, f"delay={wrong}")  # type: ignore[misc]
    check(
        as_sent(bench, [d.id for d in bench.collect(queue)], sent),
        "without a delay not all came, or what was refused did",
    )


@case("DEL-05")
def too_long(bench: Bench) -> None:
    """A delay longer than declared is refused before it is sent; the longest is taken, and does not come early."""
    queue = bench.queue()
    longest = bench.capabilities.delay.max  # type: ignore[union-attr] # the gate has seen it
    error = refused(
        lambda: bench.broker.send(queue, b"x", delay=longest * 1.001 + 1), ConfigurationError, "a longer delay"
    )
    check(f"{longest:g}" in str(error), f"the error does not name the longest delay: {error}")
    bench.broker.send(queue, b"x", delay=longest)
    bench.silent(queue, why="its time has not come")


@case("DEL-07")
def release_with_delay(bench: Bench) -> None:
    """A release with a delay hides the message for so long, and its attempt is counted."""
    queue, delay = bench.queue(), bench.lease / 2
    sent = bench.broker.send(queue, b"x")
    consumer = bench.consumer(queue)
    began = bench.time.now()
    bench.expect(consumer).release(delay=delay)
    bench.silent(queue, consumer, why="its delay has not passed")
    again = bench.expect(consumer, within=delay + bench.capabilities.redelivery.release + bench.slack)
    check(bench.time.now() - began >= delay - 0.01, "it came back early")
    check(again.id == sent and again.attempt in (2, None), f"it came back as attempt {again.attempt}")


@case("DEL-08")
def waiting_takes_no_room(bench: Bench) -> None:
    """Messages that wait for their time take none of a consumer's prefetch."""
    queue = bench.queue()
    for _ in range(5):
        bench.broker.send(queue, b"later", delay=20 * bench.lease)
    consumer = bench.consumer(queue, prefetch=2)
    sent = bench.broker.send_many(queue, [b"now"] * 4)
    held = [bench.expect(consumer) for _ in range(2)]
    for delivery in held:
        delivery.ack(wait=True)
    came = [delivery.id for delivery in held] + [bench.expect(consumer).id for _ in range(2)]
    check(as_sent(bench, came, sent), "waiting messages keep others from coming")


@case("DEL-10")
def odd_delays(bench: Bench) -> None:
    """A millisecond and ten years are right or refused; what is no number of seconds is refused."""
    queue = bench.queue()
    odd: tuple[Any, ...] = (math.nan, math.inf, -math.inf, "5", [], True)
    for wrong in odd:
        refused(lambda d=wrong: bench.broker.send(queue, b"x", delay=d), ConfigurationError, f"delay={wrong!r}")  # type: ignore[misc]
    short = bench.broker.send(queue, b"x", delay=0.001)
    consumer = bench.consumer(queue)
    check(bench.expect(consumer, within=0.001 + _late(bench) + bench.slack).id == short, "after 1 ms came another")
    try:
        bench.broker.send(queue, b"x", delay=315_360_000.0)
    except ConfigurationError as error:
        bench.measured["ten years"] = str(error)
    bench.silent(queue, consumer, why="ten years have not passed")


@case("DEL-12")
def with_ttl_and_priority(bench: Bench) -> None:
    """A time to live shorter than the delay ends first; among what has become due the priority decides."""
    queue, delay = bench.queue(), bench.lease / 4
    powers = bench.capabilities
    if powers.message_ttl is True:
        bench.broker.send(queue, b"dies", delay=delay, ttl=delay / 2)
    low = bench.broker.send(queue, b"low", delay=delay)
    high = low
    if not hasattr(powers.priority, "reason"):
        high = bench.broker.send(queue, b"high", delay=delay, priority=9)
    bench.let_pass(delay + _late(bench) + 0.1)
    came = [delivery.id for delivery in bench.collect(queue)]
    check(
        as_sent(bench, came, list(dict.fromkeys([high, low]))),
        f"of what was due came {len(came)}, or in the wrong order",
    )


@case("DEL-13")
@without("delay")
def no_delays(bench: Bench) -> None:
    """An engine without delays refuses one before any I/O; and it has none below that."""
    queue = bench.queue()
    refused(lambda: bench.broker.send(queue, b"x", delay=5), Unsupported, "delay=5")
    bench.silent(queue, why="what was refused is not sent")
    works_delay(bench)


@without("nack_delay")
def no_delayed_release(bench: Bench) -> None:
    """An engine that cannot delay a release refuses it before any I/O, and the delivery stays in hand."""
    queue = bench.queue()
    bench.broker.send(queue, b"x")
    delivery = bench.expect(bench.consumer(queue))
    refused(lambda: delivery.release(delay=5), Unsupported, "release(delay=5)")
    delivery.ack(wait=True)
    bench.silent(queue, why="it was acked after the refusal")
    works_release_delay(bench)
