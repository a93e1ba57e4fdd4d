"""ACK: settlement. A message that was acked is gone for good; one that was not is never gone."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import replace
from hashlib import sha256
from typing import Any

from brokerkit.capabilities import is_missing
from brokerkit.errors import AlreadySettled
from brokerkit_conformance.bench import Bench, check
from brokerkit_conformance.casebook import case
from brokerkit_conformance.cases._refused import refused


@case("ACK-01")
def acked_is_gone(bench: Bench) -> None:
    """Acked messages stay away, whatever then happens to their consumer: end of lease, close, kill."""
    queue = bench.queue()
    sent = bench.broker.send_many(queue, [b"%d" % i for i in range(6)])
    consumer = bench.consumer(queue)
    held = [bench.expect(consumer) for _ in sent]
    for delivery in held[:3]:
        delivery.ack(wait=True)
    for delivery in held[3:]:
        delivery.ack()  # with the next batch
    bench.let_pass(2.2 * bench.lease)
    bench.silent(queue, consumer, why="acked, and the leases have ended")
    with bench.time.running():
        consumer.close()
    bench.silent(queue, why="acked, and the consumer was closed")
    receiver = bench.receiver(queue)
    bench.broker.send_many(queue, [b"bare"] * 2)
    check(not receiver.ack(bench.claim(receiver, 2)), "an ack in time was told to be too late")
    receiver.close(timeout=5.0)
    triggers = ["lease end", "close"]
    if bench.capabilities.shared != "process":
        bench.broker.send_many(queue, [b"other process"] * 2)
        actor = bench.actor("consume", queue, count=2, do="ack", then="hang")
        actor.wait_for("ready")
        actor.kill()
        triggers.append("kill")
    bench.let_pass(bench.past_lease())
    bench.silent(queue, why=f"acked, and then: {', '.join(triggers)}")
    bench.measured["triggers"] = ", ".join(triggers)


@case("ACK-02")
def release_is_fast(bench: Bench) -> None:
    """A released message is back long before its lease would have ended, for anybody."""
    long_lease = min(20 * bench.lease, bench.capabilities.lease.max)
    queue = bench.queue()
    sent = bench.broker.send(queue, b"x")
    first, second = (bench.connect().consumer(queue, visibility_timeout=long_lease) for _ in range(2))
    bound = bench.capabilities.redelivery.release + bench.slack
    for attempt, consumer in enumerate((first, second, first), start=1):
        delivery = bench.expect(consumer, within=bound, what=f"attempt {attempt}, after a release,")
        check(delivery.id == sent, "another message came")
        check(delivery.attempt in (attempt, None), f"attempt {attempt} came as {delivery.attempt}")
        began = bench.time.now()
        delivery.release()
        bench.measured["release took"] = bench.time.now() - began
    bench.expect(second, within=bound).ack(wait=True)
    bench.silent(queue, why="released three times, then acked")


@case("ACK-03")
def dead_letter_is_final(bench: Bench) -> None:
    """What a handler dead-letters never comes again, and is in the dead queue."""
    queue = bench.queue()
    sent = bench.broker.send(queue, b"x")
    bench.expect(bench.consumer(queue)).dead_letter("rejected", "not for us")
    bench.let_pass(bench.past_lease())
    bench.silent(queue, why="the message was dead-lettered")
    check([letter.id for letter in bench.dead_letters(queue)] == [sent], "it is not in the dead queue")


@case("ACK-04")
def ack_twice(bench: Bench) -> None:
    """A second ack has no effect: at most it is told that the first counts."""
    queue = bench.queue()
    bench.broker.send_many(queue, [b"1", b"2"])
    consumer = bench.consumer(queue)
    one, two = bench.expect(consumer), bench.expect(consumer)
    one.ack(wait=True)
    for wait in (True, False):
        with contextlib.suppress(AlreadySettled):
            one.ack(wait=wait)
    check(not two.settled, "acking one message twice settled another")
    two.release()
    check([d.id for d in bench.collect(queue, consumer)] == [two.id], f"{one.id} or {two.id}: the wrong one is there")
    receiver = bench.receiver(queue)
    bench.broker.send(queue, b"3")
    claimed = bench.claim(receiver)
    receiver.ack(claimed)
    check(list(receiver.ack(claimed)) == claimed, "a bare second ack was not told to be too late")
    bench.silent(queue, why="all was acked")


@case("ACK-05")
def first_settlement_wins(bench: Bench) -> None:
    """Of two settlements the first counts; the second is refused, and makes no second copy."""
    queue = bench.queue()
    consumer = bench.consumer(queue)
    firsts: dict[str, Any] = {
        "ack": lambda d: d.ack(wait=True),
        "ack later": lambda d: d.ack(),
        "release": lambda d: d.release(),
        "dead_letter": lambda d: d.dead_letter("no"),
    }
    seconds: dict[str, Any] = {
        "ack": lambda d: d.ack(wait=True),
        "release": lambda d: d.release(),
        "dead_letter": lambda d: d.dead_letter("again"),
        "extend": lambda d: d.extend(),
    }
    buried = 0
    for name, first in firsts.items():
        for other, second in seconds.items():
            sent = bench.broker.send(queue, b"x")
            delivery = bench.expect(consumer)
            first(delivery)
            refused(lambda d=delivery, s=second: s(d), AlreadySettled, f"{name}, then {other}")  # type: ignore[misc]
            buried += name == "dead_letter"
            came = [d.id for d in bench.collect(queue, consumer)]
            check(came == ([sent] if name == "release" else []), f"{name}, then {other}: {len(came)} came")
    check(len(bench.dead_letters(queue)) == buried, "a second settlement dead-lettered")


@case("ACK-06")
def foreign_receipts(bench: Bench) -> None:
    """A receipt works for its own message only: shown for another queue or virtual host, it is refused there."""
    one, other = bench.queue("one"), bench.queue("other")
    bench.broker.send(one, b"1")
    sent = bench.broker.send(other, b"2")
    receivers = [bench.receiver(one), bench.receiver(other)]
    (mine,), (theirs,) = (bench.claim(receiver) for receiver in receivers)
    forged = replace(theirs, receipt=mine.receipt)
    check(list(receivers[1].ack([forged])) == [forged], "the receipt of another queue was taken")
    if bench.capabilities.lease.extend:
        check(list(receivers[1].extend([forged], visibility_timeout=bench.lease)) == [forged], "and for extending")
    check(list(receivers[1].release([forged])) == [forged], "and for releasing")
    if len(bench.urls) > 1:
        host = bench.connect(url=bench.urls[1])
        bench.queue("one", broker=host)
        host.send(one, b"3")
        far = bench.receiver(one, broker=host)
        (there,) = bench.claim(far)
        stolen = replace(there, receipt=mine.receipt)
        check(list(far.ack([stolen])) == [stolen], "the receipt of another virtual host was taken")
        check(not far.ack([there]), "the true receipt was refused after the forged one")
    check(not receivers[0].ack([mine]), "the message whose receipt was abused is gone")
    receivers[1].release([theirs])
    check([d.id for d in bench.collect(other)] == [sent], "the other message did not stay")


@case("ACK-07")
def one_stale_receipt(bench: Bench) -> None:
    """A batch of acks with a stale one: that one is told, the others are acked."""
    queue = bench.queue()
    bench.broker.send_many(queue, [b"%d" % i for i in range(3)])
    receiver = bench.receiver(queue)
    held = bench.claim(receiver, 3)
    receiver.release(held[1:2])
    again = bench.claim(receiver, 1)
    lost = receiver.ack([held[0], held[1], held[2]])
    check(list(lost) == [held[1]], f"{len(lost)} of 3 were told lost; the second one was")
    check(not receiver.ack(again), "the stale ack took the message from its new owner")
    bench.let_pass(bench.past_lease())
    bench.silent(queue, why="two were acked in the batch, the third by its new owner")


@case("ACK-09")
def no_cumulative_ack(bench: Bench) -> None:
    """Acking the third of three acks neither the first nor the second."""
    queue = bench.queue()
    sent = bench.broker.send_many(queue, [b"1", b"2", b"3"])
    receiver = bench.receiver(queue)
    held = bench.claim(receiver, 3)
    check([r.message.id for r in held] == sent or bench.capabilities.order == "none", "out of order")
    receiver.ack(held[2:])
    bench.silent(queue, why="the first and second are still leased")
    if bench.timed:
        bench.let_pass(bench.past_lease())
    else:
        receiver.close(timeout=5.0)
    came = Counter(d.id for d in bench.collect(queue))
    check(came == Counter(r.message.id for r in held[:2]), f"{sum(came.values())} of the 2 others came back")


@case("ACK-10")
def at_most_once(bench: Bench) -> None:
    """With auto_ack a message is settled before its handler has it; what no handler had is not lost by a close or kill."""
    queue = bench.queue()
    sent = bench.broker.send_many(queue, [b"%d" % i for i in range(5)])
    consumer = bench.consumer(queue, auto_ack=True, prefetch=5)
    first = bench.expect(consumer)
    check(first.settled, "it is not settled at hand-over")
    refused(first.release, AlreadySettled, "a release after the automatic ack")
    with bench.time.running():
        consumer.close()
    bench.let_pass(bench.past_lease())
    came = [d.id for d in bench.collect(queue)]
    check(Counter(came) == Counter(sent) - Counter([first.id]), f"{len(came)} of the 4 that no handler had came back")
    if bench.capabilities.shared == "process":
        return
    sent = bench.broker.send_many(queue, [b"%d" % i for i in range(5)])
    actor = bench.actor("consume", queue, count=1, do="nothing", auto_ack=True, then="hang")
    got = actor.wait_for("received")["id"]
    actor.wait_for("ready")
    actor.kill()
    bench.let_pass(bench.past_lease())
    check({d.id for d in bench.collect(queue)} == set(sent) - {got}, "a kill lost more than the one in hand")


@case("ACK-13")
def redelivered_as_it_was(bench: Bench) -> None:
    """After a release, a delayed one, a close and the end of a lease, if it has one, a message is what it was."""
    queue = bench.queue()
    headers = {f"name-{i}": "é" * i for i in range(15)}
    body = bytes(range(256)) * 64
    options: dict[str, Any] = {"headers": headers, "priority": 0 if is_missing(bench.capabilities.priority) else 5}
    if bench.capabilities.message_ttl is True:
        options["ttl"] = 1000 * bench.lease
    sent = bench.broker.send(queue, body, **{k: v for k, v in options.items() if v})
    seen = []
    delays = [0.0] if not isinstance(bench.capabilities.release_delay, float) else [0.0, bench.lease / 8]
    for delay in delays:
        receiver = bench.receiver(queue)
        seen += bench.claim(receiver, 1)
        receiver.release(seen[-1:], delay=delay)
        receiver.close(timeout=5.0)
    seen += bench.claim(closing := bench.receiver(queue), 1)
    closing.close(timeout=5.0)
    seen += bench.claim(bench.receiver(queue), 1)
    if bench.timed:
        bench.let_pass(bench.lease)
        seen += bench.claim(bench.receiver(queue), 1, within=bench.lease_end_bound())
    for number, received in enumerate(seen, start=1):
        message = received.message
        check(message.id == sent, f"delivery {number}: another id")
        check(sha256(message.body).digest() == sha256(body).digest(), f"delivery {number}: another body")
        check(dict(message.headers) == headers, f"delivery {number}: other headers: {dict(message.headers)}")
        check(message.priority == options["priority"], f"delivery {number}: priority {message.priority}")
        check(not received.expired, f"delivery {number}: expired before its time")


@case("ACK-14")
def ack_from_another_thread(bench: Bench) -> None:
    """A delivery may be settled by another thread than the one that received it."""
    queue = bench.queue()
    bench.broker.send_many(queue, [b"%d" % i for i in range(20)])
    consumer = bench.consumer(queue)
    held = [bench.expect(consumer) for _ in range(20)]
    for part in (held[:10], held[10:]):
        bench.thread(lambda part=part: [d.ack(wait=i % 2 == 0) for i, d in enumerate(part)])  # type: ignore[misc]
    bench.join()
    with bench.time.running():
        consumer.close()
    bench.let_pass(bench.past_lease())
    bench.silent(queue, why="all were acked by other threads")
