"""Signals and clocks: their effect is read from the operating system."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from brokerkit_conformance.faults import (
    SkewedClock,
    clock_from_environment,
    environment_of,
    processes,
    sigcont,
    sigkill,
    sigstop,
    sigterm,
    stopped,
)
from brokerkit_conformance.faults.processes import Child, is_stopped
from brokerkit_conformance.model import Inconclusive

WORK = "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
HEAR = "import signal, sys\nsignal.signal(signal.SIGTERM, lambda *a: sys.exit({code}))\n"
IGNORE = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
REST = "print('ready', flush=True)\nthreading.Event().wait()\n"


@pytest.fixture
def spawn() -> Iterator[Callable[..., Child]]:
    children: list[subprocess.Popen[bytes]] = []

    def start(code: str = "") -> Child:
        child = subprocess.Popen([sys.executable, "-c", WORK + code + REST], stdout=subprocess.PIPE)
        children.append(child)
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        return Child(child)

    yield start
    for child in children:
        child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()


@pytest.fixture(params=["proc", "ps"])
def how(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "ps":
        monkeypatch.setattr(processes, "_states", processes._states_by_ps)


def test_a_kill_shows_in_the_exit_status(spawn) -> None:
    proof = sigkill(spawn())
    assert proof.evidence == "killed by SIGKILL"
    assert proof.signal is signal.SIGKILL
    assert proof.sent <= proof.seen


def test_a_process_that_ended_by_itself_was_not_killed(spawn) -> None:
    child = spawn()
    child._child.terminate()
    child.join()
    with pytest.raises(Inconclusive, match="not by SIGKILL"):
        sigkill(child)


@pytest.mark.parametrize(("code", "words"), [("", "killed by SIGTERM"), (HEAR.format(code=0), "exit code 0")])
def test_an_end_by_sigterm(spawn, code: str, words: str) -> None:
    assert sigterm(spawn(code)).evidence == words


def test_an_end_in_disorder_is_inconclusive(spawn) -> None:
    with pytest.raises(Inconclusive, match="ended with 3"):
        sigterm(spawn(HEAR.format(code=3)))


def test_no_end_at_all_is_inconclusive(spawn) -> None:
    child = spawn(IGNORE)
    with pytest.raises(Inconclusive, match="did not end"):
        sigterm(child, within=0.1)


def test_a_frozen_process_stands_still_until_it_is_woken(spawn, how) -> None:
    child = spawn()
    assert is_stopped(child.pid) is False
    assert "T" in sigstop(child).evidence
    assert is_stopped(child.pid) is True
    assert "T" not in sigcont(child).evidence
    with stopped(child) as proof:
        assert is_stopped(child.pid)
        assert proof.pid == child.pid
    assert is_stopped(child.pid) is False


def test_the_dead_cannot_be_frozen(spawn, how) -> None:
    child = spawn()
    sigkill(child)
    assert is_stopped(child.pid) is None
    with pytest.raises(Inconclusive, match="its threads are in"):
        sigstop(child)


def test_a_zombie_is_not_frozen(spawn, how) -> None:
    child = spawn()
    os.kill(child.pid, signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert is_stopped(child.pid) is None


def test_a_skewed_clock_is_wrong_about_the_day_and_nothing_else() -> None:
    clock = SkewedClock(3600.0)
    assert 3500 < clock.time() - time.time() < 3700
    assert clock.monotonic() <= time.monotonic()
    clock.jump(-7200.0)
    assert -3700 < clock.time() - time.time() < -3500
    condition = threading.Condition()
    with condition:
        assert clock.wait(condition, 0.001) is False


def test_the_skew_is_handed_over_by_the_environment() -> None:
    clock = clock_from_environment(environment_of(-2.5))
    assert clock is not None
    assert clock.offset == -2.5
    assert clock_from_environment({}) is None


@pytest.mark.parametrize("text", ["soon", "nan", "inf"])
def test_a_skew_that_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=text):
        clock_from_environment({"BROKERKIT_CONFORMANCE_CLOCK_OFFSET": text})


def test_a_process_really_gets_the_skewed_clock() -> None:
    code = (
        "import time, brokerkit; from brokerkit_conformance.faults import clock_from_environment as c\n"
        "with brokerkit.connect('memory://', clock=c()) as b:\n"
        "    b.declare('q'); b.send('q', b'x'); d = b.consumer('q').receive(timeout=5)\n"
        "    print(d.message.sent_at - time.time())\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment_of(86400.0)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert 86000 < float(run.stdout) < 87000
