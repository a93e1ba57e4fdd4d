"""Races between processes: one message for many, one declaration by many."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from typing import Final

from brokerkit import Broker
from brokerkit.errors import BrokerkitError
from brokerkit_conformance.bench import check
from brokerkit_conformance.inside import Orders
from brokerkit_conformance.trials.forking import ended_well, in_child

__all__ = ["declare", "race"]

_PATIENCE: Final = 10.0


def declare(orders: Orders) -> None:
    """Many processes make the same queue and binding at the same moment; each then sends one message."""
    queue, topic = orders.queues["q"], orders.settings["topic"]
    waiting, go = os.pipe()
    orders.connect().close()  # so that the plugin is imported once

    def child() -> None:
        with orders.connect() as broker:
            os.read(waiting, 1)
            broker.declare(queue, max_attempts=7)
            if topic:
                broker.bind(queue, topic, "a.#")
            broker.send(queue, b"x")

    pids = [in_child(child) for _ in range(orders.settings["processes"])]
    os.write(go, b"x" * len(pids))
    for pid in pids:
        ended_well(pid, 20.0)


def race(orders: Orders) -> None:
    """Processes wait for one message at a time: each is won by exactly one."""
    queue, count = orders.queues["q"], orders.settings["rounds"]
    reading, writing = os.pipe()
    stopping, stop = os.pipe()
    with orders.connect() as broker:
        broker.declare(queue)

    def child() -> None:
        os.close(stop)
        with orders.connect() as broker:
            _take(broker, queue, lambda line: os.write(writing, line), stopping)

    pids = [in_child(child) for _ in range(orders.settings["processes"])]
    os.close(stopping)
    with orders.connect() as broker:
        for round_ in range(count):
            sent = broker.send(queue, b"x")
            won = _line(reading, _PATIENCE)
            check(won == sent, f"round {round_}: {sent} was sent, and a process took {won or 'nothing'}")
    os.close(stop)
    for pid in pids:
        ended_well(pid, 20.0)
    extra = _line(reading, 0.0)
    check(not extra, f"another process took {extra} as well")


def _take(broker: Broker, queue: str, tell: Callable[[bytes], object], stopping: int) -> None:
    with broker.consumer(queue, prefetch=1) as consumer:
        while not select.select([stopping], [], [], 0)[0]:
            try:
                delivery = consumer.receive(0.3)
            except BrokerkitError as error:
                raise AssertionError(f"a taker failed: {error}") from error
            if delivery is not None:
                delivery.ack(wait=True)
                tell(f"{delivery.id}\n".encode())


def _line(reading: int, within: float) -> str:
    """Return the next line of a pipe, or nothing. Lines are written whole."""
    line, end = b"", time.monotonic() + within
    while not line.endswith(b"\n"):
        if not select.select([reading], [], [], max(end - time.monotonic(), 0.0))[0]:
            return line.decode()
        line += os.read(reading, 1)
    return line.decode().rstrip()
