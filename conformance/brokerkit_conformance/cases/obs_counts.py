"""OBS, second part: what is counted and told equals what happened."""

from __future__ import annotations

from collections import Counter

from brokerkit import Event
from brokerkit.capabilities import Fanout, is_missing
from brokerkit.errors import FanoutGap
from brokerkit_conformance.bench import Bench, check
from brokerkit_conformance.casebook import case


@case("OBS-06")
def events_equal_the_history(bench: Bench) -> None:
    """Of 12 messages 6 are acked, 3 fail once, 2 fail for good, 1 is rejected: told is each of these, once, and nothing else.

    Where queues can be bounded, what a full subscriber queue dropped is told, with its number. What waits is counted.
    """
    told: list[Event] = []
    broker = bench.connect(on_event=told.append)
    queue = bench.queue(broker=broker, max_attempts=2)
    sent = broker.send_many(queue, [f"{i}".encode() for i in range(12)])
    by_hand = bench.capabilities.attempts == "flag"  # where nobody counts, the handler gives up by itself
    once, always, rejected = set(sent[6:9]), set(sent[9:11]), sent[11]
    _depth(bench, queue, 12, "after 12 were sent")
    came: Counter[str] = Counter()
    consumer = bench.consumer(queue, broker=broker)
    while came.total() < 17:  # noqa: PLR2004 - 12, and 5 once more
        delivery = bench.expect(consumer, within=bench.lease + bench.slack)
        came[delivery.id] += 1
        if delivery.id == rejected or (by_hand and delivery.id in always and came[delivery.id] > 1):
            delivery.dead_letter("unwanted", "the case rejects it")
            continue
        with delivery:
            if delivery.id in always or (delivery.id in once and came[delivery.id] == 1):
                raise LookupError("the case lets it fail")
    bench.silent(queue, consumer, why="all was settled")
    check(came == Counter([*sent, *once, *always]), f"deliveries were {came}")
    _compare(told, "handler_failed", Counter([*once, *always, *(() if by_hand else always)]))
    _compare(told, "dead_lettered", Counter([*always, rejected]))
    others = [event for event in told if event.name not in ("handler_failed", "dead_lettered")]
    check(not others, f"told was also {others[:3]}")
    check(len(bench.dead_letters(queue, broker)) == 3, "there are not as many dead letters as were told")  # noqa: PLR2004
    _depth(bench, queue, 0, "after all was settled")
    _dropped(bench)


def _compare(told: list[Event], name: str, happened: Counter[str]) -> None:
    counted = Counter(event.message_id for event in told if event.name == name)
    check(counted == happened, f"{name} was told {counted.total()} times, it happened {happened.total()} times")


def _depth(bench: Bench, queue: str, ready: int, when: str) -> None:
    if "ready" in bench.capabilities.depth:
        bench.wait_until(
            lambda: bench.broker.depth(queue).ready == ready, within=bench.slack, what=f"{ready} are counted {when}"
        )


def _dropped(bench: Bench) -> None:
    """Let a bounded subscriber queue drop seven copies."""
    fanout = bench.capabilities.fanout
    if not isinstance(fanout, Fanout) or fanout.overflow != "gap" or is_missing(bench.capabilities.max_length):
        return
    told: list[Event] = []
    broker = bench.connect(on_event=told.append)
    queue, topic = bench.queue("bounded", broker=broker, max_length=5), bench.name("topic")
    broker.bind(queue, topic)
    broker.publish_many(topic, [b"x"] * 12)
    consumer = bench.consumer(queue, broker=broker)
    gaps = 0
    for _ in range(6):
        try:
            bench.expect(consumer).ack()
        except FanoutGap as gap:
            gaps += gap.dropped
    check(gaps == 7, f"7 copies were dropped, {gaps} were told")  # noqa: PLR2004 - 12 less 5
    names = [event.name for event in told]
    check(names == ["fanout_gap"] and "7" in told[0].reason, f"told was {told}")
