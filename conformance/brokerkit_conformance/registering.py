"""Plugins that are known to the registry only while a harness runs: nobody else should meet them."""

from __future__ import annotations

import shutil
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from brokerkit import registry

__all__ = ["Registration"]

_METADATA: Final = """\
Metadata-Version: 2.1
Name: {name}
Version: {version}
"""


class Registration:
    """An installed distribution for the length of a trial: entry points in a folder on `sys.path`. Thread-safe.

    Actors see it too, as they inherit `sys.path`.

    Args:
        name: of the distribution.
        version: told in reports.
        entry_points: "module:Class" by group and scheme.
    """

    def __init__(self, name: str, version: str, entry_points: Mapping[str, Mapping[str, str]]) -> None:
        self._name = name
        self._version = version
        self._entry_points = entry_points
        self._folder: Path | None = None
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Make the schemes known; idempotent."""
        with self._lock:
            if self._folder is not None:
                return
            self._folder = Path(tempfile.mkdtemp(prefix=f"{self._name}-"))
            metadata = self._folder / f"{self._name.replace('-', '_')}-{self._version}.dist-info"
            metadata.mkdir()
            (metadata / "METADATA").write_text(_METADATA.format(name=self._name, version=self._version))
            lines = []
            for group, targets in self._entry_points.items():
                lines += [f"[{group}]", *(f"{scheme} = {target}" for scheme, target in targets.items())]
            (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n")
            sys.path.append(str(self._folder))
            registry.forget()

    def end(self) -> None:
        """Forget them; idempotent."""
        with self._lock:
            if self._folder is None:
                return
            sys.path.remove(str(self._folder))
            shutil.rmtree(self._folder)
            self._folder = None
            registry.forget()
