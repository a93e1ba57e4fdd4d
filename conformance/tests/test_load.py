"""The machinery of loads: what goes wrong in one is found, and what only seems to go wrong is not."""

from __future__ import annotations

import signal

import pytest
from brokerkit_conformance.bench import Bench, new_namespace
from brokerkit_conformance.history import Excuse, FaultKind, FaultRecord, Phase, Verb, read_events
from brokerkit_conformance.load import Load
from brokerkit_conformance.load_actor import Orders, Task
from brokerkit_conformance.load_faults import Faults
from brokerkit_conformance.model import Broken, Inconclusive
from brokerkit_conformance.mutants.served import ServedHarness
from brokerkit_conformance.reference import MemoryHarness
from brokerkit_conformance.runner import subject_of

from brokerkit.memory import MemoryServer


def bench_of(harness):
    harness.start()
    bench = Bench(harness, subject_of(harness), new_namespace("load"))
    try:
        yield bench
    finally:
        bench.finish()
        harness.stop()


@pytest.fixture
def bench():
    """Workers are threads, and time is moved."""
    yield from bench_of(MemoryHarness())


@pytest.fixture
def served():
    """Workers are processes."""
    yield from bench_of(ServedHarness())


def events_of(worker):
    parsed = read_events(worker.task.log)
    assert not parsed.damage
    return parsed.events


def test_a_run_without_defects_is_clean_and_counted(bench):
    with Load(bench) as load:
        load.consumers(2, releases=0.3)
        load.producers(2, count=20)
        load.until_settled()
        checked = load.judge()
    assert checked.counts["accepted"] == 40
    assert checked.counts["delivered"] == 40 + load.count("released")
    assert bench.measured["accepted"] == 40


def test_a_planted_loss_is_reported_as_lost_with_its_slice(bench, monkeypatch):
    accept = MemoryServer._accept
    lost = b"p1-7"
    monkeypatch.setattr(
        MemoryServer, "_accept", lambda self, q, message: None if message.body == lost else accept(self, q, message)
    )
    with Load(bench) as load:
        load.patience = 0.5
        load.producers(1, count=20)
        load.consumers(1)
        load.until_settled()
        with pytest.raises(Broken, match="lost: p1-7") as broken:
            load.judge()
    (finding,) = broken.value.findings
    assert [(event.verb, event.phase) for event in finding.events] == [
        (Verb.SEND, Phase.INVOKE),
        (Verb.SEND, Phase.OK),
    ]


def test_what_nobody_settled_is_no_loss_and_yet_no_success(bench):
    with Load(bench) as load:
        load.patience = 0.5
        load.producers(1, count=5)
        load.until_settled()
        with pytest.raises(AssertionError, match="came to a stop while 5 messages were left"):
            load.judge()


def test_an_excuse_that_the_run_gave_no_reason_for_is_none(bench):
    with Load(bench) as load:
        load.consumers(1, releases=0.5)
        load.producers(1, count=20)
        load.until_settled()
        with pytest.raises(Broken, match="duplicate"):
            load.judge(excuses={Excuse.CLOSE})


def test_a_fault_without_proof_makes_the_run_inconclusive(bench):
    with Load(bench) as load:
        load.producers(1, count=5)
        (consumer,) = load.consumers(1)
        load.until_settled()
        load.faults.append(FaultRecord(kind=FaultKind.DISCONNECT, target=consumer.name, began=0.0, ended=1.0))
        with pytest.raises(Inconclusive, match="did not prove its effect"):
            load.judge()


def test_an_ack_that_is_not_waited_for_is_written_down_as_unknown(bench):
    with Load(bench) as load:
        load.producers(1, count=10)
        (consumer,) = load.consumers(1, unawaited=1.0)
        load.until_settled()
        load.judge(excuses=())
    acks = [event.phase for event in events_of(consumer) if event.verb is Verb.ACK]
    assert acks == [Phase.INVOKE, Phase.UNKNOWN] * 10


def test_chance_is_the_same_for_the_same_seed(bench):
    def released(seed):
        with Load(bench, seed=seed) as load:
            load.producers(1, count=30)
            (consumer,) = load.consumers(1, prefetch=1, releases=0.4)
            load.until_settled()
            load.judge()
            return [event.verb for event in events_of(consumer) if event.phase is Phase.OK and event.message]

    assert released(1) == released(1) != released(2)


def test_a_held_worker_stands_with_a_message_in_hand_until_it_may_go(bench):
    with Load(bench) as load:
        load.producers(1, burst=10, pause=0.01)
        (consumer,) = load.consumers(1, prefetch=5)
        consumer.hold()
        assert len(consumer.told("received")) == len(consumer.told("settled")) + 1
        consumer.say("go")
        load.until_settled()
        load.judge()


def test_a_worker_that_is_stopped_is_never_held():
    orders = Orders()
    orders.obey("hold")
    assert orders.held
    orders.obey("stop")
    assert not orders.held
    assert orders.stopped.is_set()


def test_faults_are_proved_and_excuse_what_they_cause(served):
    with Load(served, lease=0.5) as load:
        faults = Faults(load, seed=3)
        killed, ended = load.consumers(2, prefetch=4, pause=0.01)
        load.producers(1, burst=10, pause=0.05)
        load.until(5)
        faults.kill(killed)
        faults.end(ended)
        load.consumers(1)
        load.until_settled()
        checked = load.judge(ordered=False)
    assert [(fault.kind, fault.target, fault.proved) for fault in load.faults] == [
        (FaultKind.KILL, killed.name, True),
        (FaultKind.TERM, ended.name, True),
    ]
    assert load.faults[0].evidence == f"killed by {signal.SIGKILL.name}"
    assert checked.counts["excused by kill"] >= 1


def test_what_a_killed_worker_had_begun_to_ack_is_not_waited_for(served):
    with Load(served, lease=0.5) as load:
        (consumer,) = load.consumers(1)
        load.producers(1, count=1)
        load.until_settled()
        assert consumer.actor is not None
        consumer.actor.kill()
        before = consumer.told("settled")
        consumer.died()
        assert consumer.told("settled") == before


def starved(bench, **frozen):
    """Judge a run with a duplicate, whose consumer stood still from 1 to 3."""
    with Load(bench) as load:
        (consumer,) = load.consumers(1, releases=0.5)
        load.producers(1, count=20)
        load.until_settled()
        consumer._tell("stood_still", began=1.0, ended=3.0)
        if frozen:
            load.faults.append(FaultRecord(kind=FaultKind.FREEZE, target=consumer.name, proved=True, **frozen))
        load.judge(excuses=())


def test_what_is_wrong_with_a_worker_that_the_machine_let_starve_shows_nothing(bench):
    with pytest.raises(Inconclusive, match=r"stand still for 2\.0 s"):
        starved(bench)


def test_a_freeze_of_ours_is_no_starvation(bench):
    with pytest.raises(Broken, match="duplicate"):
        starved(bench, began=0.9, ended=3.1)


def test_a_task_survives_its_way_to_another_process(served):
    with Load(served) as load:
        (producer,) = load.producers(1, count=3, delay=0.01)
        load.consumers(1, unawaited=0.5)
        load.until_settled()
        load.judge()
    sent = [event for event in events_of(producer) if event.phase is Phase.OK]
    assert [(event.message, event.delay) for event in sent] == [(f"{producer.name}-{i}", 0.01) for i in range(3)]
    assert len({event.pid for event in sent}) == 1
    assert sent[0].pid == producer.actor.pid
    assert Task(kind="produce", name="p", log="x", queue="q").count is None
