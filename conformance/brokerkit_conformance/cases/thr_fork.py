"""THR, second part: forks. All of them happen in a process of its own, never in the suite's."""

from __future__ import annotations

from brokerkit_conformance.bench import Bench, check
from brokerkit_conformance.casebook import case
from brokerkit_conformance.cases._inside import inside
from brokerkit_conformance.cases._through import through_proxy
from brokerkit_conformance.trials.forking import LATE


@case("THR-03")
def both_sides_of_a_fork(bench: Bench) -> None:
    """After a fork, parent and child use the same broker at once: no answer goes astray, and what the parent holds stays.

    The parent closes first; what the child sends then is there for others. Where there is a network, a proxy sees that the
    child opened a connection of its own: one more at least than the same work opens without a fork.
    """
    if bench.capabilities.embedded:
        inside(bench, "both", queues=("parent", "child"), fork=True)
    else:
        opened = []
        for fork in (False, True):
            with through_proxy(bench) as (proxy, url):
                inside(bench, "both", queues=("parent", "child"), url=url, fork=fork)
                opened.append(proxy.traffic().connections)
        check(opened[1] > opened[0], f"with a fork {opened[1]} connections were opened, without one {opened[0]}")
        bench.measured["connections without and with a fork"] = opened
    if bench.capabilities.shared != "process":
        left = [delivery.body for delivery in bench.collect(bench.name("child"))]
        check(left == [LATE], f"of what the child sent after its parent had closed is there: {left}")


@case("THR-04")
def locks_held_at_a_fork(bench: Bench) -> None:
    """Children that are forked while four threads are in the middle of calls work at once, none hangs."""
    inside(bench, "locks", queues=("parent", "child"), forks=6)


@case("THR-05")
def prefetched_at_a_fork(bench: Bench) -> None:
    """A child can neither receive nor settle what its parent has prefetched or in hand, and its end takes nothing away."""
    inside(bench, "prefetched", queues=("parent",))
