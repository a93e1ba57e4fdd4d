"""What this process knows about records that were there: so that one which is gone is told from one that never was."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final, final

from brokerkit.abc import Clock

__all__ = ["MAX_KNOWN", "Known"]

MAX_KNOWN: Final = 10_000

_FORGOTTEN: Final = -1.0


@final
class Known:
    """Keys that this process stored, saw or forgot: the last 10,000, so that it does not grow. Thread-safe.

    A key that falls out is unknown again: only the reason of its absence gets lost. `PendingResult`s remember for
    themselves that their record was there.
    """

    def __init__(self, clock: Clock, limit: int = MAX_KNOWN) -> None:
        self._clock = clock
        self._limit = limit
        self._until: OrderedDict[str, float | None] = OrderedDict()
        self._lock = threading.Lock()

    def note(self, key: str, until: float | None) -> None:
        """Remember that there is a record, and when its time to live ends: seconds since the epoch, None for never."""
        with self._lock:
            self._until[key] = until
            self._until.move_to_end(key)
            if len(self._until) > self._limit:
                self._until.popitem(last=False)

    def forget(self, key: str) -> None:
        """Remember that the record was deleted on purpose."""
        self.note(key, _FORGOTTEN)

    def reason(self, key: str) -> str | None:
        """Return why a record that is not there is gone: "forgotten", "expired" or "unknown"; None if it is not known."""
        with self._lock:
            if key not in self._until:
                return None
            until = self._until[key]
        if until == _FORGOTTEN:
            return "forgotten"
        return "expired" if until is not None and until <= self._clock.time() else "unknown"
