"""One case on one bench: every way to end has its outcome."""

from __future__ import annotations

import threading
import unittest

import pytest
from brokerkit_conformance import harness as harnesses
from brokerkit_conformance import runner
from brokerkit_conformance.bench import Bench, check
from brokerkit_conformance.casebook import Casebook, case, casebook, refusal, without
from brokerkit_conformance.catalogue import catalogue
from brokerkit_conformance.gates import expectations
from brokerkit_conformance.harness import Harness
from brokerkit_conformance.model import HarnessError, Inconclusive, NotRun, Outcome
from brokerkit_conformance.reference import MemoryHarness
from brokerkit_conformance.runner import examine, run_case, run_cases, subject_of

MEMORY = MemoryHarness()
SUBJECT = subject_of(MEMORY)
EXPECTED = {each.id: each for each in expectations(catalogue(), SUBJECT)}


def outcome(test, **settings):
    result, reason, _ = examine(test, lambda: Bench(MEMORY, SUBJECT, "case"), **settings)
    return result, reason


def raising(error):
    def test(bench):
        raise error

    return test


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (AssertionError("the law does not hold"), Outcome.FAIL),
        (ValueError("from the plugin"), Outcome.FAIL),
        (pytest.skip.Exception("no"), Outcome.ERROR),
        (pytest.xfail.Exception("no"), Outcome.ERROR),
        (unittest.SkipTest("no"), Outcome.ERROR),
        (SystemExit(0), Outcome.ERROR),
        (HarnessError("no server"), Outcome.ERROR),
        (NotRun("no admin"), Outcome.NOT_RUN),
        (Inconclusive("the fault had no effect"), Outcome.INCONCLUSIVE),
    ],
)
def test_how_a_case_ends_is_its_outcome(error, expected):
    assert outcome(raising(error))[0] is expected


def test_a_case_that_ends_is_passed_or_refused():
    assert outcome(lambda bench: None) == (Outcome.PASS, "")
    assert outcome(lambda bench: None, good=Outcome.REFUSED_OK) == (Outcome.REFUSED_OK, "")


def test_a_case_that_hangs_fails_and_says_where():
    never = threading.Event()
    result, reason = outcome(lambda bench: never.wait(), cap=0.2)
    assert result is Outcome.FAIL
    assert "hangs: no end after 0.2 s" in reason
    assert "never.wait()" in reason
    never.set()


def test_what_a_thread_of_the_bench_raises_fails_the_case():
    def work():
        raise ValueError("in a thread")

    result, reason = outcome(lambda bench: bench.thread(work))
    assert (result, "in a thread" in reason) == (Outcome.FAIL, True)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_what_a_stray_thread_raises_fails_the_case():
    def test(bench):
        thread = threading.Thread(target=lambda: 1 / 0, name="stray")
        thread.start()
        thread.join()

    result, reason = outcome(test)
    assert result is Outcome.FAIL
    assert "stray: ZeroDivisionError" in reason


def test_what_fails_on_closing_fails_the_case():
    def test(bench):
        bench._undo.callback(raise_runtime_error)

    def raise_runtime_error():
        raise RuntimeError("cannot close")

    assert outcome(test)[0] is Outcome.FAIL


def test_the_bench_leaves_no_queue_behind():
    benches = []

    def test(bench):
        benches.append(bench)
        bench.queue()

    harness = FixedHarness()
    assert examine(test, lambda: Bench(harness, SUBJECT, "left"))[0] is Outcome.PASS
    with benches[0].connect() as broker:
        server = broker.transport.server
    assert not server.queues


class FixedHarness(MemoryHarness):
    def __init__(self):
        self.found = super().urls()

    def urls(self):
        return self.found

    def clock(self):
        return None


def test_nothing_else_comes_is_shown_by_a_marker():
    def test(bench):
        queue = bench.queue()
        bench.silent(queue, why="nothing was sent")
        bench.broker.send(queue, b"one too many")
        bench.silent(queue, why="one was sent")

    result, reason = outcome(test)
    assert result is Outcome.FAIL
    assert "one was sent, yet came" in reason


