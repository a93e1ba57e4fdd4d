"""Who waits for which records, and when they are looked at next."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, TypeAlias, final

from brokerkit.errors import BrokerkitError
from brokerkit.models import Record

__all__ = ["Answer", "Rhythm", "Ticket", "Waiter"]

_FIRST_PAUSE: Final = 0.001
_LAST_PAUSE: Final = 0.05
_GROWTH: Final = 1.5
_FEW: Final = 500  # keys that cost next to nothing to look at again
_PAUSE_PER_KEY: Final = 1e-5  # seconds for each of more keys, so that no store is asked for more than 100,000 a second
_LONGEST_PAUSE: Final = 1.0

Answer: TypeAlias = Record | BrokerkitError | None
"""What ended a wait: the record, an error, or None for a record that is gone."""


@final
class Waiter:
    """One waiting thread, with a ticket for each record that it waits for. Guarded by the lock of its condition.

    Attributes:
        condition: what the thread sleeps on.
        number: later ones have higher numbers.
        asleep: whether it sleeps now.
        tickets: by key, those that have not ended.
        unlooked: how many of them nobody has looked for yet.
        ended: keys with their answers, not fetched yet.
    """

    __slots__ = ("asleep", "condition", "ended", "number", "tickets", "unlooked")

    def __init__(self, lock: threading.Lock, number: int, keys: Iterable[tuple[str, bool]]) -> None:
        self.condition = threading.Condition(lock)
        self.number = number
        self.asleep = False
        self.tickets = {key: Ticket(key, known, self) for key, known in keys}
        self.unlooked = len(self.tickets)
        self.ended: deque[tuple[str, Answer]] = deque()

    def fetch(self) -> list[tuple[str, Answer]]:
        """Return what has ended since the last time."""
        fetched = list(self.ended)
        self.ended.clear()
        return fetched


@final
@dataclass(slots=True, eq=False)
class Ticket:
    """One awaited record of one waiter. `known`: there is or was a record, so its absence means that it is lost."""

    key: str
    known: bool
    waiter: Waiter
    looked: bool = False
    done: bool = False

    def look(self) -> None:
        """Note that somebody has looked for its record."""
        if not self.looked:
            self.looked = True
            self.waiter.unlooked -= 1

    def end(self, answer: Answer) -> None:
        """Hand its answer to the waiter, and wake it."""
        self.look()
        self.done = True
        del self.waiter.tickets[self.key]
        self.waiter.ended.append((self.key, answer))
        self.waiter.condition.notify_all()


@final
@dataclass(slots=True)
class Rhythm:
    """When the leader looks next: soon after something happened, ever later while nothing does, and later for many keys."""

    next_look: float = field(default=float("-inf"))
    pause: float = _FIRST_PAUSE
    fresh: bool = False  # somebody came since the last look began

    def hurry(self) -> None:
        """Somebody came: look at once."""
        self.next_look = float("-inf")
        self.pause = _FIRST_PAUSE
        self.fresh = True

    def looked(self, now: float, keys: int, *, progress: bool) -> None:
        """A look at so many keys ended, of a store that is polled."""
        if self.fresh:
            return
        self.next_look = now + max(self.pause, _rest(keys))
        self.pause = max(self.pause / 2, _FIRST_PAUSE) if progress else min(self.pause * _GROWTH, _LAST_PAUSE)

    def woken(self, now: float, keys: int) -> None:
        """A store that wakes waiters has told of a change; looking on at many keys waits for more of them to change."""
        if not self.fresh and keys > _FEW:
            self.next_look = now + _rest(keys)


def _rest(keys: int) -> float:
    return min(keys * _PAUSE_PER_KEY, _LONGEST_PAUSE) if keys > _FEW else 0.0
