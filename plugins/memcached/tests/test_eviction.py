"""A store that forgets: by pressure, by a restart, by flush_all, with one of its servers, and over lines that fail."""

from __future__ import annotations

import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from brokerkit_conformance.faults import Blackhole, Cut, Ending, Garble, HalfOpen, Proxy, Slow, Way

from brokerkit import errors
from brokerkit.models import Record
from brokerkit.results import State, results

HANG = 30.0
CURT = {"retry_policy": {"max_retries": 0}}


@pytest.fixture
def waiting():
    """Starts to wait for a result in a thread; gives what becomes of it, when it ends."""
    with ThreadPoolExecutor(16) as pool:
        yield lambda pending: pool.submit(_end_of, pending)


def _end_of(pending):
    began = time.monotonic()
    try:
        return pending.result(timeout=4 * HANG), time.monotonic() - began
    except errors.ResultLost as error:
        return error.reason, time.monotonic() - began


def evictions(server):
    line = next(line for line in server.command("stats").splitlines() if line.startswith("STAT evictions "))
    return int(line.split()[2])


def flood(server, backend, *keys):
    """Store others of the same size, among which memcached evicts, until records have gone. To read them would keep them."""
    (there,) = backend.get(keys[:1], timeout=HANG)
    end = time.monotonic() + 2 * HANG
    n = 0
    while any(server.command(f"me {backend._key(key).decode()}\r\nversion").startswith("ME ") for key in keys):
        assert time.monotonic() < end, "they are not evicted"
        others = [Record(key=f"{n + i:0{len(keys[0])}d}", value=there.value) for i in range(1000)]
        assert backend.put(others, ttl=600, timeout=HANG) == [None] * 1000
        n += 1000


def test_what_was_reserved_and_is_evicted_under_load_is_lost_at_once_to_who_waits(start, open_store, waiting, until):
    server = start(memory=1)
    with Proxy("127.0.0.1", server.facts.port) as proxy:  # who waits also reads, and what is read is not evicted
        store, other = open_store(f"memcached://127.0.0.1:{proxy.port}", timeout=HANG), open_store(server.url())
        pending, later = store.reserve("awaited1"), store.reserve("latecome")
        promise = waiting(pending)
        until(lambda: store._reader.waiting.waiters() == 1)
        with proxy.inject(Blackhole(way=Way.BOTH)):
            flood(server, other.backend, "awaited1", "latecome")
        assert promise.result(HANG)[0] == "unknown"
        began = time.monotonic()
        with pytest.raises(errors.ResultLost, match="unknown"):
            later.result(timeout=4 * HANG)
        assert time.monotonic() - began < HANG
        assert evictions(server) > 0
        never = store.pending("never stored")
        with pytest.raises(errors.ResultTimeout):
            never.result(timeout=0)
        assert store.get("never stored").lost is None


def test_under_load_that_evicts_what_is_there_is_whole_and_the_rest_unknown(start, open_store):
    server = start(memory=1)
    store = open_store(server.url())

    def write(who):
        return [store.set_result(f"{who}-{n}", f"{who}-{n}" * 300) for n in range(400)]

    with ThreadPoolExecutor(4) as pool:
        assert all(all(stored) for stored in pool.map(write, range(4)))
    found = store.get_many([f"{who}-{n}" for who in range(4) for n in range(400)])
    there = [each for each in found if each.state is State.SUCCESS]
    assert evictions(server) > 0
    assert 0 < len(there) < len(found)
    assert all(each.value == each.key * 300 for each in there)
    assert {(each.state, each.lost) for each in found if each.state is not State.SUCCESS} == {
        (State.UNKNOWN, "unknown")
    }


def test_a_final_record_that_was_evicted_can_be_stored_again(start, open_store):
    server = start(memory=1)
    store = open_store(server.url())
    store.set_result("evicted1", 1)
    flood(server, store.backend, "evicted1")
    assert store.get("evicted1").lost == "unknown"
    assert store.set_result("evicted1", 2)
    assert store.get("evicted1").value == 2


@pytest.mark.parametrize("strike", ["flush_all", "restart", "kill"])
def test_everything_gone_ends_every_wait_at_once_and_harms_nothing_new(start, open_store, waiting, strike, until):
    server = start()
    store = open_store(server.url(), timeout=HANG)
    pending = [store.reserve(f"k{n}") for n in range(8)]
    promises = [waiting(each) for each in pending]
    until(lambda: store._reader.waiting.waiters() == 8)
    if strike == "flush_all":
        server.command("flush_all")
    elif strike == "restart":
        server.restart()
    else:
        server.kill9()
        server.start()
    assert {promise.result(HANG)[0] for promise in promises} == {"unknown"}
    assert store.get("never").lost is None
    assert store.set_result("k0", 1)
    assert store.get("k0").value == 1


