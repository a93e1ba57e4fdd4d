"""One trial in a process of its own: `python -m brokerkit_conformance.incumbent.worker HARNESS JOBS first|only LAW…`.

A line of JSON for each thing that happens, on what was the standard output; what else is printed goes to the standard error.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TextIO

from brokerkit_conformance.casebook import casebook
from brokerkit_conformance.catalogue import Law
from brokerkit_conformance.harness import load
from brokerkit_conformance.model import HarnessError
from brokerkit_conformance.trial import Trial

__all__ = ["main"]

_ABOUT_US: Final = ("URL", "HAR")  # laws of the core and of the harness: they say nothing of kombu


def main(arguments: list[str]) -> None:
    """Try a harness on some laws only, or on all that say something of it with some first, and end."""
    name, jobs, how, *laws = arguments
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    faulthandler.enable()  # whoever ends this process by SIGABRT gets to read where it stood
    for logger in map(logging.getLogger, ("brokerkit", "kombu", "celery")):  # cases make things fail on purpose
        logger.addHandler(logging.NullHandler())
        logger.propagate = False
    _try(name, int(jobs), laws, _Lines(out), only=how == "only")
    out.flush()
    # kombu registers a hook for every channel that was left open, which would speak to servers that are gone
    os._exit(0)


class _Lines:
    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._lock = threading.Lock()

    def __call__(self, **told: Any) -> None:
        with self._lock:
            self._out.write(json.dumps(told) + "\n")
            self._out.flush()


def _try(name: str, jobs: int, laws: list[str], tell: Callable[..., None], *, only: bool) -> None:
    try:
        trial = Trial(load(f"brokerkit_conformance.incumbent:{name}"))
    except HarnessError as error:
        tell(what="impossible", reason=str(error))
        return
    if trial.why_not_run:
        tell(what="impossible", reason=trial.why_not_run)
        return
    asked = [law for law in trial.runnable if _says_something(law) and (not only or law.id in laws)]
    asked.sort(key=lambda law: laws.index(law.id) if law.id in laws else len(laws))
    tell(what="asked", laws=[law.id for law in asked], server=str(getattr(trial.harness, "product", "")))

    def run(law: Law) -> None:
        tell(what="begun", law=law.id)
        record = trial.run_one(law)
        tell(what="ended", law=law.id, outcome=str(record.outcome), reason=record.reason)

    cases = casebook().cases
    alone = [law for law in asked if law.id in cases and cases[law.id].alone]
    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(run, [law for law in asked if law not in alone]))
    for law in alone:
        run(law)
    tell(what="done")
    trial.close()


def _says_something(law: Law) -> bool:
    # level scale asks for ten thousand messages within seconds: of speed nothing is said here
    return law.area not in _ABOUT_US and law.level != "scale"


if __name__ == "__main__":
    main(sys.argv[1:])
