"""The benchmark: it times what it says, refuses figures of work that was not done, and judges goals rightly."""

import json
import subprocess
import sys
import uuid
from collections import defaultdict
from types import SimpleNamespace

import pytest

from brokerkit.bench import measuring
from brokerkit.bench.cells import CELLS, Cell, Entrant, Sample, WorkNotDone, bodies
from brokerkit.bench.contract import Extra, find
from brokerkit.bench.deep import Depths, depths
from brokerkit.bench.imports import Import, imports
from brokerkit.bench.kombu_peer import Kombu
from brokerkit.bench.measuring import Figures, Run, Settings
from brokerkit.bench.ours import Ours
from brokerkit.bench.report import Report
from brokerkit.bench.result_cells import CeleryResults, OurResults, result_cells
from brokerkit.cli import app, exits
from brokerkit.cli.figures import markdown_page
from brokerkit.errors import PluginBroken, UnknownScheme

_stores = defaultdict(list)


class InMemory:
    """A contender that is a list."""

    name = "list"
    threads = "own"
    note = "nothing is stored"

    def open(self, folder):
        self.queue = _stores[folder]

    def send(self, body):
        self.queue.append(body)

    def send_many(self, given):
        self.queue.extend(given)

    def consume(self, count, *, prefetch):
        came, self.queue[:count] = self.queue[:count], []
        return len(came), sum(map(len, came))

    def receive(self, timeout):
        return self.queue.pop(0) if self.queue else None

    def depth(self):
        return len(self.queue)

    def purge(self):
        self.queue.clear()

    def close(self):
        pass


class Peer(InMemory):
    name = "peer"
    threads = "no"
    note = ""


class Loses(InMemory):
    def send(self, body):
        if body[11:12] != b"7":
            super().send(body)


class Repeats(InMemory):
    def consume(self, count, *, prefetch):
        came, size = super().consume(count, prefetch=prefetch)
        return came + 1, size


class Truncates(InMemory):
    def consume(self, count, *, prefetch):
        came, size = super().consume(count, prefetch=prefetch)
        return came, size - 1


class ForgetsToAck(InMemory):
    def consume(self, count, *, prefetch):
        return len(self.queue), sum(map(len, self.queue))


class FailsInThreads(InMemory):
    def send(self, body):
        raise OSError("disk is gone")


def goal(**values):
    return SimpleNamespace(**({"mode": None, "versus": "", "bound": "at least"} | values))


def benchmark(*goals):
    mark = uuid.uuid4().hex
    return SimpleNamespace(
        title="Memory",
        modes=("SLOW", "FAST"),
        driver="list",
        peer="peer",
        where="in one list each",
        goals=goals,
        modules=("json",),
        url=lambda folder, mode: f"memory://{mark}/{folder.name}",
        rivals=lambda mode: [InMemory(), Peer()],
        versions=lambda: {"memory": "1"},
    )


@pytest.fixture
def entrant(tmp_path):
    def make(kind):
        contender = kind()
        contender.open(tmp_path)
        return Entrant(contender, None, tmp_path, kind)

    return make


def cell(name):
    return next(one for one in CELLS if one.name == name)


@pytest.mark.parametrize("one", CELLS, ids=lambda one: one.name)
def test_each_cell_times_all_messages_and_leaves_the_queue_empty(entrant, one):
    made = entrant(InMemory)
    sample = one.work(made, bodies(320, 20))
    assert sample.messages == 320
    assert sample.seconds > 0
    assert made.contender.depth() == 0


@pytest.mark.parametrize("one", CELLS, ids=lambda one: one.name)
def test_brokerkit_itself_runs_each_cell(tmp_path, one):
    url = f"memory://{uuid.uuid4().hex}"
    ours = Ours(lambda _: url)
    ours.open(tmp_path)
    sample = one.work(Entrant(ours, None, tmp_path, lambda: ours), bodies(250, 20))
    assert sample.messages == 250
    ours.send(b"x")
    assert ours.receive(5) == b"x"
    assert ours.receive(0) is None
    ours.close()


@pytest.mark.parametrize(
    ("kind", "name", "told"),
    [
        (Loses, "send", "90 messages after sending, in place of 100"),
        (Repeats, "consume_100", r"consumed \(101, 2000\)"),
        (Truncates, "consume_1", r"consumed \(100, 1999\)"),
        (ForgetsToAck, "consume_100", "100 messages after consuming all"),
    ],
)
def test_figures_of_work_that_was_not_done_are_refused(entrant, kind, name, told):
    with pytest.raises(WorkNotDone, match=told):
        cell(name).work(entrant(kind), bodies(100, 20))


