"""The worker processes: started, killed, frozen, woken, and ended in every case."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self, final

from brokerkit.demo.logbook import Logbook
from brokerkit.demo.plan import Errand

__all__ = ["Crew"]

_END_SECONDS: Final = 10.0


@final
class Crew:
    """Worker processes of this one, by number. A context manager: none is left at its end, however it ends.

    Attributes:
        book: reads the workers' logs.
    """

    def __init__(self, folder: Path, count: int, errand: Callable[[Path], Errand]) -> None:
        self._logs = [folder / f"worker-{number}.log" for number in range(count)]
        self.book = Logbook(self._logs)
        self._complaints = [folder / f"worker-{number}.err" for number in range(count)]
        self._errand = errand
        self._workers: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        try:
            for log, complaints in zip(self._logs, self._complaints, strict=True):
                self._workers.append(self._start(log, complaints))
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end()

    def pid(self, worker: int) -> int:
        """Return a worker's process id."""
        return self._workers[worker].pid

    def fell(self) -> dict[int, str]:
        """Return the workers that ended, though nobody asked them to: by number, with the last they said."""
        ended = (number for number, one in enumerate(self._workers) if one.poll() not in (None, -signal.SIGKILL))
        return {number: self._last_words(number) for number in ended}

    def freeze(self, worker: int) -> None:
        """Stop a worker where it is."""
        os.kill(self.pid(worker), signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid(worker), os.WSTOPPED | os.WNOWAIT)  # it stands still from here on

    def wake(self, worker: int) -> None:
        """Let a frozen worker go on."""
        os.kill(self.pid(worker), signal.SIGCONT)

    def kill(self, worker: int) -> None:
        """End a worker without a chance to tidy up."""
        os.kill(self.pid(worker), signal.SIGKILL)
        self._workers[worker].wait()

    def end(self) -> None:
        """Ask all to end in order; kill those that do not. Idempotent."""
        left = [one for one in self._workers if one.poll() is None]
        for one in left:
            for number in (signal.SIGTERM, signal.SIGCONT):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(one.pid, number)
        for one in left:
            try:
                one.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                one.kill()
                one.wait()
        for one in self._workers:
            if one.stdin is not None:
                one.stdin.close()

    def _start(self, log: Path, complaints: Path) -> subprocess.Popen[str]:
        with complaints.open("wb") as stderr:
            worker = subprocess.Popen(
                [sys.executable, "-m", "brokerkit.demo.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                text=True,
                start_new_session=True,  # Ctrl-C is for the demonstration, which ends its workers itself
            )
        assert worker.stdin is not None  # noqa: S101 - for the type checker
        worker.stdin.write(self._errand(log).written())
        worker.stdin.flush()
        return worker

    def _last_words(self, number: int) -> str:
        said = self._complaints[number].read_text(errors="replace").strip().splitlines()
        return said[-1] if said else f"exit code {self._workers[number].returncode}"
