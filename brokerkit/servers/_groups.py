"""Starting a server in a session of its own, and stopping, freezing and killing all of it."""

from __future__ import annotations

import atexit
import os
import pwd
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, final

from brokerkit._clock import SYSTEM_CLOCK, sleep
from brokerkit.servers import _reaper
from brokerkit.servers.errors import ServerFailed

__all__ = ["Command", "Group", "guarded_folder", "remove_folder", "wait_for"]

# The shell tells the guard its process group over standard input, and becomes the server: there is no moment in which the
# server runs and the guard does not know it, whenever the test run is killed.
_REGISTER: Final = 'echo "+group $$" >&0 && exec "$@" </dev/null'
_GONE: Final = 15.0  # s; SIGKILL takes effect within milliseconds, unless the machine is very busy


@dataclass(frozen=True)
class Command:
    """What to run.

    Attributes:
        words: the program and its arguments.
        environ: its whole environment; PATH, HOME and LANG are added.
        user: whom to run it as when we are root, where the server refuses root; None: as we are.
        stop: the signal for an orderly stop.
    """

    words: Sequence[str]
    environ: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    stop: signal.Signals = signal.SIGTERM


@final
class Group:
    """One running command with all its children. Its output goes to a file. Not thread-safe: it belongs to one server."""

    def __init__(self, command: Command, folder: Path, log: Path) -> None:
        self._command = command
        user = command.user if os.getuid() == 0 else None
        as_user: dict[str, Any] = {} if user is None else {"user": user, "group": _group_of(user), "extra_groups": []}
        with log.open("ab") as output:
            self._child = subprocess.Popen(  # noqa: S603 - our own words; the shell takes them as arguments
                ["/bin/sh", "-c", _REGISTER, "sh", *command.words],
                stdin=_guard_pipe(),
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={"PATH": _path(command.words[0]), "HOME": str(folder), "LANG": "C.UTF-8", **command.environ},
                start_new_session=True,
                **as_user,
            )

    @property
    def pid(self) -> int:
        """The process id of the leader, which is the process group's number as well."""
        return self._child.pid

    def ended(self) -> int | None:
        """The exit status of the leader (minus the signal that killed it); None while it runs."""
        return self._child.poll()

    def wait(self, timeout: float) -> int | None:
        """The leader's exit status, or None if it still runs after `timeout` seconds."""
        try:
            return self._child.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def pause(self) -> None:
        """Freeze every member, and return when they stand still."""
        _reaper.signal_family(self.pid, signal.SIGSTOP)
        wait_for(self._frozen, "the server did not stop at SIGSTOP")

    def resume(self) -> None:
        """Let every member go on."""
        _reaper.signal_family(self.pid, signal.SIGCONT)

    def stop(self, grace: float) -> None:
        """Ask for an orderly stop, and kill what has not ended after `grace` seconds."""
        self.resume()
        if self.ended() is None:
            self._child.send_signal(self._command.stop)
            self.wait(grace)
        self.kill()  # what has not ended, and children that outlive the leader

    def kill(self) -> None:
        """Kill every member with SIGKILL, and return when they are gone."""
        killed = _reaper.kill_family(self.pid)
        self._child.wait(_GONE)
        wait_for(lambda: not _reaper.living(killed), "the server survived SIGKILL")
        _tell_guard(f"-group {self.pid}")

    def _frozen(self) -> bool:
        members = _reaper.signal_family(self.pid, signal.SIGSTOP)  # a child may have been born meanwhile
        return all(member.state == "T" for member in members)


def wait_for(condition: Callable[[], object], otherwise: str) -> None:
    """Return when the condition is true, looked at every 5 ms; ServerFailed(`otherwise`) after a generous limit."""
    deadline = SYSTEM_CLOCK.monotonic() + _GONE
    while not condition():
        if SYSTEM_CLOCK.monotonic() > deadline:
            raise ServerFailed(otherwise)
        sleep(SYSTEM_CLOCK, 0.005)


def guarded_folder(path: Path) -> None:
    """Have a folder removed when this process dies, however it dies."""
    _tell_guard(f"+folder {path}")


def remove_folder(path: Path) -> None:
    """Remove a guarded folder and all that is in it."""
    shutil.rmtree(path, ignore_errors=True)
    _tell_guard(f"-folder {path}")


def _path(program: str) -> str:
    return f"{Path(program).parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin:/opt/homebrew/bin"


def _group_of(user: str) -> int:
    return pwd.getpwnam(user).pw_gid


# ------------------------------------------------------------------------------------------------------------ the guard


@dataclass(frozen=True)
class _Guard:
    owner: int
    pipe: int
    child: subprocess.Popen[bytes]


_guard: _Guard | None = None
_guard_lock = threading.Lock()


def _tell_guard(line: str) -> None:
    os.write(_guard_pipe(), f"{line}\n".encode())


def _guard_pipe() -> int:
    """The writing end of the pipe to this process's guard, which is started when it is first needed."""
    global _guard  # noqa: PLW0603 - one guard for a process
    with _guard_lock:
        if _guard is None or _guard.owner != os.getpid():
            if _guard is not None:
                os.close(_guard.pipe)  # inherited by fork: while we hold it, the parent's guard cannot see its end
            _guard = _start_guard()
        return _guard.pipe


def _start_guard() -> _Guard:
    reading, writing = os.pipe()
    child = subprocess.Popen(  # noqa: S603 - this Python and a file of ours
        [sys.executable, "-I", "-S", str(_reaper.__file__), str(os.getpid())],
        stdin=reading,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,  # Ctrl-C is for the test run; the guard has to outlive it
    )
    os.close(reading)
    atexit.register(_dismiss_guard)
    return _Guard(os.getpid(), writing, child)


def _dismiss_guard() -> None:
    """At the end of this process: the guard ends what is still open, as it would after a kill."""
    if _guard is not None and _guard.owner == os.getpid():
        os.close(_guard.pipe)
        _guard.child.wait(_GONE)
