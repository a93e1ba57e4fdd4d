"""PUB-19 and PUB-21: what the contract has no option for is refused, and what it says instead is true."""

from __future__ import annotations

from brokerkit.errors import ConfigurationError
from brokerkit_conformance.bench import Bench, check
from brokerkit_conformance.casebook import case, refusal
from brokerkit_conformance.cases._refused import refused


@case("PUB-19")
@refusal("PUB-19")
def published_to_nobody(bench: Bench) -> None:
    """To publish to nobody is fine, as declared: nothing is stored, nobody gets it later; to ask for more is refused."""
    queue, topic = bench.queue(), bench.name("topic")
    if hasattr(bench.capabilities.fanout, "reason"):
        refused(lambda: bench.broker.publish(topic, b"x"), ConfigurationError, "publish")
        return
    check(bool(bench.broker.publish(topic, b"nobody hears")), "a publish to nobody did not return the message's id")
    bench.broker.bind(queue, topic)
    bench.silent(queue, why="it was published before the queue was bound")
    heard = bench.broker.publish(topic, b"somebody hears")
    check([d.id for d in bench.collect(queue)] == [heard], "a queue did not get one copy of what it hears")
    bench.broker.unbind(queue, topic)
    bench.broker.publish(topic, b"nobody hears any more")
    refused(lambda: bench.broker.publish(topic, b"x", mandatory=True), ConfigurationError, "mandatory=True")  # type: ignore[call-arg]
    bench.silent(queue, why="it was published after the queue was unbound, or refused")


@case("PUB-21")
@refusal("PUB-21")
def durable_is_no_option(bench: Bench) -> None:
    """Every message is as durable as the engine declares: asking for more or less is refused, and nothing is stored."""
    queue = bench.queue()
    for asked in (True, False):
        call = lambda asked=asked: bench.broker.send(queue, b"x", durable=asked)  # type: ignore[call-arg] # noqa: E731
        refused(call, ConfigurationError, f"durable={asked}")
    sent = bench.broker.send(queue, b"as durable as declared")
    if bench.capabilities.durability.kill:
        bench.broker.close()  # nothing of it lives on in this client
    came = bench.consumer(queue, broker=bench.connect())
    delivery = bench.expect(came)
    check(delivery.id == sent, "what was refused came all the same")
    delivery.ack(wait=True)
    check(bench.receive(came, bench.lease / 8) is None, "what was refused came all the same")
