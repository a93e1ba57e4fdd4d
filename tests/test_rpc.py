"""Results over rpc: whoever has the id stores, the requester alone reads, and everybody else is told so."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

import brokerkit
from brokerkit._records import Header, encode_record
from brokerkit.capabilities import Durability
from brokerkit.errors import (
    InvalidName,
    InvalidOption,
    InvalidURL,
    NotRequester,
    RemoteFailure,
    ResultLost,
    UnknownScheme,
)
from brokerkit.models import Message, Received, Record
from brokerkit.results import State, results
from brokerkit.rpc import RpcOptions
from brokerkit.rpc.addressing import encode
from brokerkit.rpc.options import broker_of
from brokerkit.testing import ManualClock
from brokerkit.url import URL

HANG = 30.0
ANOTHER = {"max_length": 9_999}  # another option makes another requester, as another process would be

WORKER = """
import json, sys
from brokerkit.errors import BrokerkitError
from brokerkit.results import results
orders = json.loads(sys.stdin.readline())
told = []
with results(orders["url"]) as store:
    store.set_state(orders["id"], "STARTED", meta={"pid": 1})
    told.append(store.set_result(orders["id"], {"n": 42}))
    told.append(store.set_exception(orders["bad"], ValueError("no")))
    for attempt in (store.get, store.pending, store.forget, store.reserve):
        try:
            told.append(str(attempt(orders["id"])))
        except BrokerkitError as error:
            told.append(type(error).__name__)
    told.append(type(store.get_many([orders["id"]])[0].problem).__name__)
print(json.dumps(told))
"""


@pytest.fixture(params=["memory", "sqlite"])
def url(request, tmp_path):
    return f"rpc+memory://{uuid.uuid4().hex}" if request.param == "memory" else f"rpc+sqlite:///{tmp_path}/rpc.db"


@pytest.fixture
def store(url):
    with results(url) as made:
        yield made


@pytest.fixture
def worker(store, url):
    """The store of another process, as far as rpc knows; opened after the requester's, which the server needs first."""
    with results(url, **ANOTHER) as made:
        yield made


def test_another_process_stores_and_is_told_that_it_cannot_read(tmp_path):
    url = f"rpc+sqlite:///{tmp_path}/rpc.db"
    with results(url) as store:
        pending, bad = store.reserve(), store.reserve()
        orders = json.dumps({"url": url, "id": pending.id, "bad": bad.id})
        run = subprocess.run(
            [sys.executable, "-c", WORKER], input=orders + "\n", capture_output=True, text=True, check=True, timeout=60
        )
        assert json.loads(run.stdout) == [True, True, *["NotRequester"] * 5]
        assert pending.result(timeout=HANG) == {"n": 42}
        with pytest.raises(RemoteFailure, match="no"):
            bad.result(timeout=HANG)
        assert store.get(pending.id).value == {"n": 42}  # as often as one likes


def test_an_id_says_whose_it_is(store, worker):
    pending = store.reserve("order 17")
    assert pending.id.endswith(".order 17")
    assert store.own_id("order 17") == store.own_id(pending.id) == pending.id
    assert worker.own_id("order 17") != pending.id
    for call in (store.get, store.pending, store.forget, lambda key: worker.set_result(key, 1)):
        with pytest.raises(InvalidName, match="use the id of reserve"):
            call("order 17")
    assert pending.state is State.PENDING


def test_a_stranger_is_told_at_once(store, worker):
    key, own = store.reserve().id, worker.reserve().id
    for call in (worker.get, worker.pending, worker.forget, worker.reserve, worker.own_id):
        with pytest.raises(NotRequester, match="only who reserved it"):
            call(key)
    with pytest.raises(NotRequester):
        worker.wait_all([own, key], timeout=HANG)
    there, refused = worker.get_many([own, key])
    assert there.state is State.PENDING
    assert isinstance(refused.problem, NotRequester)
    assert store.get(key).state is State.PENDING


def test_waiters_are_woken_by_a_stranger(store, worker):
    pending = [store.reserve() for _ in range(40)]
    with ThreadPoolExecutor(20) as pool:
        got = [pool.submit(each.result, HANG) for each in pending]
        for n in reversed(range(40)):
            assert worker.set_result(pending[n].id, n) is True
        assert [each.result(HANG) for each in got] == list(range(40))


def test_a_look_sees_what_was_stored_before_while_another_thread_waits(store, worker):
    with ThreadPoolExecutor(1) as pool:
        last = store.reserve()
        waiting = pool.submit(last.result, HANG)
        for n in range(20):
            key = store.reserve().id
            worker.set_result(key, n)
            assert store.get(key).value == n
        worker.set_result(last.id, "last")
        assert waiting.result(HANG) == "last"


def test_stores_of_one_process_share_their_reply_queue(store, url):
    pending = store.reserve()
    with results(url, expires=5) as second:
        assert second.own_id("x") == store.own_id("x")
        second.set_result(pending.id, 1)
        assert second.get(pending.id).value == 1
    assert pending.result(timeout=HANG) == 1
    assert store.set_result(store.reserve().id, 2)  # the queue outlives the second store


