"""Killing whole families of processes, and a guard that does so when the test run dies, even by kill -9.

Started as a script, this file is the guard. Each server registers itself by writing its process group to the guard's
standard input (see `_groups`), and the test run holds that pipe open. The end of the pipe, or a new parent, means that the
test run is dead: then the guard kills every registered family and removes every registered folder. It imports nothing of
brokerkit, so that it starts in a few milliseconds.

A family is a process group, and whatever descends from its leader: PostgreSQL gives each connection a group of its own.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from typing import NamedTuple

__all__ = ["Member", "family", "kill_family", "living", "signal_family"]

_THREADS = 17  # which field of /proc/…/stat after the name counts them
_LOOK = 0.5  # s between looks at the parent; the pipe's end is noticed at once


class Member(NamedTuple):
    """A living process, as the system lists it; `state` is a letter, T for stopped."""

    pid: int
    parent: int
    group: int
    state: str


def family(leader: int) -> list[Member]:
    """The living members of the leader's process group, and all that descend from the leader. Zombies are dead."""
    listed = [member for member in _listing() if member.state not in "ZX"]
    pids = {leader} | {member.pid for member in listed if member.group == leader}
    while more := {member.pid for member in listed if member.parent in pids} - pids:
        pids |= more
    return [member for member in listed if member.pid in pids]


def signal_family(leader: int, number: int) -> list[Member]:
    """Send a signal to every member of a family, and return them as they were."""
    members = family(leader)
    for member in members:
        try:
            os.kill(member.pid, number)
        except ProcessLookupError:
            continue
    return members


def kill_family(leader: int) -> set[int]:
    """Kill a family with SIGKILL, and return the process ids that were killed; it does not wait for their end."""
    signal_family(leader, signal.SIGSTOP)  # whoever stands still forks no more
    killed: set[int] = set()
    while members := [member for member in signal_family(leader, signal.SIGKILL) if member.pid not in killed]:
        killed |= {member.pid for member in members}
    return killed


def living(pids: set[int]) -> set[int]:
    """Those of some process ids that are alive."""
    return {member.pid for member in _listing() if member.pid in pids and member.state not in "ZX"}


def _listing() -> list[Member]:
    try:
        with os.scandir("/proc") as entries:
            return [member for entry in entries if entry.name.isdigit() and (member := _read(entry.name))]
    except FileNotFoundError:  # macOS
        return _listing_by_ps()


def _listing_by_ps() -> list[Member]:
    columns = subprocess.run(
        ["/bin/ps", "-A", "-o", "pid=,ppid=,pgid=,stat="],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    rows = [line.split() for line in columns.splitlines()]
    return [Member(int(row[0]), int(row[1]), int(row[2]), row[3][0]) for row in rows]


def _read(name: str) -> Member | None:
    try:
        with open(f"/proc/{name}/stat") as file:  # noqa: PTH123 - the guard is to start without pathlib
            fields = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # a killed leader is shown as a zombie while its other threads are still dying, and with them its sockets
    dying = fields[0] == "Z" and int(fields[_THREADS]) > 1
    return Member(int(name), int(fields[1]), int(fields[2]), "D" if dying else fields[0])


def _guard(parent: int) -> None:
    """Read lines from standard input, "+group 12", "-group 12", "+folder /x", "-folder /x", until the parent is dead."""
    known: dict[str, set[str]] = {"group": set(), "folder": set()}
    rest = b""
    alive = True
    while alive:
        alive = os.getppid() == parent  # looked at before the pipe, so that what a dead parent wrote is still read
        while select.select([0], [], [], _LOOK)[0]:
            read = os.read(0, 65536)
            if not read:
                alive = False
                break
            *lines, rest = (rest + read).split(b"\n")
            for line in lines:
                kind, _, name = line[1:].decode().partition(" ")
                (known[kind].add if line[:1] == b"+" else known[kind].discard)(name)
    for group in known["group"]:
        kill_family(int(group))
    for folder in known["folder"]:
        _remove(folder)


def _remove(folder: str) -> None:
    import shutil  # noqa: PLC0415 - costs more than the rest of the guard, and only a killed test run needs it

    for _ in range(20):  # a dying server may still write a file
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.exists(folder):  # noqa: PTH110 - as above
            return
        select.select([], [], [], 0.05)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _guard(int(sys.argv[1]))
