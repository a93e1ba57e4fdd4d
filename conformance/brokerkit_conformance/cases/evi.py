"""EVI: what the server loses, one role of its storage at a time. Nothing goes silently, and nothing goes twice."""

from __future__ import annotations

from collections.abc import Callable

from brokerkit import Consumer, Delivery
from brokerkit.abc import Receiver
from brokerkit.errors import BrokerkitError, InconsistencyError, LeaseLost, QueueNotFound
from brokerkit_conformance.bench import Bench, check
from brokerkit_conformance.casebook import case
from brokerkit_conformance.cases._order import as_sent
from brokerkit_conformance.cases._refused import refused
from brokerkit_conformance.storage import Role, Storage

GONE = (InconsistencyError, QueueNotFound)
"""What says that state is gone."""
_MOST = 20


def told(call: Callable[[], object], name: str) -> BrokerkitError | None:
    """Make a call; returns its error if that says what is gone, by name. Any other error fails the case."""
    try:
        call()
    except GONE as error:
        check(name in str(error), f"it does not say what is gone: {error}")
        return error
    return None


def take_all(bench: Bench, queue: str, consumer: Consumer | None = None) -> tuple[list[Delivery], list[str]]:
    """Take everything up to a marker that is sent now; returns it, and what was told of losses meanwhile."""
    own = consumer or bench.consumer(queue)
    marker = bench.broker.send(queue, b"marker")
    came: list[Delivery] = []
    losses: list[str] = []
    waiting = True
    while True:
        try:
            # after the marker one look more: a loss may be told only where nothing comes
            delivery = bench.expect(own, what="the marker") if waiting else bench.receive(own, 0.0)
        except GONE as error:
            losses.append(str(error))
            check(len(losses) < _MOST, f"it tells the same loss without end: {error}")
            continue
        if delivery is None:
            return came, losses
        delivery.ack(wait=True)
        if delivery.id == marker:
            waiting = False
        else:
            came.append(delivery)


def _belongs(storage: Storage, role: Role, queue: str) -> bool:
    """Tell whether keys of this role that belong to a queue are left: something by which a loss can be seen."""
    return not storage.nameless(role) and bool(storage.find(role, queue))


@case("EVI-01")
def topology(bench: Bench) -> None:
    """A queue that is gone takes messages again, or sends and publishes say so; then it can be declared anew."""
    bench.private()
    queue, heard, topic = bench.queue(), bench.queue("heard"), bench.name("topic")
    fanout = not hasattr(bench.capabilities.fanout, "reason")
    if fanout:
        bench.broker.bind(heard, topic)
    storage = bench.storage()
    for lost in (queue, heard):
        storage.evict(Role.TOPOLOGY, lost)
    if told(lambda: bench.broker.send(queue, b"1"), queue) is None:
        check(len(bench.collect(queue)) == 1, "a send to a queue that was gone succeeded, and nothing came of it")
    if fanout and told(lambda: bench.broker.publish(topic, b"1"), bench.name()[:-2]) is None:
        check(len(bench.collect(heard)) == 1, "a publish to a queue that was gone succeeded, and nothing came of it")
    for again in (queue, heard):
        bench.broker.declare(again)
    sent = [bench.broker.send(queue, b"2")]
    check([d.id for d in bench.collect(queue)] == sent, "declared anew, the queue does not work")
    if fanout:
        bench.broker.bind(heard, topic)
        sent = [bench.broker.publish(topic, b"2")]
        check([d.id for d in bench.collect(heard)] == sent, "declared and bound anew, the topic does not work")


@case("EVI-02")
def bodies(bench: Bench) -> None:
    """A backlog that is gone: the consumer goes on, and says so where something is left that tells."""
    bench.private()
    queue = bench.queue()
    old = bench.broker.send_many(queue, [b"%d" % i for i in range(6)])
    storage = bench.storage()
    check(len(storage.evict(Role.BODY, queue)) == len(old), "not every message has a body of its own")
    tells = _belongs(storage, Role.PRIORITY, queue)
    new = bench.broker.send_many(queue, [b"a", b"b"])
    came, losses = take_all(bench, queue)
    check(as_sent(bench, [d.id for d in came], new), f"after the loss came {[d.body for d in came]}")
    check(losses or not tells, "it has a trace of what is gone, and is silent about it")
    bench.measured["told"] = len(losses)
    again = bench.send_message(queue, b"again")
    storage.evict(Role.BODY, queue)
    (outcome,) = bench.transport.send(queue, [again], timeout=5.0)
    check(outcome is None, f"what is gone cannot be sent again: {outcome}")
    came, _ = take_all(bench, queue)
    check([d.id for d in came] == [again.id], "sent again after its loss, it was taken for a repetition and dropped")


