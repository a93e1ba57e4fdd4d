"""PUB: publish and consume."""

from __future__ import annotations

import threading
import time
from collections import Counter
from hashlib import sha256
from typing import Any

from brokerkit.errors import (
    BrokerkitError,
    Closed,
    ConfigurationError,
    InvalidMessage,
    MessageTooLarge,
    QueueNotFound,
    SendFailed,
)
from brokerkit.models import sent_at
from brokerkit_conformance.bench import HANG, Bench, check
from brokerkit_conformance.casebook import case, refusal
from brokerkit_conformance.cases._refused import refused


@case("PUB-01")
def round_trip(bench: Bench) -> None:
    """One message comes back as it was sent, with 25 headers, its content type, its id and its time."""
    queue = bench.queue()
    headers = {f"name-{i}": f"value {i}" for i in range(25)}
    payload = {"to": "ada", "n": [1, 2.5, None, True], "nested": {"é": "ü"}}
    before = bench.broker.clock.time()
    sent = bench.broker.send(queue, payload, headers=headers)
    after = bench.broker.clock.time()
    delivery = bench.expect(bench.consumer(queue))
    check(delivery.payload == payload, f"the payload came as {delivery.payload!r}")
    own = {name: value for name, value in delivery.headers.items() if not name.startswith(("bk-", "content-"))}
    check(own == headers, f"the headers came as {own}")
    check(delivery.headers.get("content-type") == "application/json", "the content type is gone")
    check(delivery.id == sent, f"the id came as {delivery.id!r}, it was sent as {sent!r}")
    check(delivery.queue == queue, f"it says that it came from {delivery.queue!r}")
    check(before - 0.001 <= sent_at(delivery.id) <= after, "the time of sending is not in the id")
    delivery.ack(wait=True)
    bench.silent(queue, why="one message was sent and acked")


@case("PUB-02")
def many_distinct(bench: Bench) -> None:
    """Single sends and batches: the multiset of what comes is that of what was sent."""
    queue = bench.queue()
    singly = [bench.broker.send(queue, b"single %d" % i) for i in range(20)]
    batches = [
        bench.broker.send_many(queue, [b"batch %d/%d" % (size, i) for i in range(size)])
        for size in (1, 2, 10, 100, 250)
    ]
    sent = Counter([*singly, *(message_id for batch in batches for message_id in batch)])
    came = bench.collect(queue)
    received = Counter(delivery.id for delivery in came)
    check(received == sent, f"lost {sum((sent - received).values())}, too many {sum((received - sent).values())}")
    bodies = Counter(delivery.body for delivery in came)
    check(max(bodies.values()) == 1, f"one body came {max(bodies.values())} times")
    check(len(bodies) == sum(sent.values()), "bodies were mixed up")


@case("PUB-03")
def every_byte(bench: Bench) -> None:
    """Bytes travel untouched, whatever they are."""
    queue = bench.queue()
    every = bytes(range(256))
    bodies = [every, every * 300, b"\x00" * 5000, b"\xff" * 70_000, b"\xc3\x28\xa0\xa1", b"\xed\xa0\x80", b"'\"\\;--\n"]
    for body in bodies:
        bench.broker.send(queue, body)
    came = bench.collect(queue)
    hashes = Counter(sha256(delivery.body).hexdigest() for delivery in came)
    check(hashes == Counter(sha256(body).hexdigest() for body in bodies), "a body was changed")
    check(all(delivery.payload == delivery.body for delivery in came), "bytes were decoded into something else")


HEADERS = {
    "plain": "value",
    "UPPER and lower": "Case is Kept",
    "with:colon/slash\\back": "a=b&c;d,e",
    "quotes \"'`": "\"'` %s {x} $1",
    "control": "tab\t newline\n return\r nul\x00 escape\x1b end",
    "ünï-cödé": "Grüße",
    "emoji 🐇": "🐇🇨🇭👩‍👩‍👧",
    "rtl": "\u202eabc שלום",
    "outside the BMP": "\U0010ffff \U00010000",
    "combining": "e\u0301 is not \u00e9",
    "edges": "  spaces at both ends  ",
    "long": "x" * 2000,
}


@case("PUB-04")
def odd_headers(bench: Bench) -> None:
    """Odd header names and values come back exactly, or are refused before any I/O; a lone surrogate is refused."""
    queue = bench.queue()
    taken = {}
    for name, value in HEADERS.items():
        try:
            taken[bench.broker.send(queue, b"x", headers={name: value})] = {name: value}
        except (ConfigurationError, MessageTooLarge):
            bench.measured[f"refused header {name!r}"] = True
    check(len(taken) >= 4, f"only {len(taken)} of {len(HEADERS)} headers were taken")  # noqa: PLR2004
    both = bench.broker.send(queue, b"x", headers=dict(list(HEADERS.items())[:2]))
    taken[both] = dict(list(HEADERS.items())[:2])
    for bad in ({"x": "\ud800"}, {"\udfff": "x"}):
        _refused_before_io(bench, queue, bad)
    for wrong in ({"x": 1}, {1: "x"}, {"": "x"}):
        _refused_before_io(bench, queue, wrong)
    came = {delivery.id: dict(delivery.headers) for delivery in bench.collect(queue)}
    for message_id, headers in taken.items():
        check(came.get(message_id) == headers, f"{headers!r} came as {came.get(message_id)!r}")
    check(len(came) == len(taken), "something came that was refused")


