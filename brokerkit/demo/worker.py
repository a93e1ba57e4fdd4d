"""A worker process of the demonstration: `python -m brokerkit.demo.worker`, told its errand on stdin.

It handles orders until SIGTERM, or until its stdin ends because the demonstration died. Each step of each order is a line in
its own log, written at once, so that the account holds even if it is killed.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from typing import Final, final

from brokerkit._clock import SYSTEM_CLOCK, sleep
from brokerkit._events import Event
from brokerkit.broker import connect
from brokerkit.delivery import Delivery
from brokerkit.demo.logbook import DONE, LATE, LOST, READY, STARTED, line
from brokerkit.demo.plan import Errand, receipt_of
from brokerkit.errors import LeaseLost
from brokerkit.results import ResultStore, State, results

__all__ = ["SpoiltOrder", "Worker", "main"]

_SLOW_SECONDS: Final = 0.03


class SpoiltOrder(Exception):
    """No worker can handle this order."""


@final
class Worker:
    """Handles orders one by one, and logs each step."""

    def __init__(self, errand: Errand, store: ResultStore) -> None:
        self._errand = errand
        self._store = store
        self._log = os.open(errand.log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def log(self, step: str, delivery_id: str, order: int = -1, attempt: int | None = None) -> None:
        """Append one line, in one write: it is whole or not there."""
        os.write(self._log, line(step, delivery_id, order, attempt))

    def heard(self, event: Event) -> None:
        """Log what brokerkit tells: a lease that was lost, or an ack that came too late."""
        if event.name == "lease_lost" and event.message_id is not None:
            self.log(LATE if event.reason == "the ack came too late" else LOST, event.message_id)

    def handle(self, delivery: Delivery) -> None:
        """Handle one order: compute its receipt, store that as the result, ack."""
        order = delivery.payload
        number, attempt = order["order"], delivery.attempt
        self.log(STARTED, delivery.id, number, attempt)
        if order["poison"]:
            self._spoilt(order, attempt)
        if order["slow"]:
            sleep(SYSTEM_CLOCK, _SLOW_SECONDS)
        self._store.set_result(order["result"], receipt_of(number, order["item"]))
        self.log(DONE, delivery.id, number, attempt)
        try:
            delivery.ack()
        except LeaseLost:
            self.log(LATE, delivery.id, number, attempt)

    def _spoilt(self, order: dict[str, str], attempt: int | None) -> None:
        error = SpoiltOrder(f"order {order['order']} is spoilt")
        if attempt is not None and attempt >= self._errand.max_attempts:
            self._store.set_exception(order["result"], error)
        else:
            self._store.set_state(order["result"], State.RETRY)
        raise error


def main() -> None:
    """Read the errand and work."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    errand = Errand.read(sys.stdin.readline())
    threading.Thread(target=_end_with_the_parent, name="watch-stdin", daemon=True).start()
    with results(errand.results) as store:
        worker = Worker(errand, store)
        with connect(errand.broker, on_event=worker.heard, retry_delay=0.1) as broker:
            broker.declare(errand.queue, max_attempts=errand.max_attempts)
            consumer = broker.consumer(
                errand.queue, prefetch=errand.prefetch, visibility_timeout=errand.visibility_timeout
            )
            worker.log(READY, "-")
            consumer.run(worker.handle)


def _end_with_the_parent() -> None:
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