@case("EVI-03")
def index_of_claims(bench: Bench) -> None:
    """Claims whose index is gone come back when their leases end, each once, or are told; they are not stranded."""
    bench.private()
    queue = bench.queue()
    sent = [bench.send_message(queue).id for _ in range(3)]
    bench.claim(receiver := bench.receiver(queue), 3)
    bench.storage().evict(Role.IN_FLIGHT, queue)
    _end_claims(bench, receiver)
    _come_or_told(bench, queue, sent)


@case("EVI-04")
def payloads_of_claims(bench: Bench) -> None:
    """Claims whose messages are gone, and whose index is not: no crash, no endless repetition, and it is told."""
    bench.private()
    queue = bench.queue()
    lost = [bench.send_message(queue).id for _ in range(2)]
    bench.claim(receiver := bench.receiver(queue), 2)
    kept = bench.send_message(queue).id
    storage = bench.storage()
    storage.evict(Role.HELD, queue)
    tells = _belongs(storage, Role.IN_FLIGHT, queue)
    _end_claims(bench, receiver)
    consumer = bench.consumer(queue)
    came, losses = take_all(bench, queue, consumer)
    check([d.id for d in came] == [kept], f"after the loss came {[d.id for d in came]}, of which {lost} were gone")
    more, later = take_all(bench, queue, consumer)
    text = " ".join(losses + later)
    check(not tells or all(message_id in text for message_id in lost), f"it does not tell which are gone: {text!r}")
    bench.let_pass(bench.past_lease())
    more, later = take_all(bench, queue, consumer)
    check(not more and not later, f"it goes on about what is gone: {[d.id for d in more]} {later}")


@case("EVI-05")
def claim_and_all(bench: Bench) -> None:
    """A message that is gone while a handler has it: extend and ack say so, and the consumer goes on."""
    bench.private()
    queue = bench.queue()
    bench.broker.send_many(queue, [b"1", b"2", b"3"])
    consumer = bench.consumer(queue)
    held = [bench.expect(consumer) for _ in range(3)]
    storage = bench.storage()
    for role in (Role.HELD, Role.IN_FLIGHT):
        if not storage.nameless(role) and storage.find(role, queue):
            storage.evict(role, queue)
    if bench.capabilities.lease.extend:
        refused(held[0].extend, LeaseLost, "an extension of what is gone")
    refused(lambda: held[1].ack(wait=True), LeaseLost, "an ack of what is gone")
    refused(held[2].release, LeaseLost, "a release of what is gone")
    new = bench.broker.send(queue, b"new")
    came, _ = take_all(bench, queue, consumer)
    check([d.id for d in came] == [new], f"after the loss came {[d.body for d in came]}")


@case("EVI-06")
def schedule(bench: Bench) -> None:
    """Delayed messages whose schedule is gone come at their time or later, or are told."""
    bench.private()
    queue = bench.queue()
    sent = [bench.broker.send(queue, b"x", delay=bench.lease / 2) for _ in range(3)]
    bench.storage().evict(Role.SCHEDULE, queue)
    early, _ = take_all(bench, queue)
    check(not early, "without its schedule it comes early")
    bench.let_pass(bench.lease)
    _come_or_told(bench, queue, sent)


@case("EVI-07")
def priorities(bench: Bench) -> None:
    """Of a queue that lost one priority's index the others are served in order, and that one is found or told."""
    bench.private()
    queue = bench.queue()
    levels = (1, 9, 5, 1, 9, 5)
    sent = {bench.broker.send(queue, b"x", priority=priority): priority for priority in levels}
    storage = bench.storage()
    storage.evict(Role.PRIORITY, queue, only="" if storage.nameless(Role.PRIORITY) else "/5/")
    came, losses = take_all(bench, queue)
    found = [sent[d.id] for d in came]
    check(found == sorted(found, reverse=True), f"what is left comes in the order {found}")
    check(len({d.id for d in came}) == len(came), "it restored a message twice")
    check(found.count(9) == found.count(1) == 2, f"priorities that are intact are missing: {found}")  # noqa: PLR2004
    check(found.count(5) == 2 or losses, f"priority 5 is gone in silence: {found}")  # noqa: PLR2004


def _end_claims(bench: Bench, receiver: Receiver) -> None:
    """Let the claims of a receiver end: by time, or with their connection where they last as long."""
    if bench.timed:
        bench.let_pass(bench.past_lease())
    else:
        receiver.close(timeout=5.0)


def _come_or_told(bench: Bench, queue: str, sent: list[str]) -> None:
    came: list[str] = []
    losses: list[str] = []

    def all_there() -> bool:
        more, said = take_all(bench, queue)
        came.extend(d.id for d in more)
        losses.extend(said)
        return bool(losses) or len(came) >= len(sent)

    within = bench.lease_end_bound() if bench.timed else bench.lease + bench.slack
    bench.wait_until(all_there, within=within, what=f"{len(sent)} messages come, or their loss is told")
    check(losses or sorted(came) == sorted(sent), f"of {len(sent)} messages came {len(came)}, and nothing was told")
