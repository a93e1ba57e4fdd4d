"""DLQ: dead letters. A message that cannot be handled ends where people can find it, and is never lost on the way."""

from __future__ import annotations

from collections import Counter
from typing import Any

from brokerkit.errors import BrokerkitError, InvalidName, Unsupported
from brokerkit_conformance.bench import Bench, check
from brokerkit_conformance.casebook import case, refusal, without
from brokerkit_conformance.cases._probes import works_bounds, works_counting
from brokerkit_conformance.cases._refused import refused


def _fail_until_dead(bench: Bench, consumer: Any, most: int) -> list[int | None]:
    """Let a handler fail on whatever comes, `most` times or until nothing comes; return the attempts that it saw."""
    attempts = []
    for _ in range(most):
        delivery = bench.receive(consumer, bench.lease / 4)
        if delivery is None:
            break
        attempts.append(delivery.attempt)
        with delivery:
            raise RuntimeError("cannot handle this")
    return attempts


def _fail_for_good(bench: Bench, consumer: Any) -> None:
    """Let a handler fail on whatever comes until it is dead; an engine that does not count leaves that to the handler."""
    if bench.capabilities.attempts != "flag":
        _fail_until_dead(bench, consumer, 10)
        return
    while (delivery := bench.receive(consumer, bench.lease / 4)) is not None:
        delivery.dead_letter("failed", "cannot handle this")


@case("DLQ-01")
def after_so_many(bench: Bench) -> None:
    """With max_attempts k a failing message is delivered k times, then dead-lettered: neither k-1 nor k+1."""
    for most in (1, 3):
        queue = bench.queue(f"q{most}", max_attempts=most)
        sent = bench.broker.send(queue, b"x")
        attempts = _fail_until_dead(bench, bench.consumer(queue), most + 3)
        check(attempts in (list(range(1, most + 1)), [None] * most), f"max_attempts={most}: it was tried at {attempts}")
        check([letter.id for letter in bench.dead_letters(queue)] == [sent], "it is not in the dead queue")
        bench.let_pass(bench.past_lease())
        bench.silent(queue, why="it was dead-lettered")


@refusal("DLQ-01")
def never_by_count(bench: Bench) -> None:
    """Where deliveries are not counted no number of failures buries a message: it comes again, and is never lost."""
    works_counting(bench)
    queue = bench.queue(max_attempts=1)
    sent = bench.broker.send(queue, b"x")
    consumer = bench.consumer(queue)
    attempts = _fail_until_dead(bench, consumer, 4)
    check(attempts == [None] * 4, f"of a message that was never counted the attempts were {attempts}")
    check([d.id for d in bench.collect(queue, consumer)] == [sent], "it did not come again")
    check(not bench.dead_letters(queue), "it was dead-lettered by a count that there is not")


@case("DLQ-02")
def the_record(bench: Bench) -> None:
    """A dead letter is the message as it was, and says why, from where, how often and when."""
    queue = bench.queue(max_attempts=2)
    headers = {"name": "Grüße", "empty": ""}
    sent = bench.broker.send(queue, {"n": 1}, headers=headers)
    _fail_for_good(bench, bench.consumer(queue))
    now = bench.broker.clock.time()
    (letter,) = bench.dead_letters(queue)
    check(letter.id == sent, "its id has changed")
    check(letter.body in (b'{"n":1}', b'{"n": 1}'), f"its body is {letter.body!r}")
    own = {name: value for name, value in letter.headers.items() if not name.startswith(("bk-", "content-"))}
    check(own == headers, f"its headers are {own}")
    check(letter.reason == "failed" and "cannot handle this" in letter.detail, f"its reason is {letter.reason!r}")
    check(letter.origin == queue, f"its origin is {letter.origin!r}")
    counted = bench.capabilities.attempts != "flag"
    check(letter.attempts == 2 or not counted, f"it says {letter.attempts} attempts")  # noqa: PLR2004
    check(abs(letter.dead_at - now) < 10 + bench.lease, f"it says that it died at {letter.dead_at}")
    check([d.id for d in bench.dead_letters(queue)] == [sent], "looking at dead letters takes them away")


@case("DLQ-03")
def with_a_reason(bench: Bench) -> None:
    """A handler's own dead letter goes there at once, and its reason is kept apart from a failure's."""
    queue = bench.queue(max_attempts=5)
    bench.broker.send_many(queue, [b"1", b"2"])
    consumer = bench.consumer(queue)
    first, second = bench.expect(consumer), bench.expect(consumer)
    first.dead_letter("unprocessable", "no such customer")
    second.dead_letter("spam")
    letters = {letter.id: (letter.reason, letter.detail) for letter in bench.dead_letters(queue)}
    told = {first.id: ("unprocessable", "no such customer"), second.id: ("spam", "")}
    check(letters == told, f"the letters are {letters}")
    bench.silent(queue, consumer, why="both were dead-lettered at their first attempt")


