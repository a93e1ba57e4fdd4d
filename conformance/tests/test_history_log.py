"""Logs and their joining: on disk at once, torn by a kill, damaged by anything else; and no order of logs matters."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from itertools import permutations
from pathlib import Path

import pytest
from brokerkit_conformance.faults import sigkill
from brokerkit_conformance.faults.processes import Child
from brokerkit_conformance.history import (
    Drain,
    Event,
    EventLog,
    FaultKind,
    FaultLog,
    FaultRecord,
    Phase,
    Promises,
    Standing,
    Verb,
    check,
    join,
    read_events,
    read_faults,
)
from brokerkit_conformance.history.log import Parsed, parse_events, parse_faults

EMPTY = Drain(complete=True, began=1e12, ended=1e12)


def event(actor: str, seq: int, mono: float, **fields) -> Event:
    given = {"pid": 1, "wall": mono, "verb": Verb.CLOSE, "phase": Phase.NOTE, **fields}
    return Event(actor=actor, seq=seq, mono=mono, **given)


def parsed(actor: str, *events: Event, torn: bool = False) -> Parsed:
    return Parsed(actor, events, torn, ())


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with EventLog(path, "a") as log:
        sending = log.begin(Verb.SEND, message="m", queue="q", priority=3)
        sending.ok()
        asking = log.begin(Verb.RECEIVE, lease=2.0)
        asking.ok(message="m", queue="q", delivery="a1", attempt=1, deadline=7.5)
        log.begin(Verb.ACK, message="m", queue="q", delivery="a1").unknown(ConnectionError("cut"))
        log.begin(Verb.RELEASE, message="m", queue="q", delivery="a1").fail("lost")
        log.begin(Verb.PUBLISH, message="n", queues=("q", "r"))
        log.note(Verb.LEASE_LOST, delivery="a1")
    read = read_events(path)
    assert (read.torn, read.damage) == (False, ())
    assert [(e.verb, e.phase) for e in read.events] == [
        (Verb.SEND, Phase.INVOKE),
        (Verb.SEND, Phase.OK),
        (Verb.RECEIVE, Phase.INVOKE),
        (Verb.RECEIVE, Phase.OK),
        (Verb.ACK, Phase.INVOKE),
        (Verb.ACK, Phase.UNKNOWN),
        (Verb.RELEASE, Phase.INVOKE),
        (Verb.RELEASE, Phase.FAIL),
        (Verb.PUBLISH, Phase.INVOKE),
        (Verb.LEASE_LOST, Phase.NOTE),
    ]
    assert [e.seq for e in read.events] == list(range(10))
    assert read.events[1].priority == 3
    assert (read.events[3].deadline, read.events[3].lease) == (7.5, 2.0)
    assert read.events[5].error == "cut"
    assert read.events[8].queues == ("q", "r")
    assert all(Event.from_json(json.loads(json.dumps(e.to_json()))) == e for e in read.events)


def test_threads_write_whole_lines_in_order(tmp_path: Path) -> None:
    with EventLog(tmp_path / "a", "a") as log:
        threads = [threading.Thread(target=lambda: [log.note(Verb.CLOSE) for _ in range(20)]) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    history = join([read_events(tmp_path / "a")], (), EMPTY)
    assert len(history.events) == 100
    assert history.damage == ()


def test_each_line_is_synced_before_the_next_thing_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = []
    monkeypatch.setattr("os.fsync", lambda file: lengths.append(len((tmp_path / "a").read_bytes().splitlines())))
    with EventLog(tmp_path / "a", "a") as log:
        log.begin(Verb.CLOSE).ok()
    assert lengths == [1, 2]


def test_a_killed_process_leaves_all_that_it_wrote(tmp_path: Path) -> None:
    path = tmp_path / "a"
    code = (
        "import sys\nfrom brokerkit_conformance.history import EventLog, Verb\n"
        "log = EventLog(sys.argv[1], 'a')\nlog.note(Verb.CLOSE)\nprint('x', flush=True)\n"
        "while True: log.note(Verb.CLOSE)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"x\n"
        proof = sigkill(Child(child))
    read = read_events(path)
    assert read.events
    assert read.damage == ()
    fault = FaultRecord(kind=FaultKind.KILL, target="a", began=proof.sent, proved=True, evidence=proof.evidence)
    assert check(join([read], [fault], EMPTY), Promises(lease=2.0)).standing is Standing.CLEAN


def test_a_torn_last_line_is_told_and_excused_by_a_kill_alone() -> None:
    line = json.dumps(event("a", 0, 1.0).to_json()).encode()
    log = parse_events("a", line + b"\n" + line[:20])
    assert len(log.events) == 1
    assert log.torn
    assert "nobody killed" in join([log], (), EMPTY).damage[0]
    kill = FaultRecord(kind=FaultKind.KILL, target="a", began=2.0, proved=True)
    history = join([log], [kill], EMPTY)
    assert (history.torn, history.damage) == (("a",), ())


def test_an_actor_may_be_killed_in_its_first_line() -> None:
    kill = FaultRecord(kind=FaultKind.KILL, target="a", began=2.0, proved=True)
    assert join([parse_events("a", b'{"act')], [kill], EMPTY).torn == ("a",)


@pytest.mark.parametrize("line", [b"}", b"[1]", b"{}", b'{"actor": "a", "odd": 1}', b"\xff", b'{"verb": "eat"}', b"7"])
def test_a_broken_line_in_the_middle_is_damage(line: bytes) -> None:
    log = parse_events("a", line + b"\n")
    assert log.events == ()
    assert "line 1 is broken" in log.damage[0]
    assert check(join([log], (), EMPTY), Promises(lease=2.0)).standing is Standing.INCONCLUSIVE


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ((event("a", 1, 1.0),), "missing"),
        ((event("a", 0, 1.0), event("a", 2, 2.0)), "missing"),
        ((event("a", 0, 1.0), event("a", 0, 1.0)), "twice"),
        ((event("a", 0, 2.0), event("a", 1, 1.0)), "goes back"),
    ],
)
def test_a_log_with_a_hole_is_damage(events, words: str) -> None:
    assert words in join([parsed("a", *events)], (), EMPTY).damage[0]


def test_the_order_of_logs_and_faults_makes_no_difference() -> None:
    logs = [
        parsed("a", event("a", 0, 1.0), event("a", 1, 3.0)),
        parsed("b", event("b", 0, 1.0)),
        parsed("c", event("c", 5, 0.0), torn=True),
    ]
    faults = [FaultRecord(kind=FaultKind.KILL, target=t, began=b) for t, b in [("a", 1.0), ("b", 1.0), ("c", 0.5)]]
    histories = {join(ls, fs, EMPTY) for ls in permutations(logs) for fs in permutations(faults)}
    assert len(histories) == 1
    assert [e.actor for e in histories.pop().events] == ["c", "a", "b", "a"]


def test_times_are_laid_on_the_brokers_clock() -> None:
    log = parsed("a", event("a", 0, 1.0, deadline=2.0))
    (moved,) = join([log], (), EMPTY, offsets={"a": 10.0}).events
    assert (moved.mono, moved.deadline, moved.wall) == (11.0, 12.0, 1.0)


def test_the_fault_log(tmp_path: Path) -> None:
    log = FaultLog(tmp_path / "faults")
    faults = (
        FaultRecord(kind=FaultKind.KILL, target="a", began=1.0, proved=True, evidence="killed by SIGKILL"),
        FaultRecord(kind=FaultKind.STALL, target="*", began=2.0, ended=3.0),
    )
    for fault in faults:
        log.write(fault)
    log.close()
    log.close()
    assert read_faults(tmp_path / "faults") == faults
    with pytest.raises(ValueError, match="no FaultRecord"):
        parse_faults(b'{"kind": "kill"}\n')
