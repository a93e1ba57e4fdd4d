"""Results over rpc when something is lost or full: waiters are told, nothing unread is dropped unsaid, nothing hangs."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

import brokerkit
from brokerkit import servers
from brokerkit.errors import InconsistencyError, QueueFull, ResultLost, ResultTimeout, StorageFull
from brokerkit.results import State, results
from brokerkit.testing import ManualClock, wait_until

HANG = 30.0
ANOTHER = {"max_length": 9_999}  # another option makes another requester, as another process would be
ONCE = {"retry_policy": {"max_retries": 0}}


@pytest.fixture(params=["memory", "sqlite"])
def url(request, tmp_path):
    return f"rpc+memory://{uuid.uuid4().hex}" if request.param == "memory" else f"rpc+sqlite:///{tmp_path}/rpc.db"


@pytest.fixture
def pool():
    with ThreadPoolExecutor(8) as made:
        yield made


def lose_the_queue(store, url):
    """What an expiry, a person or a restarted server does."""
    with brokerkit.connect(url.removeprefix("rpc+")) as broker:
        broker.delete(store.backend.replies._queue.name)


def waiters(store):
    return store._reader.waiting.waiters()


def test_who_waits_when_the_reply_queue_goes_is_told(url, pool):
    with results(url) as store, results(url, **ANOTHER) as worker:
        waiting = [pool.submit(store.reserve().result, HANG) for _ in range(4)]
        unreserved = pool.submit(store.pending(store.own_id("unreserved")).result, HANG)
        wait_until(lambda: waiters(store) == 5)
        lose_the_queue(store, url)
        for each in waiting:
            assert isinstance(each.exception(HANG), ResultLost)
        assert isinstance(unreserved.exception(HANG), InconsistencyError)
        after = store.reserve()  # the queue is there again
        worker.set_result(after.id, "works")
        assert after.result(timeout=HANG) == "works"


def test_what_was_read_outlives_the_queue_and_what_was_not_is_lost(url):
    with results(url) as store, results(url, **ANOTHER) as worker:
        read, unread = store.reserve(), store.reserve()
        worker.set_result(read.id, 1)
        assert read.result(timeout=HANG) == 1
        worker.set_result(unread.id, 2)
        lose_the_queue(store, url)
        assert store.get(unread.id).lost == "unknown"
        with pytest.raises(ResultLost):
            unread.result(timeout=HANG)
        assert store.get(read.id).value == 1
        worker.set_result(unread.id, "late")  # one that was not under way yet comes all the same
        assert store.get(unread.id).value == "late"


def test_who_stores_while_the_queue_is_gone_is_told(url):
    with results(url) as store, results(url, **ANOTHER) as worker:
        pending = store.reserve()
        lose_the_queue(store, url)
        with pytest.raises(ResultLost, match="requester gone"):
            worker.set_result(pending.id, 1)
        with pytest.raises(ResultLost, match="unknown"):
            pending.result(timeout=HANG)


def test_a_full_reply_queue_refuses(url):
    with results(url, max_length=3) as store, results(url, **ONCE) as worker:
        ids = [store.reserve().id for _ in range(4)]
        for key in ids[:3]:
            worker.set_result(key, key)
        with pytest.raises(QueueFull):
            worker.set_result(ids[3], ids[3])
        assert [found.value for found in store.get_many(ids)] == [*ids[:3], None]
        assert worker.set_result(ids[3], ids[3])  # reading has made room
        assert store.get(ids[3]).value == ids[3]


def test_more_reservations_than_there_is_room_for_are_refused(url):
    with results(url, max_records=3) as store:
        pending = [store.reserve() for _ in range(3)]
        with pytest.raises(StorageFull, match="max_records=3"):
            store.reserve()
        store.set_result(pending[0].id, 0)
        with pytest.raises(StorageFull):
            store.reserve()  # it is there, and nobody has read it
        assert pending[0].result(timeout=HANG) == 0
        fourth = store.reserve()  # takes the place of what was read
        assert store.get(pending[0].id).state is State.UNKNOWN
        store.forget(pending[1].id)
        fifth = store.reserve()
        for n, each in enumerate((pending[2], fourth, fifth)):
            store.set_result(each.id, n)
            assert each.result(timeout=HANG) == n


def test_what_nobody_reserved_gives_way_and_who_asks_for_it_is_told(url):
    with results(url, max_records=2) as store:
        unasked = [store.own_id(f"{n}") for n in range(3)]
        for n, key in enumerate(unasked):
            store.set_result(key, n)
        with pytest.raises(StorageFull, match="nobody had reserved it"):
            store.get(unasked[0])
        assert [store.get(key).value for key in unasked[1:]] == [1, 2]
        reserved = [store.reserve(), store.reserve()]
        store.set_result(store.own_id("late"), 1)
        with pytest.raises(StorageFull):
            store.get(store.own_id("late"))
        for each in reserved:
            store.set_result(each.id, "kept")
        assert [each.result(timeout=HANG) for each in reserved] == ["kept", "kept"]


def test_what_has_expired_makes_room():
    clock = ManualClock()
    with results(f"rpc+memory://{uuid.uuid4().hex}", clock=clock, expires=10, max_records=2) as store:
        for _ in range(50):
            store.reserve()
            store.reserve()
            with pytest.raises(StorageFull):
                store.reserve()
            clock.advance(11)
        inbox = store.backend.replies.inbox
        store.set_result(store.own_id("x"), 1)
        assert len(inbox.server.records) <= 2
        assert len(inbox._owed) + len(inbox._spare) <= 4


def test_strange_messages_in_the_reply_queue_are_passed_over(url, caplog):
    with results(url) as store:
        pending = store.reserve()
        with brokerkit.connect(url.removeprefix("rpc+")) as broker:
            for body in (b"", b"not ours", b"\x01" * 11, b"\x01\x08" + bytes(10), b"\xff" * 5000):
                broker.send(store.backend.replies._queue.name, body)
        store.set_result(pending.id, "behind them")
        assert pending.result(timeout=HANG) == "behind them"
        assert caplog.text.count("something else wrote to the reply queue") == 5


def test_a_wait_ends_when_its_store_is_closed(url, pool):
    with results(url) as store, results(url) as sharing:
        waiting = pool.submit(store.reserve().result, HANG)
        kept = sharing.reserve()
        also = pool.submit(kept.result, HANG)
        wait_until(lambda: waiters(store) == 1 and waiters(sharing) == 1)
        store.close()
        assert type(waiting.exception(HANG)).__name__ == "Closed"
        with pytest.raises(ResultTimeout):
            sharing.reserve().result(timeout=0)
        sharing.set_result(kept.id, "the other store goes on")
        assert also.result(HANG) == "the other store goes on"


def test_a_server_that_forgets_everything_is_told_and_one_that_restarts_is_found_again(pool):
    with servers.Redis() as server:
        url = f"rpc+{server.url()}"
        with results(url, timeout=HANG) as store, results(url, timeout=HANG, **ANOTHER) as worker:
            lost = pool.submit(store.reserve().result, HANG)
            wait_until(lambda: waiters(store) == 1)
            server.kill9()
            server.start()
            assert isinstance(lost.exception(HANG), ResultLost)
            after = pool.submit(store.reserve("after").result, HANG)
            worker.set_result(store.own_id("after"), "works")
            assert after.result(HANG) == "works"


def test_a_server_that_keeps_its_queues_loses_nothing(pool):
    with servers.Redis(aof="always") as server:
        url = f"rpc+{server.url()}?persistence=aof"
        with results(url, timeout=HANG) as store, results(url, timeout=HANG, **ANOTHER) as worker:
            pending = store.reserve()
            worker.set_result(pending.id, "kept")
            waiting = pool.submit(store.reserve("later").result, HANG)
            wait_until(lambda: waiters(store) == 1)
            server.kill9()
            server.start()
            assert pending.result(timeout=HANG) == "kept"
            worker.set_result(store.own_id("later"), "later")
            assert waiting.result(HANG) == "later"
