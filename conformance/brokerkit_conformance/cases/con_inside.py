"""CON, second part: races for one thing, many threads on one broker, and closing in the middle of it."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from brokerkit.errors import BrokerkitError, Closed
from brokerkit_conformance.bench import HANG, Bench, check
from brokerkit_conformance.casebook import case
from brokerkit_conformance.cases._inside import inside

if TYPE_CHECKING:
    from brokerkit import Consumer
    from brokerkit.abc import Receiver


@case("CON-04", crowd=True)
def one_winner(bench: Bench) -> None:
    """Of 2, 10 and 50 threads that wait for one message, exactly one gets it, many times over; of 6 processes, too.

    Each taker has a receiver of its own. The law's ten thousand rounds are scaled to some two hundred, for time.
    """
    for takers, rounds in ((2, 100), (10, 50), (50, 20)):
        _race(bench, takers, rounds)
    if bench.capabilities.shared != "process":
        inside(bench, "race", queues=("q",), processes=6, rounds=30)


@case("CON-05", crowd=True)
def declared_by_many(bench: Bench) -> None:
    """20 processes declare the same queue and bind it to the same topic at the same moment: there is one of each."""
    queue, topic = bench.name("q"), bench.name("topic")
    bound = not hasattr(bench.capabilities.fanout, "reason")
    inside(bench, "declare", queues=("q",), processes=20, topic=topic if bound else "")
    check(len(bench.collect(queue)) == 20, "not each process's message came just once")  # noqa: PLR2004 - as above
    if bound:
        sent = bench.broker.publish(topic, b"x", routing_key="a.b")
        check([d.id for d in bench.collect(queue)] == [sent], "a binding made by many does not give one copy")


@case("CON-07")
def many_publishers(bench: Bench) -> None:
    """Twenty threads send by one broker, singly and in batches, each to a queue of its own and to a common one."""
    names = [bench.queue(f"q{i}") for i in range(4)]
    sent: dict[str, list[str]] = {name: [] for name in names}

    def work(number: int) -> None:
        for i in range(12):
            name = names[(number + i) % len(names)]
            body = f"{number} {i}".encode()
            got = [bench.broker.send(name, body)] if i % 3 else bench.broker.send_many(name, [body] * 3)
            sent[name] += got

    for number in range(20):
        bench.thread(lambda number=number: work(number))  # type: ignore[misc]
    bench.join()
    for name in names:
        came = Counter(delivery.id for delivery in bench.collect(name))
        check(came == Counter(sent[name]), f"{name}: {len(sent[name])} were sent, {came.total()} came")


@case("CON-10")
def closed_in_the_middle(bench: Bench) -> None:
    """Close while threads wait in receive, by consumers and by the contract, and send: all end in time, none hangs.

    Sends that were accepted before are there after.
    """
    queue, empty = bench.queue(), bench.queue("empty")
    broker = bench.connect()
    receiver = broker.transport.open_receiver([empty], prefetch=1, visibility_timeout=bench.lease)
    consumers = [broker.consumer(empty) for _ in range(3)]
    accepted: list[str] = []
    began = threading.Barrier(len(consumers) + 3)
    waits: list[Callable[[], object]] = [lambda c=consumer: _wait_by_consumer(c) for consumer in consumers]  # type: ignore[misc]
    waits += [lambda: _wait_by_contract(receiver), lambda: _send_until_closed(broker, queue, accepted)]
    for wait in waits:
        bench.thread(lambda w=wait: [began.wait(HANG), w()])  # type: ignore[misc]
    began.wait(HANG)
    bench.wait_until(lambda: len(accepted) > 20, within=HANG, what="twenty messages are sent")  # noqa: PLR2004
    before = time.monotonic()
    with bench.time.running():
        receiver.close(timeout=5.0)
        broker.close(timeout=5.0)
        bench.join()
    took = time.monotonic() - before
    check(took < 2 + bench.slack, f"closing and the end of all waits took {took:.1f} s")
    bench.measured["closing, seconds"] = round(took, 3)
    came = Counter(delivery.id for delivery in bench.collect(queue))
    lost = set(accepted) - set(came)
    check(not lost, f"{len(lost)} of {len(accepted)} accepted messages are gone")
    check(set(came.values()) == {1}, "a message came twice")


def _race(bench: Bench, takers: int, rounds: int) -> None:
    """Let threads wait for one message at a time; each round ends when one has it."""
    queue = bench.queue(f"race{takers}")
    brokers = [bench.connect() for _ in range(min(takers, 5))]
    receivers = [bench.receiver(queue, broker=brokers[i % len(brokers)]) for i in range(takers)]
    news, stop = threading.Condition(), threading.Event()
    took: list[str] = []

    def take(receiver: Receiver) -> None:
        while not stop.is_set():
            claimed, _ = receiver.receive(limit=10, timeout=0.5)
            if claimed:
                check(not receiver.ack(claimed, timeout=10.0), "the winner's lease was lost at once")
                with news:
                    took.extend(each.message.id for each in claimed)
                    news.notify_all()

    for receiver in receivers:
        bench.thread(lambda r=receiver: take(r))  # type: ignore[misc]
    try:
        for round_ in range(1, rounds + 1):
            sent = bench.broker.send(queue, b"x")
            with news:
                check(news.wait_for(lambda n=round_: len(took) >= n, HANG), f"round {round_}: nobody took it")  # type: ignore[misc]
                check(took[-1] == sent and len(took) == round_, f"round {round_} of {takers} takers: {took[-2:]}")
    finally:
        stop.set()
        bench.join()
    check(len(took) == rounds, f"{len(took)} winners in {rounds} rounds of {takers} takers")


def _wait_by_consumer(consumer: Consumer) -> None:
    try:
        check(consumer.receive(HANG) is None, "an empty queue gave something")
    except Closed:
        return
    raise AssertionError("a receive of a closed consumer came back without an error")


def _wait_by_contract(receiver: Receiver) -> None:
    try:
        claimed, _ = receiver.receive(limit=1, timeout=HANG)
    except Exception:  # noqa: BLE001 - whatever a plugin raises when it is closed under a call
        return
    check(not claimed, "an empty queue gave something")


def _send_until_closed(broker: Any, queue: str, accepted: list[str]) -> None:
    pace = threading.Event()
    while not pace.wait(0.002):  # else an engine in memory takes more than there is time to receive again
        try:
            accepted.append(broker.send(queue, b"x"))
        except Closed:
            return
        except BrokerkitError:
            if _is_closed(broker):
                return
            raise


def _is_closed(broker: Any) -> bool:
    """Whether it refuses its transport: a call that was under way when it was closed may fail in other ways."""
    try:
        broker.transport  # noqa: B018 - asked for its refusal
    except Closed:
        return True
    return False
