"""The demonstration: its account is right, its parts notice what is wrong, and it leaves nothing behind."""

import json
import re
import signal
import sqlite3
import subprocess
import sys
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

import brokerkit
from brokerkit._targets import target
from brokerkit.cli import app, exits
from brokerkit.demo.account import Account, fates_of
from brokerkit.demo.awaiting import Awaiting
from brokerkit.demo.eviction import evict
from brokerkit.demo.logbook import DONE, LATE, LOST, STARTED, Entry, Logbook, line
from brokerkit.demo.plan import Errand, Plan, receipt_of
from brokerkit.demo.producer import Producer
from brokerkit.demo.story import Story
from brokerkit.demo.topic import second_virtual_host, tell_the_subscribers
from brokerkit.errors import Unsupported
from brokerkit.results import results
from brokerkit.testing import wait_until

KILLED, FROZEN, OTHER = 0, 1, 2


@pytest.fixture
def memory():
    return target(f"memory://{uuid.uuid4().hex}")


def steps(*told):
    """Entries of (worker, step, order, attempt); the message's id is that of the order."""
    return [Entry(worker, step, f"m{order}", order, attempt) for worker, step, order, attempt in told]


def fates(*told):
    return fates_of(steps(*told), killed=KILLED, frozen=FROZEN, poison=frozenset({99}))


def test_an_order_that_a_dead_worker_had_begun_is_redelivered_and_handled_once():
    told = fates((KILLED, STARTED, 1, 1), (OTHER, STARTED, 1, 2), (OTHER, DONE, 1, 2))
    assert told.handled == {1}
    assert told.redelivered == {1}
    assert sum(told.twice.values()) == 0


@pytest.mark.parametrize(
    ("first", "reason"), [(KILLED, "killed"), (FROZEN, "frozen"), (OTHER, "unexplained"), (3, "unexplained")]
)
def test_an_order_that_was_handled_twice_has_a_reason(first, reason):
    told = fates((first, STARTED, 1, 1), (first, DONE, 1, 1), (OTHER, STARTED, 1, 2), (OTHER, DONE, 1, 2))
    assert {why: n for why, n in told.twice.items() if n} == {reason: 1}


def test_a_lost_lease_on_a_slow_machine_is_a_reason_too():
    told = fates((3, STARTED, 1, 1), (3, LOST, 1, 0), (OTHER, STARTED, 1, 2), (OTHER, DONE, 1, 2), (3, DONE, 1, 1))
    assert told.twice["slow"] == 1
    assert told.late_acks == 0


def test_late_acks_are_counted_once_and_repeats_of_spoilt_orders_are_no_redelivery():
    told = fates((FROZEN, STARTED, 1, 1), (FROZEN, LATE, 1, 0), (FROZEN, LATE, 1, 1), (OTHER, STARTED, 99, 2))
    assert told.late_acks == 1
    assert told.redelivered == set()


def good():
    return Account(
        sent=100,
        poison=frozenset({99}),
        fates=replace(fates(), handled=frozenset(range(99)), late_acks=1),
        dead=frozenset({99}),
        copies=6,
        heard=6,
        awaited=100,
        evicted=3,
        reported_lost=3,
    )


def test_a_good_account_has_no_problems():
    assert good().problems == []
    assert good().document()["ok"] is True
    assert good().lost == 0


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"sent": 101}, "1 orders were lost"),
        ({"dead": frozenset()}, "1 spoilt orders were not dead-lettered"),
        ({"dead": frozenset({99, 3})}, "1 sound orders were dead-lettered"),
        ({"poison": frozenset({98, 99}), "dead": frozenset({98, 99})}, "1 spoilt orders were handled"),
        ({"left": 2}, "2 messages are left"),
        ({"heard": 5}, "1 copies of the topic did not arrive"),
        ({"leaked": 1}, "1 copies leaked"),
        ({"wrong_results": 4}, "4 results are missing or wrong"),
        ({"reported_lost": 2}, "1 evicted results were not reported lost"),
        ({"troubles": ["rain"]}, "rain"),
        ({"fates": replace(good().fates, late_acks=0)}, "no late ack"),
        ({"fates": replace(good().fates, twice={"unexplained": 1})}, "handled twice for no reason"),
        ({"fates": replace(good().fates, handled=frozenset(range(98)))}, "1 orders were lost"),
    ],
)
def test_whatever_is_wrong_is_a_problem(change, problem):
    account = replace(good(), **change)
    assert any(problem in text for text in account.problems), account.problems
    assert account.document()["ok"] is False


def test_the_logbook_waits_for_whole_lines(tmp_path):
    log = tmp_path / "log"
    book = Logbook([log, tmp_path / "absent"])
    book.read()
    log.write_bytes(line(STARTED, "a", 1, 1) + line(DONE, "a", 1, 1) + line(STARTED, "b", 2, None)[:-2])
    book.read()
    assert book.done == {1}
    assert book.at_work(0) is None
    with log.open("ab") as file:
        file.write(line(STARTED, "b", 2, None)[-2:])
    book.read()
    assert book.at_work(0) == 2
    assert book.entries[-1] == Entry(0, STARTED, "b", 2, 0)


def test_an_errand_survives_its_way_to_the_worker():
    errand = Errand(
        broker="redis://:p%40ss@h", results="x", queue="q", log="/l", visibility_timeout=3.0, prefetch=5, max_attempts=3
    )
    assert Errand.read(errand.written()) == errand


