"""FAN: topics. Every bound queue gets its own copy, and nobody else's."""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Any

from brokerkit.capabilities import Fanout
from brokerkit.errors import FanoutGap, QueueNotFound, StorageFull, Unsupported
from brokerkit_conformance.bench import Bench, check
from brokerkit_conformance.casebook import case, without
from brokerkit_conformance.cases._probes import works_durably, works_expiry, works_fanout, works_patterns
from brokerkit_conformance.cases._refused import refused

if TYPE_CHECKING:
    from brokerkit import Broker, Delivery


def subscriber(
    bench: Bench, suffix: str, topic: str, *, broker: Broker | None = None, pattern: str = "#", **kw: Any
) -> str:
    """Return a new queue that is bound to a topic."""
    queue = bench.queue(suffix, broker=broker, **kw)
    (broker or bench.broker).bind(queue, topic, pattern)
    return queue


def heard(bench: Bench, queue: str, broker: Broker | None = None) -> list[str]:
    """Return the ids that are ready in a queue, in order, and ack them."""
    if broker is None:
        return [delivery.id for delivery in bench.collect(queue)]
    marker = broker.send(queue, b"marker")
    seen: list[str] = []
    with contextlib.closing(broker.consumer(queue)) as consumer:
        while (delivery := bench.expect(consumer)).id != marker:
            seen.append(delivery.id)
            delivery.ack(wait=True)
        delivery.ack(wait=True)
    return seen


@case("FAN-01")
def each_gets_all(bench: Bench) -> None:
    """Three queues hear a topic: each gets every message once, whole; a queue of another topic gets none."""
    topic, other = bench.name("topic"), bench.name("elsewhere")
    queues = [subscriber(bench, f"q{i}", topic) for i in range(3)]
    stranger = subscriber(bench, "stranger", other)
    sent = [bench.broker.publish(topic, b"single")]
    sent += bench.broker.publish_many(topic, [b"%d" % i for i in range(30)], headers={"name": "value"})
    far = bench.broker.publish(other, b"elsewhere")
    for queue in queues:
        came = bench.collect(queue)
        check(Counter(d.id for d in came) == Counter(sent), f"{queue} got {len(came)} of {len(sent)}")
        check([d.id for d in came] == sent or bench.capabilities.order == "none", "out of order")
        bodies = Counter(d.body for d in came)
        check(bodies == Counter([b"single", *(b"%d" % i for i in range(30))]), "bodies were mixed up")
        check(all(d.message.topic == topic for d in came), "the topic is not in the message")
        check(sum(d.headers.get("name") == "value" for d in came) == 30, "headers are missing")  # noqa: PLR2004
    check(heard(bench, stranger) == [far], "a topic leaks into another one's subscriber")


# AMQP 0-9-1, section 3.1.3.3: words between dots; * is one word, # any number; an empty word is a word
TABLE = (
    *(("#", key, True) for key in ("", "a", "a.b", "a..b", ".")),
    *(("*", key, hit) for key, hit in (("a", True), ("a.b", False), ("", False), ("abc", True))),
    *(("a", key, hit) for key, hit in (("a", True), ("A", False), ("ab", False), ("a.b", False), ("", False))),
    *(("a.*", key, hit) for key, hit in (("a.b", True), ("a", False), ("a.b.c", False), ("a.", True), ("b.a", False))),
    *(("a.#", key, hit) for key, hit in (("a", True), ("a.b", True), ("a.b.c", True), ("ab", False), ("b.a", False))),
    *(("*.b", key, hit) for key, hit in (("a.b", True), (".b", True), ("b", False), ("a.a.b", False))),
    *(("#.b", key, hit) for key, hit in (("b", True), ("a.b", True), ("a.c.b", True), ("b.a", False))),
    *(("a.*.c", key, hit) for key, hit in (("a.b.c", True), ("a..c", True), ("a.c", False), ("a.b.b.c", False))),
    *(("a.#.c", key, hit) for key, hit in (("a.c", True), ("a.b.b.c", True), ("a.b", False))),
    *(("#.*", key, hit) for key, hit in (("a", True), ("a.b", True), ("", False))),
    *(("a?", key, False) for key in ("ab", "a")),
    *(("a%", key, False) for key in ("ab", "abc")),
)


