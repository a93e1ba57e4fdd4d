"""ACK, second part: close, failure after failure, and queues that go away."""

from __future__ import annotations

import contextlib
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from brokerkit.errors import LeaseLost, QueueNotFound
from brokerkit_conformance.bench import Bench, check
from brokerkit_conformance.casebook import case
from brokerkit_conformance.cases._refused import refused

if TYPE_CHECKING:
    from brokerkit import Delivery


@case("ACK-11")
def handler_raises(bench: Bench) -> None:
    """A handler that raises gives its message back, once; the next try acks it, once; the worker lives on."""
    events: list[Any] = []
    broker = bench.connect(on_event=events.append)
    queue = bench.queue(broker=broker)
    sent = broker.send(queue, b"x")
    consumer = bench.consumer(queue, broker=broker)
    attempts = []
    for fails in (True, True, False):
        delivery = bench.expect(consumer)
        attempts.append(delivery.attempt)
        with delivery:
            if fails:
                raise ValueError("a handler failed")
    check(attempts in ([1, 2, 3], [None] * 3), f"the attempts were {attempts}")
    check(delivery.id == sent, "another message came")
    failed = [event for event in events if event.name == "handler_failed"]
    check([event.message_id for event in failed] == [sent] * 2, f"{len(failed)} events of 2 failures")
    with contextlib.suppress(KeyboardInterrupt), _next(bench, consumer, broker, queue):
        raise KeyboardInterrupt
    check(len(bench.collect(queue, consumer)) == 1, "an interrupt did not give the message back")
    bench.let_pass(bench.past_lease())
    bench.silent(queue, why="acked after two failures")


def _next(bench: Bench, consumer: Any, broker: Any, queue: str) -> Delivery:
    broker.send(queue, b"interrupted")
    return bench.expect(consumer)


@case("ACK-12")
def handler_changes_the_message(bench: Bench) -> None:
    """What a handler, or the sender, does to its own objects does not change the message."""
    queue = bench.queue()
    payload, headers = {"list": [1, 2]}, {"name": "value"}
    bench.broker.send(queue, payload, headers=headers)
    payload["list"].append(3)
    headers["name"] = "changed by the sender"
    consumer = bench.consumer(queue)
    delivery = bench.expect(consumer)
    delivery.payload["list"].clear()
    with contextlib.suppress(TypeError, AttributeError):
        delivery.headers["name"] = "changed by the handler"  # type: ignore[index]
    with contextlib.suppress(TypeError, AttributeError):
        delivery.message.body = b"changed"
    delivery.release()
    again = bench.expect(consumer)
    check(again.payload == {"list": [1, 2]}, f"the payload came again as {again.payload}")
    check(again.headers.get("name") == "value", f"the header came again as {again.headers.get('name')!r}")
    again.ack(wait=True)


@case("ACK-15")
def close_with_acks_waiting(bench: Bench) -> None:
    """A close sends the acks that still wait, and gives back the rest: nothing twice, nothing lost."""
    queue = bench.queue()
    sent = bench.broker.send_many(queue, [b"%d" % i for i in range(50)])
    consumer = bench.consumer(queue)
    held = [bench.expect(consumer) for _ in sent]
    for delivery in held[:40]:
        delivery.ack()
    with bench.time.running():
        consumer.close()
    check(all(not delivery.lease_lost for delivery in held[:40]), "an ack in time was told to be too late")
    came = Counter(d.id for d in bench.collect(queue))
    unacked = Counter(d.id for d in held[40:])
    check(not unacked - came, f"{sum((unacked - came).values())} that were not acked are lost")
    check(came == unacked, f"{sum((came - unacked).values())} came although they were acked")


@case("ACK-16")
def failing_again_and_again(bench: Bench) -> None:
    """A handler that always fails is called at the pace of the backoff, which doubles by the attempt; and not before."""
    delay = bench.lease / 8
    if not isinstance(bench.capabilities.release_delay, float | int):
        delay = 0.0
    broker = bench.connect(retry_delay=delay, max_retry_delay=4 * delay)
    queue = bench.queue(broker=broker, max_attempts=None)
    sent = broker.send(queue, b"x")
    consumer = bench.consumer(queue, broker=broker)
    at: list[float] = []
    for _ in range(5):
        delivery = bench.expect(consumer, within=4 * delay + bench.lease)
        at.append(bench.time.now())
        check(delivery.id == sent, "another message came")
        with delivery:
            raise RuntimeError("always")
    pauses = [later - earlier for earlier, later in pairwise(at)]
    doubles = 1 if bench.capabilities.attempts == "flag" else 2
    for pause, wanted in zip(pauses, (delay * doubles**n for n in (0, 1, 2, 2)), strict=True):
        check(pause >= wanted * 0.95 - 0.01, f"tried again after {pause:g} s instead of {wanted:g} s")
    bench.measured["pauses"] = ", ".join(f"{pause:.2f}" for pause in pauses)


@case("ACK-17")
def close_gives_back(bench: Bench) -> None:
    """A clean close gives back what was held and what was prefetched, at once, in the order that it had."""
    long_lease = min(20 * bench.lease, bench.capabilities.lease.max)
    queue = bench.queue()
    sent = bench.broker.send_many(queue, [b"%d" % i for i in range(30)])
    consumer = bench.consumer(queue, prefetch=20, visibility_timeout=long_lease)
    bench.expect(consumer)
    with bench.time.running():
        consumer.close()
    began = bench.time.now()
    other = bench.consumer(queue, prefetch=50)
    came = [bench.expect(other, within=bench.capabilities.redelivery.close + bench.slack) for _ in sent]
    bench.measured["all back after"] = bench.time.now() - began
    ids = [delivery.id for delivery in came]
    check(Counter(ids) == Counter(sent), f"{len(set(sent) - set(ids))} of 30 are lost by a clean close")
    check(ids == sent or bench.capabilities.order == "none", "the order has changed")
    for delivery in came:
        delivery.ack()


@case("ACK-18")
def settle_after_the_queue_is_gone(bench: Bench) -> None:
    """Settling what a purge or a delete took away is a typed error or nothing; the consumer goes on."""
    gone, stays = bench.queue("gone"), bench.queue("stays")
    bench.broker.send_many(gone, [b"%d" % i for i in range(4)])
    consumer = bench.consumer(gone, stays)
    held = [bench.expect(consumer) for _ in range(4)]
    bench.broker.purge(gone)
    held[0].ack(wait=True)  # a purge leaves what is held
    bench.broker.delete(gone)
    settlements = {"ack": lambda: held[1].ack(wait=True), "release": held[2].release, "extend": held[3].extend}
    if not bench.capabilities.lease.extend:
        del settlements["extend"]
    for what, settle in settlements.items():
        refused(settle, (LeaseLost, QueueNotFound), f"{what} after the queue was deleted")
    sent = bench.broker.send(stays, b"x")
    for _ in range(3):
        with contextlib.suppress(QueueNotFound):
            delivery = bench.expect(consumer, what="the message of the queue that stays")
            break
    check(delivery.id == sent, "the consumer does not go on")
    delivery.ack(wait=True)
