"""PUB, second part: names of queues, time to live, competing consumers, purge and depth."""

from __future__ import annotations

import contextlib
import unicodedata
from collections import Counter

from brokerkit.capabilities import Delay
from brokerkit.errors import ConfigurationError, InvalidName, LeaseLost, QueueNotFound, Unsupported
from brokerkit_conformance.bench import Bench, check
from brokerkit_conformance.casebook import case, without
from brokerkit_conformance.cases._probes import works_dedup, works_depth, works_ttl
from brokerkit_conformance.cases._refused import refused

SUFFIXES = (
    "",
    "1",
    ".b",
    "/b",
    ":b",
    "*",
    "?",
    "#",
    "[a]",
    "{a}",
    "%s",
    "%20",
    "_",
    "-",
    " ",
    "b ",
    "A",
    "a",
    ".dead2",
)


@case("PUB-15")
def names_do_not_mix(bench: Bench) -> None:
    """Names that look alike, or like patterns, are different queues, or are refused."""
    base = bench.name("a")
    accent = unicodedata.normalize("NFC", "é")
    names = [base + suffix for suffix in SUFFIXES] + [base + accent, base + unicodedata.normalize("NFD", accent)]
    declared = []
    for name in names:
        try:
            bench.broker.declare(name)
        except InvalidName:
            bench.measured[f"refused name {name[len(base) :]!r}"] = True
            continue
        bench.remember(name)
        declared.append(name)
    check(declared and declared[0] == base, "a plain name was refused")
    for name in declared:
        bench.broker.send(name, name.encode())
    for name in declared:
        came = [delivery.body for delivery in bench.collect(name)]
        check(came == [name.encode()], f"queue {name!r} got {came}")
    for name in declared:  # and deleting one deletes one
        bench.broker.delete(name)
        refused(lambda name=name: bench.broker.send(name, b"x"), QueueNotFound, f"send to deleted {name!r}")  # type: ignore[misc]
        rest = declared[declared.index(name) + 1 :]
        if rest:
            bench.broker.send(rest[0], b"still there")
            check(len(bench.collect(rest[0])) == 1, f"deleting {name!r} touched {rest[0]!r}")


