"""What this process knows about records that were there: so that one which is gone is told from one that never was."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
        self._leaving: dict[str, int] = {}
        self._forgets = 0
        self._forgotten_at: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()

    def note(self, key: str, until: float | None) -> None:
        """Remember that there is a record, and when its time to live ends: seconds since the epoch, None for never."""
        with self._lock:
            if key not in self._leaving:
                self._note(key, until)

    @contextmanager
    def forgetting(self, keys: Sequence[str]) -> Iterator[None]:
        """Remember that records are about to be deleted on purpose, which is done within, if they are known at all.

        Meanwhile nothing else is noted of them: what somebody read before it was deleted may arrive after it.
        """
        with self._lock:
            for key in keys:
                self._leaving[key] = self._leaving.get(key, 0) + 1
                if key in self._until:
                    self._note(key, _FORGOTTEN)
        try:
            yield
        finally:
            with self._lock:
                for key in keys:
                    self._leaving[key] -= 1
                    if not self._leaving[key]:
                        del self._leaving[key]

    def forget(self, key: str) -> None:
        """Remember that the record was deleted on purpose."""
        with self._lock:
            self._note(key, _FORGOTTEN)
            self._forgets += 1
            self._forgotten_at[key] = self._forgets
            self._forgotten_at.move_to_end(key)
            if len(self._forgotten_at) > self._limit:
                self._forgotten_at.popitem(last=False)

    def moment(self) -> int:
        """Return a mark of now, for `was_forgotten_since`."""
        return self._forgets

    def was_forgotten_since(self, key: str, moment: int) -> bool:
        """Tell whether this process has deleted the record since: what a read says that began before is out of date."""
        return moment != self._forgets and self._forgotten_at.get(key, 0) > moment

    def _note(self, key: str, until: float | None) -> None:
        self._until[key] = until
        self._until.move_to_end(key)
        if len(self._until) > self._limit:
            self._until.popitem(last=False)

    def reason(self, key: str) -> str | None:
        """Return why a record that is not there is gone: "forgotten", "expired" or "unknown"; None if it is not known."""
        with self._lock:
            if key not in self._until:
                return None
            until = self._until[key]
        if until == _FORGOTTEN:
            return "forgotten"
        return "expired" if until is not None and until <= self._clock.time() else "unknown"
