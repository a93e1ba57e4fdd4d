"""FLT, third part: lines that are cut, frozen, slow or full of garbage, under consumers and publishers at work."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from brokerkit.errors import BrokerkitError, ConnectionLost, OperationTimeout, OutcomeUnknown
from brokerkit_conformance.bench import HANG, Bench, check
from brokerkit_conformance.casebook import case
from brokerkit_conformance.cases._refused import refused
from brokerkit_conformance.cases._through import ONCE, Taker, belongings, through_proxy
from brokerkit_conformance.faults import Blackhole, Cut, Ending, Garble, HalfOpen, Slow, Way

if TYPE_CHECKING:
    from brokerkit import Broker

_AWAY: Final = (ConnectionLost, OperationTimeout, OutcomeUnknown)
_FLAPS: Final = 50


@case("FLT-06")
def partition(bench: Bench) -> None:
    """The line swallows everything for three time-outs: typed errors meanwhile; then all goes on, and nothing is lost."""
    queue, timeout = bench.queue(), 1.0
    with through_proxy(bench) as (proxy, url):
        broker = bench.connect(url=url, timeout=timeout)
        with Taker(bench, bench.consumer(queue, broker=broker)) as taker:
            accepted = {b"before", b"behind"}
            broker.send(queue, b"before")
            taker.wait_for(lambda: b"before" in taker.bodies, within=bench.lease + bench.slack, what="a first message")
            with proxy.inject(Blackhole(way=Way.BOTH)) as swallowed:
                bench.broker.send(queue, b"behind")
                began = time.monotonic()
                while (took := time.monotonic() - began) < 3 * timeout:
                    tried = time.monotonic()
                    refused(lambda: broker.send(queue, b"into the hole"), _AWAY, "a send into a partition")
                    took = time.monotonic() - tried
                    check(took <= timeout + bench.slack, f"a send of {timeout:g} s ended after {took:.1f} s")
                swallowed.wait()
            for i in range(5):
                _send_soon(broker, queue, b"after %d" % i)
                accepted.add(b"after %d" % i)
            bound = bench.lease + (bench.capabilities.redelivery.lease_end or 0) + 2 * bench.slack
            taker.wait_for(lambda: accepted <= set(taker.bodies), within=bound, what=f"{accepted} after the partition")
            _ended(bench, taker, broker)
            check(all(error.retryable for error in taker.errors if isinstance(error, _AWAY)), f"{taker.errors}")


def _send_soon(broker: Broker, queue: str, body: bytes) -> None:
    """Send until it is accepted: what remains of the fault in a connection may show once more."""
    for _ in range(3):
        try:
            broker.send(queue, body)
        except _AWAY:
            continue
        return
    broker.send(queue, body)


def _ended(bench: Bench, taker: Taker, broker: Broker) -> None:
    taker.stop()
    with bench.time.running():
        broker.close(timeout=2.0)
    check(all(isinstance(error, BrokerkitError) for error in taker.errors), f"untyped errors: {taker.errors}")


@case("FLT-07")
def half_open(bench: Bench) -> None:
    """The peer falls silent, and no end is told: a consumer notices soon, and a send raises in its time."""
    queue = bench.queue()
    with through_proxy(bench) as (proxy, url):
        broker = bench.connect(url=url, timeout=1.0)
        with Taker(bench, bench.consumer(queue, broker=broker), block=1.0) as taker:
            broker.send(queue, b"before")
            taker.wait_for(lambda: b"before" in taker.bodies, within=bench.lease + bench.slack, what="a first message")
            with proxy.inject(HalfOpen()):
                began = time.monotonic()
                refused(lambda: broker.send(queue, b"silence"), _AWAY, "a send on a silent connection")
                took = time.monotonic() - began
                check(took <= 1.0 + bench.slack, f"a send of 1 s ended after {took:.1f} s")
                bench.wait_until(
                    lambda: taker.errors,
                    within=2.0 + bench.slack,
                    what="a consumer that waits notices that nobody answers",
                )
                bench.measured["noticed after"] = time.monotonic() - began
            _send_soon(broker, queue, b"after")
            taker.wait_for(
                lambda: b"after" in taker.bodies, within=bench.lease + 2 * bench.slack, what="what came after"
            )
            _ended(bench, taker, broker)


@case("FLT-10")
def slow_line(bench: Bench) -> None:
    """A slow line costs time and nothing else: leases are kept, nothing comes twice, and waits end when they should."""
    queue, lease = bench.queue(), max(bench.lease, 3.0)
    with through_proxy(bench) as (proxy, url):
        broker = bench.connect(url=url, timeout=15.0)
        consumer = bench.consumer(queue, broker=broker, visibility_timeout=lease, prefetch=10)
        with proxy.inject(Slow(latency=0.1)) as slow:
            sent = broker.send_many(queue, [b"one", b"two", b"three"])
            held = [bench.expect(consumer, within=10.0) for _ in sent]
            bench.let_pass(1.3 * lease)
            bench.silent(queue, why="somebody holds everything, and lives")
            check(not any(delivery.lease_lost for delivery in held), "a slow line cost a lease")
            began = time.monotonic()
            check(bench.receive(consumer, 0.3) is None, "a message came twice to one consumer")
            check(time.monotonic() - began < 0.3 + bench.slack, "a receive of 0.3 s did not end")
            for delivery in held:
                delivery.ack(wait=True)
            impatient = bench.connect(url=url, timeout=0.15, **ONCE)
            error = refused(lambda: impatient.purge(queue), _AWAY, "a call with less time than the line takes")
            check(error.retryable, f"it is said to be no use to try again: {error!r}")
            slow.wait()
        with proxy.inject(Slow(rate=8192.0, burst=1024)) as slow:
            sent = [broker.send(queue, bytes(range(256)) * 32)]
            delivery = bench.expect(consumer, within=10.0)
            check((delivery.id, delivery.body) == (sent[0], bytes(range(256)) * 32), "a slow message came otherwise")
            delivery.ack(wait=True)
            slow.wait()
        consumer.close()
    bench.silent(queue, why="all was acked")


@case("FLT-11")
def garbage(bench: Bench) -> None:
    """Answers that are garbled or end in the middle cost a connection: nothing else dies, and nothing is lost."""
    queue = bench.queue()
    accepted: set[bytes] = set()
    with through_proxy(bench) as (proxy, url):
        broker = bench.connect(url=url, timeout=10.0)
        with Taker(bench, bench.consumer(queue, broker=broker)) as taker:
            for i in range(6):
                body = b"message-%d" % i
                fault = Garble(once=body, seed=i) if i % 2 else Cut(way=Way.DOWN, once=body, after=3, ending=Ending.FIN)
                with proxy.inject(fault) as injection:
                    broker.send(queue, body)
                    accepted.add(body)
                    injection.wait()
                pushed = b"pushed-%d" % i
                spoilt = Garble(containing=pushed, seed=i) if i % 2 else Cut(way=Way.DOWN, after=3)
                with proxy.inject(spoilt) as injection:  # what a consumer is handed, or told
                    bench.broker.send(queue, pushed)
                    accepted.add(pushed)
                    injection.wait()
            bound = bench.lease + (bench.capabilities.redelivery.lease_end or 0) + 2 * bench.slack
            taker.wait_for(lambda: accepted <= set(taker.bodies), within=bound, what="every message, after the garbage")
            connections = proxy.traffic().connections
            check(connections <= 10 * 12, f"12 spoilt answers led to {connections} connections")
            bench.measured["connections"] = connections
            _ended(bench, taker, broker)


@case("FLT-12", alone=True)
def quick_flaps(bench: Bench) -> None:
    """After fifty resets in a row it still consumes, with as many threads, files and connections as before."""
    queue = bench.queue()
    with through_proxy(bench) as (proxy, url):
        broker = bench.connect(url=url, timeout=HANG)
        with Taker(bench, bench.consumer(queue, broker=broker), block=0.1) as taker:
            broker.send(queue, b"warm")
            taker.wait_for(lambda: b"warm" in taker.bodies, within=bench.lease + bench.slack, what="a first message")
            before, connected = belongings(), proxy.traffic().open
            for i in range(_FLAPS):
                bench.wait_until(lambda: proxy.kill_connections().bit, within=HANG, what="it connects again")
                broker.send(queue, b"%d" % i)
            accepted = {b"%d" % i for i in range(_FLAPS)}
            bound = bench.lease + (bench.capabilities.redelivery.lease_end or 0) + 2 * bench.slack
            taker.wait_for(lambda: accepted <= set(taker.bodies), within=bound, what="every message between the flaps")
            _back_to(bench, before, "after fifty resets it has more threads or files")
            open_now = proxy.traffic().open
            check(open_now <= connected + 2, f"it had {connected} connections, and has {open_now} after fifty resets")
            bench.measured["connections"] = proxy.traffic().connections
            _ended(bench, taker, broker)


def _back_to(bench: Bench, before: tuple[int, int], what: str) -> None:
    def as_before() -> bool:
        threads, files = belongings()
        return threads <= before[0] + 2 and files <= before[1] + 4

    try:
        bench.wait_until(as_before, within=2 * bench.slack, what=what)
    except AssertionError:
        raise AssertionError(f"{what}: {belongings()} (threads, files), not {before}") from None
