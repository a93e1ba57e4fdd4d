"""VIS, second part: killed, frozen, starved and many at once."""

from __future__ import annotations

import signal
from collections import Counter

from brokerkit.errors import LeaseLost
from brokerkit_conformance.bench import Bench, check
from brokerkit_conformance.casebook import case
from brokerkit_conformance.cases._refused import refused
from brokerkit_conformance.faults import sigkill
from brokerkit_conformance.model import NotRun


@case("VIS-08")
def killed_while_working(bench: Bench) -> None:
    """The messages of a killed consumer come to others within the declared bound, as redelivered."""
    queue = bench.queue()
    sent = bench.broker.send_many(queue, [b"%d" % i for i in range(3)])
    actor = bench.actor("consume", queue, count=3, do="hold")
    actor.wait_for("ready")
    actor.kill()
    began = bench.time.now()
    kill = bench.capabilities.redelivery.kill
    if kill is None:
        raise AssertionError("it declares that a killed process's messages never come back: each crash loses some")
    bound = kill + bench.slack + (bench.lease if bench.capabilities.lease.scope == "message" else 0)
    consumer = bench.consumer(queue)
    came = [bench.expect(consumer, within=bound) for _ in sent]
    bench.measured["back after the kill"] = bench.time.now() - began
    check({d.id for d in came} == set(sent), "other messages came")
    check(all(d.attempt in (2, None) for d in came), f"attempts {[d.attempt for d in came]} after one kill")


@case("VIS-10")
def killed_before_the_ack(bench: Bench) -> None:
    """A worker that dies between its work and its ack: that message comes again, those acked before do not."""
    queue = bench.queue()
    bench.broker.send_many(queue, [b"%d" % i for i in range(2)])
    first = bench.actor("consume", queue, count=2, do="ack", then="hang")
    first.wait_for("ready")
    sent = bench.broker.send_many(queue, [b"%d" % i for i in range(2)])
    second = bench.actor("consume", queue, count=2, do="hold")
    second.wait_for("ready")
    for actor in (first, second):
        actor.kill()
    bench.let_pass(bench.past_lease())
    came = bench.collect(queue)
    check(Counter(d.id for d in came) == Counter(sent), f"{len(came)} messages came of 2 acked and 2 not")
    check(all(d.attempt in (2, None) for d in came), f"attempts {[d.attempt for d in came]} after one kill")


@case("VIS-11")
def frozen_and_woken(bench: Bench) -> None:
    """A consumer frozen for two leases: others get its message; it is told, and its ack is refused."""
    queue = bench.queue()
    sent = bench.broker.send(queue, b"x")
    actor = bench.actor("consume", queue, count=1, do="hold")
    actor.wait_for("ready")
    actor.send_signal(signal.SIGSTOP)
    bench.let_pass(bench.lease)
    (taken,) = bench.claim(holder := bench.receiver(queue, lease=10 * bench.lease), 1, within=bench.lease_end_bound())
    check(taken.message.id == sent, "another message came")
    bench.let_pass(bench.lease)
    actor.send_signal(signal.SIGCONT)
    actor.wait_for("lease_lost", within=3 + bench.lease + bench.slack)
    check(actor.wait_for("ack_refused")["error"] == "LeaseLost", "the woken consumer's ack was not refused")
    check(not holder.ack([taken]), "the woken consumer took the message from its new owner")


@case("VIS-12")
def clean_shutdown(bench: Bench) -> None:
    """A consumer that ends cleanly, by a signal too, gives back at once what it holds, not after the lease."""
    long_lease = min(30 * bench.lease, bench.capabilities.lease.max)
    queue = bench.queue()
    sent = bench.broker.send_many(queue, [b"%d" % i for i in range(4)])
    consumer = bench.consumer(queue, visibility_timeout=long_lease)
    held = [bench.expect(consumer) for _ in range(2)]
    with bench.time.running():
        consumer.close()
    refused(lambda: held[0].ack(wait=True), LeaseLost, "an ack after the close gave the message back")
    other = bench.consumer(queue)
    came = [bench.expect(other, within=bench.capabilities.redelivery.close + bench.slack) for _ in sent]
    check(Counter(d.id for d in came) == Counter(sent), "not all came back after a clean close")
    for delivery in came:
        delivery.ack(wait=True)
    if bench.capabilities.shared == "process":
        return
    sent = bench.broker.send_many(queue, [b"%d" % i for i in range(4)])
    actor = bench.actor("run", queue, seconds=0.3, visibility_timeout=long_lease)
    handled = actor.wait_for("received")["id"]
    actor.send_signal(signal.SIGTERM)
    check(actor.join() == 0, "SIGTERM did not end the worker in order")
    done = {event["id"] for event in actor.events("handled")}
    check(handled in done, "the handler that was working could not end its work")
    came = bench.collect(queue)
    check(
        {d.id for d in came} == set(sent) - done, f"{len(came)} came of {len(sent) - len(done)} that were not handled"
    )


