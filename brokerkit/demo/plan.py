"""What one run of the demonstration does: how much of what, and by which names."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Self

__all__ = ["Errand", "Plan", "receipt_of"]

_POISON_EVERY: Final = 1999
_SLOW_EVERY: Final = 89


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The numbers and names of one run; all names hold the run's own mark, so that runs share a server.

    Attributes:
        orders: messages that are sent.
        workers: processes that handle them.
        visibility_timeout: seconds; short, so that a dead worker is noticed within the demonstration.
        prefetch: unsettled messages that a worker may hold.
        max_attempts: failures before an order is dead-lettered.
        notices: messages published in each of the two virtual hosts.
        evicted: results whose record is taken away.
        patience: seconds after which the run gives up waiting, and accounts for what there is.
        mark: of this run.
    """

    orders: int = 10_000
    workers: int = 4
    visibility_timeout: float = 3.0
    prefetch: int = 50
    max_attempts: int = 3
    notices: int = 200
    evicted: int = 3
    patience: float = 50.0
    mark: str = field(default_factory=lambda: os.urandom(4).hex())

    @property
    def queue(self) -> str:
        """The queue of orders."""
        return f"brokerkit-demo-{self.mark}"

    @property
    def scratch(self) -> str:
        """A queue that nobody consumes, to try whether a write goes through."""
        return f"{self.queue}-scratch"

    @property
    def poison(self) -> frozenset[int]:
        """Orders that no worker can handle."""
        step = min(_POISON_EVERY, self.orders // 5)
        return frozenset(range(step // 2, self.orders, step))

    @property
    def sound(self) -> int:
        """How many orders can be handled."""
        return self.orders - len(self.poison)

    def order(self, number: int) -> dict[str, Any]:
        """Return one order, as it is sent."""
        return {
            "order": number,
            "result": self.result_id(number),
            "item": f"item {number % 97}",
            "poison": number in self.poison,
            "slow": number % _SLOW_EVERY == 0,
        }

    def result_id(self, number: int) -> str:
        """Return the id of an order's result."""
        return f"{self.queue}-{number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """What a worker process is told, as JSON on its stdin: a URL on a command line could show a password.

    Attributes:
        broker: URL of the broker, with its password.
        results: URL of the result store, likewise.
        queue: the queue of orders.
        log: the file to append to.
        visibility_timeout: see `Plan`.
        prefetch: see `Plan`.
        max_attempts: see `Plan`.
    """

    broker: str
    results: str
    queue: str
    log: str
    visibility_timeout: float
    prefetch: int
    max_attempts: int

    def written(self) -> str:
        """Return it as one line."""
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def read(cls, line: str) -> Self:
        """Read what `written` made."""
        return cls(**json.loads(line))

    @property
    def log_path(self) -> Path:
        """Where the worker logs."""
        return Path(self.log)


def receipt_of(order: int, item: str) -> str:
    """Return an order's result: what the worker computes, and the producer checks."""
    return hashlib.sha256(f"{order} {item}".encode()).hexdigest()[:16]
