"""ORD, second part: order over the death of a consumer."""

from __future__ import annotations

from brokerkit_conformance.bench import Bench, check
from brokerkit_conformance.casebook import case
from brokerkit_conformance.faults import sigkill
from brokerkit_conformance.model import NotRun

_HELD = 4


@case("ORD-04", crowd=True)
def order_after_a_kill(bench: Bench) -> None:
    """What a killed consumer held comes back before what is younger, each line in its order."""
    powers = bench.capabilities
    if powers.redelivery.kill is None:
        raise NotRun("the engine declares no redelivery after a kill")
    queue = bench.queue()
    keys = ["one", "two"] if powers.order == "group" else [None]
    sent = {key: [bench.broker.send(queue, b"%d" % i, ordering_key=key) for i in range(2 * _HELD)] for key in keys}
    actor = bench.actor("consume", queue, count=_HELD, do="hold", prefetch=_HELD)
    actor.wait_for("ready")
    sigkill(actor)
    for key, line in sent.items():
        line.append(bench.broker.send(queue, b"the youngest", ordering_key=key))
    bench.let_pass(bench.past_lease() if powers.lease.scope == "message" else powers.redelivery.kill + bench.slack)
    came = [delivery.id for delivery in bench.collect(queue)]
    for line in sent.values():
        places = [line.index(message_id) for message_id in came if message_id in line]
        check(places == list(range(len(line))), f"after a kill with {_HELD} in flight the order is {places}")
    bench.measured["in flight"] = _HELD
