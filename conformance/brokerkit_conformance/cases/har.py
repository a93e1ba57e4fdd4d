"""HAR: the suite's own tools do what they say, on this harness."""

from __future__ import annotations

from brokerkit_conformance.bench import Bench, check
from brokerkit_conformance.casebook import case, of_results
from brokerkit_conformance.storage import Role


@case("HAR-03")
def evictions_bite(bench: Bench) -> None:
    """An eviction removes exactly the keys of its role, which were there before: for each role that a queue has."""
    bench.private()
    storage = bench.storage()
    queue, other = bench.queue(), bench.queue("other")
    for name in (queue, other):
        bench.broker.send_many(name, [b"x"] * 3)
    for role in (Role.BODY, Role.TOPOLOGY):
        before, theirs = storage.everything(), storage.find(role, other)
        gone = storage.evict(role, queue)
        after = storage.everything()
        check(gone and not gone & after, f"after the eviction of {role!s} {len(gone & after)} keys are left")
        check(theirs and theirs <= after, f"the eviction of {role!s} of one queue took another's")
        extra = {key for key in before - after - gone if other in key}
        check(not extra, f"the eviction of {role!s} also took {sorted(extra)[:3]}")
    bench.measured["roles"] = ", ".join(str(role) for role in Role if storage.find(role))


@of_results("HAR-03")
def evictions_of_results_bite(bench: Bench) -> None:
    """The eviction of one result removes its keys, which were there before, and no other's."""
    bench.private()
    storage = bench.storage(bench.results_urls[0])
    one, other = bench.name("one"), bench.name("other")
    for name in (one, other):
        bench.results.set_result(name, 1)
    before, theirs = storage.everything(), storage.find(Role.RESULT, other)
    gone = storage.evict(Role.RESULT, one)
    after = storage.everything()
    check(gone and not gone & after, f"after the eviction {len(gone & after)} keys are left")
    check(theirs and theirs <= after, "the eviction of one result took another's")
    check(not {key for key in before - after - gone if other in key}, "the eviction took more than it said")


@case("HAR-04")
def names_are_unique(bench: Bench) -> None:
    """Names of two cases, and of the same case in two runs, are never the same; and two at once see nothing of each other."""
    twins = [bench.twin() for _ in range(50)]
    names = [each.name() for each in (bench, *twins)]
    check(len(set(names)) == len(names), f"{len(names) - len(set(names))} of {len(names)} names came twice")
    if bench.urls:
        mine, theirs = bench.queue(), twins[0].queue()
        sent = bench.broker.send(mine, b"x")
        twins[0].silent(theirs, why="it was sent to the other run")
        check([d.id for d in bench.collect(mine)] == [sent], "it did not come, or the other run took it")
