"""FLT, restarts and kills of what stores the messages: nothing more is lost than is declared, and everybody goes on."""

from __future__ import annotations

import time
from collections import Counter
from typing import Final

from brokerkit_conformance.actors import Actor
from brokerkit_conformance.bench import Bench, check
from brokerkit_conformance.casebook import case, without
from brokerkit_conformance.cases._crashing import DEEDS, Doomed, control_of
from brokerkit_conformance.model import Unclaimed

_PATIENCE: Final = 12.0
"""Real seconds after which a process that does not go on counts as hanging."""


@case("FLT-03", crowd=True)
def restart_under_load(bench: Bench) -> None:
    """Two senders, two slower consumers, and an orderly restart: what was confirmed is handled, by the same processes."""
    bench.private(doomed=True)
    control = control_of(bench)
    queue = bench.queue()
    consumers = [bench.actor("run", queue, seconds=0.008, prefetch=10) for _ in range(2)]
    senders = [bench.actor(f"{DEEDS}:fill", queue, pause=0.005) for _ in range(2)]
    for actor in (*consumers, *senders):
        actor.wait_for("ready" if actor in consumers else "sent", count=1 if actor in consumers else 50)
    before = {actor.pid: len(actor.events("handled")) + len(actor.events("sent")) for actor in (*consumers, *senders)}
    control.restart()
    for sender in senders:  # who gives up by a typed error has ended in order
        bench.wait_until(
            lambda s=sender: len(s.events("sent")) > before[s.pid] + 10 or s.events("failed"),  # type: ignore[misc]
            within=_PATIENCE,
            what="a sender goes on after the restart",
        )
    for sender in senders:
        sender.kill()
    for consumer in consumers:
        consumer.wait_for("handled", count=before[consumer.pid] + 5, within=_PATIENCE)
    confirmed = {event["id"] for sender in senders for event in sender.events("sent")} | {
        bench.broker.send(queue, b"x")
    }
    what = f"all {len(confirmed)} confirmed messages are handled after the restart"
    bench.wait_until(lambda: confirmed <= set(_handled(consumers)), within=_PATIENCE + bench.lease, what=what)
    bench.measured["confirmed"] = len(confirmed)
    bench.measured["handled again"] = len(_handled(consumers)) - len(set(_handled(consumers)))
    bench.measured["senders that gave up"] = sum(bool(sender.events("failed")) for sender in senders)


@case("FLT-13", crowd=True)
def restart_while_idle(bench: Bench) -> None:
    """A consumer that waits at an empty queue while the server restarts gets the first message that is sent after it."""
    bench.private(doomed=True)
    control = control_of(bench)
    queue = bench.queue()
    idle = bench.actor("run", queue, seconds=0.0)
    idle.wait_for("ready")
    first = bench.broker.send(queue, b"before")
    check(idle.wait_for("handled")["id"] == first, "another message came")
    control.restart()
    began = time.monotonic()
    second = bench.broker.send(queue, b"after")
    check(idle.wait_for("handled", count=2, within=_PATIENCE)["id"] == second, "another message came")
    bench.measured["first message after"] = time.monotonic() - began


@case("FLT-04", crowd=True)
def confirmed_survive_a_kill(bench: Bench) -> None:
    """What was confirmed before a kill is there after it, once, whoever held it; what was acked is not."""
    doomed = Doomed(bench)
    queue = _declared(bench)
    sender = doomed.deed("fill", queue, pause=0.015)
    sender.wait_for("sent", count=40)
    acking = doomed.actor("consume", queue, count=15, do="ack", then="hang", prefetch=15)
    holding = doomed.actor("consume", queue, count=5, do="hold", prefetch=10)
    acking.wait_for("ready")
    holding.wait_for("ready")
    doomed.kill()
    doomed.start()
    confirmed = [event["id"] for event in sender.events("sent")]
    acked = {event["id"] for event in acking.events("acked")}
    bench.let_pass(bench.past_lease())
    came = Counter(delivery.id for delivery in bench.collect(queue))
    lost = set(confirmed) - acked - set(came)
    check(not lost, f"of {len(confirmed)} confirmed messages {len(lost)} are lost by a kill")
    check(max(came.values()) == 1, "a message came twice after a kill")
    check(not acked & set(came) or bench.capabilities.settle == "sent", "a message that was acked came after the kill")
    check(len(set(came) - set(confirmed)) <= 1, "more than the one that was under way came without a confirmation")
    bench.measured["confirmed"] = len(confirmed)


@case("FLT-05", crowd=True)
def loss_as_declared(bench: Bench) -> None:
    """Killed while it stores, it comes up at once, with nothing torn, and has lost no more than it declares."""
    doomed = Doomed(bench)
    queue = bench.name()
    sender = doomed.deed("fill", queue, pause=0.003)
    sender.wait_for("sent", count=50)
    doomed.kill()
    doomed.start()
    confirmed, found = _found_after(bench, queue, sender)
    lost = set(confirmed) - set(found)
    check(not (lost and bench.capabilities.durability.kill), f"{len(lost)} of {len(confirmed)} are lost by a kill")
    check(max(found.values(), default=1) == 1, "a message came twice after a kill")
    check(len(set(found) - set(confirmed)) <= 1, "messages came that nobody sent")
    bench.measured["lost"] = f"{len(lost)} of {len(confirmed)}"


@without("durable")
def a_kill_loses(bench: Bench) -> None:
    """An engine that does not claim to survive a kill comes up all the same; and does not survive it after all."""
    doomed = Doomed(bench)
    queue = bench.name()
    sender = doomed.deed("fill", queue, pause=0.003)
    sender.wait_for("sent", count=50)
    doomed.kill()
    doomed.start()
    confirmed, found = _found_after(bench, queue, sender)
    if set(confirmed) <= set(found):
        raise Unclaimed(f"all {len(confirmed)} messages are there after a kill, yet durability.kill is not claimed")


def _declared(bench: Bench) -> str:
    """Return a queue that was declared by a broker which is closed again, so that nobody has an embedded engine open."""
    with bench.connect() as broker:
        broker.declare(queue := bench.name())
        bench.remember(queue, broker=broker)
    return queue


def _handled(consumers: list[Actor]) -> list[str]:
    return [event["id"] for consumer in consumers for event in consumer.events("handled")]


def _found_after(bench: Bench, queue: str, sender: Actor) -> tuple[list[str], Counter[str]]:
    """Let a new process look; fail if it hangs. Returns the ids that were confirmed, and those that it found."""
    began = time.monotonic()
    looking = bench.actor(f"{DEEDS}:look", queue)
    looking.wait_for("works")
    bench.measured["works again after"] = time.monotonic() - began
    found = looking.events("found")
    check(all(event["whole"] for event in found), "a message is torn by the kill")
    return [event["id"] for event in sender.events("sent")], Counter(event["id"] for event in found)
