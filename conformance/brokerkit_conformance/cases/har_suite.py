"""HAR, second part: what was tried is what is installed, time is fine enough, and no thread dies unseen."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from typing import Final

from brokerkit_conformance.bench import Bench, check
from brokerkit_conformance.casebook import case
from brokerkit_conformance.cases._inside import inside
from brokerkit_conformance.genuine import not_as_installed, not_as_written
from brokerkit_conformance.model import Inconclusive
from brokerkit_conformance.subject import plugin_classes

_COARSEST: Final = 0.1
"""How much of a lease a round trip, or the imprecision of a wait, may take: cases tell times from each other by leases."""


@case("HAR-05", alone=True)
def the_installed_plugin(bench: Bench) -> None:
    """The plugin that runs is the installed one: its files are as installed, its functions as its files say. Run last."""
    for side, (kind, distribution) in plugin_classes(bench.harness).items():
        changed = not_as_installed(kind, distribution.split(" ")[0])
        check(not changed, f"{side}: not as {distribution} was installed: {', '.join(changed[:5])}")
        patched = not_as_written(kind)
        check(not patched, f"{side}: replaced while it runs: {', '.join(patched[:5])}")
        bench.measured[side] = f"{distribution}, {kind.__module__}:{kind.__qualname__}"


@case("HAR-07")
def time_is_fine_enough(bench: Bench) -> None:
    """A round trip and the imprecision of a wait are small beside a lease; a clock that is moved moves by just so much."""
    clock = bench.harness.clock()
    if clock is not None:
        before = clock.monotonic(), clock.time()
        clock.advance(1.5)
        moved = [after - then for then, after in zip(before, (clock.monotonic(), clock.time()), strict=True)]
        check(all(abs(each - 1.5) < 1e-5 for each in moved), f"the clock was moved by 1.5 s, and moved by {moved}")  # noqa: PLR2004
        return
    trip_once = _trip(bench)
    trips, waits = [], []
    for _ in range(15):
        began = time.monotonic()
        trip_once()
        trips.append(time.monotonic() - began)
        began = time.monotonic()
        threading.Event().wait(0.01)
        waits.append(time.monotonic() - began - 0.01)
    trip, late = statistics.median(trips), statistics.median(waits)
    bench.measured["round trip and lateness of waits, milliseconds"] = [round(trip * 1e3, 3), round(late * 1e3, 3)]
    for what, seconds in (("a round trip takes", trip), ("waits are late by", late)):
        if seconds > _COARSEST * bench.lease:
            raise Inconclusive(f"{what} {seconds:.3f} s, too much beside leases of {bench.lease:g} s")


def _trip(bench: Bench) -> Callable[[], object]:
    if not bench.urls:
        return lambda: bench.results.get(bench.key())
    queue = bench.queue()
    return lambda: bench.broker.purge(queue)


@case("HAR-09")
def no_thread_dies_unseen(bench: Bench) -> None:
    """An exception in a thread fails its case: in one of the case's own, and in one that something else started."""

    def die() -> None:
        raise LookupError("it is meant to die")

    other = bench.twin()
    other.thread(die)
    try:
        other.join()
    except LookupError:
        pass
    else:
        raise AssertionError("a thread of a case died, and the case went on")
    inside(bench, "stray")
