"""EVI-10: a queue whose binding is gone would hear nothing more, and nobody would know."""

from __future__ import annotations

from brokerkit import Consumer
from brokerkit.errors import FanoutGap, InconsistencyError
from brokerkit_conformance.bench import HANG, Bench, check
from brokerkit_conformance.casebook import case
from brokerkit_conformance.cases.evi import take_all, told
from brokerkit_conformance.storage import Role


@case("EVI-10")
def registration(bench: Bench) -> None:
    """A binding that is gone: who publishes or who consumes is told, and it is bound again; the other queue hears all."""
    bench.private()
    topic, pattern = bench.name("topic"), "a.*" if bench.capabilities.fanout.patterns else "#"  # type: ignore[union-attr]
    live, quiet, whole = bench.queue("live"), bench.queue("quiet"), bench.queue("whole")
    for queue in (live, quiet, whole):
        bench.broker.bind(queue, topic, pattern)
    consumer = bench.consumer(live)
    check(bench.receive(consumer, 0.0) is None, "something came out of nothing")
    storage = bench.storage()
    each = all(storage.find(Role.BINDING, topic, only=queue) for queue in (live, quiet))
    for queue in (live, quiet) if each else ("",):  # or one key has all bindings of a topic
        storage.evict(Role.BINDING, topic, only=queue)
    published = [_publish(bench, topic)]
    _is_told(bench, consumer, topic, of=published)
    published.append(_publish(bench, topic))
    came, losses = take_all(bench, live, consumer)
    check(not losses, f"it tells the same loss again: {losses}")
    bench.measured["bound again by itself"] = published[-1] in [d.id for d in came]
    if not bench.measured["bound again by itself"]:
        bench.broker.bind(live, topic, pattern)
        published.append(_publish(bench, topic))
        check(published[-1] in [d.id for d in take_all(bench, live, consumer)[0]], "bound anew it hears nothing")
    # who was away comes back, and binds as at every start
    before = told(lambda: bench.broker.bind(quiet, topic, pattern), topic)
    published.append(_publish(bench, topic))
    came, losses = take_all(bench, quiet)
    accepted = [*filter(None, published)]  # what was refused, nobody missed
    check(before is not None or losses or len(came) == len(accepted), "who was away is not told what it missed")
    check(published[-1] in [d.id for d in came], "bound anew, the queue of who was away hears nothing")
    heard = [d.id for d in bench.collect(whole)] if each else accepted
    check(sorted(heard) == sorted(accepted), "a queue whose binding was there did not hear all, once")


def _publish(bench: Bench, topic: str) -> str | None:
    """Publish; None if that was refused as something is gone."""
    try:
        return bench.broker.publish(topic, b"x", routing_key="a.b")
    except InconsistencyError as error:
        check(topic in str(error), f"it does not say of which topic something is gone: {error}")
        return None


def _is_told(bench: Bench, consumer: Consumer, topic: str, *, of: list[str | None]) -> None:
    """Receive until a gap is told, unless the publisher was told, or nothing is missing."""
    began = bench.time.now()
    while of[0] is not None and bench.time.now() - began < HANG:
        try:
            delivery = bench.receive(consumer, bench.lease / 4)
        except (InconsistencyError, FanoutGap) as error:
            check(topic in str(error) or isinstance(error, FanoutGap), f"it does not say of which topic: {error}")
            bench.measured["told after"] = bench.time.now() - began
            return
        if delivery is not None:
            check(delivery.id == of[0], "another message came")
            delivery.ack(wait=True)
            return
    check(of[0] is None, f"a publish left out a queue that lost its binding, and for {HANG:g} s nobody was told")
