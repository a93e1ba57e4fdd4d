"""By which promises a history is judged."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Self

from brokerkit.capabilities import Capabilities

__all__ = ["Excuse", "Promises"]


class Excuse(StrEnum):
    """Why a message may be handed over once more."""

    RELEASE = "release"
    LEASE_END = "lease end"
    CONNECTION_LOSS = "connection loss"
    KILL = "kill"
    FREEZE = "freeze"
    CLOSE = "close"
    UNKNOWN_SETTLEMENT = "unknown settlement"
    RETRY = "publisher retry"


@dataclass(frozen=True, slots=True, kw_only=True)
class Promises:
    """What the engine promises, and how the actors used it.

    Attributes:
        lease: the visibility timeout asked for, in seconds, where an event does not say.
        scope: of the lease, as in `brokerkit.capabilities.Lease`.
        kept_alive: the core prolongs leases while an actor works, so that they end by faults alone. False: they end by
            themselves, unless the actor extends them.
        prefetch: a consumer claims before the actor asks, so that a claim may be older than the receive that shows it.
        early: seconds by which a lease or a delay may end too early: the declared resolution.
        late_heartbeat: seconds for which two owners are allowed, where that is declared.
        order: what stays in order.
        excuses: the kinds that are declared; others excuse nothing.
    """

    lease: float
    scope: Literal["message", "connection"] = "message"
    kept_alive: bool = False
    prefetch: bool = False
    early: float = 0.0
    late_heartbeat: float = 0.0
    order: Literal["queue", "group", "none"] = "none"
    excuses: frozenset[Excuse] = frozenset(Excuse)

    @classmethod
    def of(cls, capabilities: Capabilities, *, lease: float, kept_alive: bool, prefetch: bool) -> Self:
        """Return what a transport declares: a trigger that it does not redeliver by excuses nothing."""
        missing = set()
        if capabilities.redelivery.lease_end is None:
            missing |= {Excuse.LEASE_END, Excuse.FREEZE}
        if capabilities.redelivery.kill is None:
            missing |= {Excuse.KILL}
        return cls(
            lease=lease,
            scope=capabilities.lease.scope,
            kept_alive=kept_alive,
            prefetch=prefetch,
            early=capabilities.lease.resolution,
            order=capabilities.order,
            excuses=frozenset(Excuse) - missing,
        )
