"""Running a trial in a process of its own, to its end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

from brokerkit_conformance.bench import Bench, check

__all__ = ["Ended", "inside"]


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of a trial.

    Attributes:
        told: what it told, in order.
        said: what stands on its standard error.
        at: monotonic seconds when its end was seen.
    """

    told: list[dict[str, Any]]
    said: str
    at: float

    def facts(self, what: str) -> list[dict[str, Any]]:
        """Return what it told of one kind."""
        return [fact for fact in self.told if fact["what"] == what]


def inside(
    bench: Bench,
    trial: str,
    *,
    queues: tuple[str, ...] = (),
    url: str | None = None,
    within: float = 25.0,
    **settings: Any,
) -> Ended:
    """Do a trial of `brokerkit_conformance.trials`; fail if it fails. Its leases are of real time."""
    lease = max(bench.harness.lease, bench.capabilities.lease.min) if bench.urls else bench.harness.lease
    orders = {
        "trial": trial,
        "url": url or next(iter(bench.urls), ""),
        "options": {"visibility_timeout": lease, "retry_delay": 0.0, **bench.harness.options()},
        "results": bench.results_urls[0] if bench.results_urls else None,
        "queues": {name: bench.name(name) for name in queues},
        "settings": settings,
        "prepare": bench.harness.prepare(),
        "parent": os.getpid(),
    }
    child = subprocess.Popen(
        [sys.executable, "-m", "brokerkit_conformance.inside"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        start_new_session=True,
    )
    try:
        out, said = child.communicate(json.dumps(orders) + "\n", within)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)  # with the children that it forked: they hold its output open
        _, said = child.communicate()
        raise AssertionError(f"a process of its own hangs: no end after {within:g} s\n{said[-2000:]}") from None
    at = time.monotonic()
    for name in queues if queues and bench.capabilities.shared != "process" else ():
        bench.remember(bench.name(name))
    check(child.returncode == 0, f"a process of its own ended with code {child.returncode}:\n{said[-2000:]}")
    return Ended([json.loads(line) for line in out.splitlines()], said, at)
