"""Crash cases are as honest as the control that a harness brings: without one, or with one that lies, nothing is shown."""

from __future__ import annotations

import signal

import pytest
from brokerkit_conformance.bench import Bench, new_namespace
from brokerkit_conformance.cases._crashing import Doomed
from brokerkit_conformance.catalogue import catalogue
from brokerkit_conformance.gates import expected
from brokerkit_conformance.harness import ServerControl
from brokerkit_conformance.model import HarnessError, How, Outcome
from brokerkit_conformance.mutants.restartable import RestartableHarness
from brokerkit_conformance.reference import MemoryHarness
from brokerkit_conformance.runner import run_case, subject_of

from brokerkit import servers


class Uncontrolled(RestartableHarness):
    """A server that nobody can kill."""

    def server_control(self, url):
        return None


class Lying(RestartableHarness):
    """A control that says that it killed."""

    def server_control(self, url):
        control = super().server_control(url)
        control.kill9 = lambda: None
        control.start = lambda: None
        return control


def tried(harness, law_id):
    harness.start()
    try:
        subject = subject_of(harness)
        law = catalogue()[law_id]
        return run_case(harness, subject, law, expected(law, subject))
    finally:
        harness.stop()


@pytest.mark.parametrize("law_id", ["FLT-03", "FLT-04", "FLT-05", "FLT-13", "DEL-06", "ORD-05"])
def test_without_a_control_nothing_is_shown(law_id):
    record = tried(Uncontrolled(), law_id)
    assert record.outcome is Outcome.NOT_RUN
    assert "no control of its server" in record.reason


@pytest.mark.parametrize("law_id", ["FLT-04", "FLT-05", "ORD-05"])
def test_a_kill_that_kills_nobody_shows_nothing(law_id):
    record = tried(Lying(), law_id)
    assert record.outcome is Outcome.INCONCLUSIVE
    assert "still answers" in record.reason


def test_an_embedded_engine_that_nobody_has_open_cannot_be_killed():
    harness = MemoryHarness()
    bench = Bench(harness, subject_of(harness), new_namespace("FLT-04"))
    with pytest.raises(HarnessError, match="nothing was killed"):
        Doomed(bench).kill()
    bench.finish()


def test_an_embedded_engine_dies_with_the_processes_that_have_it():
    harness = MemoryHarness()
    bench = Bench(harness, subject_of(harness), new_namespace("FLT-04"))
    doomed = Doomed(bench)
    actors = [doomed.deed("fill", bench.name(), pause=0.01) for _ in range(2)]
    for actor in actors:
        actor.wait_for("sent")
    doomed.kill()
    doomed.start()
    assert doomed.outage() == 0.0
    assert [actor.join() for actor in actors] == [-signal.SIGKILL] * 2
    bench.finish()


@pytest.mark.parametrize("law_id", ["FLT-03", "FLT-13"])
def test_an_embedded_engine_has_no_server_to_restart(law_id):
    expectation = expected(catalogue()[law_id], subject_of(MemoryHarness()))
    assert expectation.how is How.IMPOSSIBLE
    assert "no server to restart" in expectation.reason


def test_what_brokerkit_starts_for_tests_can_be_given_as_it_is():
    control: ServerControl = servers.Redis()  # mypy checks it, too
    for method in ("kill9", "start", "restart", "pause", "resume"):
        assert callable(getattr(control, method))
