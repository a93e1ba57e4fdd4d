"""VIS, third part: the moment between the server's claim and the client's knowledge of it."""

from __future__ import annotations

from brokerkit_conformance.bench import Bench, check
from brokerkit_conformance.casebook import case
from brokerkit_conformance.cases._through import through_proxy
from brokerkit_conformance.faults import HoldReply, sigkill
from brokerkit_conformance.model import Inconclusive


@case("VIS-09")
def killed_between_claim_and_delivery(bench: Bench) -> None:
    """The server has handed a message over, its bytes are on their way, and the consumer dies: the message is not lost.

    No luck is involved: a proxy holds the reply that has the message in it, known by a header, until the consumer is dead.
    """
    kill = bench.capabilities.redelivery.kill
    if kill is None:
        raise AssertionError("it declares that a killed process's messages never come back: each crash loses some")
    queue = bench.queue()
    mark = bench.name("mark")
    sent = bench.broker.send(queue, b"x", headers={"mark": mark})
    with through_proxy(bench) as (proxy, url):
        held = proxy.inject(HoldReply(containing=mark.encode()))
        actor = bench.actor("consume", queue, url=url, count=1, do="hold")
        held.wait()
        sigkill(actor)
        if actor.events("received"):
            raise Inconclusive("the consumer had the message before it was killed: another reply was held")
        held.drop()
    began = bench.time.now()
    bound = kill + bench.slack + (bench.lease if bench.capabilities.lease.scope == "message" else 0)
    came = bench.receive(bench.consumer(queue), bound)
    if came is None:
        raise AssertionError(
            f"the message is lost: its bytes were on their way when its consumer died, and it was not back in {bound:g} s"
        )
    check(came.id == sent, "another message came")
    bench.measured["back after the kill"] = bench.time.now() - began
    came.ack(wait=True)