# -- two servers ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def two(start):
    """Two servers, and the URL of both."""
    a, b = start(), start()
    return a, b, f"{a.url()};{b.url().removeprefix('memcached://')}"


def owned(backend, count=40):
    """Ids by the number of the server that has them."""
    parts = {0: [], 1: []}
    for n in range(count):
        parts[backend._client._ring.owner(backend._key(f"k{n}"))].append(f"k{n}")
    assert min(map(len, parts.values())) > 2
    return parts


def test_each_of_two_servers_has_its_part_and_a_batch_is_in_order(two, open_results):
    a, b, url = two
    backend = open_results(url)
    keys = [f"k{n}" for n in range(200)]
    assert set(backend.put([Record(key=key, value=key.encode()) for key in keys], ttl=60, timeout=HANG)) == {None}
    assert [each.value.decode() for each in backend.get(keys, timeout=HANG)] == keys
    counts = [int(server.command("stats").split("STAT curr_items ")[1].split()[0]) for server in (a, b)]
    assert sum(counts) == 200
    assert min(counts) > 40
    backend.delete(keys, timeout=HANG)
    assert backend.get(keys, timeout=HANG) == [None] * 200


def test_of_a_dead_server_the_keys_are_errors_and_never_another_servers(two, open_results):
    a, b, url = two
    backend = open_results(url)
    parts = owned(backend)
    records = [Record(key=key, value=b"first", final=True) for part in parts.values() for key in part]
    backend.put(records, ttl=60, timeout=HANG)
    b.kill9()
    for key in parts[1][:3]:
        with pytest.raises(Exception) as caught:
            backend.get([key], timeout=HANG)
        translated = backend.errors.translate(caught.value, doing="get")
        assert isinstance(translated, errors.ConnectionLost)
        assert translated.retryable
    outcomes = backend.put(
        [Record(key=f"new-{key}", value=b"x") for key in (*parts[0], *parts[1])], ttl=60, timeout=HANG
    )
    assert {type(each) for each in outcomes} > {type(None)}
    assert [each.value for each in backend.get(parts[0], timeout=HANG)] == [b"first"] * len(parts[0])
    b.start()
    assert backend.get(parts[1], timeout=HANG) == [None] * len(parts[1])
    assert [each.value for each in backend.get(parts[0], timeout=HANG)] == [b"first"] * len(parts[0])
    assert a.command("version").startswith("VERSION")


def test_what_was_under_way_to_a_server_that_died_is_unknown_and_the_others_are_stored(two, open_results, start):
    a, b, _ = two
    with Proxy("127.0.0.1", b.facts.port) as proxy:
        backend = open_results(f"{a.url()};127.0.0.1:{proxy.port}")
        parts = owned(backend)
        backend.get(parts[1], timeout=HANG)
        records = [Record(key=key, value=b"x") for key in (parts[0][0], parts[1][0])]
        with proxy.inject(Cut(way=Way.DOWN, after=0)):
            outcomes = backend.put(records, ttl=60, timeout=HANG)
        assert outcomes[0] is None
        assert isinstance(outcomes[1], errors.OutcomeUnknown)
        assert backend.get([parts[0][0]], timeout=HANG)[0].value == b"x"


@pytest.mark.parametrize("harm", ["killed", "frozen"])
def test_who_waits_on_the_server_that_lives_is_not_held_up_by_the_other(two, open_store, waiting, until, harm):
    _, b, url = two
    store, other = open_store(url, timeout=2 * HANG, socket_timeout=0.5), open_store(url, timeout=HANG)
    parts = owned(store.backend)
    lost, kept, late = store.reserve(parts[1][0]), store.reserve(parts[0][0]), store.reserve(parts[0][1])
    promises = [waiting(each) for each in (lost, kept, late)]
    until(lambda: store._reader.waiting.waiters() == 3)
    if harm == "killed":
        b.kill9()
    else:
        b.pause()
    for key, promise in zip(parts[0][:2], promises[1:], strict=True):
        other.set_result(key, key)
        assert promise.result(HANG)[0] == key
    assert not promises[0].done()
    if harm == "killed":
        b.start()
    else:
        b.resume()
        other.forget(parts[1][0])
    assert promises[0].result(HANG)[0] == "unknown"
    assert store.set_result(parts[1][0], "again")
    assert other.get(parts[1][0]).value == "again"


def test_who_waits_on_a_dead_server_alone_is_told_when_its_time_is_up(two, open_store):
    _, b, url = two
    store = open_store(url, timeout=HANG)
    keys = owned(store.backend)[1][:2]
    pending = [store.reserve(key) for key in keys]
    b.kill9()
    for each in pending:
        with pytest.raises(errors.NotConnected):
            each.result(timeout=1)


# -- lines that fail -----------------------------------------------------------------------------------------------------


@pytest.fixture
def line(plain, open_results):
    """A proxy before the shared server, and what opens backends through it."""
    with Proxy("127.0.0.1", plain.facts.port) as proxy:
        yield proxy, lambda **options: open_results(f"memcached://127.0.0.1:{proxy.port}", **options)


