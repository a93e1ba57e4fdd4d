"""What ran: this suite, file by file, and the plugin's package."""

from __future__ import annotations

import base64
import hashlib
import importlib
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

__all__ = ["digest_of", "modified_files", "plugin_of", "suite_digest"]

_HERE = Path(__file__).parent
_DISTRIBUTION = "brokerkit-conformance"


@cache
def suite_digest() -> str:
    """Return a digest over all files of this suite: reports of a modified suite are known by it."""
    return digest_of(_HERE)


def digest_of(folder: Path) -> str:
    """Return a digest over the names and contents of a package's Python and JSON files."""
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".py", ".json")):
        total.update(f"{path.relative_to(folder).as_posix()}\0".encode())
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return f"sha256:{total.hexdigest()}"


def modified_files(distribution: metadata.Distribution | None = None) -> list[str]:
    """Return the files of the suite that are not as they were installed; none can be told of a source tree."""
    found = []
    for file in (distribution or metadata.distribution(_DISTRIBUTION)).files or ():
        if file.hash is None or file.suffix not in (".py", ".json"):
            continue
        path = Path(str(file.locate()))
        if not path.is_file() or _hash(path.read_bytes(), file.hash.mode) != file.hash.value:
            found.append(str(file))
    return found


def plugin_of(kind: type[Any], distribution: str) -> dict[str, str]:
    """Return what is known of a plugin: its distribution with version, its class, and a digest of its package's files."""
    package = importlib.import_module(kind.__module__.partition(".")[0])
    where = Path(package.__file__ or "").parent if getattr(package, "__path__", None) else None
    return {
        "distribution": distribution,
        "class": f"{kind.__module__}:{kind.__qualname__}",
        "files": digest_of(where) if where else "not a package",
    }


def _hash(content: bytes, mode: str) -> str:
    return base64.urlsafe_b64encode(hashlib.new(mode, content).digest()).rstrip(b"=").decode()