@case("VIS-14")
def lease_outlives_the_worker(bench: Bench) -> None:
    """A worker that asked for an hour dies after seconds: its message is back at once, or waits out the hour and is kept.

    By its declaration a kill counts from the end of the lease, so a way back before is more than was promised; without one
    the message may be in nobody's hands, and must still be there.
    """
    powers = bench.capabilities
    queue, hour = bench.queue(), min(3600.0, powers.lease.max)
    sent = bench.broker.send(queue, b"x")
    actor = bench.actor("consume", queue, count=1, do="hold", visibility_timeout=hour)
    actor.wait_for("ready")
    sigkill(actor)
    came = [delivery.id for delivery in bench.collect(queue)]
    bench.measured["lease"] = hour
    bench.measured["way back before its end"] = "yes" if came else "none, as declared"
    check(came in ([], [sent]), "another message came")
    if not came and "in_flight" in powers.depth:
        depth = bench.broker.depth(queue)
        check(depth.in_flight == 1, f"the message of a killed worker is gone: the queue counts {depth}")


@case("VIS-17")
def ten_thousand_at_once(bench: Bench) -> None:
    """More than 10,000 leases that end in one second: each message comes back once."""
    queue = bench.queue()
    count, batch = 10_050, min(1000, bench.capabilities.max_batch)
    sent = bench.broker.send_many(queue, [b"x"] * count)
    check(len(set(sent)) == count, "ids repeat")
    lease = 4 * bench.lease
    first = bench.receiver(queue, lease=lease)
    held: list[str] = []
    while len(held) < count:
        got, _ = first.receive(limit=batch, timeout=0.0)
        check(got, f"{count - len(held)} of {count} are missing")
        held += [received.message.id for received in got]
    bench.let_pass(lease)
    second = bench.receiver(queue, lease=30 * lease)
    again: list[str] = []
    began = bench.time.now()
    while len(again) < count:
        again += [
            received.message.id for received in bench.claim(second, min(batch, count - len(again)), within=10 + lease)
        ]
    bench.measured["all back within"] = bench.time.now() - began
    check(Counter(held) == Counter(sent) == Counter(again), "messages were lost or repeated")
    got, _ = second.receive(limit=batch, timeout=0.0)
    check(not got, f"{len(got)} came twice")


@case("VIS-18")
def racing_sweepers(bench: Bench) -> None:
    """Four consumers that reclaim at the same moment: each message goes to one of them."""
    queue = bench.queue()
    sent = bench.broker.send_many(queue, [b"%d" % i for i in range(80)])
    bench.claim(bench.receiver(queue), 80)
    bench.let_pass(bench.past_lease())
    got: list[tuple[str, int | None]] = []
    receivers = [bench.receiver(queue, broker=bench.connect(), lease=20 * bench.lease) for _ in range(4)]
    for receiver in receivers:

        def take(receiver: object = receiver) -> None:
            while claimed := receiver.receive(limit=7, timeout=0.0)[0]:  # type: ignore[attr-defined]
                got.extend((r.message.id, r.attempt) for r in claimed)

        bench.thread(take)
    bench.join()
    check(Counter(i for i, _ in got) == Counter(sent), f"{len(got)} came of 80")
    check(all(attempt in (2, None) for _, attempt in got), "an attempt was counted twice")


@case("VIS-20")
def reclaims_from_itself(bench: Bench) -> None:
    """A consumer of the same broker reclaims while a handler beside it works on: it does not get that message.

    Where no lease can be prolonged it may, and the handler was told before.
    """
    queue = bench.queue()
    bench.broker.send(queue, b"x")
    working = bench.consumer(queue)
    delivery = bench.expect(working)
    beside = bench.consumer(queue)
    if not bench.capabilities.lease.extend:
        bench.let_pass(bench.past_lease())
        (again,) = bench.collect(queue, beside)
        check(again.id == delivery.id, "another message came")
        check(delivery.lease_lost, "it runs again in the same process, and its first handler was not told")
        return
    for _ in range(3):
        bench.let_pass(bench.lease)
        bench.silent(queue, beside, why="a handler of this very process works on it")
        bench.silent(queue, working, why="a handler of this very consumer works on it")
    delivery.ack(wait=True)


@case("VIS-21")
def starved_keeper(bench: Bench) -> None:
    """When nobody could keep a lease in time, the handler is told, and the consumer goes on."""
    queue = bench.queue()
    sent = bench.broker.send(queue, b"x")
    if bench.capabilities.shared != "process":
        actor = bench.actor("consume", queue, count=1, do="block", seconds=2.5 * bench.lease)
        check(actor.wait_for("ack_refused")["error"] == "LeaseLost", "its late ack was not refused")
        check([d.id for d in bench.collect(queue)] == [sent], "the message is not back")
        return
    consumer = bench.consumer(queue)
    delivery = bench.expect(consumer)
    if not bench.time.jump(2.5 * bench.lease):
        raise NotRun("real time cannot be made to jump within one process")
    refused(lambda: delivery.ack(wait=True), LeaseLost, "an ack long after the end of the lease")
    check(delivery.lease_lost, "lease_lost was not set")
    again = bench.expect(consumer, what="the message, for the same consumer,")
    check(again.id == sent and again.attempt in (2, None), f"it came as attempt {again.attempt}")
    again.ack(wait=True)