@case("PUB-16")
def limits_of_names(bench: Bench) -> None:
    """The longest name works, one byte more is refused with the limit in the text, and nothing is cut off."""
    longest = bench.capabilities.max_name - len(".dead")
    base = bench.name("")
    for filler in ("n", "é"):
        room = longest - len(base.encode())
        name = base + filler * (room // len(filler.encode()))
        name += "x" * (longest - len(name.encode()))
        bench.broker.declare(name)
        bench.remember(name)
        bench.broker.send(name, b"long")
        check([d.body for d in bench.collect(name)] == [b"long"], f"a name of {longest} bytes does not work")
        error = refused(lambda name=name: bench.broker.declare(name + "y" * 6), InvalidName, "a name that is too long")  # type: ignore[misc]
        check(str(bench.capabilities.max_name) in str(error), f"the error does not name the limit: {error}")
        refused(lambda name=name: bench.broker.send(name[:-1], b"x"), QueueNotFound, "a name that is one shorter")  # type: ignore[misc]
    for bad in ("", "nul\x00", "new\nline", "\ud800"):
        refused(lambda bad=bad: bench.broker.declare(bad), InvalidName, f"the name {bad!a}")  # type: ignore[misc]


@case("PUB-17")
def time_to_live(bench: Bench) -> None:
    """A message comes before its time to live ends and not after; then it is dead-lettered, not lost."""
    queue = bench.queue()
    ttl = bench.lease
    short = bench.broker.send(queue, b"short", ttl=ttl)
    long = bench.broker.send(queue, b"long", ttl=20 * ttl)
    own = bench.queue("own", message_ttl=ttl)
    by_queue = bench.broker.send(own, b"by the queue")
    in_time = bench.broker.send(queue, b"in time", ttl=20 * ttl)
    consumer = bench.consumer(queue, prefetch=1)
    first = bench.expect(consumer, what="a message within its time to live")
    check(first.id == short or bench.capabilities.order == "none", "the oldest message came out of turn")
    first.release()
    consumer.close()
    bench.let_pass(ttl + bench.slack / 2)
    came = {delivery.id for delivery in bench.collect(queue)}
    check(came == {long, in_time}, "after its time to live: " + ("it came" if short in came else "others are missing"))
    check(not bench.collect(own), "the queue's message_ttl was ignored")
    for name, message_id in ((queue, short), (own, by_queue)):
        dead = bench.dead_letters(name)
        check([letter.id for letter in dead] == [message_id], f"expired, and silently dropped: {dead}")
        check(dead[0].reason == "expired", f"the dead letter's reason is {dead[0].reason!r}")


@case("PUB-18")
def expires_on_the_way(bench: Bench) -> None:
    """A message whose time ends after a release, or while it is delayed, does not reach a handler."""
    queue = bench.queue()
    ttl = bench.lease
    released = bench.broker.send(queue, b"released", ttl=ttl)
    consumer = bench.consumer(queue)
    bench.expect(consumer).release()
    consumer.close()
    expected = {released}
    if isinstance(bench.capabilities.delay, Delay):
        expected.add(bench.broker.send(queue, b"delayed", ttl=ttl, delay=ttl * 1.5))
    bench.let_pass(ttl * 1.5 + bench.slack)
    check(not bench.collect(queue), "a message past its time to live reached a handler")
    dead = {letter.id: letter.reason for letter in bench.dead_letters(queue)}
    check(dead == dict.fromkeys(expected, "expired"), f"the dead letters are {dead}")


@without("ttl")
def no_time_to_live(bench: Bench) -> None:
    """Without the power, a time to live is refused before any I/O, and never ignored."""
    queue = bench.queue()
    refused(lambda: bench.broker.send(queue, b"x", ttl=5), Unsupported, "ttl=5")
    refused(lambda: bench.broker.declare(bench.name("ttl"), message_ttl=5), Unsupported, "message_ttl=5")
    bench.silent(queue, why="what was refused is not sent")
    works_ttl(bench)


@case("PUB-20")
def deduplication(bench: Bench) -> None:
    """A second message of one key is dropped; of another key it is not."""
    queue = bench.queue()
    first = bench.broker.send(queue, b"first", dedup_key="one")
    bench.broker.send(queue, b"second", dedup_key="one")
    other = bench.broker.send(queue, b"other", dedup_key="two")
    came = [delivery.id for delivery in bench.collect(queue)]
    check(Counter(came) == Counter([first, other]), f"{len(came)} messages came of two keys")


@without("dedupe")
def no_deduplication(bench: Bench) -> None:
    """Without the power, a dedup_key is refused before any I/O, and never ignored."""
    queue = bench.queue()
    refused(lambda: bench.broker.send(queue, b"x", dedup_key="one"), Unsupported, "dedup_key='one'")
    bench.silent(queue, why="what was refused is not sent")
    works_dedup(bench)


@case("PUB-22")
def competing_consumers(bench: Bench) -> None:
    """Four consumers on one queue: each message is settled by exactly one."""
    queue = bench.queue()
    sent = Counter(bench.broker.send_many(queue, [b"%d" % i for i in range(200)]))
    settled: list[str] = []
    consumers = [bench.connect().consumer(queue, prefetch=10) for _ in range(4)]
    for consumer in consumers:

        def work(consumer: object = consumer) -> None:
            for delivery in consumer:  # type: ignore[attr-defined]
                settled.append(delivery.id)
                delivery.ack()

        bench.thread(work)
    with bench.time.running():
        bench.wait_until(
            lambda: len(settled) >= sum(sent.values()), within=20 * bench.lease, what="all 200 are settled"
        )
        for consumer in consumers:
            consumer.close()
    bench.join()
    check(Counter(settled) == sent, "a message was settled twice, or never")
    bench.silent(queue, why="every message was acked by one of four consumers")


@case("PUB-23")
def deleted_under_a_consumer(bench: Bench) -> None:
    """A queue that is deleted under a live consumer is a typed error, soon; its deliveries can be settled or are told lost."""
    queue = bench.queue()
    bench.broker.send(queue, b"x")
    consumer = bench.consumer(queue)
    held = bench.expect(consumer)
    bench.connect().delete(queue)
    began = bench.time.now()
    refused(lambda: bench.receive(consumer, 4 * bench.lease), QueueNotFound, "receive from a deleted queue")
    took = bench.time.now() - began
    check(took <= 2 + bench.slack, f"the deletion was told after {took:g} s")
    with contextlib.suppress(LeaseLost, QueueNotFound):  # told, either way
        held.ack(wait=True)
    bench.broker.declare(queue)
    sent = bench.broker.send(queue, b"after")
    check(bench.expect(consumer).id == sent, "the consumer does not go on when the queue is back")


@without("stats")
def no_depth(bench: Bench) -> None:
    """Without the power to count, a depth is refused, and not invented; a purge works all the same."""
    queue = bench.queue()
    refused(lambda: bench.broker.depth(queue), Unsupported, "depth")
    bench.broker.send_many(queue, [b"x"] * 3)
    bench.broker.purge(queue)
    bench.silent(queue, why="the queue was purged")
    works_depth(bench)


@case("PUB-24")
def purge_and_depth(bench: Bench) -> None:
    """The depth is what it is; a purge removes what nobody holds, says how many, and leaves what is held."""
    queue = bench.queue()
    bench.broker.send_many(queue, [b"x"] * 7)
    receiver = bench.receiver(queue)
    held = bench.claim(receiver, 2)
    told = bench.capabilities.depth
    depth = bench.broker.depth(queue)
    check("ready" not in told or depth.ready == 5, f"5 are ready, the depth says {depth}")  # noqa: PLR2004
    check("in_flight" not in told or depth.in_flight == 2, f"2 are in flight, the depth says {depth}")  # noqa: PLR2004
    if isinstance(bench.capabilities.delay, Delay) and "delayed" in told:
        bench.broker.send(queue, b"later", delay=100)
        check(bench.broker.depth(queue).delayed == 1, f"1 is delayed, the depth says {bench.broker.depth(queue)}")
    purged = bench.broker.purge(queue)
    check(purged in (5, 6), f"the purge says that it removed {purged}")
    after = bench.broker.depth(queue)
    check("ready" not in told or after.ready == 0, f"after the purge the depth says {after}")
    bench.silent(queue, why="the queue was purged")
    lost = receiver.ack(held[:1])
    check(not lost, "the purge took away what was held")
    receiver.release(held[1:])
    came = [delivery.id for delivery in bench.collect(queue)]
    check(came == [held[1].message.id], f"held during the purge and released, yet {len(came)} came")
    refused(lambda: bench.broker.depth(bench.name("none")), QueueNotFound, "the depth of no queue")
    refused(lambda: bench.broker.purge(bench.name("none")), (QueueNotFound, ConfigurationError), "a purge of no queue")
