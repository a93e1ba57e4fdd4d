"""The consumer process of the latency cell: `python -m brokerkit.bench.listener`, told what to open on stdin.

Each message holds the moment of its sending by the monotonic clock, which all processes of a machine share.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from time import monotonic_ns, process_time

from brokerkit.bench.contract import Contender, find
from brokerkit.bench.ours import BROKERKIT, Ours

__all__ = ["contender_named", "main"]

_TURN = 30.0


def contender_named(benchmark: str, name: str, mode: str) -> Contender:
    """Return one contender of a benchmark, not yet open."""
    brought = find(benchmark)
    if name == BROKERKIT:
        return Ours(lambda folder: brought.url(folder, mode))
    return next(one for one in brought.rivals(mode) if one.name == name)


def main() -> None:
    """Receive the asked number of messages, and write (latency in ns, processor time so far in s) of each as a line."""
    errand = json.loads(sys.stdin.readline())
    contender = contender_named(errand["benchmark"], errand["name"], errand["mode"])
    contender.open(Path(errand["folder"]))
    _write("ready")
    for _ in range(errand["count"]):
        body = contender.receive(_TURN)
        now = monotonic_ns()
        if body is None:
            _write("nothing came")
            break
        _write([now - int(body[:20]), process_time()])
    contender.close()


def _write(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