def test_a_thread_that_fails_fails_the_cell(entrant):
    with pytest.raises((OSError, WorkNotDone)):
        cell("threads").work(entrant(FailsInThreads), bodies(100, 20))


def test_bodies_differ_and_have_one_size():
    made = bodies(1000, 100)
    assert len(set(made)) == 1000
    assert {len(body) for body in made} == {100}


def test_a_run_interleaves_all_contenders_in_all_modes(tmp_path, monkeypatch):
    order = []

    def work(entrant, given):
        order.append(entrant.name)
        return Sample(len(given), 0.001, 0.001)

    monkeypatch.setattr(measuring, "CELLS", (Cell("send", "send singly", work),))
    monkeypatch.setattr(measuring, "imports", lambda names: [])
    settings = Settings(rounds=2, sizes=(100,), pings=0, budget=0.01)
    figures = Run("x", benchmark(), settings, tmp_path, lambda text: None).measure()
    names = ["brokerkit SLOW", "list SLOW", "peer", "brokerkit FAST", "list FAST"]
    assert order[:5] == names  # the warm-up
    for first in range(5, len(order), 5):
        assert sorted(order[first : first + 5]) == sorted(names)
    assert len(set(map(tuple, (order[first : first + 5] for first in range(5, len(order), 5))))) > 1
    assert {key[2]: len(samples) for key, samples in figures.samples.items()} == dict.fromkeys(names, 8)
    assert figures.notes["list SLOW"] == "nothing is stored"


def test_the_deep_cell_keeps_both_queues_filled(entrant, tmp_path):
    shallow, deep = entrant(InMemory), entrant(InMemory)
    deep.contender.open(tmp_path / "deep")
    found = depths(shallow, deep, rounds=2, waiting=10_000)
    assert [one.prefetch for one in found] == [100, 1]
    assert (shallow.contender.depth(), deep.contender.depth()) == (1_000, 10_000)
    assert Depths("x", 1, 2.0, 3.0, 10).ratio == 1.5


def test_importing_brokerkit_loads_no_client():
    ours, kombu = imports(["brokerkit", "kombu.connection"])
    assert ours.clients == ()
    assert "kombu" in kombu.clients
    assert kombu.seconds > 0


def figures():
    def samples(*rates):
        return [Sample(100, 100 / rate, 0.001) for rate in rates]

    return Figures(
        samples={
            ("send", 1024, "brokerkit SLOW"): samples(900, 1000, 1100),
            ("send", 1024, "list SLOW"): samples(2000, 2000, 2000),
            ("send", 1024, "peer"): samples(90, 100, 300),
            ("send", 1024, "brokerkit FAST"): samples(5000, 5000, 5000),
        },
        latency={"brokerkit SLOW": [0.001, 0.002, 0.5], "peer": [0.5, 0.6, 0.7]},
        deep=[Depths("brokerkit SLOW", 100, 10.0, 12.0, 1_000_000), Depths("brokerkit SLOW", 1, 10.0, 14.0, 1_000_000)],
        imports=[Import("brokerkit", 0.03, 80, ())],
        notes={"peer": "nothing"},
    )


@pytest.mark.parametrize(
    ("one", "measured", "met"),
    [
        (goal(cell="send", mode="SLOW", versus="peer", value=10), 10.0, True),
        (goal(cell="send", mode="SLOW", versus="peer", value=10.1), 10.0, False),
        (goal(cell="send", mode="FAST", versus="peer", value=50), 50.0, True),
        (goal(cell="send", mode="SLOW", versus="list", value=0.6), 0.5, False),
        (goal(cell="deep", value=1.5, bound="at most"), 1.4, True),
        (goal(cell="latency", value=0.02, bound="at most"), 0.002, True),
        (goal(cell="latency", versus="peer", value=0.001, bound="at most"), 0.002 / 0.6, False),
        (goal(cell="import", value=0, bound="at most"), 0, True),
    ],
)
def test_goals_are_judged_by_ratios_of_medians(one, measured, met):
    report = Report(benchmark(one), Settings(rounds=3), figures(), machine={}, versions={})
    (judged,) = report.goals
    assert judged.measured == pytest.approx(measured)
    assert judged.met is met
    assert bool(report.missed) is not met


def test_a_goal_that_the_run_cannot_tell_of_is_left_out():
    goals = (goal(cell="send_many", versus="peer", value=1), goal(cell="send", mode="FAST", versus="peer", value=1))
    report = Report(benchmark(*goals), Settings(modes=("SLOW",)), figures(), machine={}, versions={})
    assert report.goals == []


