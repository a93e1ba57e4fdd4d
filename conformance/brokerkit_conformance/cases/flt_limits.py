"""FLT, limits of the machine: a client that may open nothing more."""

from __future__ import annotations

from brokerkit_conformance.bench import Bench
from brokerkit_conformance.casebook import case
from brokerkit_conformance.cases._inside import inside
from brokerkit_conformance.model import Inconclusive


@case("FLT-21", crowd=True)
def no_descriptors_left(bench: Bench) -> None:
    """A process that has no descriptor left is told so by typed errors; with some again, brokers work, and nothing is lost."""
    (starved,) = inside(bench, "starve", queues=("q",), within=60.0).facts("starved")
    old, new = starved["errors"]
    bench.measured["an open broker, a new one"] = [old or "works", new or "works"]
    if new is None and bench.capabilities.shared == "network":
        raise Inconclusive("a new broker needed no descriptor: the case starved nobody")
