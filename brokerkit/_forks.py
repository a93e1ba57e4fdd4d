"""Forks: in a child, everything that was made before the fork is replaced before it is used again.

A socket, a file or a lock must not be shared by two processes. The inherited driver is neither used nor closed in the
child, since even closing it would talk over the parent's connection; it is kept alive and forgotten.
"""

from __future__ import annotations

import os
from typing import Final, Protocol
from weakref import WeakSet

__all__ = ["Forkable", "abandon", "watch"]


class Forkable(Protocol):
    """What wants to know that it lives in a child now."""

    def after_fork(self) -> None:
        """Replace locks and drivers. Runs in the child, before anything else there."""
        ...


_watched: Final[WeakSet[Forkable]] = WeakSet()
_abandoned: Final[list[object]] = []


def watch(forkable: Forkable) -> None:
    """Call the object's `after_fork` in every child, as long as it lives."""
    _watched.add(forkable)


def abandon(inherited: object) -> None:
    """Keep an inherited driver from being collected, and thereby closed, in the child."""
    _abandoned.append(inherited)


def _after_fork() -> None:
    for forkable in list(_watched):
        forkable.after_fork()


os.register_at_fork(after_in_child=_after_fork)
