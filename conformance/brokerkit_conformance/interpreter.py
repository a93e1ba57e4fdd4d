"""A fresh interpreter, with invented distributions beside the installed ones, for what concerns a whole environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from brokerkit_conformance import mortal

__all__ = ["ask"]

_PATIENCE: Final = 25.0

_OPEN: Final = """
import json, runpy, sys
orders = json.loads(sys.stdin.read())
runpy.run_path(orders["mortal"])["end_with"](orders["parent"])
before = [name for name in orders["modules"] if name in sys.modules]
import brokerkit
from brokerkit.results import results
lazy = [name for name in orders["modules"] if name in sys.modules and name not in before]
if orders["prepare"]:
    import importlib
    where, argument = orders["prepare"]
    module, _, function = where.partition(":")
    getattr(importlib.import_module(module), function)(argument)
answers = []
for kind, url, options in orders["urls"]:
    try:
        (brokerkit.connect if kind == "transport" else results)(url, **options).close()
        answers.append(["opened", ""])
    except Exception as error:
        answers.append([type(error).__name__, str(error)])
print(json.dumps({"imported_too_early": lazy, "answers": answers}))
"""


def ask(
    urls: list[tuple[str, str, Mapping[str, Any]]],
    *,
    modules: list[str] | None = None,
    distributions: Mapping[str, Mapping[str, Mapping[str, str]]] | None = None,
    prepare: tuple[str, str] | None = None,
) -> dict[str, Any]:
    """Open URLs in a fresh interpreter.

    Args:
        urls: (kind, URL, options) each; the kind is "transport" or "result_backend".
        modules: which of these does `import brokerkit` import?
        distributions: invented ones: name → group of entry points → name → value.
        prepare: what the harness wants to be called first, after brokerkit was imported.

    Returns:
        `answers`: for each URL ["opened", ""] or [name of the error, its text]; and `imported_too_early`.
    """
    with tempfile.TemporaryDirectory(prefix="brokerkit-") as folder:
        for name, groups in (distributions or {}).items():
            _invent(Path(folder), name, groups)
        asked = [[kind, url, dict(options)] for kind, url, options in urls]
        orders = {"urls": asked, "modules": modules or [], "prepare": prepare, **_mortal()}
        done = subprocess.run(  # noqa: S603 - our own code
            [sys.executable, "-c", _OPEN],
            input=json.dumps(orders),
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([folder, *filter(None, sys.path)])},
        )
    if done.returncode != 0:
        raise AssertionError(f"a fresh interpreter failed: {done.stderr[-2000:]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _mortal() -> dict[str, Any]:
    return {"mortal": mortal.__file__, "parent": os.getpid()}


def _invent(folder: Path, name: str, groups: Mapping[str, Mapping[str, str]]) -> None:
    """Write the metadata of a distribution that brings only entry points."""
    where = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    where.mkdir()
    where.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
    lines = []
    for group, points in groups.items():
        lines += [f"[{group}]", *(f"{key} = {value}" for key, value in points.items())]
    where.joinpath("entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
