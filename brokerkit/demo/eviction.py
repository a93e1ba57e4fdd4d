"""Eviction: a reserved result whose record is deleted behind the store's back is reported lost at once."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from time import perf_counter
from typing import Final

from brokerkit._clock import SYSTEM_CLOCK
from brokerkit._targets import Target
from brokerkit.abc import ResultBackend
from brokerkit.demo.plan import Plan
from brokerkit.errors import BrokerkitError, ResultLost, ResultTimeout
from brokerkit.options import ResultOptions, gather, resolve
from brokerkit.results import PendingResult, ResultStore

__all__ = ["Evicted", "evict"]

_WAIT_SECONDS: Final = 15.0
_LOOK_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Evicted:
    """What the waiters were told.

    Attributes:
        records: how many were taken away.
        reported_lost: waiters that got `ResultLost`.
        slowest: seconds until the last of these knew.
        waiting_told_apart: whether a record that is still there was waited for all the same.
    """

    records: int
    reported_lost: int
    slowest: float
    waiting_told_apart: bool


def evict(aim: Target, store: ResultStore, plan: Plan) -> Evicted:
    """Reserve results, wait for them in threads, delete their records in the server, and see what the waiters are told."""
    pending = [store.reserve(f"{plan.queue}-evicted-{number}") for number in range(plan.evicted)]
    still = store.reserve(f"{plan.queue}-waiting")
    told: list[tuple[float, BrokerkitError | None]] = []
    waiters = [threading.Thread(target=lambda one=one: told.append(_wait(one))) for one in pending]
    for waiter in waiters:
        waiter.start()
    try:
        waiting_told_apart = _waits_on(still)
        begun = perf_counter()
        backend = _another_client(aim)
        backend.delete([one.id for one in pending], timeout=_WAIT_SECONDS)
        backend.close(timeout=_WAIT_SECONDS)
    finally:
        for waiter in waiters:
            waiter.join()
    store.forget(still.id)
    lost = [at - begun for at, error in told if isinstance(error, ResultLost)]
    return Evicted(
        records=plan.evicted,
        reported_lost=len(lost),
        slowest=max(lost, default=0.0),
        waiting_told_apart=waiting_told_apart,
    )


def _wait(pending: PendingResult) -> tuple[float, BrokerkitError | None]:
    try:
        pending.result(_WAIT_SECONDS)
    except BrokerkitError as error:
        return perf_counter(), error
    return perf_counter(), None


def _waits_on(pending: PendingResult) -> bool:
    try:
        pending.result(_LOOK_SECONDS)
    except ResultTimeout:
        return True
    except BrokerkitError:
        return False
    return False


def _another_client(aim: Target) -> ResultBackend:
    """Open the backend itself, as a stranger who tidies up in the server would."""
    assert aim.backend is not None  # noqa: S101 - the caller has a store of it
    driver: type[ResultBackend] = aim.backend.load()
    url = aim.results_url
    own, _ = resolve(gather(url, {}, None), driver.options_type, ResultOptions, scheme=url.full_scheme)
    return driver.from_url(url.with_query(()), own, clock=SYSTEM_CLOCK)
