"""CON and FLT: many producers and consumers while consumers are killed, frozen, ended and cut off."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

from brokerkit_conformance.bench import Bench, check
from brokerkit_conformance.casebook import case
from brokerkit_conformance.cases._through import through_proxy
from brokerkit_conformance.faults import Proxy
from brokerkit_conformance.load import Load, Worker
from brokerkit_conformance.load_faults import Faults

_ROUNDS: Final = 10
_SEED: Final = 22
_LEASE: Final = 2.0
"""Seconds, or the bench's, if that is more: shorter, and a busy machine ends leases by itself."""

_Run: TypeAlias = tuple[Load, Faults, str | None, Callable[[int], list[Worker]]]


@case("CON-03", crowd=True)
def faults_of_every_kind(bench: Bench) -> None:
    """Consumers are killed, frozen, ended and cut off while messages flow: none is lost, and every duplicate has its excuse."""
    with _faulty(bench, seed=3) as (load, faults, url, join):
        killed, frozen, ended = join(3)
        load.producers(2, url=url, burst=10, pause=0.4)
        load.until(30)
        faults.kill(killed)
        join(1)
        faults.freeze(frozen, past_lease=True)
        for strike in _strikes(bench, faults):
            strike()
            load.until(load.count("settled") + 10)
        faults.end(ended)
        load.until_settled()
        load.judge(ordered=False)


@case("FLT-22", crowd=True)
def survives_ten_rounds(bench: Bench) -> None:
    """A consumer lives through ten rounds of faults, of itself and of its companion, and works after each of them."""
    with _faulty(bench, seed=_SEED) as (load, faults, url, join):
        survivor, companion = join(2)
        load.producers(1, url=url, burst=12, pause=0.25)
        chance = random.Random(_SEED)  # noqa: S311 - a plan, no secret
        strikes = _strikes(bench, faults)
        plan: list[Callable[[], None]] = [lambda: faults.freeze(survivor, past_lease=True)]
        plan += [lambda: faults.freeze(survivor, past_lease=False) for _ in range(2)]
        plan += [lambda: faults.freeze(companion, past_lease=False)]
        plan += [lambda: faults.kill(companion), lambda: faults.end(companion)]
        plan += [chance.choice(strikes or plan[1:]) for _ in range(_ROUNDS - len(plan))]
        chance.shuffle(plan)
        for strike in plan:
            strike()
            if companion.ended:
                (companion,) = join(1)
            survivor.wait_for("settled", count=len(survivor.told("settled")) + 3)
        load.until_settled()
        load.judge(ordered=False)
    bench.measured["rounds"], bench.measured["seed"] = len(load.faults), _SEED
    check(len(load.faults) == _ROUNDS, f"{len(load.faults)} faults were made, not {_ROUNDS}")


@contextlib.contextmanager
def _faulty(bench: Bench, *, seed: int) -> Iterator[_Run]:
    """Begin a load with faults: gives it, its faults, the URL of all workers, and what lets so many consumers join."""
    with contextlib.ExitStack() as stack:
        proxy: Proxy | None = None
        url: str | None = None
        if not bench.capabilities.embedded:
            proxy, url = stack.enter_context(through_proxy(bench))
        load = stack.enter_context(Load(bench, lease=max(_LEASE, bench.lease), seed=seed))

        def join(number: int) -> list[Worker]:
            return load.consumers(number, url=url, prefetch=8, pause=0.004, unawaited=0.2)

        yield load, Faults(load, proxy, seed), url, join


def _strikes(bench: Bench, faults: Faults) -> list[Callable[[], None]]:
    """Return what can happen to connections; an embedded engine has none."""
    return [] if bench.capabilities.embedded else [faults.disconnect, faults.lose_an_answer, faults.stall]
