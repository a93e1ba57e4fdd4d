"""Starting actors, reading their logs, and ending them in rough ways."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Final, Self

__all__ = ["Actor"]

_PATIENCE: Final = 25.0

_starter: Final = ThreadPoolExecutor(1, thread_name_prefix="starter-of-actors")
"""Starts every actor: each ends with the thread that started it, and this one ends with the whole run (see `mortal`)."""


class Actor:
    """One process of its own. Thread-safe.

    Args:
        url: what it works on.
        options: keywords for `brokerkit.connect`.
        words: the verb, then the queues.
        settings: of the verb.
        prepare: ("module:function", argument), called there first.
        env: what to add to its environment, such as `faults.environment_of`.

    Attributes:
        pid: the process's id.
    """

    def __init__(
        self,
        url: str,
        options: Mapping[str, Any],
        words: Sequence[str],
        settings: Mapping[str, Any],
        *,
        prepare: tuple[str, str] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 - no pipe: nobody reads it while the actor works, and it would fill
        self._process = _starter.submit(
            subprocess.Popen,
            [sys.executable, "-m", "brokerkit_conformance.actor"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **(env or {})},
        ).result()
        self.pid = self._process.pid
        self._log: list[dict[str, Any]] = []
        self._news = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, name=f"log-of-{self.pid}", daemon=True)
        self._reader.start()
        orders: dict[str, Any] = {
            "url": url,
            "options": dict(options),
            "words": list(words),
            "settings": dict(settings),
            "parent": os.getpid(),
        }
        orders["prepare"] = list(prepare) if prepare else None
        assert self._process.stdin is not None  # noqa: S101 - for the type checker
        self._process.stdin.write(json.dumps(orders) + "\n")
        self._process.stdin.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()

    def events(self, what: str) -> list[dict[str, Any]]:
        """Return what it has logged so far of one kind."""
        with self._news:
            return [event for event in self._log if event["what"] == what]

    def wait_for(self, what: str, *, count: int = 1, within: float = _PATIENCE) -> dict[str, Any]:
        """Return the `count`th event of a kind; fail if it does not come, or if the process ends before."""

        def found() -> list[dict[str, Any]]:
            return [event for event in self._log if event["what"] == what]

        with self._news:
            self._news.wait_for(lambda: len(found()) >= count or self._ended, within)
            if len(found()) < count:
                raise AssertionError(
                    f"another process never came to {what!r}; its log: {self._log[-5:]}\n{self._errors()}"
                )
            return found()[count - 1]

    def say(self, word: str) -> None:
        """Give it an order while it works, on its standard input; nothing happens if it has ended."""
        assert self._process.stdin is not None  # noqa: S101 - for the type checker
        with contextlib.suppress(BrokenPipeError, ValueError):
            os.write(self._process.stdin.fileno(), f"{word}\n".encode())

    def kill(self) -> None:
        """SIGKILL, and wait for its end; nothing happens if it has ended."""
        self.send_signal(signal.SIGKILL)
        self.join()

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to this very process."""
        if self._process.poll() is None:
            self._process.send_signal(number)

    def join(self, within: float = _PATIENCE) -> int:
        """Wait for its end, and return its exit code."""
        code = self._process.wait(within)
        self._reader.join(within)
        for stream in (self._process.stdin, self._process.stdout, self._said):
            if stream is not None:
                stream.close()
        return code

    def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - for the type checker
        for line in self._process.stdout:
            with self._news:
                self._log.append(json.loads(line))
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def _errors(self) -> str:
        if self._ended:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(1.0)  # its log has ended, so it is about to
        if self._process.poll() is None or self._said.closed:
            return ""
        self._said.seek(0)
        return self._said.read()[-2000:]
