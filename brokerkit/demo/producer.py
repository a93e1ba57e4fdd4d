"""The producer: a thread that reserves the results and sends the orders."""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import Final, final

from brokerkit.broker import Broker
from brokerkit.demo.plan import Plan
from brokerkit.errors import BrokerkitError
from brokerkit.results import PendingResult, ResultStore

__all__ = ["Producer"]

_BATCH: Final = 250
_SINGLY: Final = 25
"""Of each batch, so many orders are sent one by one."""


@final
class Producer(threading.Thread):
    """Sends all orders of a plan.

    Attributes:
        sent: orders that the broker accepted so far.
        pending: (number, pending result) of each order, in the order of sending; None at the end.
        troubles: what went wrong.
        ended: whether it has come to its end.
    """

    def __init__(self, broker: Broker, store: ResultStore, plan: Plan) -> None:
        super().__init__(name="producer", daemon=True)
        self.sent = 0
        self.pending: SimpleQueue[tuple[int, PendingResult] | None] = SimpleQueue()
        self.troubles: list[str] = []
        self.ended = False
        self._broker = broker
        self._store = store
        self._plan = plan
        self._stopping = False

    def stop(self) -> None:
        """Send no more than the batch under way."""
        self._stopping = True

    def run(self) -> None:
        """Send all, batch by batch."""
        try:
            for first in range(0, self._plan.orders, _BATCH):
                if self._stopping:
                    break
                self._send(range(first, min(first + _BATCH, self._plan.orders)))
        except BrokerkitError as error:
            self.troubles.append(f"the producer stopped: {error}")
        finally:
            self.ended = True
            self.pending.put(None)

    def _send(self, numbers: range) -> None:
        plan, queue = self._plan, self._plan.queue
        for number in numbers:
            self.pending.put((number, self._store.reserve(plan.result_id(number))))
        for number in numbers[:_SINGLY]:
            self._broker.send(queue, plan.order(number))
            self.sent += 1
        rest = numbers[_SINGLY:]
        if rest:
            self.sent += len(self._broker.send_many(queue, map(plan.order, rest)))
