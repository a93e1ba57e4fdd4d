"""Signals to actors, each with the proof of its effect by the operating system, not by what the actor says."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from brokerkit_conformance.faults.loop import HANG
from brokerkit_conformance.model import Inconclusive

__all__ = ["Child", "Signalled", "Target", "is_stopped", "sigcont", "sigkill", "sigstop", "sigterm", "stopped"]

_LOOK: Final = 0.005  # seconds between two looks at a process's state


class Target(Protocol):
    """A child process of ours, such as an `Actor`."""

    pid: int

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to this very process."""
        ...

    def join(self, within: float = ...) -> int:
        """Wait for its end, and return its exit code, negative for a signal."""
        ...


class Child:
    """Any child process as a `Target`."""

    def __init__(self, child: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
        self._child = child
        self.pid = child.pid

    def send_signal(self, number: signal.Signals) -> None:
        """See `Target`."""
        self._child.send_signal(number)

    def join(self, within: float = HANG) -> int:
        """See `Target`."""
        return self._child.wait(within)


@dataclass(frozen=True, slots=True)
class Signalled:
    """The proof that a signal had its effect.

    Attributes:
        signal: which.
        pid: of the process.
        sent: monotonic time just before it was sent.
        seen: monotonic time when its effect was seen.
        evidence: the exit status or state, in words.
    """

    signal: signal.Signals
    pid: int
    sent: float
    seen: float
    evidence: str


def sigkill(target: Target, *, within: float = HANG) -> Signalled:
    """Kill it, and read from its exit status that this signal, and nothing else, ended it.

    Raises:
        Inconclusive: it ended otherwise, or not at all.
    """
    return _end(target, signal.SIGKILL, within, lambda code: code == -signal.SIGKILL)


def sigterm(target: Target, *, within: float = HANG) -> Signalled:
    """Ask it to end, and wait until it does: by a handler, with code 0, or by the signal.

    Raises:
        Inconclusive: it ended otherwise, or not in time.
    """
    return _end(target, signal.SIGTERM, within, lambda code: code in (0, -signal.SIGTERM))


def sigstop(target: Target, *, within: float = HANG) -> Signalled:
    """Freeze it, and return when every thread of it stands still.

    Raises:
        Inconclusive: it does not.
    """
    return _change(target, signal.SIGSTOP, within, wanted=True)


def sigcont(target: Target, *, within: float = HANG) -> Signalled:
    """Let it go on, and return when it does.

    Raises:
        Inconclusive: it does not.
    """
    return _change(target, signal.SIGCONT, within, wanted=False)


@contextlib.contextmanager
def stopped(target: Target) -> Iterator[Signalled]:
    """Freeze it for the length of a block."""
    proof = sigstop(target)
    try:
        yield proof
    finally:
        sigcont(target)


def is_stopped(pid: int) -> bool | None:
    """Tell whether all threads of a process are stopped; None if there is no such process, or only its remains."""
    states = _states(pid)
    if not states or states & set("ZXx"):
        return None
    return states <= {"T"}


def _end(target: Target, number: signal.Signals, within: float, good: Callable[[int], bool]) -> Signalled:
    sent = time.monotonic()
    target.send_signal(number)
    try:
        code = target.join(within)
    except (TimeoutError, subprocess.TimeoutExpired) as error:
        raise Inconclusive(f"{number.name} did not end process {target.pid} within {within:g} s") from error
    if not good(code):
        raise Inconclusive(f"process {target.pid} ended with {code}, not by {number.name}")
    words = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return Signalled(number, target.pid, sent, time.monotonic(), words)


def _change(target: Target, number: signal.Signals, within: float, *, wanted: bool) -> Signalled:
    sent = time.monotonic()
    target.send_signal(number)
    pause = threading.Event()
    while (state := is_stopped(target.pid)) is not wanted:
        if state is None or time.monotonic() > sent + within:
            raise Inconclusive(
                f"{number.name} to process {target.pid}: its threads are in {_states(target.pid) or 'none'}"
            )
        pause.wait(_LOOK)
    words = f"its threads are in {'/'.join(sorted(_states(target.pid)))}"
    return Signalled(number, target.pid, sent, time.monotonic(), words)


def _states(pid: int) -> set[str]:
    """The letters of the states of a process's threads: from /proc where there is one, else from ps."""
    if Path("/proc/self/stat").exists():
        return _states_by_proc(pid)
    return _states_by_ps(pid)


def _states_by_proc(pid: int) -> set[str]:
    found = set()
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(OSError):  # the thread has just ended
            # the name in parentheses may hold anything; the state follows the last of them
            found.add(stat.read_text().rpartition(")")[2].split()[0])
    return found


def _states_by_ps(pid: int) -> set[str]:
    listed = subprocess.run(  # noqa: S603 - a number is no command
        ["ps", "-o", "state=", "-p", str(int(pid))],  # noqa: S607 - wherever it is
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    ).stdout
    return {line.strip()[0] for line in listed.splitlines() if line.strip()}
