"""VIS: the lease, or visibility timeout. Bare receivers here: nobody keeps their leases unless the case does."""

from __future__ import annotations

from itertools import pairwise

from brokerkit.errors import LeaseLost, Unsupported
from brokerkit_conformance.bench import Bench, check
from brokerkit_conformance.casebook import case, without
from brokerkit_conformance.cases._probes import works_extension, works_lease
from brokerkit_conformance.cases._refused import refused


@case("VIS-01")
def comes_back(bench: Bench) -> None:
    """A message whose holder does nothing comes back at the end of its lease: not before, and within the bound."""
    queue = bench.queue()
    sent = bench.broker.send(queue, b"x")
    bench.claim(bench.receiver(queue), 1)
    began = bench.time.now()
    (again,) = bench.claim(bench.receiver(queue), 1, within=bench.lease_end_bound())
    took = bench.time.now() - began
    check(again.message.id == sent, "another message came")
    check(again.attempt in (2, None), f"it came back as attempt {again.attempt}")
    check(
        took >= bench.lease - bench.capabilities.lease.resolution - 0.05, f"back after {took:g} s of {bench.lease:g} s"
    )
    bench.measured["back after the end of the lease"] = took - bench.lease


@case("VIS-02")
def not_before(bench: Bench) -> None:
    """Until the lease ends nobody else gets the message, however often they ask."""
    queue = bench.queue()
    bench.broker.send_many(queue, [b"%d" % i for i in range(5)])
    receiver = bench.receiver(queue)
    held = bench.claim(receiver, 5)
    began = bench.time.now()
    for looks in range(1, 4):
        bench.let_pass(0.2 * bench.lease)
        bench.silent(queue, why="the leases have not ended")
        if (bench.time.now() - began) * (looks + 1) / looks > 0.9 * bench.lease:
            break  # where there is no order a look takes longer, and the next one might end after the leases
    check(not receiver.ack(held), "a lease ended before its time")


@case("VIS-03")
def extended_once(bench: Bench) -> None:
    """An extended lease hides the message until its new end, and then no longer."""
    queue = bench.queue()
    sent = bench.broker.send(queue, b"x")
    receiver = bench.receiver(queue)
    held = bench.claim(receiver, 1)
    bench.let_pass(bench.lease / 2)
    before = held[0].deadline
    check(not receiver.extend(held, visibility_timeout=1.5 * bench.lease), "a lease that lasts was told to be lost")
    extended = bench.time.now()
    check(held[0].deadline > before, "the new deadline was not set")
    bench.let_pass(bench.lease)
    bench.silent(queue, why="the lease was extended")
    (again,) = bench.claim(bench.receiver(queue), 1, within=bench.lease_end_bound())
    took = bench.time.now() - extended
    check(again.message.id == sent, "another message came")
    check(took >= 1.5 * bench.lease - 0.1, f"back {took:g} s after it was extended by {1.5 * bench.lease:g} s")


@case("VIS-04")
def kept_alive(bench: Bench) -> None:
    """A handler that works for five leases keeps its message: one delivery only, and its ack counts."""
    queue = bench.queue()
    bench.broker.send(queue, b"x")
    delivery = bench.expect(bench.consumer(queue))
    other = bench.connect()
    for _ in range(5):
        bench.let_pass(bench.lease)
        bench.silent(queue, bench.consumer(queue, broker=other), why="the holder lives and works")
    check(not delivery.lease_lost, "the holder was told that its lease is lost")
    delivery.ack(wait=True)
    bench.let_pass(bench.past_lease())
    bench.silent(queue, why="it was acked after five leases")


@case("VIS-05")
def extended_too_late(bench: Bench) -> None:
    """An extension after the end is refused, whether or not there is a new owner; it does not steal from that one."""
    queue = bench.queue()
    bench.broker.send(queue, b"x")
    old, new = bench.receiver(queue), bench.receiver(queue, broker=bench.connect())
    late = bench.claim(old, 1)
    owned = bench.claim(new, 1, within=bench.lease_end_bound())
    check(
        list(old.extend(late, visibility_timeout=10 * bench.lease)) == late,
        "the old owner extended the new one's lease",
    )
    bench.let_pass(bench.lease)
    again = bench.claim(bench.receiver(queue), 1, within=bench.lease_end_bound())
    check(again[0].message.id == owned[0].message.id, "another message came")
    bench.let_pass(bench.past_lease())
    check(list(new.extend(owned, visibility_timeout=10 * bench.lease)) == owned, "an ended lease was revived")
    check(len(bench.collect(queue)) == 1, "the extension after the end hides the message")


@case("VIS-06")
def late_ack(bench: Bench) -> None:
    """An ack by a former owner is told to be late and touches nothing: the new owner still decides."""
    queue = bench.queue()
    sent = bench.broker.send(queue, b"x")
    old, new = bench.receiver(queue), bench.receiver(queue, broker=bench.connect())
    late = bench.claim(old, 1)
    owned = bench.claim(new, 1, within=bench.lease_end_bound())
    told = list(old.ack(late)) == late
    kept = not new.release(owned)
    came = [delivery.id for delivery in bench.collect(queue)]
    after = "it came again" if came == [sent] else f"{len(came)} messages came, which is its loss"
    check(told, f"the old owner was told that its ack counts; then the new owner gave the message back, and {after}")
    check(kept, "the late ack took the message from its new owner")
    check(came == [sent], "the message vanished by a late ack that was told to be lost")


