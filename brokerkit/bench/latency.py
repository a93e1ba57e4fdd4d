"""The latency cell: how long a message takes to an idle consumer in another process."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from time import monotonic_ns

from brokerkit._clock import SYSTEM_CLOCK, sleep
from brokerkit.bench.cells import Entrant, WorkNotDone

__all__ = ["latencies"]

_SIZE = 1024
_END_SECONDS = 10.0
_GAP = (0.1, 1.1)
"""Seconds of silence before each message: over more than a second, so that nobody's poll of a second keeps step with it."""


def latencies(benchmark: str, entrant: Entrant, *, mode: str, count: int) -> list[float]:
    """Return seconds from before a send to after its receipt, for each of `count` messages; the first is not counted.

    Raises:
        WorkNotDone: a message did not arrive.
    """
    errand = {
        "benchmark": benchmark,
        "name": entrant.contender.name,
        "mode": mode,
        "folder": str(entrant.folder),
        "count": count + 1,
    }
    with subprocess.Popen(
        [sys.executable, "-m", "brokerkit.bench.listener"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as listener:
        assert listener.stdin is not None  # noqa: S101 - for the type checker
        assert listener.stdout is not None  # noqa: S101
        try:
            listener.stdin.write(json.dumps(errand) + "\n")
            listener.stdin.flush()
            if listener.stdout.readline() != '"ready"\n':
                raise WorkNotDone(f"{entrant.name}: its listener did not begin")
            return [_one(entrant, listener.stdout.readline) for _ in range(count + 1)][1:]
        finally:
            listener.stdin.close()
            _end(listener)


def _end(listener: subprocess.Popen[str]) -> None:
    try:
        listener.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        listener.kill()


def _one(entrant: Entrant, answer: Callable[[], str]) -> float:
    sleep(SYSTEM_CLOCK, random.uniform(*_GAP))  # noqa: S311 - no secret
    entrant.contender.send(f"{monotonic_ns():020d}".encode("ascii").ljust(_SIZE, b"."))
    told = json.loads(answer() or '"it ended"')
    if not isinstance(told, list):
        raise WorkNotDone(f"{entrant.name}: {told}")
    return float(told[0]) / 1e9
