"""A thread with an event loop, for control by ordinary code."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

__all__ = ["HANG", "LoopThread"]

HANG: Final = 20.0
"""Seconds after which what should have happened at once counts as hanging."""

_Result = TypeVar("_Result")


class LoopThread:
    """Runs coroutines in a thread of its own. Thread-safe.

    Attributes:
        loop: the event loop.
    """

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, _Result], *, within: float = HANG) -> _Result:
        """Run a coroutine there, and return what it returns.

        Raises:
            TimeoutError: it did not end in time.
        """
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(within)

    def close(self) -> None:
        """Stop the loop; idempotent. What still runs there is cancelled."""
        if self.loop.is_closed():
            return
        self.call(_cancel_others())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(HANG)
        self.loop.close()


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
