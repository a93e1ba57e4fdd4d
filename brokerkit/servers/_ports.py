"""Free loopback ports that stay ours: 20000 to 29999, a slice for each pytest worker, each port held by a lock file.

The range lies below the ports that Linux (from 32768) and macOS (from 49152) give to outgoing connections, so that a killed
server finds its port free again when it restarts.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import re
import socket
import tempfile
from pathlib import Path
from typing import Final, final

from brokerkit.servers.errors import ServerFailed

__all__ = ["Ports"]

_FIRST: Final = 20000
_SLICE: Final = 1000
_SLICES: Final = 10

# Two servers of one run never try the same port first, and two runs start at different places.
_turn = itertools.count(os.getpid() * 37)


@final
class Ports:
    """Ports for one server. Each is free when it is taken, and no other server of this user takes it until `release`.

    The lock file is the promise between runs; whoever else takes the port is found by trying to bind it. Not thread-safe:
    it belongs to one server.
    """

    def __init__(self) -> None:
        self._locks: list[int] = []

    def take(self) -> int:
        """Return a port that nobody listens on.

        Raises:
            ServerFailed: all ports of this worker's slice are in use.
        """
        first = _FIRST + _SLICE * (_worker() % _SLICES)
        for _ in range(_SLICE):
            port = first + next(_turn) % _SLICE
            lock = _lock(port)
            if lock is None:
                continue
            if _bindable(port):
                self._locks.append(lock)
                return port
            os.close(lock)
        raise ServerFailed(f"no free port between {first} and {first + _SLICE - 1}")

    def release(self) -> None:
        """Let others have the ports. May be called twice."""
        while self._locks:
            os.close(self._locks.pop())


def _worker() -> int:
    """The number in pytest-xdist's name for this worker, gw0 or gw7; 0 without workers."""
    digits = re.search(r"\d+", os.environ.get("PYTEST_XDIST_WORKER", ""))
    return int(digits[0]) if digits else 0


def _lock(port: int) -> int | None:
    """Lock a port against the other servers of this user; the lock goes with this process at the latest."""
    folder = Path(tempfile.gettempdir()) / f"brokerkit-ports-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    file = os.open(folder / str(port), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        return None
    return file


def _bindable(port: int) -> bool:
    """Whether the port is free on all addresses of this machine: a server on 0.0.0.0 would be in our way as well."""
    for host in ("127.0.0.1", ""):
        with socket.socket() as probe:
            try:
                probe.bind((host, port))
            except OSError:
                return False
    return True