def test_an_open_consumer_cannot_hide_what_it_prefetched():
    def test(bench):
        queue = bench.queue()
        bench.broker.send_many(queue, [b"1", b"2"])
        bench.expect(bench.consumer(queue)).ack(wait=True)
        bench.silent(queue, why="the second is in the first consumer's buffer")

    assert outcome(test)[0] is Outcome.FAIL


def test_moved_time_passes_without_real_time():
    def test(bench):
        began = bench.time.now()
        bench.let_pass(50.0)
        check(49.9 < bench.time.now() - began < 50.5, "time did not pass")

    assert outcome(test, cap=20.0)[0] is Outcome.PASS


def test_a_law_without_a_case_is_not_run_with_the_reason():
    law = catalogue()["PUB-01"]
    empty = Casebook({}, {"PUB": "pub.py cannot be imported: ImportError: broken"})
    record = run_case(MEMORY, SUBJECT, law, EXPECTED["PUB-01"], empty)
    assert record.outcome is Outcome.NOT_RUN
    assert record.reason == "pub.py cannot be imported: ImportError: broken"
    assert run_case(MEMORY, SUBJECT, law, EXPECTED["PUB-01"], Casebook({})).reason == "this suite has no case of PUB-01"


def test_cases_run_at_once_and_those_that_count_threads_run_alone():
    laws = [catalogue()[i] for i in ("PUB-01", "PUB-05", "CLN-02", "URL-13")]
    done = []
    records = run_cases(MEMORY, SUBJECT, laws, EXPECTED.values(), done=lambda r: done.append(r.id))
    assert [(r.id, r.outcome) for r in records] == [(law.id, Outcome.PASS) for law in laws]
    assert done[-1] == "CLN-02"
    assert casebook().cases["CLN-02"].alone


def test_a_run_can_be_stopped():
    laws = [catalogue()["PUB-01"], catalogue()["PUB-05"]]
    assert run_cases(MEMORY, SUBJECT, laws, EXPECTED.values(), stopped=lambda: True) == []


def test_a_case_can_be_registered_once_and_only_for_a_law():
    with pytest.raises(ValueError, match="PUB-01 has two cases"):
        case("PUB-01")(lambda bench: None)
    with pytest.raises(ValueError, match="PUB-14 has two refusals"):
        refusal("PUB-14")(lambda bench: None)
    with pytest.raises(ValueError, match="the absence of ttl has two refusals"):
        without("ttl")(lambda bench: None)
    with pytest.raises(ValueError, match="no law 'XXX-99'"):
        case("XXX-99")


def test_a_harness_that_leads_nowhere_is_told_in_a_sentence():
    with pytest.raises(HarnessError, match="there is nothing to test"):
        subject_of(Harness())

    class Wrong(Harness):
        def urls(self):
            return ("nosuch://x",)

    with pytest.raises(HarnessError, match="lead nowhere: UnknownScheme"):
        subject_of(Wrong())


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("no.such.module:X", "ModuleNotFoundError"),
        ("brokerkit_conformance.reference:Missing", "Missing"),
        ("nobody", "no harness 'nobody' is installed"),
    ],
)
def test_a_harness_that_cannot_be_made_is_told_in_a_sentence(name, text):
    with pytest.raises(HarnessError, match=text):
        harnesses.load(name)


def test_a_harness_is_found_by_module_and_class():
    assert isinstance(harnesses.load("brokerkit_conformance.reference:MemoryHarness"), MemoryHarness)


def test_a_harness_is_found_in_a_file(tmp_path):
    path = tmp_path / "harness.py"
    path.write_text("from brokerkit_conformance import Harness\nclass Mine(Harness): lease = 7.0\n")
    assert harnesses.load(f"{path}:Mine").lease == 7.0
    with pytest.raises(HarnessError, match="FileNotFoundError"):
        harnesses.load(f"{tmp_path}/missing.py:Mine")


def test_what_the_harness_does_not_bring_is_not_run():
    class Single(MemoryHarness):
        def urls(self):
            return super().urls()[:1]

    law = catalogue()["FAN-02"]
    record = run_case(Single(), SUBJECT, law, EXPECTED["FAN-02"])
    assert (record.outcome, record.reason) == (Outcome.NOT_RUN, "the harness gives no second virtual host")


def test_the_hang_cap_is_that_of_the_laws():
    assert runner.CAP == 30.0
