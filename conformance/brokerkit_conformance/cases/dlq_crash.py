"""DLQ over a crash: a message on its way to the dead queue is in both queues at worst, never in neither."""

from __future__ import annotations

from typing import Final

from brokerkit_conformance.bench import Bench, check
from brokerkit_conformance.casebook import case
from brokerkit_conformance.cases._crashing import DEEDS
from brokerkit_conformance.faults import sigkill
from brokerkit_conformance.model import NotRun

_CALLS: Final = 3


@case("DLQ-04", crowd=True)
def killed_while_burying(bench: Bench) -> None:
    """A consumer is killed before each call by which it dead-letters: the message is never lost, and keeps its id.

    Its calls are the copy into the dead queue, the copy again once that queue is declared, and the settlement.
    """
    kill = bench.capabilities.redelivery.kill
    if kill is None:
        raise NotRun("the engine declares no redelivery after a kill")
    queues = [bench.queue(f"q{calls}") for calls in range(_CALLS)]
    sent = [bench.broker.send(queue, b"broken", headers={"name": "value"}) for queue in queues]
    actors = [bench.actor(f"{DEEDS}:bury", queue, calls=calls) for calls, queue in enumerate(queues)]
    for actor in actors:
        actor.wait_for("at the point")
    for actor in actors:
        sigkill(actor)
    before = [[letter.id for letter in bench.dead_letters(queue)] for queue in queues]
    bench.measured["dead letters at the kill"] = ", ".join(str(len(letters)) for letters in before)
    bound = kill + bench.slack + (bench.lease if bench.capabilities.lease.scope == "message" else 0)
    for calls, (queue, message_id, seen) in enumerate(zip(queues, sent, before, strict=True)):
        consumer = bench.consumer(queue)
        delivery = bench.expect(
            consumer, within=bound, what=f"the message whose burial was cut short before call {calls}"
        )
        check(delivery.id == message_id, "another message came")
        delivery.dead_letter("broken", "by the next consumer")
        letters = bench.dead_letters(queue)
        check(len(letters) >= max(len(seen), 1), f"call {calls}: it is not in the dead queue")
        check({letter.id for letter in letters} | set(seen) == {message_id}, f"call {calls}: dead letters of other ids")
        check(all(letter.body == b"broken" for letter in letters), "the dead letter is not the message")
        check(all(letter.headers.get("name") == "value" for letter in letters), "the dead letter lost its headers")
        bench.silent(queue, consumer, why="it is dead")
