"""DEL, second part: delays, and workers in processes of their own."""

from __future__ import annotations

from typing import Final

from brokerkit_conformance.bench import Bench, check
from brokerkit_conformance.casebook import case
from brokerkit_conformance.load import Load

_SHORT_LEASE: Final = 2.0  # seconds; if it is shorter, a busy machine ends leases by itself


@case("DEL-04", crowd=True)
def longer_than_the_lease(bench: Bench) -> None:
    """A delay longer than the lease, and three workers in processes of their own: each message comes once."""
    longest: float = bench.capabilities.delay.max  # type: ignore[union-attr] # the gate has seen it
    with Load(bench, lease=max(_SHORT_LEASE, bench.lease), seed=4) as load:
        delay = min(1.5 * load.lease, longest)
        load.patience += delay
        load.consumers(3)
        load.producers(1, count=20, delay=delay)
        load.until_settled()
        counts = load.judge(excuses=(), ordered=False).counts
    bench.measured["delay"], bench.measured["lease"] = delay, load.lease
    check(
        counts["delivered"] == counts["accepted"], f"{counts['delivered']} deliveries of {counts['accepted']} messages"
    )
