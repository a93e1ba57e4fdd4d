"""How the conformance suite reaches SQLite: one file for all cases, and a second virtual host in it."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from brokerkit_conformance import Harness

__all__ = ["SQLiteHarness"]


class SQLiteHarness(Harness):
    """A database file of its own, in a folder that is removed at the end."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="brokerkit-sqlite-"))
        self._numbers = itertools.count(1)

    def stop(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self._folder)

    def urls(self) -> Sequence[str]:
        """Two virtual hosts of one file."""
        url = f"sqlite:///{self._folder}/broker.db"
        return url, f"{url}?virtual_host=other"

    def results_urls(self) -> Sequence[str]:
        """Two virtual hosts of one file; a new one each time, so that its first use by many at once is tested (RES-16)."""
        url = f"db+sqlite:///{self._folder}/results{next(self._numbers)}.db"
        return url, f"{url}?virtual_host=other"
