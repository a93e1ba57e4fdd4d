"""FLT, fourth part: what was held, subscribed to or awaited before the line broke."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from brokerkit.errors import BrokerkitError, FanoutGap, InconsistencyError
from brokerkit_conformance.bench import HANG, Bench, check
from brokerkit_conformance.casebook import case
from brokerkit_conformance.cases._through import Taker, outage, through_proxy
from brokerkit_conformance.faults import Slow, Way

if TYPE_CHECKING:
    from brokerkit import Delivery

_MEGABYTE: Final = 1 << 20
_GAPS: Final = (FanoutGap, InconsistencyError)


@case("VIS-23")
def lease_over_a_reset(bench: Bench) -> None:
    """The connection drops and comes back while a message is held: its holder owns it still, or is told; never neither."""
    queue = bench.queue()
    with through_proxy(bench) as (proxy, url):
        broker = bench.connect(url=url, timeout=3.0)
        consumer = bench.consumer(queue, broker=broker, prefetch=1)
        bench.broker.send(queue, b"x")
        delivery = bench.expect(consumer, within=bench.lease + bench.slack)
        with outage(proxy):
            bench.let_pass(bench.lease / 10)
        check(proxy.traffic().unreachable == 0, "the server itself was away")
        other = bench.receive(bench.consumer(queue), 2.5 * bench.lease)
        if other is None:
            check(
                not delivery.lease_lost, "the holder was told that its lease is lost, and nobody else got the message"
            )
            check(_acked(delivery), "the holder was never told, and cannot settle")
        else:
            bench.wait_until(
                # who extends hears of it by that; a claim that lasts as long as its connection is asked
                lambda: delivery.lease_lost or not (bench.capabilities.lease.extend or _acked(delivery)),
                within=bench.lease + bench.slack,
                what="somebody else has the message, and its first holder is told",
            )
            other.ack(wait=True)
        bench.measured["still the owner"] = other is None
        broker.close(timeout=2.0)
    bench.silent(queue, why="it was acked by its owner")


def _acked(delivery: Delivery) -> bool:
    try:
        delivery.ack(wait=True)
    except BrokerkitError:
        return False
    return True


@case("FAN-13")
def subscriber_cut_off(bench: Bench) -> None:
    """A subscriber whose connection was lost hears its topic again by itself; what it missed comes, or the gap is told."""
    queue, topic = bench.queue(), bench.name("topic")
    bench.broker.bind(queue, topic)
    published: set[bytes] = set()
    # what was handed out on the connection that broke is back by then
    bound = bench.lease + (bench.capabilities.redelivery.lease_end or 0.0) + 2 * bench.slack

    def publish(body: bytes) -> None:
        bench.broker.publish(topic, body)
        published.add(body)

    with through_proxy(bench) as (proxy, url):
        broker = bench.connect(url=url, timeout=3.0)
        with Taker(bench, bench.consumer(queue, broker=broker)) as taker:
            publish(b"before")
            taker.wait_for(lambda: b"before" in taker.bodies, within=bound, what="a first copy")
            with outage(proxy):
                for i in range(5):
                    publish(b"meanwhile %d" % i)
            end = bench.time.now() + bound
            while not any(body.startswith(b"after") for body in taker.bodies):
                check(bench.time.now() < end, f"{bound:g} s after the connection was lost it still hears nothing new")
                publish(b"after %d" % len(published))
                bench.let_pass(0.1)
            taker.wait_for(
                lambda: published <= set(taker.bodies) or any(isinstance(e, _GAPS) for e in taker.errors),
                within=bound,
                what="what it missed, or word of a gap",
            )
            taker.stop()
        bench.measured["copies"] = len(published)
        broker.close(timeout=2.0)


@case("BIG-05")
def huge_among_small(bench: Bench) -> None:
    """A huge message takes its time on the line: meanwhile leases are kept, and small messages pass."""
    big, small = bench.queue("big"), bench.queue("small")
    lease = max(bench.lease, 1.0)
    size = min(4 * _MEGABYTE, (bench.capabilities.max_message or 4 * _MEGABYTE) // 2)
    with through_proxy(bench) as (proxy, url):
        broker = bench.connect(url=url, timeout=HANG)
        holder = bench.consumer(small, broker=broker, visibility_timeout=lease, prefetch=1)
        bench.broker.send(small, b"held")
        held = bench.expect(holder, within=lease + bench.slack)
        longest = min(20 * lease, bench.capabilities.lease.max)
        others = bench.consumer(small, broker=broker, visibility_timeout=longest, prefetch=1)
        huge = bench.consumer(big, broker=broker, visibility_timeout=longest)
        bench.broker.send(big, bytes(size))
        came: list[Delivery | None] = []
        began = time.monotonic()
        with proxy.inject(Slow(rate=size / (2.5 * lease), burst=4096, way=Way.DOWN)) as slow:
            thread = bench.thread(lambda: came.append(bench.receive(huge, HANG)))
            slow.wait(size=size // 50)
            worst = 0.0
            while not came:
                sent = time.monotonic()
                bench.broker.send(small, b"small")
                bench.expect(others, within=lease + bench.slack, what="a small message beside a huge one").ack(
                    wait=True
                )
                worst = max(worst, time.monotonic() - sent)
                check(worst <= lease + bench.slack, f"a small message took {worst:.1f} s beside a huge one")
            thread.join(HANG)
        check(came[0] is not None and len(came[0].body) == size, "the huge message did not come whole")
        check(time.monotonic() - began > lease, "the line was not slow")
        check(not held.lease_lost, "a lease was lost while a huge message was on the line")
        held.ack(wait=True)
        bench.join()
        bench.measured["slowest small message"] = worst
        broker.close(timeout=3.0)
