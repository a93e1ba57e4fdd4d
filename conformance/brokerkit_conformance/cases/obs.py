"""OBS: what a user sees of the engine's life: logs, starts and stops, the way to the plugin's own object."""

from __future__ import annotations

import logging

from brokerkit.errors import Closed
from brokerkit_conformance.bench import Bench, check
from brokerkit_conformance.casebook import case
from brokerkit_conformance.cases._refused import refused


class _Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno > logging.INFO:
            self.texts.append(f"{record.levelname} {record.name}: {record.getMessage()}")


@case("OBS-02", alone=True)
def quiet_when_all_is_well(bench: Bench) -> None:
    """While all goes well nothing is logged above INFO."""
    logger, own, handler = logging.getLogger(), logging.getLogger("brokerkit"), _Records()
    level = own.level
    own.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    try:
        queue = bench.queue()
        bench.broker.send_many(queue, [b"x"] * 20)
        consumer = bench.consumer(queue)
        for _ in range(20):
            with bench.expect(consumer) as delivery:
                check(delivery.body == b"x", "another body came")
        bench.silent(queue, consumer, why="all was settled")
        bench.broker.purge(queue)
        bench.broker.delete(queue)
    finally:
        logger.removeHandler(handler)
        own.setLevel(level)
    check(not handler.texts, f"it logged {handler.texts[:3]}")


@case("OBS-05")
def stop_and_start(bench: Bench) -> None:
    """After a consumer was stopped and closed, and after the broker was, a new one consumes what came meanwhile."""
    queue = bench.queue()
    broker = bench.connect()
    for round_ in range(3):
        consumer = broker.consumer(queue)
        sent = bench.broker.send(queue, b"x")
        delivery = bench.expect(consumer)
        check(delivery.id == sent, f"in round {round_} came another message")
        delivery.ack(wait=True)
        consumer.stop()
        with bench.time.running():
            consumer.close()
            if round_ == 1:
                broker.close()
                broker = bench.connect()
    bench.silent(queue, why="all was settled")


@case("OBS-07")
def escape_hatch(bench: Bench) -> None:
    """The plugin's own object can be had, and works; after close it is refused."""
    broker = bench.connect()
    queue = bench.queue(broker=broker)
    broker.transport.purge(queue, timeout=5.0)
    check(broker.transport.capabilities == broker.capabilities, "the plugin's own object is another one")
    broker.close()
    refused(lambda: broker.transport, Closed, "the plugin's object after close")
