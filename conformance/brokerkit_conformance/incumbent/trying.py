"""One trial of one of the harnesses. It ends by itself, whatever kombu does: it runs in processes that can be killed."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from typing import Any, Final

from brokerkit_conformance.incumbent.shown import Shown
from brokerkit_conformance.incumbent.tables import HANGS
from brokerkit_conformance.model import HarnessError, Outcome

__all__ = ["try_one"]

_SILENCE: Final = 75.0  # seconds without any word: the suite ends a case after 30
_END: Final = 10.0  # seconds to stop the servers and end


def try_one(
    name: str, laws: Sequence[str] = (), *, first: Sequence[str] = (), jobs: int = 4, seconds: float = 330.0
) -> Shown:
    """Try one of the harnesses, on some laws or on everything.

    A case that did not end may have waited for its neighbours on a busy machine: if there is time it is asked once more, with
    less beside it, and that counts.

    Args:
        name: of the harness.
        laws: which; all by default.
        first: those to begin with.
        jobs: cases at once.
        seconds: for all; what has not ended by then is not run.

    Raises:
        HarnessError: it cannot be tried here.
    """
    trial = _Supervised(name, time.monotonic() + seconds)
    trial.run(laws or first, jobs, everything=not laws)
    trial.run([law for law, reason in trial.reasons.items() if reason.startswith(HANGS)], max(1, jobs // 2))
    return Shown(harness=name, server=trial.server, outcomes=trial.outcomes, reasons=trial.reasons)


class _Supervised:
    """A trial in as many processes as it takes, and what it has shown so far."""

    def __init__(self, name: str, end: float) -> None:
        self._name = name
        self._end = end
        self.server = ""
        self.outcomes: dict[str, Outcome] = {}
        self.reasons: dict[str, str] = {}

    def run(self, laws: Sequence[str], jobs: int, *, everything: bool = False) -> None:
        """Run cases, those named first, in a new process after each that had to be ended."""
        left = list(laws)
        while everything or left:
            before = len(left)
            left = self._run_once(left, jobs, "first" if everything else "only")
            if not everything and len(left) == before:
                for law in left:
                    self._record(law, Outcome.ERROR, "the process of the trial ended before it came to this case")
                return
            everything = False

    def _run_once(self, laws: list[str], jobs: int, how: str) -> list[str]:
        """Run one process; returns the laws that are left."""
        process = _Worker(self._name, jobs, how, laws)
        left, running = list(laws), set[str]()
        try:
            while (told := process.next(min(_SILENCE, self._end - time.monotonic()))) is not None:
                if told["what"] == "impossible":
                    raise HarnessError(told["reason"])
                if told["what"] == "asked":
                    left, self.server = told["laws"], told["server"]
                elif told["what"] == "begun":
                    running.add(told["law"])
                elif told["what"] == "ended":
                    running.discard(told["law"])
                    left.remove(told["law"])
                    self._record(told["law"], Outcome(told["outcome"]), told["reason"])
                else:
                    return left
            return self._interrupted(left, running, process.abort())
        finally:
            process.end()

    def _interrupted(self, left: list[str], running: set[str], stack: str) -> list[str]:
        if time.monotonic() >= self._end:
            for law in left:
                if law not in self.outcomes:  # asked once more, it keeps what it has
                    self._record(law, Outcome.NOT_RUN, "the time of the trial was up")
            return []
        reason = f"the process of the trial was silent for {_SILENCE:g} s, or ended; this case was under way\n{stack}"
        for law in running:
            self._record(law, Outcome.ERROR, reason)
        return [law for law in left if law not in running]

    def _record(self, law: str, outcome: Outcome, reason: str) -> None:
        self.outcomes[law] = outcome
        self.reasons.pop(law, None)
        if not outcome.good:
            self.reasons[law] = reason


class _Worker:
    """The worker: what it says, line by line, and its end together with all that it started."""

    def __init__(self, name: str, jobs: int, how: str, laws: Sequence[str]) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end`
        self._process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-m", "brokerkit_conformance.incumbent.worker", name, str(jobs), how, *laws],
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            start_new_session=True,
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, name=f"lines-of-{self._process.pid}", daemon=True).start()

    def next(self, within: float) -> dict[str, Any] | None:
        """Return what it says next; None if it says nothing more in time, or at all."""
        try:
            line = self._lines.get(timeout=max(within, 0.0))
        except queue.Empty:
            return None
        return None if line is None else json.loads(line)

    def abort(self) -> str:
        """Let it say where it stands, and end it; returns the last of it."""
        with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
            self._process.send_signal(signal.SIGABRT)
            self._process.wait(_END)
        self._errors.seek(0)
        return self._errors.read()[-2000:].decode(errors="replace")

    def end(self) -> None:
        """End it, if it does not by itself."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._errors.close()

    def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - for the type checker
        with self._process.stdout as lines:
            for line in lines:
                self._lines.put(line)
        self._lines.put(None)