@case("FAN-05")
def pattern_table(bench: Bench) -> None:
    """The truth table of AMQP's topic patterns, 40 pairs and more, empty words included."""
    topic = bench.name("topic")
    patterns = list(dict.fromkeys(pattern for pattern, _, _ in TABLE))
    queues = {pattern: subscriber(bench, f"p{i}", topic, pattern=pattern) for i, pattern in enumerate(patterns)}
    keys = list(dict.fromkeys(key for _, key, _ in TABLE))
    sent = {bench.broker.publish(topic, b"x", routing_key=key): key for key in keys}
    keys_of = {pattern: {sent[message_id] for message_id in heard(bench, queue)} for pattern, queue in queues.items()}
    wrong = [
        f"{pattern!r} {'heard' if not hit else 'did not hear'} {key!r}"
        for pattern, key, hit in TABLE
        if (key in keys_of[pattern]) != hit
    ]
    check(not wrong, "; ".join(wrong))
    bench.measured["pairs"] = len(TABLE)


@case("FAN-06")
def overlapping_patterns(bench: Bench) -> None:
    """A queue with several matching patterns gets as many copies as declared; one that is bound twice alike gets one."""
    topic = bench.name("topic")
    queue = subscriber(bench, "overlap", topic, pattern="a.#")
    for pattern in ("#.b", "a.*", "z"):
        bench.broker.bind(queue, topic, pattern)
    twice = subscriber(bench, "twice", topic, pattern="a.b")
    bench.broker.bind(twice, topic, "a.b")
    bench.broker.publish(topic, b"x", routing_key="a.b")
    expected = 1 if fanout_of(bench).copies == "one" else 3
    check(len(heard(bench, queue)) == expected, f"three matching patterns: {expected} declared")
    check(len(heard(bench, twice)) == 1, "bound twice with one pattern, it got more than one copy")


def fanout_of(bench: Bench) -> Fanout:
    """Return what is declared about topics."""
    fanout = bench.capabilities.fanout
    if not isinstance(fanout, Fanout):
        raise TypeError("no fanout is declared")
    return fanout


@case("FAN-07")
def one_stops_reading(bench: Bench) -> None:
    """A subscriber that stops reading holds up nobody; when it goes on it has lost nothing."""
    topic = bench.name("topic")
    reads, stops = subscriber(bench, "reads", topic), subscriber(bench, "stops", topic)
    stuck = bench.consumer(stops, prefetch=1)
    first = bench.broker.publish(topic, b"0")
    held = bench.expect(stuck)
    consumer, sent = bench.consumer(reads), [first]
    bench.expect(consumer).ack()
    for i in range(1, 40):
        sent.append(bench.broker.publish(topic, b"%d" % i))
        delivery = bench.expect(consumer, what="a message, while another subscriber stands still,")
        check(delivery.id == sent[-1], "out of turn")
        delivery.ack()
    held.ack()
    rest = [held.id] + [d.id for d in bench.collect(stops, stuck)]
    check(Counter(rest) == Counter(sent), f"the one that stood still got {len(rest)} of {len(sent)}")


@case("FAN-08")
def overflow_is_told(bench: Bench) -> None:
    """A bounded subscriber that is too slow is told how many copies it missed, and gets the newest; or its publisher is told."""
    topic = bench.name("topic")
    queue = subscriber(bench, "slow", topic, max_length=5)
    free = subscriber(bench, "free", topic)
    if bench.capabilities.fanout.overflow == "refuse":  # type: ignore[union-attr] # the gate has seen it
        _refused_when_full(bench, topic, queue, free)
        return
    sent = [bench.broker.publish(topic, b"%d" % i) for i in range(12)]
    consumer = bench.consumer(queue)
    gap = refused(lambda: bench.receive(consumer, bench.lease), FanoutGap, "a receive after 7 copies were dropped")
    check(gap.dropped == 7 and gap.queue == queue, f"the gap says {gap.dropped} of {gap.queue!r}")  # noqa: PLR2004
    came = [bench.expect(consumer).id for _ in range(5)]
    check(came == sent[-5:], "what is left are not the newest five, in order")
    check(bench.receive(consumer, 0.0) is None, "more came than the queue may hold")
    check(heard(bench, free) == sent, "the unbounded subscriber lost something")


