"""VIS, third part: claims that the server ends, and who makes ended leases ready."""

from __future__ import annotations

import functools
from collections import Counter

from brokerkit.errors import LeaseLost
from brokerkit_conformance.bench import HANG, Bench, check
from brokerkit_conformance.casebook import case
from brokerkit_conformance.cases._refused import refused
from brokerkit_conformance.model import Inconclusive, NotRun
from brokerkit_conformance.storage import Role
from brokerkit_conformance.timeline import eventually

_LONGEST = 60.0
_TRIES = 5


@case("VIS-16")
def held_for_too_long(bench: Bench) -> None:
    """A handler that holds on past `max_hold` is told, its ack is refused, and its consumer goes on."""
    most = bench.capabilities.lease.max_hold
    if most is None or (bench.time.clock is None and most > _LONGEST):
        raise NotRun(f"the server lets a delivery be held for {most} s; give the harness one that allows less")
    queue = bench.queue()
    consumer = bench.consumer(queue, prefetch=2)
    sent = bench.broker.send(queue, b"held")
    held = bench.expect(consumer)
    bench.let_pass(most / 2)
    check(not held.lease_lost, f"a lease was lost within its max_hold of {most:g} s")
    within = most / 2 + bench.lease_end_bound()
    began = bench.time.now()
    bench.wait_until(lambda: held.lease_lost, within=within, what="the handler is told that it held on too long")
    bench.measured["told after"] = most / 2 + bench.time.now() - began
    refused(lambda: held.ack(wait=True), LeaseLost, "an ack after the server had ended the claim")
    again = bench.expect(consumer, within=within, what="the message, for the same consumer,")
    check(again.id == sent and again.attempt in (2, None), f"it came as attempt {again.attempt}")
    again.ack(wait=True)
    after = bench.broker.send(queue, b"after")
    delivery = bench.expect(consumer, what="the next message, for the same consumer,")
    check(delivery.id == after, "another message came")
    delivery.ack(wait=True)


@case("VIS-19")
def sweeper_killed(bench: Bench) -> None:
    """The one that makes ended leases ready dies while it holds the mutex of that work: others take over in time."""
    bench.private()
    queue, storage = bench.queue(), bench.storage()
    sent: list[str] = []
    for _ in range(_TRIES):
        sent.append(bench.broker.send(queue, b"x"))
        sweeper = bench.actor("consume", queue, count=2, do="hold")
        sweeper.wait_for("received")  # and waits for another one, alone
        if not eventually(bench.time, lambda: storage.find(Role.MUTEX), HANG):
            raise Inconclusive("nobody was ever seen to hold the mutex: it may be held too briefly to be seen")
        sweeper.kill()
        if left := storage.find(Role.MUTEX):
            break
    else:
        raise Inconclusive("the only receiver never died while it held the mutex")
    began = bench.time.now()
    delivery = bench.expect(bench.consumer(queue), within=bench.lease_end_bound())
    bench.measured["taken over after"] = bench.time.now() - began
    bench.measured["left behind"] = ", ".join(sorted(left))
    check(delivery.id in sent and delivery.attempt != 1, f"it came as attempt {delivery.attempt}")
    delivery.ack(wait=True)


@case("EVI-08")
def mutex_evicted(bench: Bench) -> None:
    """While four reclaim, the mutex is taken away again and again: each message comes back once, and the next ones do."""
    bench.private()
    queue, storage = bench.queue(), bench.storage()
    evicted = 0
    for lost in (True, False):
        sent = bench.broker.send_many(queue, [b"%d" % i for i in range(12)])
        bench.claim(bench.receiver(queue), len(sent))
        came: list[tuple[str, int | None]] = []
        end = bench.time.now() + bench.lease_end_bound()
        take = functools.partial(_take, bench, queue, end, came, len(sent))
        for _ in range(4):
            bench.thread(take)
        while lost and len(came) < len(sent) and bench.time.now() < end:
            keys = storage.find(Role.MUTEX)
            storage.admin.remove(keys)
            evicted += len(keys)
            bench.let_pass(bench.lease / 20)
        bench.join()
        check(Counter(i for i, _ in came) == Counter(sent), f"{len(came)} came of {len(sent)}")
        check(all(attempt in (2, None) for _, attempt in came), "an attempt was counted twice")
    if not evicted:
        raise Inconclusive("the mutex was never there to be evicted")
    bench.measured["evicted"] = evicted


def _take(bench: Bench, queue: str, end: float, came: list[tuple[str, int | None]], count: int) -> None:
    """Claim and ack what there is, until all have got all, or the time is over."""
    receiver = bench.receiver(queue, broker=bench.connect())
    while len(came) < count and bench.time.now() < end:
        claimed, _ = receiver.receive(limit=3, timeout=bench.lease / 10)
        if claimed:
            came += [(received.message.id, received.attempt) for received in claimed]
            check(not receiver.ack(claimed), "the lease of a message that came back was lost at once")
