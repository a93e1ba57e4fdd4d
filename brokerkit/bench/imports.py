"""The import cell: what `import brokerkit` costs, and that it loads no client of any broker."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

__all__ = ["CLIENTS", "Import", "imports"]

CLIENTS: Final = ("amqp", "boto3", "celery", "kombu", "pika", "psycopg", "pylibmc", "pymemcache", "redis", "sqlalchemy")
_TIMES: Final = 7

_CODE: Final = """
import json, sys, time
before, begun = len(sys.modules), time.perf_counter()
import {module}
seconds = time.perf_counter() - begun
print(json.dumps([seconds, len(sys.modules) - before, [name for name in {clients!r} if name in sys.modules]]))
"""


@dataclass(frozen=True, slots=True)
class Import:
    """One module's import in a fresh interpreter with warm files.

    Attributes:
        module: its name.
        seconds: the median.
        modules: how many modules it loaded.
        clients: which clients of brokers are among them.
    """

    module: str
    seconds: float
    modules: int
    clients: tuple[str, ...]


def imports(modules: Sequence[str]) -> list[Import]:
    """Import modules in turns, each time in an interpreter of its own."""
    told: dict[str, list[tuple[float, int, list[str]]]] = {module: [] for module in modules}
    for _ in range(_TIMES + 1):
        for module, some in told.items():
            code = _CODE.format(module=module, clients=CLIENTS)
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603 - our own code
            some.append(tuple(json.loads(done.stdout)))
    return [
        Import(module, median(one[0] for one in some[1:]), some[0][1], tuple(some[0][2]))
        for module, some in told.items()
    ]