def test_the_first_final_state_stays(store, worker):
    key = store.reserve().id
    assert worker.set_result(key, 1) is True
    assert worker.set_result(key, 2) is True  # it was sent: who stores from afar does not learn of the first
    assert store.get(key).value == 1
    assert store.set_result(key, 3) is False  # in the requester's process one does
    assert store.set_state(key, "STARTED") is False
    assert store.get(key).value == 1


def test_what_is_delivered_twice_is_taken_once(store):
    key, replies = store.reserve().id, store.backend.replies

    def deliver(number, state):
        record = Record(key=key, value=encode_record(Header(State(state), 0.0)))
        message = Message(id=f"{number:032x}", body=encode(record, 60.0))
        replies._put(Received(message=message, queue="q", receipt=None, attempt=None, deadline=0.0))

    deliver(1, "STARTED")
    deliver(2, "RETRY")
    deliver(1, "STARTED")
    assert store.get(key).state is State.RETRY


def test_a_closed_requester_is_gone(url):
    with results(url, **ANOTHER) as worker:
        with results(url) as store:
            key = store.reserve().id
            queue = store.backend.replies._queue.name
        with pytest.raises(ResultLost, match="requester gone"):
            worker.set_result(key, 1)
    with brokerkit.connect(url.removeprefix("rpc+")) as broker, pytest.raises(brokerkit.errors.QueueNotFound):
        broker.purge(queue)


def test_a_forked_child_is_a_requester_of_its_own(tmp_path):
    with results(f"rpc+sqlite:///{tmp_path}/rpc.db") as store:
        pending = store.reserve()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                with pytest.raises(NotRequester):
                    store.get(pending.id)
                own = store.reserve()
                assert store.set_result(own.id, "own")
                assert own.result(timeout=HANG) == "own"
                assert store.set_result(pending.id, "from the child") is True
                store.close()
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        assert pending.result(timeout=HANG) == "from the child"


def test_time_to_live_ends_in_the_queue_and_in_the_process():
    clock, url = ManualClock(), f"rpc+memory://{uuid.uuid4().hex}"
    with results(url, clock=clock, expires=10) as store, results(url, clock=clock, expires=10, **ANOTHER) as worker:
        reserved, unread, read = store.reserve(), store.own_id("unread"), store.own_id("read")
        worker.set_result(unread, 1)
        clock.advance(11)
        worker.set_result(read, 2)
        assert store.get(unread).lost == "expired"
        assert store.get(read).value == 2
        with pytest.raises(ResultLost, match="expired"):
            reserved.result(timeout=0)
        clock.advance(11)
        assert store.get(read).lost == "expired"


def test_promises_are_the_transports():
    with results("rpc+memory://promises") as store, brokerkit.connect("memory://promises") as broker:
        facts = store.capabilities
        assert (facts.readers, facts.shared, facts.embedded) == ("requester", "process", True)
        assert facts.max_value < broker.capabilities.max_message
        assert facts.durability == Durability(restart=False, kill=False, power_loss="no")
        for handle in (store, store.backend, store.reserve()):
            with pytest.raises(TypeError):
                pickle.dumps(handle)


@pytest.mark.parametrize(
    ("url", "options", "error", "says"),
    [
        ("rpc://", {}, InvalidURL, "option broker"),
        ("rpc://host", {}, InvalidURL, r"write rpc\+redis://"),
        ("rpc+memroy://", {}, UnknownScheme, "did you mean 'memory'"),
        ("rcp+memory://", {}, UnknownScheme, "result backend"),
        ("rpc+memory://x", {"broker": "memory://x"}, InvalidOption, "give it once"),
        ("rpc+memory://x", {"max_lenght": 5}, InvalidOption, "did you mean 'max_length'"),
        ("rpc+memory://x?prefetch=5", {}, InvalidOption, "prefetch"),
        ("rpc+memory://x?fanout_prefix=a", {"broker_options": {"fanout_prefix": "b"}}, InvalidOption, "twice"),
        ("rpc://", {"broker": "memory://x?fanout_prefx=a"}, InvalidOption, "did you mean 'fanout_prefix'"),
        ("rpc+memory://x", {"max_records": 0}, InvalidOption, "at least 1"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_to_write(url, options, error, says):
    with pytest.raises(error, match=says):
        results(url, **options)


def test_the_broker_may_stand_in_an_option():
    name = uuid.uuid4().hex
    broker = f"memory://{name}?prefetch=7&fanout_prefix=a"  # as `connect` has it
    with results("rpc://", broker=broker) as store, results(f"rpc+memory://{name}", **ANOTHER) as worker:
        pending = store.reserve()
        worker.set_result(pending.id, 1)
        assert pending.result(timeout=HANG) == 1
        assert store.backend.replies.transport.options.fanout_prefix == "a"


def test_no_password_is_shown():
    for store in (results("rpc://", broker="redis://:hunter2@h/0"), results("rpc+redis://:hunter2@h/0")):
        with store:
            assert "hunter2" not in f"{store!r} {store.url} {store.backend.replies._broker!r}"
            assert store.backend.replies._broker.url.password == "hunter2"


def test_a_transports_driver_stays_in_its_url():
    address = broker_of(URL.parse("rpc+redis+socket:///run/x.sock"), RpcOptions())
    assert str(address.url) == "redis+socket:///run/x.sock"
