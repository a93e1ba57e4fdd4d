"""Waking receivers: at once by what this process writes, within a few milliseconds by what other processes write.

SQLite cannot tell a waiting process that another one wrote. `PRAGMA data_version` can be asked, for a few microseconds,
whether any other connection did; of all the receivers of one file in this process, one asks for all.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeAlias, final

from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.pool import PoolProxiedConnection

from brokerkit.abc import Clock
from brokerkit_sqlalchemy import forks

__all__ = ["Waiter", "Watch", "watch_of"]

_Connect: TypeAlias = Callable[[], PoolProxiedConnection]
_FIRST_LOOK: Final = 0.001


@final
class Waiter:
    """One receiver's place in a `Watch`. `stirred` says that something may have come since it was last cleared."""

    def __init__(
        self,
        watch: Watch,
        names: Sequence[str],
        clock: Clock,
        *,
        connect: _Connect | None,
        longest_pause: float,
    ) -> None:
        """Join a watch.

        Args:
            watch: of the database.
            names: the receiver's queues.
            clock: by which it waits.
            connect: opens the connection on which to ask; None where no other process can write.
            longest_pause: seconds between two questions, at most.
        """
        self.watch = watch
        self.names = frozenset(names)
        self.clock = clock
        self.connect = connect
        self.longest_pause = longest_pause
        self.condition = threading.Condition(watch.lock)
        self.stirred = False
        self.closed = False
        self.pause = _FIRST_LOOK
        watch.join(self)

    def wait(self, timeout: float) -> None:
        """Wait until stirred, closed or `timeout` seconds have passed."""
        self.watch.wait(self, timeout)

    def is_awake(self) -> bool:
        """Tell whether there is no reason to wait."""
        return self.stirred or self.closed

    def was_fed(self) -> None:
        """Ask often again: where messages came, more will."""
        self.pause = _FIRST_LOOK

    def close(self) -> None:
        """End a wait under way, and leave the watch."""
        self.watch.leave(self)


@final
class Watch:
    """All receivers of one database in this process. Thread-safe."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._waiters: set[Waiter] = set()
        self._asker: Waiter | None = None
        self._connection: PoolProxiedConnection | None = None
        self._cursor: DBAPICursor | None = None
        self._version = 0
        forks.watch(self)

    def join(self, waiter: Waiter) -> None:
        """Add a receiver."""
        with self.lock:
            self._waiters.add(waiter)

    def leave(self, waiter: Waiter) -> None:
        """Remove a receiver; the last one closes the connection."""
        with self.lock:
            waiter.closed = True
            waiter.condition.notify_all()
            self._waiters.discard(waiter)
            if not self._waiters:
                self._hang_up()

    def notify(self, names: Iterable[str]) -> None:
        """Wake the receivers of these queues."""
        if not self._waiters:  # a receiver that joins now looks before it waits
            return
        with self.lock:
            self._stir([waiter for waiter in self._waiters if not waiter.names.isdisjoint(names)])

    def renew(self) -> None:
        """Ask on a new connection from now on: the file was replaced, and the old connection would never see a change."""
        with self.lock:
            self._hang_up()

    def rest(self) -> None:
        """See `forks`. What others write until there is a new connection is not told by it, hence all look again."""
        self._hang_up()
        self._stir(self._waiters)

    def wait(self, waiter: Waiter, timeout: float) -> None:
        """Let a receiver wait; see `Waiter.wait`."""
        clock = waiter.clock
        with self.lock:
            end = clock.monotonic() + timeout
            try:
                while not waiter.is_awake() and (left := end - clock.monotonic()) > 0:
                    if waiter.connect is None or self._asker not in (None, waiter):
                        clock.wait(waiter.condition, left)
                        continue
                    self._asker = waiter
                    clock.wait(waiter.condition, min(left, waiter.pause))
                    waiter.pause = min(waiter.pause * 2, waiter.longest_pause)
                    if not waiter.is_awake() and self._others_wrote(waiter.connect):
                        self._stir(self._waiters)
            finally:
                self._resign(waiter)

    def _resign(self, waiter: Waiter) -> None:
        """Let another waiting receiver ask from now on."""
        if self._asker is waiter:
            self._asker = None
            for other in self._waiters:
                if other is not waiter:
                    other.condition.notify_all()

    def _stir(self, waiters: Iterable[Waiter]) -> None:
        for waiter in waiters:
            waiter.stirred = True
            waiter.condition.notify_all()

    def _others_wrote(self, connect: _Connect) -> bool:
        """Ask. What cannot be asked counts as yes: the receiver's own look then meets the error."""
        try:
            if self._cursor is None:
                self._connection = connect()
                self._cursor = self._connection.cursor()
            self._cursor.execute("PRAGMA data_version")
            version: int = self._cursor.fetchall()[0][0]
        except Exception:  # noqa: BLE001 - as said
            self._hang_up()
            return True
        changed, self._version = version != self._version, version
        return changed

    def _hang_up(self) -> None:
        connection, self._connection, self._cursor = self._connection, None, None
        if connection is not None:
            connection.close()


_watches: weakref.WeakValueDictionary[str, Watch] = weakref.WeakValueDictionary()
_watches_lock = threading.Lock()


def watch_of(path: str | None) -> Watch:
    """Return this process's watch of a file, or a new one for a database in memory."""
    if path is None:
        return Watch()
    with _watches_lock:
        return _watches.setdefault(os.path.realpath(path), Watch())


def _after_fork() -> None:
    """Start empty: the parent's receivers do not live here, and its lock may have been held."""
    global _watches, _watches_lock
    _watches, _watches_lock = weakref.WeakValueDictionary(), threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