def _refused_before_io(bench: Bench, queue: str, headers: Any) -> None:
    refused(lambda: bench.broker.send(queue, b"x", headers=headers), InvalidMessage, f"headers {headers!a}")


@case("PUB-05")
def empty_is_not_missing(bench: Bench) -> None:
    """Empty bodies, empty header values, no headers, and texts that look like numbers come unchanged."""
    queue = bench.queue()
    sent = {
        bench.broker.send(queue, b""): (b"", {}),
        bench.broker.send(queue, b"", headers={"empty": ""}): (b"", {"empty": ""}),
        bench.broker.send(queue, b"0", headers={"number": "007", "float": "1e3", "none": "null", "bool": "false"}): (
            b"0",
            {"number": "007", "float": "1e3", "none": "null", "bool": "false"},
        ),
        bench.broker.send(queue, b"x", headers={}): (b"x", {}),
    }
    came = {delivery.id: (delivery.body, dict(delivery.headers)) for delivery in bench.collect(queue)}
    check(came == sent, f"sent {list(sent.values())}, came {list(came.values())}")


@case("PUB-06")
def confirmed_before_a_kill(bench: Bench) -> None:
    """A publisher that is killed right after `send` returned has sent."""
    queue = bench.queue()
    confirmed = []
    for round_number in range(3):
        actor = bench.actor("send", queue, count=5, body=f"round {round_number}", then="hang")
        actor.wait_for("ready")
        actor.kill()
        confirmed += [event["id"] for event in actor.events("sent")]
    came = Counter(delivery.id for delivery in bench.collect(queue))
    check(came == Counter(confirmed), f"confirmed {len(confirmed)}, came {sum(came.values())}")


@case("PUB-07")
def send_to_nowhere(bench: Bench) -> None:
    """A send to a queue that nobody declared is refused by a typed error, and stores nothing."""
    name = bench.name("undeclared")
    refused(lambda: bench.broker.send(name, b"x"), QueueNotFound, "send to an undeclared queue")
    refused(lambda: bench.broker.send_many(name, [b"x", b"y"]), (QueueNotFound, SendFailed), "send_many to one")
    bench.broker.declare(name)
    bench.remember(name)
    bench.silent(name, why="what was sent before the declaration was refused")


@case("PUB-08")
def consume_from_nowhere(bench: Bench) -> None:
    """A receive from a queue that nobody declared is a typed error, soon; a neighbour that is there goes on."""
    name = bench.name("undeclared")
    consumer = bench.consumer(name)
    refused(lambda: bench.receive(consumer, bench.lease), QueueNotFound, "receive from an undeclared queue")
    there = bench.queue("there")
    both = bench.consumer(name, there)
    bench.broker.send(there, b"x")
    came = []
    for _ in range(3):
        try:
            came.append(bench.receive(both, bench.lease))
            break
        except QueueNotFound as error:
            check(error.names == (name,), f"the error names {error.names}")
    check(came and came[0] is not None and came[0].body == b"x", "the other queue of the consumer does not go on")


@case("PUB-09")
def empty_handed(bench: Bench) -> None:
    """A read of an empty queue comes back empty-handed, not before its time and not long after, without spinning."""
    queue = bench.queue()
    consumer = bench.consumer(queue)
    for timeout in (0.0, bench.lease / 2):
        began, real, cpu = bench.time.now(), time.monotonic(), time.thread_time()
        check(bench.receive(consumer, timeout) is None, "something came from an empty queue")
        took, real, cpu = bench.time.now() - began, time.monotonic() - real, time.thread_time() - cpu
        check(took >= timeout * 0.98, f"came back after {took:g} s of {timeout:g} s")
        check(took <= timeout + 2 + bench.slack, f"came back after {took:g} s instead of {timeout:g} s")
        check(cpu < max(0.02, real / 3), f"waiting for {real:g} s of real time took {cpu:g} s of CPU: it spins")
        bench.measured[f"late at timeout {timeout:g}"] = took - timeout


@case("PUB-10")
def close_a_blocked_receive(bench: Bench) -> None:
    """A close ends a receive that blocks, within its bound, and the message sent at that moment is not lost."""
    queue = bench.queue()
    for _ in range(5):
        consumer, got = bench.connect().consumer(queue), list[Any]()

        def receive(consumer: Any = consumer, got: list[Any] = got) -> None:
            try:
                got.append(consumer.receive(timeout=600.0))
            except Closed:
                got.append(None)

        thread = threading.Thread(target=receive, daemon=True)
        thread.start()
        sent = bench.broker.send(queue, b"x") if _ % 2 else None
        began = bench.time.now()
        with bench.time.running():
            consumer.close()
            closed = bench.time.now() - began
            thread.join(HANG)
        check(not thread.is_alive() and got, "the receive never ended")
        check(closed <= 3 + bench.slack, f"close took {closed:g} s while a receive was blocked")
        sent = sent or bench.broker.send(queue, b"x")
        ids = [delivery.id for delivery in bench.collect(queue)]
        check(ids == [sent], f"the message sent at that moment came {len(ids)} times after the close")


