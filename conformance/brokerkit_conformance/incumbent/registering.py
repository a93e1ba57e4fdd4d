"""The schemes `kombu+…` and `celery+…`, known to the registry only while a harness runs: nobody else should meet them."""

from __future__ import annotations

import shutil
import sys
import tempfile
import threading
from pathlib import Path
from typing import Final

from brokerkit import registry

__all__ = ["Registration"]

_METADATA: Final = """\
Metadata-Version: 2.1
Name: brokerkit-incumbent
Version: {version}
"""
_ENTRY_POINTS: Final = """\
[brokerkit.transports]
kombu = brokerkit_conformance.incumbent.transport:KombuTransport

[brokerkit.result_backends]
celery = brokerkit_conformance.incumbent.results:CeleryResults
"""


class Registration:
    """An installed distribution for the length of a trial: entry points in a folder on `sys.path`. Thread-safe.

    Actors see it too, as they inherit `sys.path`.

    Args:
        version: told in reports; that of kombu, as it is kombu that is tried.
    """

    def __init__(self, version: str) -> None:
        self._version = version
        self._folder: Path | None = None
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Make the schemes known; idempotent."""
        with self._lock:
            if self._folder is not None:
                return
            self._folder = Path(tempfile.mkdtemp(prefix="brokerkit-incumbent-"))
            metadata = self._folder / f"brokerkit_incumbent-{self._version}.dist-info"
            metadata.mkdir()
            (metadata / "METADATA").write_text(_METADATA.format(version=self._version))
            (metadata / "entry_points.txt").write_text(_ENTRY_POINTS)
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
