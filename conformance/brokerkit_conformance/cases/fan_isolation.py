"""FAN, second part: virtual hosts, prefixes and odd names keep apart; several processes."""

from __future__ import annotations

from collections import Counter

from brokerkit.errors import InconsistencyError, InvalidName, QueueNotFound
from brokerkit_conformance.bench import Bench, check
from brokerkit_conformance.casebook import case
from brokerkit_conformance.cases._refused import refused
from brokerkit_conformance.cases.fan import fanout_of, heard, subscriber


@case("FAN-02")
def virtual_hosts_and_prefixes(bench: Bench) -> None:
    """Two virtual hosts, and two prefixes, with the same topic and queue names: no cross-talk in either direction."""
    topic = bench.name("topic")
    sides = [bench.broker, bench.connect(url=bench.second_url(bench.urls, "virtual host"))]
    sides += [bench.connect(fanout_prefix=f"{bench.name('app')}{i}") for i in (1, 2)]
    topics = [topic, topic, f"{topic}-named", f"{topic}-named"]
    for side, name in zip(sides, topics, strict=True):
        suffix = "same" if side in sides[:2] else f"prefix{sides.index(side)}"
        subscriber(bench, suffix, name, broker=side)
    queues = [bench.name("same"), bench.name("same"), bench.name("prefix2"), bench.name("prefix3")]
    sent = [side.publish(name, b"x") for side, name in zip(sides, topics, strict=True)]
    for side, queue, message_id in zip(sides, queues, sent, strict=True):
        came = heard(bench, queue, side)
        check(came == [message_id], f"virtual host or prefix {sides.index(side)} heard {len(came)} of its 1 message")
    astray = bench.connect(fanout_prefix=bench.name("elsewhere"))
    refused(lambda: astray.publish(topic, b"x"), InconsistencyError, "a publish past the subscribers of a topic")


@case("FAN-03")
def prefix_of_a_prefix(bench: Bench) -> None:
    """Names and prefixes that begin alike do not mix: app and app2, a.b and a.bc."""
    base = bench.name("a")
    topics = [base, f"{base}2", f"{base}.b", f"{base}.bc", f"{base}.b.c", base[:-1]]
    queues = [subscriber(bench, f"t{i}", topic) for i, topic in enumerate(topics)]
    sent = [bench.broker.publish(topic, b"x", routing_key="b.c") for topic in topics]
    for topic, queue, message_id in zip(topics, queues, sent, strict=True):
        check(heard(bench, queue) == [message_id], f"the subscriber of {topic!r} heard another topic")
    prefixes = [bench.name("app"), f"{bench.name('app')}2", bench.name("ap")]
    brokers = [bench.connect(fanout_prefix=prefix) for prefix in prefixes]
    # prefix + topic must not be joined into one text: app + 2x and app2 + x are different
    base = bench.name("b")
    pairs = [(brokers[0], f"2{base}"), (brokers[1], base), (brokers[2], f"p2{base}"), (brokers[0], f"22{base}")]
    queues = [subscriber(bench, f"p{i}", topic, broker=broker) for i, (broker, topic) in enumerate(pairs)]
    sent = [broker.publish(topic, b"x") for broker, topic in pairs]
    for (broker, topic), queue, message_id in zip(pairs, queues, sent, strict=True):
        check(heard(bench, queue, broker) == [message_id], f"prefixes and topics are mixed up at {topic!r}")


ODD = ("*", "?", "[x]", "#", "{db}", "%", "%s", "a*", "a.#", "/", "\\", "'", ":", "…")


@case("FAN-04")
def odd_topics(bench: Bench) -> None:
    """Characters of patterns and formats in a topic or a prefix are taken as they are, or refused."""
    base = bench.name("t")
    plain = subscriber(bench, "plain", f"{base}x")
    bound: dict[str, str] = {}
    for i, odd in enumerate(ODD):
        try:
            bound[base + odd] = subscriber(bench, f"odd{i}", base + odd)
        except InvalidName:
            bench.measured[f"refused topic {odd!r}"] = True
    sent = {topic: bench.broker.publish(topic, b"x") for topic in [*bound, f"{base}x"]}
    for topic, queue in bound.items():
        check(heard(bench, queue) == [sent[topic]], f"the subscriber of topic {topic!r} heard others, or nothing")
    check(heard(bench, plain) == [sent[f"{base}x"]], "a plain topic heard odd ones")
    for i, odd in enumerate(("*", "{db}", "%s")):
        broker = bench.connect(fanout_prefix=bench.name("p") + odd)
        queue = subscriber(bench, f"prefix{i}", base, broker=broker)
        message_id = broker.publish(base, b"x")
        check(heard(bench, queue, broker) == [message_id], f"prefix {odd!r} does not keep its topics apart")


@case("FAN-16")
def dead_subscriber_vanishes(bench: Bench) -> None:
    """The queue of a killed subscriber is gone soon after its `expires`, with its binding."""
    vanish = fanout_of(bench).vanish
    if vanish is None:
        raise AssertionError("it declares queue_expires, and fanout.vanish that an unused queue never goes by itself")
    topic, queue, expires = bench.name("topic"), bench.name("mortal"), bench.lease
    actor = bench.actor("declare", queue, topic=topic, queue={"expires": expires}, then="consume")
    actor.wait_for("ready")
    bench.broker.publish(topic, b"x")
    bench.let_pass(1.5 * expires)
    bench.broker.depth(queue)  # in use, however long
    actor.kill()
    began = bench.time.now()
    for _ in range(4):  # to ask for it may be a use of it
        bench.broker.publish(topic, b"does not renew it")
        bench.let_pass((expires + vanish + 1) / 4)
    bench.wait_until(lambda: _is_gone(bench, topic, queue), within=bench.slack, what="it is gone")
    bench.measured["gone after the kill, at most"] = bench.time.now() - began


def _is_gone(bench: Bench, topic: str, queue: str) -> bool:
    bench.broker.publish(topic, b"does not renew it")
    try:
        bench.broker.depth(queue)
    except QueueNotFound:
        return True
    return False


@case("FAN-17")
def between_processes(bench: Bench) -> None:
    """Published by one process, heard by two others."""
    topic = bench.name("topic")
    queues = [subscriber(bench, f"q{i}", topic) for i in range(2)]
    with bench.actor("publish", topic, count=3, body="from afar") as publisher:
        publisher.wait_for("done")
        sent = [event["id"] for event in publisher.events("sent")]
    for queue in queues:
        with bench.actor("consume", queue, count=3, do="ack") as listener:
            listener.wait_for("done")
            came = [event["id"] for event in listener.events("received")]
        check(Counter(came) == Counter(sent), f"another process heard {len(came)} of 3")


@case("FAN-18")
def queue_and_topic_of_one_name(bench: Bench) -> None:
    """A queue and a topic of the same name are two things."""
    name = bench.queue("same")
    listener = subscriber(bench, "listener", name)
    published = bench.broker.publish(name, b"published")
    sent = bench.broker.send(name, b"sent")
    check(heard(bench, name) == [sent], "what was published to the topic came to the queue of that name")
    check(heard(bench, listener) == [published], "what was sent to the queue was heard on the topic of that name")