def test_a_slow_line_is_slow_and_right(line):
    proxy, opened = line
    backend = opened()
    with proxy.inject(Slow(latency=0.1)):
        assert backend.put([Record(key="k", value=b"x" * 50_000, final=True)], ttl=60, timeout=HANG) == [None]
        assert backend.get(["k", "hole"], timeout=HANG)[0].value == b"x" * 50_000


@pytest.mark.parametrize("ending", [Ending.RST, Ending.FIN])
@pytest.mark.parametrize("after", [0, 3, 30, 5_000, 50_000])
def test_a_line_that_is_cut_in_a_value_gives_no_half_of_it(line, after, ending):
    proxy, opened = line
    backend = opened()
    backend.put([Record(key="k", value=b"x" * 60_000)], ttl=60, timeout=HANG)
    with proxy.inject(Cut(way=Way.DOWN, after=after, ending=ending)), pytest.raises(Exception) as caught:
        backend.get(["k"], timeout=HANG)
    assert isinstance(backend.errors.translate(caught.value, doing="get"), errors.ConnectionLost)
    assert backend.get(["k"], timeout=HANG)[0].value == b"x" * 60_000


def test_a_line_that_is_half_open_ends_the_call_in_its_time(line):
    proxy, opened = line
    backend = opened(socket_timeout=1.0)
    backend.get(["k"], timeout=HANG)
    with proxy.inject(HalfOpen()):
        for call in (
            lambda: backend.get(["k"], timeout=HANG),
            lambda: backend.put([Record(key="k", value=b"x")], ttl=60, timeout=HANG),
            lambda: backend.delete(["k"], timeout=HANG),
        ):
            began = time.monotonic()
            with pytest.raises(Exception) as caught:
                call()
            assert time.monotonic() - began < HANG / 2
            assert isinstance(backend.errors.translate(caught.value, doing="call"), errors.ConnectionLost)


def test_nonsense_on_the_line_is_never_a_value(line):
    proxy, opened = line
    backend = opened()
    backend.put([Record(key="k", value=b"x" * 1000)], ttl=60, timeout=HANG)
    with proxy.inject(Garble()), pytest.raises(Exception) as caught:
        backend.get(["k"], timeout=2)
    assert backend.errors.translate(caught.value, doing="get").retryable
    assert backend.get(["k"], timeout=HANG)[0].value == b"x" * 1000


def test_a_result_whose_answer_was_cut_off_is_stored_once_and_said_to_be(line, plain):
    proxy, _ = line
    with ExitStack() as stack:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            store = stack.enter_context(results(f"memcached://127.0.0.1:{proxy.port}", timeout=HANG))
        store.get("warm")
        for n in range(5):
            with proxy.inject(Cut(way=Way.DOWN, after=0, times=1)):
                assert store.set_result(f"k{n}", n) is True
            assert store.get(f"k{n}").value == n


# -- what the server may drop --------------------------------------------------------------------------------------------


def test_that_it_may_forget_is_said_when_it_is_opened_and_refused_if_strict(plain):
    with pytest.warns(errors.EvictionRisk, match="memcached may drop by itself: records"):
        results(plain.url()).close()
    with pytest.raises(errors.Unsupported, match="memcached may drop by itself: records"):
        results(plain.url(), strict=True)


def test_servers_that_are_said_not_to_evict_are_asked(start):
    safe, other = start(evict=False), start()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results(safe.url(), evictions=False, strict=True).close()
    both = f"{safe.url()};{other.url().removeprefix('memcached://')}"
    with pytest.warns(errors.EvictionRisk, match="evictions are on"):
        results(both, evictions=False).close()
    with pytest.raises(errors.Unsupported, match="-M"):
        results(both, evictions=False, strict=True)


def test_a_server_that_evicts_nothing_and_is_full_refuses_by_name_and_keeps_what_it_has(start):
    server = start(memory=1, evict=False)
    with results(server.url(), evictions=False) as store:
        store.set_result("first", "kept")
        stored = []

        def fill():
            for n in range(5000):
                store.set_result(f"k{n}", "x" * 2000)
                stored.append(n)

        with pytest.raises(errors.StorageFull, match="-m"):
            fill()
        assert store.get("first").value == "kept"
        assert store.get(f"k{stored[-1]}").value == "x" * 2000


def test_who_is_asked_and_is_not_there_stops_nobody_from_opening(start):
    server = start()
    url = server.url()
    server.kill9()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results(url, evictions=False).close()
    with pytest.raises(errors.ConnectionLost):
        results(url, evictions=False, strict=True)


def test_threads_of_a_closed_store_end(plain, open_store):
    before = threading.active_count()
    store = open_store(plain.url())
    store.set_result("k", 1)
    store.close()
    assert threading.active_count() <= before