def _refused_when_full(bench: Bench, topic: str, queue: str, free: str) -> None:
    accepted: list[str] = []
    refusals = 0
    for number in range(12):
        try:
            accepted.append(bench.broker.publish(topic, b"%d" % number))
        except StorageFull:
            refusals += 1
    check(refusals and len(accepted) >= 5, f"of 12 publishes to a queue for 5 were refused {refusals}")  # noqa: PLR2004
    consumer = bench.consumer(queue)
    came = [bench.expect(consumer, what="a copy of an accepted publish").id for _ in accepted]
    check(came == accepted, "the slow subscriber lost a copy of what was accepted")
    check(bench.receive(consumer, 0.0) is None, "it got what its publisher was told to be refused")
    kept = [message_id for message_id in heard(bench, free) if message_id in accepted]
    check(kept == accepted, "the unbounded subscriber lost something, or has it twice")


@case("FAN-09")
def late_subscriber(bench: Bench) -> None:
    """A queue that is bound late gets nothing older, neither its own backlog nor others'."""
    topic = bench.name("topic")
    early = subscriber(bench, "early", topic)
    before = bench.broker.publish_many(topic, [b"old"] * 5)
    late = subscriber(bench, "late", topic)
    after = bench.broker.publish(topic, b"new")
    check(heard(bench, late) == [after], "a late subscriber got what is older than its binding")
    check(heard(bench, early) == [*before, after], "the early subscriber misses something")


@case("FAN-10")
def away_and_back(bench: Bench) -> None:
    """A bound queue keeps its copies while no consumer is there, over connections that come and go."""
    topic = bench.name("topic")
    with bench.connect() as broker, bench.time.running():
        queue = subscriber(bench, "durable", topic, broker=broker)
        consumer = broker.consumer(queue)
        first = bench.broker.publish(topic, b"first")
        delivery = bench.expect(consumer)
        check(delivery.id == first, "another message came")
        delivery.ack(wait=True)
    missed = bench.broker.publish_many(topic, [b"%d" % i for i in range(10)])
    bench.let_pass(2 * bench.lease)
    check(heard(bench, queue) == missed, "what was published while it was away is not all there")


@case("FAN-11")
def effective_at_once(bench: Bench) -> None:
    """What is published right after `bind` returned is delivered, whoever publishes."""
    publishers = [bench.broker, bench.connect()]
    for i in range(10):
        topic = bench.name(f"topic{i}")
        queue = subscriber(bench, f"q{i}", topic)
        sent = [publisher.publish(topic, b"x") for publisher in publishers]
        check(Counter(heard(bench, queue)) == Counter(sent), f"round {i}: published after bind, and not delivered")


@case("FAN-12")
def unbind(bench: Bench) -> None:
    """After `unbind` nothing more comes by that pattern; other bindings stay, and so does what came before."""
    if not fanout_of(bench).patterns:
        _unbind_all(bench)
        return
    topic = bench.name("topic")
    queue = subscriber(bench, "q", topic, pattern="a")
    bench.broker.bind(queue, topic, "b")
    other = subscriber(bench, "other", topic, pattern="a")
    before = bench.broker.publish(topic, b"before", routing_key="a")
    for _ in range(2):
        bench.broker.unbind(queue, topic, "a")
    after = bench.broker.publish(topic, b"after", routing_key="a")
    by_b = bench.broker.publish(topic, b"by b", routing_key="b")
    check(heard(bench, queue) == [before, by_b], "unbind of one pattern touched others, or did nothing")
    check(heard(bench, other) == [before, after], "unbind of one queue touched another")
    bench.broker.delete(other)
    bench.broker.publish(topic, b"x", routing_key="a")
    bench.broker.declare(other)
    check(not heard(bench, other), "a queue that was deleted and declared anew is still bound")