def test_virtual_hosts_are_isolated_on_memory_by_the_path(memory):
    heard = tell_the_subscribers(memory, Plan(notices=20))
    assert (heard.published, heard.copies, heard.heard, heard.leaked) == (40, 60, 60, 0)
    assert heard.isolated_by == "the path"


def test_a_leak_is_noticed():
    heard = tell_the_subscribers(target(f"memory://{uuid.uuid4().hex}?fanout_prefix=false"), Plan(notices=20))
    assert (heard.heard, heard.leaked) == (60, 60)


@pytest.mark.parametrize(
    ("url", "how", "where"),
    [
        ("memory://h", "the path", "memory://h/1"),
        ("memory://h/3", "the path", "memory://h/4"),
        ("memory://h/prod", "the path", "memory://h/brokerkit-x"),
        ("sqlite:///{folder}/a.db", "the option virtual_host", None),
        ("sqlite:///{folder}/a.db?virtual_host=7", "the option virtual_host", None),
    ],
)
def test_the_second_virtual_host_is_found_in_the_engines_own_way(tmp_path, url, how, where):
    found, broker = second_virtual_host(target(url.format(folder=tmp_path)), "brokerkit-x")
    with broker:
        assert found == how
        if where is None:
            assert broker.transport_options.virtual_host == ("8" if "virtual_host" in url else "brokerkit-x")
        else:
            assert str(broker.url) == where


def test_evicted_results_are_reported_lost_and_waiting_is_told_apart(memory):
    with memory.results() as store:
        seen = evict(memory, store, Plan())
    assert (seen.records, seen.reported_lost, seen.waiting_told_apart) == (3, 3, True)
    assert seen.slowest < 10


def test_results_are_checked():
    url = f"memory://{uuid.uuid4().hex}"
    plan = Plan(orders=10)
    with brokerkit.connect(url) as broker, results(url) as store:
        broker.declare(plan.queue)
        producer = Producer(broker, store, plan)
        producer.run()
        assert (producer.sent, producer.troubles) == (10, [])
        assert broker.depth(plan.queue).ready == 10
        for number in range(10):
            item = plan.order(number)["item"]
            if number in plan.poison:
                store.set_exception(plan.result_id(number), ValueError("spoilt"))
            else:
                store.set_result(plan.result_id(number), "wrong" if number == 4 else receipt_of(number, item))
        store.forget(plan.result_id(6))
        awaiting = Awaiting(producer, plan)
        awaiting.run()
    assert (awaiting.finished, awaiting.right, awaiting.ended) == (10, 8, True)
    assert "order 4 has another result" in awaiting.troubles
    assert any("order 6 did not come" in text for text in awaiting.troubles)


def test_a_producer_that_cannot_send_says_so():
    url = f"memory://{uuid.uuid4().hex}"
    with brokerkit.connect(url) as broker, results(url) as store:
        producer = Producer(broker, store, Plan(orders=10))
        producer.run()
    assert producer.ended
    assert "does not exist" in producer.troubles[0]


class Silence:
    def progress(self, **done):
        pass

    def say(self, text):
        pass


def test_an_engine_of_one_process_is_refused(memory, monkeypatch, capsys):
    with pytest.raises(Unsupported, match="lives in one process"):
        Story(memory, memory, Plan(), Silence()).run()
    assert app.run(["demo", "memory://"]) == exits.CONFIGURATION
    assert "give it another URL" in capsys.readouterr().err


def command(*args, **options):
    return [sys.executable, "-m", "brokerkit.cli", "demo", "--orders", "2000", *args]


def rows_left(path):
    with sqlite3.connect(path) as database:
        tables = [name for (name,) in database.execute("select name from sqlite_master where type = 'table'")]
        counts = {name: database.execute(f'select count(*) from "{name}"').fetchone()[0] for name in tables}
    database.close()
    return counts


def test_it_loses_nothing_and_leaves_nothing_behind(tmp_path):
    url = f"sqlite:///{tmp_path}/demo.db"
    done = subprocess.run(command(url, "--json"), capture_output=True, text=True, check=False, timeout=100)
    told = json.loads(done.stdout)
    assert done.returncode == exits.OK, (told, done.stderr)
    assert (told["sent"], told["lost"], told["fanout"]["leaked"], told["results"]["awaited"]) == (2000, 0, 0, 2000)
    assert told["handled"] + told["dead_lettered"] == 2000
    assert told["dead_lettered"] == len(Plan(orders=2000).poison) > 0
    assert told["late_acks_refused"] >= 1
    assert told["redelivered"] >= 1
    assert told["results"]["reported_lost"] == 3
    for said in ("killed worker 1", "froze worker 2", "woke worker 2"):
        assert said in done.stderr
    assert not any(count > 50 for count in rows_left(tmp_path / "demo.db").values())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, exits.INTERRUPTED), (signal.SIGTERM, exits.TERMINATED)])
def test_no_worker_and_no_queue_is_left_when_it_is_interrupted(tmp_path, number, code):
    url = f"sqlite:///{tmp_path}/demo.db"
    with subprocess.Popen(command(url, "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
        workers = []
        for said in demo.stderr:
            if "workers are ready" in said:
                workers = [int(pid) for pid in re.findall(r"\d+", said.partition("ready:")[2])]
            if "froze" in said:
                break
        demo.send_signal(number)
        demo.communicate(timeout=60)
    assert demo.returncode == code
    assert len(workers) == 4
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
    assert not any(count > 50 for count in rows_left(tmp_path / "demo.db").values())
