"""Programs of this machine: on PATH and in the folders that systems hide them in, how to run one, and is there docker."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Final

__all__ = ["call", "docker_answers", "find_binary"]

# Debian keeps PostgreSQL's and RabbitMQ's own programs off PATH, and plain users have no sbin there; then Homebrew.
_FOLDERS: Final = (
    "/usr/lib/postgresql/*/bin",
    "/usr/lib/rabbitmq/bin",
    "/usr/sbin",
    "/usr/local/sbin",
    "/usr/bin",
    "/usr/local/bin",
    "/opt/homebrew/opt/*/bin",
    "/opt/homebrew/opt/*/sbin",
    "/usr/local/opt/*/bin",
    "/usr/local/opt/*/sbin",
)


def find_binary(name: str, *first: str) -> str | None:
    """The full path of a program, or None: in the folders `first`, on PATH, in the known folders; newest version first."""
    places = [*first, *os.environ.get("PATH", "").split(os.pathsep), *_FOLDERS]
    for pattern in filter(None, places):
        for folder in _matching(pattern):
            found = shutil.which(name, path=str(folder))
            if found:
                return found
    return None


def call(
    words: Sequence[str | Path], *, timeout: float = 60.0, environ: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, whatever its exit status; with our environment, or one of its own."""
    return subprocess.run(  # noqa: S603 - our own words, no shell
        words,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=timeout,
        env=environ,
    )


def _matching(pattern: str) -> Iterator[Path]:
    if "*" not in pattern:
        yield Path(pattern)
        return
    found = Path("/").glob(pattern.removeprefix("/"))
    yield from sorted(found, key=_newness, reverse=True)


def _newness(folder: Path) -> tuple[int, str]:
    """By a version number in the path, /usr/lib/postgresql/15/bin before 9.6; then by name."""
    numbers = [int(part.partition(".")[0]) for part in folder.parts if part.partition(".")[0].isdigit()]
    return (numbers[-1] if numbers else 0, str(folder))


@cache
def docker_answers() -> bool:
    """Whether a docker daemon answers; the program alone is no daemon. Asked once a process."""
    docker = shutil.which("docker")
    if docker is None:
        return False
    try:
        asked = call([docker, "info"], timeout=10.0)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.returncode == 0