def _unbind_all(bench: Bench) -> None:
    topic = bench.name("topic")
    queue, other = subscriber(bench, "q", topic), subscriber(bench, "other", topic)
    before = bench.broker.publish(topic, b"before")
    for _ in range(2):
        bench.broker.unbind(queue, topic)
    after = bench.broker.publish(topic, b"after")
    check(heard(bench, queue) == [before], "after unbind it still hears the topic, or lost what came before")
    check(sorted(heard(bench, other)) == sorted([before, after]), "unbind of one queue touched another")


@case("FAN-14")
def nobody_listens(bench: Bench) -> None:
    """A publish that nobody hears succeeds, and is not kept for anybody."""
    topic = bench.name("topic")
    ids = [bench.broker.publish(topic, b"x"), *bench.broker.publish_many(topic, [b"y"] * 20, routing_key="a.b")]
    check(len(set(ids)) == 21, "ids are missing")  # noqa: PLR2004
    queue = subscriber(bench, "late", topic)
    check(not heard(bench, queue), "what nobody heard was kept")
    refused(lambda: bench.broker.bind(bench.name("nowhere"), topic), QueueNotFound, "binding a queue that is not there")


@case("FAN-15")
def one_handler_raises(bench: Bench) -> None:
    """A subscriber whose handler fails concerns nobody else; its own copy comes again, the others' do not."""
    topic = bench.name("topic")
    bad, good = subscriber(bench, "bad", topic, max_attempts=3), subscriber(bench, "good", topic)
    sent = bench.broker.publish(topic, b"x")
    failing = bench.consumer(bad)

    def fail(delivery: Delivery) -> None:
        with delivery:
            raise ValueError("this subscriber fails")

    fail(bench.expect(failing))
    check(heard(bench, good) == [sent], "the good subscriber does not have its one copy")
    for _ in range(2):
        fail(bench.expect(failing))
    bench.silent(good, why="another subscriber failed")
    if bench.capabilities.attempts == "flag":
        check(bench.expect(failing).id == sent, "a copy that failed is lost, though nothing counts its failures")
    else:
        check([letter.id for letter in bench.dead_letters(bad)] == [sent], "the failed copy is not dead-lettered")
    check(not bench.dead_letters(good), "another subscriber's copy was dead-lettered too")


@without("fanout")
def no_topics(bench: Bench) -> None:
    """Without topics, binding and publishing are refused before any I/O."""
    queue, topic = bench.queue(), bench.name("topic")
    refused(lambda: bench.broker.bind(queue, topic), Unsupported, "bind")
    refused(lambda: bench.broker.publish(topic, b"x"), Unsupported, "publish")
    refused(lambda: bench.broker.publish_many(topic, [b"x"]), Unsupported, "publish_many")
    bench.silent(queue, why="what was refused is not stored")
    works_fanout(bench)


@without("fanout.pattern")
def no_patterns(bench: Bench) -> None:
    """Without patterns, any but the one that matches all is refused before any I/O; and none matches below that."""
    queue, topic = bench.queue(), bench.name("topic")
    refused(lambda: bench.broker.bind(queue, topic, "a.*"), Unsupported, "pattern 'a.*'")
    bench.broker.publish(topic, b"x", routing_key="a.b")
    bench.silent(queue, why="what was refused binds nothing")
    works_patterns(bench)


@without("fanout.durable")
def not_durable(bench: Bench) -> None:
    """A bound queue that nobody consumes is not promised its copies; if it has them, that can be declared."""
    works_durably(bench)


@without("vanish")
def no_vanishing(bench: Bench) -> None:
    """Without the power, a time after which an unused queue vanishes is refused before any I/O, and never ignored."""
    name = bench.name("mortal")
    refused(lambda: bench.broker.declare(name, expires=5), Unsupported, "expires=5")
    works_expiry(bench)
