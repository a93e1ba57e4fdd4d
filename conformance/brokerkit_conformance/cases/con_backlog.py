"""CON, third part: a backlog that grows long."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from brokerkit_conformance.bench import Bench, check
from brokerkit_conformance.casebook import case

_STEPS = (10_000, 20_000, 40_000)
_GENEROUS = 4.0
_BATCH = 1000
_TRIFLE = 3.0


@case("CON-09", alone=True)
def long_backlog(bench: Bench) -> None:
    """Four times the backlog takes at most 4 n log n times as long to send, to count and to drain, and nothing times out.

    The law's million is scaled to forty thousand, for time; what grows faster than that shows there already. Times below
    three seconds say more of the machine than of the engine, and do not count.
    """
    took: dict[int, dict[str, float]] = {}
    for count in _STEPS:
        queue = bench.queue(f"n{count}")
        took[count] = {"send": _seconds(lambda q=queue, n=count: _send(bench, q, n))}  # type: ignore[misc]
        if "ready" in bench.capabilities.depth:
            ready = bench.broker.depth(queue).ready
            check(ready == count, f"{count} were sent, {ready} are counted")
            took[count]["count"] = _seconds(lambda q=queue: bench.broker.depth(q))  # type: ignore[misc]
        took[count]["drain"] = _seconds(lambda q=queue, n=count: _drain(bench, q, n))  # type: ignore[misc]
    bench.measured["seconds"] = {
        str(n): {what: round(seconds, 3) for what, seconds in each.items()} for n, each in took.items()
    }
    least, most = _STEPS[0], _STEPS[-1]
    allowed = _GENEROUS * most * math.log(most) / (least * math.log(least))
    for what, seconds in took[most].items():
        grown = seconds / max(took[least][what], _TRIFLE / allowed)
        check(grown <= allowed, f"to {what} {most} took {grown:.1f} times as long as to {what} {least}")


def _seconds(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def _send(bench: Bench, queue: str, count: int) -> None:
    for _ in range(count // _BATCH):
        bench.broker.send_many(queue, [b"x" * 20] * _BATCH)


def _drain(bench: Bench, queue: str, count: int) -> None:
    consumer = bench.consumer(queue, prefetch=_BATCH)
    with bench.time.running():
        for number in range(count):
            delivery = consumer.receive(timeout=bench.lease)
            if delivery is None:
                raise AssertionError(f"{number} of {count} messages came")
            delivery.ack()
        consumer.close()
    if "ready" in bench.capabilities.depth:
        left = bench.broker.depth(queue).ready
        check(left == 0, f"after the drain {left} are counted")
