"""Delays without a plugin of the server: queues whose messages live for a fixed time and are then dead-lettered onward.

A delay is rounded up, to 10 ms below a second and to 100 ms from there, and written in decimal digits: 0.25 s is 200 + 50 ms.
For each digit that is not 0 there is a queue in which everything lives that long: `bk.delay.200.on` hands on to the next
digit, `bk.delay.50`, the last, hands on to the routing key, which is the target queue all the way. From digit to digit the
headers `bk-delay-N` show the way through the headers exchanges `bk.delay.N`. So there are at most 2 x 9 queues a digit,
whatever delays are asked for; most delays are round, and need one. They are made when first needed, and never expire:
publishing would not renew them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

__all__ = ["LONGEST", "Hop", "Way", "exchange_name", "header_of", "way_of"]

LONGEST: Final = 4_000_000.0
"""Seconds: 46 days. The server bounds the time to live in a queue by 2**32 ms."""

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

    def arguments(self, kind: str) -> dict[str, Any]:
        """Return the arguments of its queue."""
        found: dict[str, Any] = {
            "x-queue-type": kind,
            "x-message-ttl": self.milliseconds,
            "x-dead-letter-exchange": "" if self.last else exchange_name(self.level - 1),
        }
        if kind == "quorum":  # else a crash between leaving here and arriving there loses
            found |= {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}
        return found


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
