"""Awaiting: a thread that waits for each order's result, and checks it."""

from __future__ import annotations

import threading
from typing import Final, final

from brokerkit.demo.plan import Plan, receipt_of
from brokerkit.demo.producer import Producer
from brokerkit.errors import BrokerkitError, RemoteFailure
from brokerkit.results import PendingResult

__all__ = ["Awaiting"]

_MOST_TROUBLES: Final = 3


@final
class Awaiting(threading.Thread):
    """Waits for the results, in the order of sending.

    Attributes:
        finished: results that were waited for.
        right: of these, those that are what they should be.
        troubles: some of what was wrong with the others.
        ended: whether it has come to its end.
    """

    def __init__(self, producer: Producer, plan: Plan) -> None:
        super().__init__(name="awaiting", daemon=True)
        self.finished = 0
        self.right = 0
        self.troubles: list[str] = []
        self.ended = False
        self._producer = producer
        self._plan = plan

    def run(self) -> None:
        """Wait for all."""
        try:
            while (reserved := self._producer.pending.get()) is not None:
                wrong = self._wrong(*reserved)
                self.finished += 1
                if wrong is None:
                    self.right += 1
                elif len(self.troubles) < _MOST_TROUBLES:
                    self.troubles.append(wrong)
        finally:
            self.ended = True

    def _wrong(self, number: int, pending: PendingResult) -> str | None:
        """Return what is wrong with a result; None if it is as it should be."""
        order = self._plan.order(number)
        try:
            value = pending.result(self._plan.patience)
        except RemoteFailure as error:
            return None if order["poison"] else f"order {number} failed: {error}"
        except BrokerkitError as error:
            return f"the result of order {number} did not come: {error}"
        if order["poison"]:
            return f"spoilt order {number} has a result"
        return None if value == receipt_of(number, order["item"]) else f"order {number} has another result"
