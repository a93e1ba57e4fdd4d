"""DEL-09: taking a delayed message back."""

from __future__ import annotations

from typing import Any

from brokerkit_conformance.bench import Bench, check
from brokerkit_conformance.casebook import case, refusal


@case("DEL-09")
@refusal("DEL-09")
def no_cancellation(bench: Bench) -> None:
    """There is no way to take one message back, and no call that seems to: the message comes, once."""
    queue, delay = bench.queue(), bench.lease / 2
    sent = bench.broker.send(queue, b"x") if _without_delays(bench) else bench.broker.send(queue, b"x", delay=delay)
    broker: Any = bench.broker
    for word in ("cancel", "revoke", "withdraw"):
        try:
            getattr(broker, word)(sent)
        except AttributeError as error:
            check(word in str(error), f"the error does not say what there is not: {error}")
        else:
            raise AssertionError(f"{word} was not refused, and no plugin was asked")
    consumer = bench.consumer(queue)
    delivery = bench.expect(consumer, within=delay + _late(bench) + bench.slack)
    check(delivery.id == sent, "another message came")
    delivery.ack(wait=True)
    bench.silent(queue, why="the only message was acked")


def _without_delays(bench: Bench) -> bool:
    return hasattr(bench.capabilities.delay, "reason")


def _late(bench: Bench) -> float:
    return 0.0 if _without_delays(bench) else bench.capabilities.delay.late  # type: ignore[union-attr] # just seen
