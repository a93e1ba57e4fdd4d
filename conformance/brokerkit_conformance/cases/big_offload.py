"""BIG-07: what a plugin stores of a large body goes with its message, wherever it keeps it."""

from __future__ import annotations

from typing import Final

from brokerkit_conformance.bench import Bench, check
from brokerkit_conformance.casebook import case

_LARGE: Final = 1 << 20


@case("BIG-07")
def large_bodies_leave_nothing(bench: Bench) -> None:
    """Large bodies come whole, and once they are acked, purged or deleted with their queue, nothing of them is on the server.

    The contract knows no place beside the message; a plugin that keeps large bodies elsewhere has to clean up there, too.
    """
    bench.private()
    storage = bench.storage()
    limit = bench.capabilities.max_message
    size = _LARGE if limit is None else min(_LARGE, limit // 2)
    queues = {what: bench.queue(what) for what in ("acked", "purged", "deleted")}
    for queue in queues.values():  # what is there for as long as the queue is
        bench.broker.send(queue, b"small")
        bench.expect(bench.consumer(queue)).ack(wait=True)
    empty = storage.everything()
    for queue in queues.values():
        bench.broker.send_many(queue, [bytes([n]) * size for n in range(3)])
    check(storage.everything() > empty, "three large bodies in each of three queues are no key on the server")
    consumer = bench.consumer(queues["acked"])
    sent = {bytes([n]) * size for n in range(3)}
    while sent:
        delivery = bench.expect(consumer)
        check(delivery.body in sent, f"a body of {size} bytes came as another one, or twice")
        sent.remove(delivery.body)
        delivery.ack(wait=True)
    bench.silent(queues["acked"], consumer, why="all were acked")
    check(bench.broker.purge(queues["purged"]) == 3, "not all were purged")  # noqa: PLR2004 - as many as were sent
    with bench.time.running():
        consumer.close()
    bench.broker.delete(queues["deleted"])
    left = sorted(storage.everything() - empty)
    check(not left, f"{len(left)} keys are left of large bodies that are gone, such as {left[:3]}")
    bench.measured["bytes of each"] = size
