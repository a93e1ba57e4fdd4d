"""FLT, CON and CLN, of result stores: lines that are silent, slow or full of nonsense, a killed server, and what is left."""

from __future__ import annotations

import itertools
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from brokerkit.errors import BrokerkitError, Closed, ConnectionLost, OperationTimeout, TransportError
from brokerkit.results import State, results
from brokerkit_conformance.bench import HANG, Bench, check
from brokerkit_conformance.casebook import of_results
from brokerkit_conformance.cases._refused import refused
from brokerkit_conformance.cases._through import outage, through_proxy
from brokerkit_conformance.cases.cln_leaks import flat
from brokerkit_conformance.faults import Chunks, Cut, Ending, Garble, HalfOpen, Slow, Way
from brokerkit_conformance.model import NotRun

if TYPE_CHECKING:
    from brokerkit.results import ResultStore

_SOON: Final = 2.0
_VALUE: Final = "v" * 20_000
_CYCLES: Final = 200
_WARM_UP: Final = 50
_ROUNDS: Final = 20
"""Calls after which those who came at the same time have begun to wait."""


@of_results("FLT-13")
def killed(bench: Bench) -> None:
    """The server is killed and comes back: what it keeps of results is as declared, who waits is told, and nothing hangs."""
    bench.private(doomed=True, results=True)
    url = bench.results_urls[0]
    control = bench.harness.server_control(url)
    if control is None:
        raise NotRun("the harness cannot kill the server")
    store = bench.store(url=url, timeout=HANG)
    check(store.set_result(bench.name("done"), 1), "nothing can be stored")
    pending = store.reserve(bench.name("reserved"))
    told: list[object] = []
    waiter = bench.thread(lambda: told.append(_end_of(pending)))
    bench.wait_until(lambda: not pending.done(), within=1, what="it is waiting")
    control.kill9()
    control.start()
    kept = bench.results_capabilities.durability.kill
    found = store.get(bench.name("done"))
    if kept:
        check(found.value == 1, f"it says that results survive a kill, and this one is {found}")
        store.set_result(pending.id, "late")
    waiter.join(HANG)
    check(len(told) == 1, "who waits for what was lost with the server waits on")
    check(told == ["late"] if kept else told[0] in ("unknown", "evicted"), f"who waits was told {told}")
    check(store.set_result(bench.name("new"), 2) and store.get(bench.name("new")).value == 2, "it takes nothing new")  # noqa: PLR2004
    bench.join()


def _end_of(pending: Any) -> object:
    try:
        return pending.result(timeout=HANG)
    except BrokerkitError as error:
        return getattr(error, "reason", error)


@of_results("FLT-07")
def half_open(bench: Bench) -> None:
    """The line is silent: every call ends in its time with a typed error, and works again when the line does."""
    with through_proxy(bench, bench.results_urls[0]) as (proxy, url):
        store = bench.store(url=url, timeout=_SOON)
        store.set_result(bench.key("before", store), 1)
        calls = {
            "set_result": lambda: store.set_result(bench.key("x", store), 1),
            "get": lambda: store.get(bench.key("nothing", store)),
            "forget": lambda: store.forget(bench.key("nothing", store)),
        }
        with proxy.inject(HalfOpen()):
            for what, call in calls.items():
                began = time.monotonic()
                error = refused(call, (ConnectionLost, OperationTimeout), f"{what} over a silent line")
                took = time.monotonic() - began
                check(error.retryable, f"{what}: the error says that it is no use to try again")
                check(took <= _SOON + bench.slack, f"{what} with {_SOON:g} s raised after {took:.1f} s")
        check(_read_soon(store, bench.key("before", store)) == 1, "the line is back, and the result cannot be read")
        store.close(timeout=2.0)


@of_results("FLT-10")
def slow(bench: Bench) -> None:
    """Over a line that is slow, or brings its bytes one by one, all comes right, and a wait does not end too early."""
    with through_proxy(bench, bench.results_urls[0]) as (proxy, url):
        store = bench.store(url=url, timeout=HANG)
        pending = store.reserve(bench.key("awaited", store))
        faults: tuple[Slow | Chunks, ...] = (Slow(latency=0.2), Slow(rate=65_536.0), Chunks())
        for n, fault in enumerate(faults):
            with proxy.inject(fault):
                check(store.set_result(bench.key(f"{n}", store), _VALUE), f"{fault}: it was not stored")
                found = store.get_many([bench.key(f"{n}", store), bench.key("hole", store)])
                check([each.value for each in found] == [_VALUE, None], f"{fault}: it came as another")
                check(found[1].state is State.UNKNOWN, f"{fault}: what never was is there")
        with proxy.inject(Slow(latency=0.2)):
            got: list[Any] = []
            bench.thread(lambda: got.append(pending.result(timeout=HANG)))
            for _ in range(5):  # meanwhile it waits, longer than its first look takes
                check(
                    not got and store.get(bench.key("hole", store)).state is State.UNKNOWN,
                    "it came before it was there",
                )
            bench.results.set_result(pending.id, "slowly")
            bench.join()
        check(got == ["slowly"], f"who waits over a slow line got {got}")
        store.close(timeout=2.0)


