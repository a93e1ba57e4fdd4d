"""Nothing of a run outlives it, however it ends: actors, processes of their own, what these forked, and pools."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from brokerkit_conformance.actors import Actor

from brokerkit.testing import wait_until

COMMAND = "from brokerkit_conformance.cli import main; main()"


def living(mark):
    """Command lines by pid of all that inherited a mark in their environment; zombies have none."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (folder / "environ").read_bytes():
                found[int(folder.name)] = (folder / "cmdline").read_bytes().decode()
        except OSError:
            continue
    return found


def parent(pid):
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def acting(found):
    return [pid for pid, line in found.items() if "conformance.actor" in line]


def inside(found):
    return [pid for pid, line in found.items() if "conformance.inside" in line]


def forked(found):
    return [pid for pid in inside(found) if parent(pid) in inside(found)]


def pooled(found):
    return [pid for pid, line in found.items() if "spawn_main" in line]


@pytest.mark.parametrize(
    ("words", "seen"),
    [
        (["run", "sqlite", "--case", "FLT-22"], acting),
        (["run", "sqlite", "--case", "THR-03,THR-04,THR-05"], forked),
        (["mutants"], pooled),
    ],
    ids=["actors", "forked children", "pools"],
)
def test_a_run_that_is_killed_leaves_no_process(words, seen):
    mark = f"brokerkit-{uuid.uuid4().hex}"
    started = [sys.executable, "-c", COMMAND, *words]
    with subprocess.Popen(
        started, env={**os.environ, "BROKERKIT_MARK": mark}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as run:
        try:
            wait_until(lambda: seen(living(mark.encode())), timeout=60)
        finally:
            run.send_signal(signal.SIGKILL)
    wait_until(lambda: not living(mark.encode()), timeout=15)


def test_an_actor_that_says_much_is_not_held_up_by_it():
    loud = ("logging:error", "x" * 300_000)
    url = f"memory://{uuid.uuid4().hex}"
    with Actor(url, {}, ["declare", "q"], {}, prepare=loud) as actor:
        assert actor.join() == 0


def test_what_an_actor_that_failed_has_said_is_told():
    with (
        Actor("memory://x", {}, ["nobody:nothing", "q"], {}) as actor,
        pytest.raises(AssertionError, match="No module"),
    ):
        actor.wait_for("ready")
