"""Options of the bridge: those of kombu's that matter here."""

from __future__ import annotations

from dataclasses import dataclass

from brokerkit.options import FanoutOptions, Options, setting

__all__ = ["CeleryOptions", "KombuOptions"]


@dataclass(frozen=True, kw_only=True, repr=False)
class KombuOptions(FanoutOptions):
    """kombu's `transport_options`, as far as the bridge passes them on.

    `fanout_prefix` and `fanout_patterns` are taken and have no effect: kombu has them for fanout exchanges, and the topics of
    the contract are topic exchanges, which keep copies for queues that are away.
    """

    polling_interval: float | None = setting(
        0.1, "kombu's own: seconds between polls, and of one BRPOP; None for its default of 1 s.", above=0
    )
    unacked_restore_throttle: int = setting(
        1, "kombu's own, redis only: look for ended leases at each so-manyth call; its default is 10.", min=1
    )
    socket_timeout: float | None = setting(
        5.0, "kombu's own, redis only: seconds of one read; None for its default, which is for ever.", above=0
    )


@dataclass(frozen=True, kw_only=True, repr=False)
class CeleryOptions(Options):
    """The result backend is taken with Celery's defaults."""