@of_results("FLT-11")
def nonsense(bench: Bench) -> None:
    """Answers that are nonsense, or end in the middle of a value, are typed errors; never a wrong or half a value."""
    faults: tuple[Garble | Cut, ...] = (
        Garble(),
        Cut(way=Way.DOWN, after=3),
        Cut(way=Way.DOWN, after=3, ending=Ending.FIN),
        Cut(way=Way.DOWN, after=9_000),
        Cut(way=Way.DOWN, after=9_000, ending=Ending.FIN),
    )
    with through_proxy(bench, bench.results_urls[0]) as (proxy, url):
        for fault in faults:
            store = bench.store(url=url, timeout=_SOON, retry_policy={"max_retries": 0})
            key = store.reserve(bench.key("big", store)).id
            bench.results.set_result(key, _VALUE)
            check(_read_soon(store, key) == _VALUE, "it does not come at all")
            with proxy.inject(fault):
                for _ in range(3):
                    with suppress(TransportError):
                        found = store.get(key)
                        check(found.value == _VALUE, f"{fault}: it came as {str(found)[:80]}")
            check(_read_soon(store, key) == _VALUE, f"after {fault} it cannot be read")
            store.close(timeout=2.0)


def _read_soon(store: ResultStore, key: str) -> object:
    for _ in range(5):
        with suppress(ConnectionLost, OperationTimeout):  # what remains of the fault in a connection
            return store.get(key).value
    return store.get(key).value


@of_results("CON-10")
def closed_under_waiters(bench: Bench) -> None:
    """A store that is closed while threads wait or work ends them all, as Closed; nothing deadlocks."""
    store = bench.store()
    told: list[str] = []
    busy = threading.Event()
    together = threading.Barrier(9)

    def wait(n: int) -> None:
        pending = store.reserve(bench.key(f"{n}", store))
        together.wait(HANG)
        told.append(type(refused(lambda: pending.result(timeout=HANG), Closed, "waiting on a closed store")).__name__)

    def work() -> None:
        together.wait(HANG)
        try:
            for n in itertools.count():
                store.set_result(bench.key("busy", store), 1)
                if n == _ROUNDS:
                    busy.set()
        except (Closed, TransportError) as error:
            told.append(type(error).__name__)

    for n in range(6):
        bench.thread(lambda n=n: wait(n))  # type: ignore[misc]
    for _ in range(2):
        bench.thread(work)
    together.wait(HANG)
    check(busy.wait(HANG), "nothing can be stored while others wait")
    began = time.monotonic()
    with bench.time.running():
        store.close(timeout=5.0)
    check(time.monotonic() - began < 5.0 + bench.slack, "close does not end")
    bench.join()
    check(len(told) == 8, f"of eight threads {len(told)} were told")  # noqa: PLR2004


@of_results("CLN-03")
def many_cycles(bench: Bench) -> None:
    """Two hundred times a store is opened, used and closed: descriptors, threads and memory stay as they are."""

    def cycle(number: int) -> None:
        with results(bench.results_urls[0], clock=bench.time.clock, **bench.harness.results_options()) as store:
            store.set_result(bench.key(f"{number % 5}", store), number)
            store.pending(bench.key(f"{number % 5}", store)).result(timeout=0)

    flat(bench, cycle, _WARM_UP, _CYCLES)


@of_results("CLN-07")
def closed_while_away(bench: Bench) -> None:
    """A store that is closed while its server is away, or silent, ends in its time."""
    with through_proxy(bench, bench.results_urls[0]) as (proxy, url):
        for what in ("away", "silent"):
            store = bench.store(url=url, timeout=_SOON)
            pending = store.reserve(bench.key(what, store))
            waiting = bench.thread(lambda p=pending: _end_of(p))  # type: ignore[misc]
            bench.wait_until(lambda p=pending: not p.done(), within=1, what="it is waiting")  # type: ignore[misc]
            with outage(proxy) if what == "away" else proxy.inject(HalfOpen()):
                began = time.monotonic()
                store.close(timeout=_SOON)
                took = time.monotonic() - began
            check(took <= _SOON + bench.slack, f"to close it took {took:.1f} s while the server was {what}")
            waiting.join(HANG)
            check(not waiting.is_alive(), f"a wait goes on after its store was closed while the server was {what}")
            bench.join()
