"""EVI, of result stores: everything gone, no room, what is warned of, and a map that hides nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from brokerkit.errors import InconsistencyError, ResultLost, StorageFull
from brokerkit.results import State
from brokerkit_conformance.bench import HANG, Bench, check
from brokerkit_conformance.casebook import of_results
from brokerkit_conformance.cases.evi_whole import told_of_risks
from brokerkit_conformance.model import NotRun
from brokerkit_conformance.storage import Role

if TYPE_CHECKING:
    from brokerkit.results import ResultStore

_REASONS: Final = (None, "unknown", "evicted")


@of_results("EVI-11")
def everything_gone(bench: Bench) -> None:
    """Everything is gone at once: who waits for what was reserved is told, nothing comes back, and new results work."""
    bench.private(results=True)
    ways = list(bench.storage(bench.results_urls[0]).admin.disasters())
    check(ways, "the harness's admin knows no disaster")
    for way in ways:
        bench.private(results=True)
        _survive(bench, bench.storage(bench.results_urls[0]).admin.disasters()[way], way)
    bench.measured["lost by"] = ", ".join(ways)


def _survive(bench: Bench, disaster: Callable[[], object], way: str) -> None:
    url = bench.results_urls[0]
    store, other = bench.store(url=url), bench.store(url=url)
    done, pending = bench.name("done"), store.reserve(bench.name("reserved"))
    store.set_result(done, 1)
    told: list[object] = []
    waiter = bench.thread(lambda: told.append(_end_of(pending)))
    bench.wait_until(lambda: not pending.done(), within=1, what="it is waiting")
    disaster()
    with bench.time.running():
        waiter.join(HANG)
    check(len(told) == 1 and told[0] in (*_REASONS, InconsistencyError), f"{way}: who waits was told {told}")
    for reader in (store, other):
        found = _once_told(lambda r=reader: r.get(done))  # type: ignore[misc]
        check(found.state is State.UNKNOWN and found.lost in _REASONS, f"{way}: what is gone reads as {found}")
    for n in range(5):
        check(store.set_result(bench.name(f"{way}{n}"), n), f"{way}: nothing can be stored after it")
        check(other.get(bench.name(f"{way}{n}")).value == n, f"{way}: what was stored after it is not there")
    check(other.set_result(done, 2) and store.get(done).value == 2, f"{way}: what is gone keeps others out")  # noqa: PLR2004
    bench.join()


def _end_of(pending: Any) -> object:
    try:
        return pending.result(timeout=math.inf)
    except ResultLost as error:
        return error.reason
    except InconsistencyError:
        return InconsistencyError


def _once_told(call: Callable[[], Any]) -> Any:
    """Make a call; a store may say once on each connection that something is gone."""
    for _ in range(2):
        with suppress(InconsistencyError):
            return call()
    return call()


@of_results("EVI-13")
def full(bench: Bench) -> None:
    """A store without room refuses, as StorageFull; what is there can be read and forgotten; room heals it."""
    server = bench.harness.full_server()
    if server is None:
        raise NotRun("the harness gives no server whose room can be bounded")
    with server as bounded:
        store = bench.store(url=bounded.url, timeout=5.0, **bounded.options)
        check(store.set_result(bench.name("before"), "x" * 500), "nothing can be stored")
        bounded.bound(True)
        kept = [] if store.get(bench.name("before")).state is State.UNKNOWN else [bench.name("before")]
        kept += _fill(bench, store)
        found = store.get_many(kept)
        check(all(each.state is State.SUCCESS for each in found), "a full store has lost what it kept")
        store.forget(*kept[:1])
        bounded.bound(False)
        check(_stored_soon(store, bench.name("after")), "it has room again, and takes nothing")
        check(store.get(bench.name("after")).value == "after", "what was stored after it was full is not there")
        with bench.time.running():
            store.close()


def _fill(bench: Bench, store: ResultStore) -> list[str]:
    """Store until there is no room; return what was stored."""
    stored: list[str] = []
    for n in range(2_000):
        key = bench.name(f"fill{n}")
        try:
            store.set_result(key, "y" * 10_000)
        except StorageFull as error:
            check(str(error) and not error.retryable, "a full store is not worth a retry")
            check(store.get(key).state is State.UNKNOWN, "what was refused is there")
            return stored
        stored.append(key)
    raise AssertionError("a store that was bounded took 20 MB more")


def _stored_soon(store: ResultStore, key: str) -> bool:
    end = time.monotonic() + HANG
    while time.monotonic() < end:
        try:
            return store.set_result(key, "after")
        except StorageFull:
            continue  # a server may need a moment to find its room
    return False


@of_results("EVI-14")
def warned(bench: Bench) -> None:
    """Who opens a store that may drop what it holds is warned; strict=True refuses it. Others are not warned."""
    _, url = bench.harness.evicting_urls()
    told_of_risks(bench.store, url, certain=bench.results_capabilities.evictable)


@of_results("EVI-16")
def the_map_is_complete(bench: Bench) -> None:
    """After every kind of call each key on the server has a role, and each new one belongs to us by name."""
    bench.private(results=True)
    url = bench.results_urls[0]
    store = bench.store(url=url)
    store.get(bench.name("nothing"))
    storage = bench.storage(url)
    before = storage.everything()
    store.reserve(bench.name("reserved"))
    store.set_state(bench.name("started"), State.STARTED, meta={"n": 1})
    store.set_result(bench.name("result"), "x" * 10_000)
    store.set_exception(bench.name("failed"), ValueError("no"))
    store.get_many([bench.name("result"), bench.name("failed")])
    keys = storage.everything()
    unmapped = storage.unmapped(keys)
    check(not unmapped, f"{len(unmapped)} keys have no role, such as {unmapped[:3]}")
    strangers = sorted(each for each in keys - before if bench.name("") not in each)
    check(not strangers, f"{len(strangers)} keys do not bear our names, such as {strangers[:3]}")
    for what in ("reserved", "started", "result", "failed"):
        check(storage.find(Role.RESULT, bench.name(what)), f"{what} is not on the server")
