"""Forks: none while a connection to a file is open in this process.

The SQLite library keeps in the process's memory which locks it holds on a file. A child that inherits this believes that
it holds locks which are its parent's alone: it waits for ever for a transaction that was under way, and when the parent
closes the file the log that the child writes to is removed under it, with all it has written since. So before a fork every
connection is closed, between two calls; parent and child each open a new one when they next need it.
"""

from __future__ import annotations

import os
import time
from threading import Lock
from typing import Final, Protocol
from weakref import WeakSet

__all__ = ["Restful", "watch"]

_PATIENCE: Final = 5.0
"""Seconds that all calls under way get to end: then a fork goes on as it would without us, rather than never."""


class Restful(Protocol):
    """What has a connection to a file.

    Attributes:
        lock: held by whoever uses the connection.
    """

    lock: Lock

    def rest(self) -> None:
        """Close the connection, to open another one at the next use. The caller holds the lock."""
        ...


_watched: Final[WeakSet[Restful]] = WeakSet()
_resting: Final[list[Restful]] = []


def watch(restful: Restful) -> None:
    """Let it rest before each fork, as long as it lives."""
    _watched.add(restful)


def _before() -> None:
    end = time.monotonic() + _PATIENCE
    for restful in list(_watched):
        if restful.lock.acquire(timeout=max(end - time.monotonic(), 0.0)):
            _resting.append(restful)
            restful.rest()


def _after() -> None:
    while _resting:
        _resting.pop().lock.release()


os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after)
