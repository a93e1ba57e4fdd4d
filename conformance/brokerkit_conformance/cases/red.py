"""RED: the redelivery count, `attempt`."""

from __future__ import annotations

from brokerkit_conformance.bench import Bench, check
from brokerkit_conformance.casebook import case, without
from brokerkit_conformance.cases._probes import works_counting


@case("RED-01")
def first_is_one(bench: Bench) -> None:
    """The first delivery is attempt 1, also of a delayed message."""
    queue = bench.queue()
    bench.broker.send(queue, b"x")
    delivery = bench.expect(bench.consumer(queue))
    check(delivery.attempt == 1, f"the first delivery is attempt {delivery.attempt!r}")
    delivery.ack(wait=True)
    bench.broker.send_many(queue, [b"x"] * 20)
    attempts = {received.attempt for received in bench.claim(bench.receiver(queue), 20)}
    check(attempts == {1}, f"first deliveries are attempts {attempts}")


@case("RED-02")
def one_more_each_time(bench: Bench) -> None:
    """Each way to come back adds exactly one: release, delayed release, end of lease, close, kill."""
    queue = bench.queue()
    sent = bench.broker.send(queue, b"x")
    exact, timed = bench.capabilities.attempts == "exact", bench.timed
    expected, fired = 1, list[str]()

    def claim_and(trigger: str, then: object) -> None:
        nonlocal expected
        receiver = bench.receiver(queue)
        (received,) = bench.claim(receiver, 1, within=bench.lease_end_bound() if timed else None)
        check(received.message.id == sent, "another message came")
        wrong = received.attempt != expected if exact else (received.attempt or 0) < expected
        check(not wrong, f"attempt {received.attempt} instead of {expected}, after {fired[-1:] or ['nothing']}")
        then(receiver, received)  # type: ignore[operator]
        expected += 1
        fired.append(trigger)

    for _ in range(4):
        claim_and("release", lambda receiver, received: receiver.release([received]))
    if isinstance(bench.capabilities.release_delay, float | int):
        claim_and("delayed release", lambda receiver, received: receiver.release([received], delay=bench.lease / 8))
    for _ in range(2 if timed else 0):
        claim_and("end of lease", lambda *_: bench.let_pass(bench.lease))
    claim_and("close", lambda receiver, _: receiver.close(timeout=5.0))
    if bench.capabilities.shared != "process":
        actor = bench.actor("consume", queue, count=1, do="hold")
        check(actor.wait_for("received")["attempt"] in (expected, None), "another process counts otherwise")
        actor.kill()
        expected += 1
        fired.append("kill")
    claim_and("ack", lambda receiver, received: receiver.ack([received]))
    bench.measured["triggers"] = ", ".join(dict.fromkeys(fired))
    bench.let_pass(bench.past_lease())
    bench.silent(queue, why="acked at last")


@case("RED-03")
def kept_by_the_server(bench: Bench) -> None:
    """The count is the server's: it goes on over consumers and over connections that were closed."""
    queue = bench.queue()
    bench.broker.send(queue, b"x")
    attempts = []
    for _ in range(4):
        with bench.connect() as broker, bench.time.running():
            delivery = bench.expect(broker.consumer(queue))
            attempts.append(delivery.attempt)
            delivery.release()
    check(attempts == [1, 2, 3, 4], f"over four connections the attempts were {attempts}")


@case("RED-04")
def unstarted(bench: Bench) -> None:
    """What a consumer prefetched and never started counts no attempt where the engine can give it back, else one."""
    queue = bench.queue()
    bench.broker.send_many(queue, [b"%d" % i for i in range(5)])
    consumer = bench.consumer(queue, prefetch=5)
    started = bench.expect(consumer)
    with bench.time.running():
        consumer.close()
    attempts = {d.id: d.attempt for d in bench.collect(queue)}
    check(attempts.pop(started.id) == 2, "the started one did not count")  # noqa: PLR2004
    expected = 1 if bench.capabilities.uncounted_release else 2
    check(set(attempts.values()) == {expected}, f"the unstarted came as attempts {sorted(attempts.values(), key=str)}")


@case("RED-05")
def counted_before_decoding(bench: Bench) -> None:
    """A body that no decoder takes is counted all the same, ends in the dead queue, and does not stop the next."""
    queue = bench.queue()
    poison = bench.send_message(queue, b"\xff{", headers={"content-type": "application/json"})
    after = bench.broker.send(queue, b"next")
    receiver = bench.receiver(queue)
    for attempt in (1, 2):
        held = bench.claim(receiver, 2)
        counts = {received.message.id: received.attempt for received in held}
        check(counts[poison.id] == attempt, f"the poison's attempt {attempt} came as {counts[poison.id]}")
        receiver.release(held)
    came = [delivery.id for delivery in bench.collect(queue)]
    check(came == [after], f"{len(came)} messages reached the handler beside the poison")
    letters = bench.dead_letters(queue)
    check([letter.id for letter in letters] == [poison.id], "the poison is not in the dead queue")
    check(letters[0].attempts == 3, f"its dead letter says {letters[0].attempts} attempts")  # noqa: PLR2004
    check(letters[0].body == b"\xff{" and letters[0].reason == "undecodable", f"the dead letter is {letters[0]}")


@case("RED-06")
def delayed_release_counts_on(bench: Bench) -> None:
    """A release with a delay keeps the count, however the engine delays."""
    queue = bench.queue()
    sent = bench.broker.send(queue, b"x")
    consumer = bench.consumer(queue)
    attempts = []
    for _ in range(3):
        delivery = bench.expect(consumer, within=2 * bench.lease)
        check(delivery.id == sent, "the id has changed by a delayed release")
        attempts.append(delivery.attempt)
        delivery.release(delay=bench.lease / 8)
    check(attempts == [1, 2, 3], f"with delayed releases the attempts were {attempts}")


@without("count")
@case("RED-07")
def no_count(bench: Bench) -> None:
    """Without a count the attempt is None: neither 0 nor an invented 1; a true one is to be declared."""
    works_counting(bench)
    queue = bench.queue()
    bench.broker.send(queue, b"x")
    consumer = bench.consumer(queue)
    for _ in range(2):
        delivery = bench.expect(consumer)
        check(delivery.attempt is None, f"the attempt is {delivery.attempt!r}, but the engine does not count")
        delivery.release()