@case("VIS-07")
def late_release(bench: Bench) -> None:
    """A release by a former owner is told to be late, and makes no further copy visible."""
    queue = bench.queue()
    bench.broker.send(queue, b"x")
    old, new = bench.receiver(queue), bench.receiver(queue, broker=bench.connect())
    late = bench.claim(old, 1)
    owned = bench.claim(new, 1, within=bench.lease_end_bound())
    check(list(old.release(late)) == late, "the old owner was told that its release counts")
    bench.silent(queue, why="its new owner holds it")
    old.close(timeout=5.0)
    bench.silent(queue, why="its new owner holds it, and the former one was closed")
    check(not new.ack(owned), "the late release or close took the message from its new owner")
    bench.let_pass(bench.past_lease())
    bench.silent(queue, why="its new owner acked it")


@case("VIS-13")
def no_multiplication(bench: Bench) -> None:
    """Three workers that never settle, for five leases: at most one delivery a lease."""
    queue = bench.queue()
    bench.broker.send(queue, b"x")
    receivers = [bench.receiver(queue, broker=bench.connect()) for _ in range(3)]
    began, at = bench.time.now(), []
    with bench.time.running():
        while bench.time.now() < began + 5 * bench.lease:
            for receiver in receivers:
                got, _ = receiver.receive(limit=10, timeout=bench.lease / 20)
                at += [(bench.time.now(), received.attempt) for received in got]
    gaps = [later - earlier for (earlier, _), (later, _) in pairwise(at)]
    check(3 <= len(at) <= 6, f"{len(at)} deliveries in five leases")  # noqa: PLR2004 - one each, and late ones
    check(all(gap >= bench.lease * 0.9 for gap in gaps), f"delivered again after {min(gaps):g} s of {bench.lease:g} s")
    attempts = [attempt for _, attempt in at]
    check(attempts in (list(range(1, len(at) + 1)), [None] * len(at)), f"the attempts were {attempts}")


@case("VIS-15")
def out_of_range(bench: Bench) -> None:
    """A visibility timeout that the engine cannot do is refused with the range, not clamped."""
    queue = bench.queue()
    lease = bench.capabilities.lease
    for seconds in (lease.min / 10, lease.max * 10, -1.0, 0.0):
        error = refused(
            lambda s=seconds: bench.broker.consumer(queue, visibility_timeout=s),  # type: ignore[misc]
            Unsupported,
            f"visibility_timeout={seconds:g}",
        )
        check(f"{lease.max:g}" in str(error), f"the error does not name the range: {error}")
    bench.broker.send(queue, b"x")
    delivery = bench.expect(bench.consumer(queue))
    if lease.extend:
        refused(lambda: delivery.extend(lease.max * 10), Unsupported, "an extension beyond the maximum")
    delivery.ack(wait=True)


@case("VIS-22")
def each_its_own(bench: Bench) -> None:
    """Two deliveries of one consumer, extended by different times, come back at different times."""
    queue = bench.queue()
    bench.broker.send_many(queue, [b"short", b"long"])
    receiver = bench.receiver(queue)
    short, long = bench.claim(receiver, 2)
    check(not receiver.extend([long], visibility_timeout=4 * bench.lease), "the extension failed")
    check(not receiver.extend([short], visibility_timeout=1.2 * bench.lease), "the extension failed")
    other = bench.receiver(queue, lease=20 * bench.lease)
    (first,) = bench.claim(other, 1, within=1.2 * bench.lease_end_bound())
    check(first.message.id == short.message.id, "the longer lease ended first")
    bench.silent(queue, why="the longer lease goes on")
    (second,) = bench.claim(other, 1, within=4 * bench.lease_end_bound())
    check(second.message.id == long.message.id, "another message came")


@without("lease.extend", "lease.kept", "lease.per_message")
def no_extension(bench: Bench) -> None:
    """Without the power, an extension is refused before any I/O; and where leases end, a handler that was too slow is told."""
    queue = bench.queue()
    bench.broker.send(queue, b"x")
    consumer = bench.consumer(queue)
    delivery = bench.expect(consumer)
    refused(delivery.extend, Unsupported, "extend()")
    delivery.ack(wait=True)
    if not bench.timed:
        return
    sent = bench.broker.send(queue, b"slow")
    slow = bench.expect(consumer)
    bench.let_pass(bench.past_lease())
    refused(lambda: slow.ack(wait=True), LeaseLost, "an ack after the end of the lease")
    check(slow.lease_lost, "lease_lost was not set")
    check(
        [d.id for d in bench.collect(queue, consumer)] == [sent], "the message of the slow handler did not come again"
    )
    works_extension(bench)


@without("lease")
def no_lease(bench: Bench) -> None:
    """A claim that lasts as long as its connection has no end of its own: others get it when its receiver is closed."""
    queue = bench.queue()
    sent = bench.broker.send(queue, b"x")
    receiver = bench.receiver(queue)
    bench.claim(receiver)
    works_lease(bench)
    bench.let_pass(2 * bench.lease)
    bench.silent(queue, why="its receiver is open")
    receiver.close(timeout=5.0)
    (again,) = bench.claim(bench.receiver(queue), within=bench.capabilities.redelivery.close + bench.slack)
    check(again.message.id == sent and again.attempt in (2, None), f"it came back as attempt {again.attempt}")
