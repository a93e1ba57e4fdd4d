"""CLK, second part: somebody sets the clock while a client works."""

from __future__ import annotations

from brokerkit_conformance.bench import HANG, Bench, check
from brokerkit_conformance.casebook import case
from brokerkit_conformance.faults import SkewedClock

_HOUR = 3600.0


class _SetClock(SkewedClock):
    """The case's own clock, of which the time of day can be set."""

    def advance(self, seconds: float) -> None:
        """Let time pass, where the case's clock is one that is moved."""
        self.of.advance(seconds)  # type: ignore[union-attr] # only then is it asked to


@case("CLK-04")
def the_clock_is_set(bench: Bench) -> None:
    """The clock is set by an hour, forward and back, during leases, delays and waits: nothing comes of it."""
    bench.time.clock = clock = _SetClock(0.0, of=bench.time.clock)
    queue, other = bench.queue(), bench.queue("other")
    bench.broker.send(other, b"kept")
    keeper = bench.consumer(other, prefetch=1)
    kept = bench.expect(keeper)
    lease = bench.capabilities.lease
    for hours in (1, -2):
        if bench.timed:
            _lease(bench, clock, queue, hours)
        _delay(bench, clock, queue, hours)
        _wait(bench, clock, queue, -hours)
    if bench.timed and not lease.extend:
        return
    check(not kept.lease_lost, "a kept lease was lost")
    kept.ack(wait=True)
    bench.silent(other, why="the lease of the only message was kept")


def _lease(bench: Bench, clock: SkewedClock, queue: str, hours: int) -> None:
    sent = bench.broker.send(queue, b"x")
    began = bench.time.now()
    bench.claim(bench.receiver(queue))
    clock.jump(hours * _HOUR)
    (again,) = bench.claim(second := bench.receiver(queue), within=bench.lease_end_bound())
    waited = bench.time.now() - began
    check(again.message.id == sent, "another message came")
    check(
        waited >= bench.lease - bench.capabilities.lease.resolution, f"a lease ended as the clock was set by {hours} h"
    )
    check(not second.ack([again]), "a lease taken after the clock was set cannot be acked")


def _delay(bench: Bench, clock: SkewedClock, queue: str, hours: int) -> None:
    delay = bench.capabilities.delay
    if hasattr(delay, "reason"):
        return
    began = bench.time.now()
    bench.broker.send(queue, b"later", delay=bench.lease / 2)
    clock.jump(-hours * _HOUR)
    receiver = bench.receiver(queue)
    (came,) = bench.claim(receiver, within=bench.lease / 2 + delay.late + bench.slack)
    waited = bench.time.now() - began
    check(waited >= bench.lease / 2 - 0.01, f"a delay of {bench.lease / 2:g} s ended after {waited:g} s")
    receiver.ack([came])
    clock.jump(hours * _HOUR)


def _wait(bench: Bench, clock: SkewedClock, queue: str, hours: int) -> None:
    """A wait for nothing lasts as long as asked; one for something ends when it comes."""
    consumer, seconds = bench.consumer(queue), bench.lease / 2
    took: list[float] = []

    def wait() -> None:
        began = bench.time.now()
        check(bench.receive(consumer, seconds) is None, "something came out of nothing")
        took.append(bench.time.now() - began)

    bench.thread(wait)
    bench.let_pass(seconds / 10)
    clock.jump(hours * _HOUR)
    bench.join()
    bench.measured[f"a wait of {seconds:g} s over {hours:+} h"] = took[0]
    # generous: where time is moved, two threads move it, and a machine may be busy; an hour would still be noticed
    check(seconds - 0.01 <= took[0] <= seconds + HANG, f"a wait of {seconds:g} s took {took[0]:g} s")
    clock.jump(-hours * _HOUR)
    sent = bench.broker.send(queue, b"x")
    delivery = bench.expect(consumer, what="a message sent after the clock was set")
    check(delivery.id == sent, "another message came")
    delivery.ack(wait=True)
    with bench.time.running():
        consumer.close()