@case("DLQ-05")
def dead_queue_is_full(bench: Bench) -> None:
    """When the dead queue does not take it, the source keeps the message, and the caller is told; when it can, it does."""
    broker = bench.connect(timeout=0.5 if bench.time.clock is None else 0.001)
    queue = bench.queue(broker=broker)
    broker.declare(f"{queue}.dead", max_length=1)
    first, second = broker.send_many(queue, [b"1", b"2"])
    consumer = bench.consumer(queue, broker=broker)
    bench.expect(consumer).dead_letter("no")
    delivery = bench.expect(consumer)
    refused(lambda: delivery.dead_letter("no"), BrokerkitError, "a dead letter that has no room")
    with bench.time.running():
        consumer.close()
    bench.let_pass(bench.past_lease())
    check([d.id for d in bench.collect(queue)] == [second], "the message that found no room is lost")
    check([letter.id for letter in bench.dead_letters(queue)] == [first], "the dead queue lost what it had")


@without("bounded")
def no_bounds(bench: Bench) -> None:
    """Without the power, a bound is refused before any I/O, and never ignored."""
    name = bench.name("bounded")
    refused(lambda: bench.broker.declare(name, max_length=1), Unsupported, "max_length=1")
    bench.remember(name)
    works_bounds(bench)


@case("DLQ-06")
def never_dead(bench: Bench) -> None:
    """With max_attempts None a failing message stays, and each failure is told: it is never silently dropped."""
    events: list[Any] = []
    broker = bench.connect(on_event=events.append)
    queue = bench.queue(broker=broker, max_attempts=None)
    sent = broker.send(queue, b"x")
    consumer = bench.consumer(queue, broker=broker)
    attempts = _fail_until_dead(bench, consumer, 12)
    check(len(attempts) == 12, f"after {len(attempts)} failures it came no more")  # noqa: PLR2004
    check(Counter(e.name for e in events)["handler_failed"] == 12, "not every failure was told")  # noqa: PLR2004
    check([d.id for d in bench.collect(queue, consumer)] == [sent], "it was dropped")
    check(not bench.dead_letters(queue), "it was dead-lettered, although no limit was set")


@case("DLQ-07")
def nobody_survives_it(bench: Bench) -> None:
    """A message whose workers all die is dead-lettered too: unseen failures count, later than seen ones."""
    queue = bench.queue(max_attempts=1)
    sent = bench.broker.send(queue, b"x")
    for attempt in (1, 2, 3):
        (received,) = bench.claim(bench.receiver(queue), 1, within=bench.lease_end_bound())
        check(received.attempt == attempt, f"the claim of attempt {attempt} came as {received.attempt}")
        bench.let_pass(bench.lease)
    bench.let_pass(bench.past_lease() - bench.lease)  # an end of a lease may be noticed late
    check(not bench.collect(queue), "after three dead workers a handler got it again, with max_attempts=1")
    letters = [(letter.id, letter.reason) for letter in bench.dead_letters(queue)]
    check(letters == [(sent, "crashed")], f"the dead letters are {letters}")


@case("DLQ-08")
def redrive(bench: Bench) -> None:
    """A redrive moves dead letters back as they were, ids included, and they are counted anew."""
    queue = bench.queue(max_attempts=1)
    sent = bench.broker.send_many(queue, [b"%d" % i for i in range(5)], headers={"name": "value"})
    _fail_for_good(bench, bench.consumer(queue))
    check(len(bench.dead_letters(queue)) == 5, "not all are dead")  # noqa: PLR2004
    with bench.time.running():
        moved = [bench.broker.redrive(queue, limit=2), bench.broker.redrive(queue)]
    check(moved == [2, 3], f"the redrives say that they moved {moved}")
    came = bench.collect(queue)
    check(Counter(d.id for d in came) == Counter(sent), f"{len(came)} of 5 came back")
    check(all(d.attempt in (1, None) for d in came), "their attempts are not counted anew")
    check(all(dict(d.headers) == {"name": "value"} for d in came), f"their headers are {dict(came[0].headers)}")
    check(not bench.dead_letters(queue), "they are still in the dead queue too")
    with bench.time.running():
        check(bench.broker.redrive(queue) == 0, "a redrive of nothing moved something")


@case("DLQ-09")
def expired_letters(bench: Bench) -> None:
    """What outlived its time to live is a dead letter with that reason; it stays one, and can be redriven."""
    queue = bench.queue()
    sent = bench.broker.send(queue, b"x", ttl=bench.lease / 2)
    bench.let_pass(bench.lease)
    check(not bench.collect(queue), "it came after its time")
    bench.let_pass(bench.lease)
    letters = [(letter.id, letter.reason) for letter in bench.dead_letters(queue)]
    check(letters == [(sent, "expired")], f"the dead letters are {letters}")
    with bench.time.running():
        check(bench.broker.redrive(queue) == 1, "it cannot be redriven")
    check([d.id for d in bench.collect(queue)] == [sent], "redriven, it did not come")


@case("DLQ-10")
def dead_is_dead(bench: Bench) -> None:
    """A dead queue has no dead queue: its declaration is refused, and what fails there stays there."""
    queue = bench.queue(max_attempts=1)
    refused(lambda: bench.broker.declare(f"{queue}.dead.dead"), InvalidName, "the dead queue of a dead queue")
    sent = bench.broker.send(queue, b"x")
    _fail_for_good(bench, bench.consumer(queue))
    attempts = _fail_until_dead(bench, bench.consumer(f"{queue}.dead"), 4)
    check(len(attempts) == 4, f"a dead letter that failed came {len(attempts)} times of 4")  # noqa: PLR2004
    check([letter.id for letter in bench.dead_letters(queue)] == [sent], "a dead letter was lost by failing")
