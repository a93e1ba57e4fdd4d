"""Delays without a plugin of the server: queues whose messages live for a fixed time and are then dead-lettered onward.

A delay is rounded up, to 10 ms below a second and to 100 ms from there, and written in decimal digits: 0.25 s is 200 + 50 ms.
For each digit that is not 0 there is a queue in which everything lives that long: `bk.delay.200.on` hands on to the next
digit, `bk.delay.50`, the last, hands on to the exchange `bk.delay.end`, to which each target queue is bound by its name; that is
the routing key all the way. From digit to digit the headers `bk-delay-N` show the way through the headers exchanges
`bk.delay.N`. So there are at most 2 x 9 queues a digit, whatever delays are asked for; most delays are round, and need one.
They are made when first needed, and never expire: publishing would not renew them.

A quorum queue hands on at least once: it keeps what nobody takes, tries again, and after a few of these hands on nothing
else. So whatever has no target any more must have a way out: `bk.delay.end` lets it go to the queue `bk.delay.stray`, which
tries the default exchange once, for a queue that was declared anew, and drops the rest, as its queue is gone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

__all__ = ["END", "LONGEST", "STRAY", "STRAY_ARGUMENTS", "Hop", "Way", "exchange_name", "header_of", "way_of"]

LONGEST: Final = 4_000_000.0
"""Seconds: 46 days. The server bounds the time to live in a queue by 2**32 ms."""

END: Final = "bk.delay.end"
"""The exchange behind the last digit."""

STRAY: Final = "bk.delay.stray"
"""The exchange and the queue of what has no target any more."""

STRAY_ARGUMENTS: Final[Mapping[str, Any]] = {
    "x-queue-type": "quorum",
    "x-message-ttl": 10,
    "x-dead-letter-exchange": "",
}

_STEP: Final = 10  # ms, of delays below a second
_LARGE_STEP: Final = 100  # ms, of the others: each digit is a hop, and costs the server as much as a message
_NOTHING: Final = "0"


class Hop(NamedTuple):
    """One queue on the way.

    Attributes:
        level: power of ten of its time, in ms.
        milliseconds: the time.
        last: whether the target comes next.
    """

    level: int
    milliseconds: int
    last: bool

    @property
    def queue(self) -> str:
        """Return its name."""
        return f"bk.delay.{self.milliseconds}{'' if self.last else '.on'}"

    @property
    def sign(self) -> str:
        """Return what the header of its level says."""
        return f"{self.milliseconds // 10**self.level}{'' if self.last else '+'}"

    @property
    def arguments(self) -> dict[str, Any]:
        """Return the arguments of its queue: the same for all transports, as they share it."""
        return {
            "x-queue-type": "quorum",
            "x-message-ttl": self.milliseconds,
            "x-dead-letter-exchange": END if self.last else exchange_name(self.level - 1),
            # else a crash between leaving here and arriving there loses
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        }


class Way(NamedTuple):
    """How a message comes to its delay.

    Attributes:
        hops: the queues, the longest first.
        headers: what shows the way.
    """

    hops: Sequence[Hop]
    headers: dict[str, str]

    @property
    def exchange(self) -> str:
        """Return where to publish it to."""
        return exchange_name(self.hops[0].level)

    @property
    def levels(self) -> range:
        """Return the levels that it passes, the lowest first."""
        return range(self.hops[-1].level, self.hops[0].level + 1)


def exchange_name(level: int) -> str:
    """Return the name of the exchange that divides the messages of one level."""
    return f"bk.delay.{level}"


def way_of(seconds: float) -> Way:
    """Return the way for a delay above 0. It takes no less."""
    step = _STEP if seconds < 1 else _LARGE_STEP
    steps = math.ceil(seconds * 1000 / step - 1e-6)
    hops = list(_hops(max(steps, 1) * step))
    headers = {header_of(level): _NOTHING for level in range(hops[-1].level, hops[0].level + 1)}
    headers |= {header_of(hop.level): hop.sign for hop in hops}
    return Way(hops, headers)


def header_of(level: int) -> str:
    """Return the name of the header that a level's exchange looks at."""
    return f"bk-delay-{level}"


def _hops(milliseconds: int) -> Iterator[Hop]:
    digits = str(milliseconds)
    last = len(digits.rstrip("0"))
    for place, digit in enumerate(digits, 1):
        if digit != "0":
            level = len(digits) - place
            yield Hop(level, int(digit) * 10**level, place == last)
