"""HAR, second part: the faults that the suite makes are real, and so is the server that they are made to."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Final

from brokerkit.errors import QueueNotFound
from brokerkit_conformance import mortal
from brokerkit_conformance.bench import Bench, check
from brokerkit_conformance.casebook import case, of_results
from brokerkit_conformance.cases._refused import refused
from brokerkit_conformance.cases._through import through_proxy
from brokerkit_conformance.faults import (
    Blackhole,
    Chunks,
    Cut,
    Ending,
    Fault,
    Garble,
    HalfOpen,
    HoldReply,
    KillConnections,
    Refuse,
    Slow,
    Way,
    prove,
    sigkill,
    stopped,
)
from brokerkit_conformance.faults.processes import Child

_ALL: Final[tuple[Fault, ...]] = (
    HoldReply(),
    HoldReply(containing=b"this one"),
    Cut(way=Way.UP, after=2),
    Cut(way=Way.DOWN, once=b"after this"),
    Cut(way=Way.DOWN, after=3, ending=Ending.FIN),
    Blackhole(way=Way.BOTH),
    Blackhole(way=Way.DOWN, new=False),
    HalfOpen(),
    Slow(latency=0.02),
    Slow(rate=8192.0),
    Garble(),
    Refuse(),
    Chunks(),
    KillConnections(),
    KillConnections(ending=Ending.FIN),
)


@case("HAR-01")
def nonexistent_is_asked_for(bench: Bench) -> None:
    """That a queue does not exist is the server's word: the question is seen on its way there, each time."""
    nobody = bench.name("nobody")
    with through_proxy(bench) as (proxy, url):
        broker = bench.connect(url=url)
        broker.purge(bench.queue())
        for what, call in {"send": lambda: broker.send(nobody, b"x"), "purge": lambda: broker.purge(nobody)}.items():
            for _ in range(2):
                before = proxy.traffic()
                refused(call, QueueNotFound, f"{what} to a queue that does not exist")
                proxy.turn()
                after = proxy.traffic()
                asked, told = after.passed_up - before.passed_up, after.passed_down - before.passed_down
                check(asked > 0 and told > 0, f"{what}: {asked} bytes went to the server, and {told} came back")
        bench.measured["bytes up"] = proxy.traffic().passed_up
        broker.close()


@of_results("HAR-01")
def a_missing_result_is_asked_for(bench: Bench) -> None:
    """That a result was never stored is the server's word: the question is seen on its way there, each time."""
    with through_proxy(bench, bench.results_urls[0]) as (proxy, url):
        store = bench.store(url=url)
        for _ in range(3):
            before = proxy.traffic()
            check(store.get(bench.key("nobody", store)).state == "UNKNOWN", "what was never stored is there")
            proxy.turn()
            after = proxy.traffic()
            asked, told = after.passed_up - before.passed_up, after.passed_down - before.passed_down
            check(asked > 0 and told > 0, f"{asked} bytes went to the server, and {told} came back")
        store.close()


@case("HAR-02")
def faults_bite(bench: Bench) -> None:
    """Each fault that the suite can make has its effect on a control connection, and signals on a control process."""
    for fault in _ALL:
        proof = prove(fault)
        check(proof.proved, f"{fault} has no effect here: {proof.text}")
    words = [sys.executable, mortal.__file__, str(os.getpid())]
    with subprocess.Popen(words, stdin=subprocess.PIPE) as child:  # noqa: S603 - our own code
        with stopped(Child(child)) as frozen:
            seen = frozen.evidence
        killed = sigkill(Child(child))
    check(bool(seen) and bool(killed.evidence), "a signal left no trace")
    bench.measured["faults"] = len(_ALL) + 2
