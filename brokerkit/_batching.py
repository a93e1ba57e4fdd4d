"""Group commit: single sends of many threads share one call where each commit costs a flush of the disk.

Flat combining: whoever gets the turn sends for all who wait. A lone caller pays for two locks; there is no thread, no
linger, and nothing is acknowledged before it is stored.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import final

from brokerkit.errors import OutcomeUnknown
from brokerkit.models import Message, Outcome

__all__ = ["Combiner"]


class _Waiting:
    __slots__ = ("done", "error", "message", "outcome")

    def __init__(self, message: Message) -> None:
        self.message = message
        self.done = False
        self.outcome: Outcome = None
        self.error: Exception | None = None


@final
class Combiner:
    """Combines the single sends to one queue. Thread-safe."""

    def __init__(self, send: Callable[[Sequence[Message], float], Sequence[Outcome]], max_batch: int) -> None:
        self._send = send
        self._max_batch = max_batch
        self._turn = threading.Lock()
        self._waiting: deque[_Waiting] = deque()

    def send(self, message: Message, timeout: float) -> Outcome:
        """Send one message, alone or with those of other threads, and return its own outcome.

        Raises:
            Exception: what the driver raised for the whole call that carried it.
        """
        mine = _Waiting(message)
        self._waiting.append(mine)
        with self._turn:
            while not mine.done:  # oldest first, so at the latest when all before it are sent
                self._send_batch(timeout)
        if mine.error is not None:
            raise mine.error
        return mine.outcome

    def _send_batch(self, timeout: float) -> None:
        batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._max_batch))]
        error: Exception | None = OutcomeUnknown("the thread that was sending this was interrupted")
        outcomes: Sequence[Outcome] = ()
        try:
            outcomes = self._send([waiting.message for waiting in batch], timeout)
            error = None
        except Exception as caught:  # noqa: BLE001 - handed to each caller
            error = caught
        finally:  # also when this thread is interrupted: the others must neither hang nor believe that it was stored
            for i, waiting in enumerate(batch):
                waiting.outcome = None if error else outcomes[i]
                waiting.error = error
                waiting.done = True
