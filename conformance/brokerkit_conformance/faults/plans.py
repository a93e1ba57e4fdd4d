"""The faults that a proxy can make, as values.

`once` arms a fault on a connection when these bytes were passed on to the server there: bytes of the request that is
meant, such as a message id. Without it a fault is armed from the start. Replies are told from each other by nothing but
time and their bytes, so on connections where the server pushes, name what the reply contains.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

__all__ = [
    "Blackhole",
    "Chunks",
    "Cut",
    "Ending",
    "Fault",
    "Garble",
    "HalfOpen",
    "HoldReply",
    "KillConnections",
    "Refuse",
    "Slow",
    "Way",
]


class Way(StrEnum):
    """A direction, seen from the client."""

    UP = "up"  # requests, to the server
    DOWN = "down"  # replies, to the client
    BOTH = "both"

    def covers(self, way: Way) -> bool:
        """Whether a fault of this way concerns bytes of that one."""
        return self is Way.BOTH or self is way


class Ending(StrEnum):
    """How a connection ends for the client."""

    RST = "rst"  # by reset: SO_LINGER 0
    FIN = "fin"  # in good order, as if the server had closed


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldReply:
    """Let requests through, and keep one reply, with all that follows on its connection, until it is lifted.

    Attributes:
        containing: bytes of the reply that is meant; None for the first one.
        once: see the module.
    """

    containing: bytes | None = None
    once: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """End a connection in the middle of things.

    The server always sees an orderly end, so that what was passed on is not lost on its side. `Way.DOWN` with `after=0`
    and `once` is the lost reply: the server has answered, so it did the work, and the client never hears of it.

    Attributes:
        way: the direction whose bytes are counted, UP or DOWN.
        after: bytes that still pass, counted from the injection, or up from the end of `once`, or down from the first
            reply after it. 0: the next byte is not passed on. With RST a client may lose also what it has not read yet.
        once: see the module.
        ending: what the client sees.
        times: how many connections are cut; None for every one.
    """

    way: Way
    after: int = 0
    once: bytes | None = None
    ending: Ending = Ending.RST
    times: int | None = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Blackhole:
    """Swallow bytes, also the end of a connection, until it is lifted; what was swallowed stays lost.

    Attributes:
        way: which direction.
        once: see the module.
        new: whether connections that come later suffer too.
    """

    way: Way
    once: bytes | None = None
    new: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class HalfOpen:
    """Neither read nor write on either side, and end nothing: the peer is gone, and nobody says so.

    Attributes:
        new: whether connections that come later suffer too; they are accepted, and nothing happens on them.
    """

    new: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Slow:
    """A slow line. Order is kept.

    Attributes:
        latency: seconds that bytes travel in each direction concerned.
        jitter: up to so many seconds more, by chance.
        rate: bytes in a second; None for no limit. A token bucket for each connection and direction.
        burst: bytes that may pass at once before the rate holds, from 1.
        way: which direction.
        seed: of the chance.
    """

    latency: float = 0.0
    jitter: float = 0.0
    rate: float | None = None
    burst: int = 1024
    way: Way = Way.BOTH
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Garble:
    """Flip bits of replies, the first byte always among them.

    Attributes:
        containing: bytes of the replies that are meant; None for any. Only the part that came in one read is garbled.
        flips: how many bytes of each.
        times: how many replies, over all connections.
        once: see the module.
        seed: of the choice of bytes.
    """

    containing: bytes | None = None
    flips: int = 8
    times: int = 1
    once: bytes | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse:
    """Refuse new connections until it is lifted; the port stays ours. Connections that stand go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunks:
    """Pass bytes on in small pieces, each in a packet of its own as far as the system lets us.

    Attributes:
        size: bytes of each.
        way: which direction.
    """

    size: int = 1
    way: Way = Way.BOTH


@dataclass(frozen=True, slots=True, kw_only=True)
class KillConnections:
    """End all connections that stand, on both sides, now.

    Attributes:
        ending: what both peers see.
    """

    ending: Ending = Ending.RST


Fault: TypeAlias = HoldReply | Cut | Blackhole | HalfOpen | Slow | Garble | Refuse | Chunks | KillConnections