def test_the_page_says_what_was_measured_and_how_far_to_trust_it():
    machine = {"when": "today", "processor": "2 × X", "system": "Linux", "python": "3", "load": "0"}
    report = Report(
        benchmark(goal(cell="send", mode="SLOW", versus="peer", value=10)),
        Settings(rounds=3, sizes=(1024,)),
        figures(),
        machine=machine,
        versions={"memory": "1"},
    )
    page = markdown_page(report, "brokerkit bench memory")
    for told in (
        "| send singly | 2,000 (10.0) | 100 (10.0) | 1,000 (10.0) | 0.5 | 10.0 |",
        "| send singly (SLOW): at least 10 × that of peer | 10.0 | met |",
        "3 rounds",
        "interleaved",
        "memory 1",
        "| brokerkit SLOW | 2.0 | 500.0 | 3 |",
        "ran in one list each",
        "was 1.22 times the slowest",
    ):
        assert told in page, page


def test_a_store_of_results_alone_has_its_extra_cells_only(tmp_path, monkeypatch):
    monkeypatch.setattr(measuring, "imports", lambda names: [])
    brought = benchmark(goal(cell="x", versus="peer", value=2), goal(cell="send", versus="peer", value=2))
    brought.modes, brought.rivals = (), lambda mode: []
    brought.extras = [Extra("x", "results: x", "a second", lambda folder: {"brokerkit": 6.0, "peer": 2.0})]
    measured = Run("x", brought, Settings(rounds=2), tmp_path, lambda text: None).measure()
    machine = {"when": "today", "processor": "2 × X", "system": "Linux", "python": "3", "load": "0"}
    report = Report(brought, Settings(rounds=2), measured, machine=machine, versions={})
    assert [(judged.cell, judged.measured, judged.met) for judged in report.goals] == [("x", 3.0, True)]
    page = markdown_page(report, "brokerkit bench x")
    assert "| results: x | a second | 6 | peer | 2 | 3 |" in page
    assert "messages a second" not in page


def test_kombu_does_each_cell(tmp_path):
    kombu = Kombu(lambda folder: f"memory://{uuid.uuid4().hex}", exchange=True)
    kombu.open(tmp_path)
    for one in CELLS:
        if one.fit(kombu):
            sample = one.work(Entrant(kombu, None, tmp_path, lambda: kombu), bodies(120, 20))
            assert sample.messages == 120
    kombu.send(b"x")
    assert kombu.receive(30) == b"x"
    assert kombu.receive(0.01) is None
    kombu.close()


def test_the_cells_of_results_compare_those_who_can(tmp_path):
    url = f"memory://{uuid.uuid4().hex}"
    ours = OurResults(lambda folder: url)
    celery = CeleryResults(lambda folder: f"file://{folder}")
    celery.waits = False
    cells = {one.name: one.turn(tmp_path) for one in result_cells(ours, celery)}
    assert {name: set(figures) for name, figures in cells.items()} == {
        "store": {"brokerkit", "Celery"},
        "fetch": {"brokerkit", "Celery"},
        "wait": {"brokerkit"},
    }
    assert all(figure > 0 for figures in cells.values() for figure in figures.values())


def test_an_unknown_benchmark_names_the_others(capsys):
    with pytest.raises(UnknownScheme, match="sqlite"):
        find("sqlight")
    assert app.run(["bench", "sqlight"]) == exits.CONFIGURATION
    assert app.run(["bench", "--mode", "QUICK"]) == exits.USAGE
    assert "FULL, NORMAL" in capsys.readouterr().err


def test_a_broken_benchmark_says_why(monkeypatch):
    def load():
        raise ImportError("no such thing")

    entry = SimpleNamespace(name="x", load=load)
    monkeypatch.setattr("brokerkit.bench.contract.entry_points", lambda group: [entry])
    with pytest.raises(PluginBroken, match="no such thing"):
        find("x")


_SHORT = ["--rounds", "1", "--size", "100", "--mode", "NORMAL", "--pings", "1", "--budget", "0.01"]


def test_the_command_measures_sqlite_across_processes():
    done = subprocess.run(
        [sys.executable, "-m", "brokerkit.cli", "bench", "sqlite", "--json", *_SHORT],
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert done.returncode in (exits.OK, exits.NO), done.stderr
    told = json.loads(done.stdout)
    assert {row["contender"] for row in told["cells"]} == {"brokerkit", "sqlite3", "kombu"}
    assert {row["cell"] for row in told["cells"]} == {one.name for one in CELLS}
    assert {len(seconds) for seconds in told["latency_seconds"].values()} == {1}
    assert {entry["mode"] for entry in told["goals"] if entry["cell"] == "send"} == {"NORMAL"}