@case("PUB-11")
def after_close(bench: Bench) -> None:
    """Everything used after close is refused as `Closed`; closing twice is fine."""
    queue = bench.queue()
    broker = bench.connect()
    consumer = broker.consumer(queue)
    with bench.time.running():
        for _ in range(2):
            consumer.close()
        refused(lambda: consumer.receive(timeout=0.1), Closed, "receive of a closed consumer")
        open_consumer = broker.consumer(queue)
        for _ in range(2):
            broker.close()
    refused(lambda: open_consumer.receive(timeout=0.1), Closed, "receive after the broker was closed")
    for what, call in {
        "send": lambda: broker.send(queue, b"x"),
        "send_many": lambda: broker.send_many(queue, [b"x"]),
        "declare": lambda: broker.declare(queue),
        "purge": lambda: broker.purge(queue),
        "consumer": lambda: broker.consumer(queue),
    }.items():
        refused(call, Closed, f"{what} after the broker was closed")
    bench.silent(queue, why="nothing was sent before the close")


@case("PUB-12")
def one_bad_item(bench: Bench) -> None:
    """A batch with an item that cannot be sent: none is sent if it shows before I/O, else each has its own outcome."""
    queue = bench.queue()
    refused(lambda: bench.broker.send_many(queue, [b"a", object(), b"b"]), BrokerkitError, "a batch with a bad payload")
    bench.silent(queue, why="the batch was refused before any I/O")
    if bench.capabilities.max_length is not True:
        return
    full = bench.queue("full", max_length=2)
    try:
        bench.broker.send_many(full, [b"1", b"2", b"3"], timeout=1.0 if bench.time.clock is None else 0.001)
    except SendFailed as error:
        stored = [message_id for message_id, failure in error.outcomes if failure is None]
        check(len(error.outcomes) == 3, f"{len(error.outcomes)} outcomes for 3 messages")  # noqa: PLR2004
        check(len(stored) == 2, f"{len(stored)} were told to be stored in a queue of max_length 2")  # noqa: PLR2004
    else:
        raise AssertionError("3 messages were sent to a queue of max_length 2, and nobody was told")
    consumer = bench.consumer(full)
    came = [bench.expect(consumer).id for _ in stored]
    check(sorted(came) == sorted(stored), "those with outcome None are not those that came")
    check(bench.receive(consumer, 0.0) is None, "one came that was told to be refused")


@case("PUB-13")
def message_ids(bench: Bench) -> None:
    """Ids are unique, non-empty, and the same on every redelivery."""
    queue = bench.queue()
    brokers = [bench.broker, bench.connect(), bench.connect()]
    sent = [message_id for broker in brokers for message_id in broker.send_many(queue, [b"same"] * 50)]
    check(len(set(sent)) == len(sent), "two messages share an id")
    check(all(sent), "an id is empty")
    consumer = bench.consumer(queue, prefetch=len(sent) + 1)
    held = bench.collect(queue, consumer, settle=lambda _: None)
    check(Counter(d.id for d in held) == Counter(sent), "the ids that came are not those that send returned")
    for delivery in held:
        delivery.release()
    again = Counter(delivery.id for delivery in bench.collect(queue, consumer))
    check(again == Counter(sent), "the ids of redeliveries are others")


@case("PUB-14")
def across_processes(bench: Bench) -> None:
    """Sent by one process, received by another; they share nothing but the URL."""
    queue = bench.queue()
    with bench.actor("send", queue, count=3, body="from afar") as sender:
        sender.wait_for("done")
        sent = [event["id"] for event in sender.events("sent")]
    with bench.actor("consume", queue, count=3, do="ack") as receiver:
        receiver.wait_for("done")
        came = receiver.events("received")
    check(Counter(event["id"] for event in came) == Counter(sent), f"sent {sent}, came {came}")
    check([event["id"] for event in came] == sent or bench.capabilities.order == "none", "the order changed on the way")
    bench.silent(queue, why="the other process acked all")


@refusal("PUB-14")
def not_across_processes(bench: Bench) -> None:
    """An engine that says it lives in one process does: another process sees nothing of it, and is told so."""
    queue = bench.queue()
    bench.broker.send(queue, b"x")
    with bench.actor("consume", queue, count=1, do="ack") as other:
        failed = other.wait_for("failed")
    check(failed["error"] == "QueueNotFound", f"the other process got {failed}")
    check(len(bench.collect(queue)) == 1, "the message was touched by another process")
