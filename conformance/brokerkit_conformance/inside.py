"""`python -m brokerkit_conformance.inside`: trials that need a process of their own: forks, signals, the interpreter's end.

It reads its orders as one line of JSON from standard input and does the one trial that they name. What fails in it ends
the process with a traceback and code 1. What it measures it writes to standard output, a line of JSON each.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import brokerkit
from brokerkit import Broker, Event
from brokerkit_conformance.mortal import end_with

__all__ = ["Orders", "main", "tell"]

_TRIALS: Final = {
    "both": "forking",
    "locks": "forking",
    "prefetched": "forking",
    "race": "racing",
    "declare": "racing",
    "signals": "signalling",
    "leave": "signalling",
    "stray": "signalling",
    "starve": "starving",
}
"""Which module has which trial, each a function of that name that takes `Orders`."""


@dataclass(frozen=True, slots=True)
class Orders:
    """What a trial is to work on.

    Attributes:
        url: of the broker.
        options: for every connection.
        results: URL of a result store, or None.
        queues: names that it may use, by what they are for.
        settings: of the trial.
    """

    url: str
    options: dict[str, Any]
    results: str | None
    queues: dict[str, str]
    settings: dict[str, Any]

    def connect(self, on_event: Callable[[Event], None] | None = None) -> Broker:
        """Open a broker."""
        return brokerkit.connect(self.url, on_event=on_event, **self.options)


def main() -> int:
    """Do what the orders say."""
    given = json.loads(sys.stdin.readline())
    end_with(given["parent"])
    if given["prepare"]:
        where, argument = given["prepare"]
        module, _, function = where.partition(":")
        getattr(importlib.import_module(module), function)(argument)
    trial = given["trial"]
    module = importlib.import_module(f"brokerkit_conformance.trials.{_TRIALS[trial]}")
    getattr(module, trial)(Orders(given["url"], given["options"], given["results"], given["queues"], given["settings"]))
    return 0


def tell(what: str, **fields: Any) -> None:
    """Write one line; it is on its way before the next thing happens."""
    os.write(1, (json.dumps({"what": what, "at": time.monotonic(), **fields}) + "\n").encode())


if __name__ == "__main__":
    sys.exit(main())
