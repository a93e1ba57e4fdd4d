"""PRE-03: the prefetch of a consumer that works already."""

from __future__ import annotations

from typing import Any

from brokerkit_conformance.bench import Bench, check
from brokerkit_conformance.casebook import case, refusal


@case("PRE-03")
@refusal("PRE-03")
def prefetch_is_fixed(bench: Bench) -> None:
    """A consumer's prefetch cannot be changed: an attempt raises, and changes nothing."""
    queue = bench.queue()
    bench.broker.send_many(queue, [b"%d" % i for i in range(5)])
    consumer = bench.consumer(queue, prefetch=2)
    open_to_all: Any = consumer
    try:
        open_to_all.prefetch = 4
    except AttributeError as error:
        check("prefetch" in str(error), f"the error does not say what cannot be set: {error}")
    else:
        raise AssertionError("a prefetch was set without an error, and no plugin was asked")
    check(consumer.prefetch == 2, "the consumer does not say what its prefetch is")  # noqa: PLR2004
    held = [bench.receive(consumer, bench.lease / 8) for _ in range(3)]
    check([d is not None for d in held] == [True, True, False], "the prefetch changed all the same")
