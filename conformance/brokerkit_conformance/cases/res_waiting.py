"""RES, second part: waiting and racing."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from typing import Any

from brokerkit.errors import (
    ResultLost,
)
from brokerkit.results import State
from brokerkit_conformance.bench import HANG, Bench, check
from brokerkit_conformance.casebook import case
from brokerkit_conformance.cases._refused import refused
from brokerkit_conformance.storage import Role


@case("RES-09")
def no_lost_wake_up(bench: Bench) -> None:
    """A result that is stored before, while or after somebody begins to wait wakes everybody, by whomever it was stored."""
    writers = [bench.results, bench.store()]
    slowest = 0.0
    for i in range(60):
        key, writer = bench.key(f"r{i}"), writers[i % 2]
        pending = bench.results.reserve(key) if i % 3 else bench.results.pending(key)
        began = threading.Event()
        got: list[Any] = []

        def wait(pending: Any = pending, got: list[Any] = got, began: threading.Event = began) -> None:
            began.set()
            got.append((pending.result(timeout=600.0), time.monotonic()))

        waiters = [bench.thread(wait) for _ in range(1 + i % 3)]
        if i % 4:
            began.wait(HANG)
        for _ in range((i % 7) * 200):  # a little real time, different each round
            pass
        writer.set_result(key, i)
        stored = time.monotonic()
        _await_wake_up(bench, waiters)
        check(len(got) == len(waiters), f"round {i}: {len(waiters) - len(got)} waiters sleep on")
        check(all(value == i for value, _ in got), f"round {i}: woken with {got}")
        slowest = max([slowest, *(at - stored for _, at in got)])
    bench.measured["slowest wake-up"] = slowest
    bench.join()


def _await_wake_up(bench: Bench, waiters: list[threading.Thread]) -> None:
    """Wait for threads. A store that wakes waiters needs no time of its own for it, so moved time stands still."""
    still = bench.time.clock is not None and bench.results_capabilities.wait == "push"
    end = time.monotonic() + (10.0 if still else HANG)
    with contextlib.nullcontext() if still else bench.time.running():
        for waiter in waiters:
            waiter.join(max(end - time.monotonic(), 0))


@case("RES-11")
def many_waiters(bench: Bench) -> None:
    """Two hundred waits in forty threads, for same and different ids: each wakes once, with its own value."""
    other = bench.store()
    got: list[tuple[int, Any]] = []
    lock = threading.Lock()

    def wait(first: int) -> None:
        for n in range(first, first + 5):
            value = bench.results.pending(bench.key(f"{n % 100}")).result(timeout=600.0)
            with lock:
                got.append((n % 100, value))

    threads = [bench.thread(lambda first=first: wait(first)) for first in range(0, 200, 5)]  # type: ignore[misc]
    for n in reversed(range(100)):
        (other if n % 2 else bench.results).set_result(bench.key(f"{n}"), {"n": n})
    _await_wake_up(bench, threads)
    check(not any(thread.is_alive() for thread in threads), f"{len(got)} of 200 woke")
    bench.join()
    check(sorted(n for n, _ in got) == sorted(list(range(100)) * 2), f"{len(got)} of 200 woke")
    check(all(value == {"n": n} for n, value in got), "somebody woke with another's value")


@case("RES-15")
def torn_records(bench: Bench) -> None:
    """Many writers, records of different sizes: readers see whole records only, and exactly one final writer wins."""
    key = bench.key("torn")
    stores = [bench.results, *(bench.store() for _ in range(3))]
    won: list[int] = []
    stop, reading = threading.Event(), threading.Event()
    together = threading.Barrier(16)
    seen: list[Any] = []

    def write(n: int) -> None:
        store, size = stores[n % len(stores)], 10 + 997 * n
        reading.wait(HANG)
        for _ in range(10):
            store.set_state(key, State.STARTED, meta={"n": n, "fill": str(n % 10) * size})
        together.wait(HANG)  # a final record ends the writing
        if store.set_result(key, {"n": n, "fill": str(n % 10) * size}):
            won.append(n)

    def read() -> None:
        store = bench.store()
        while not stop.is_set():
            found = store.get(key)
            reading.set()
            seen.append(found.value if found.state is State.SUCCESS else found.meta)

    reader = bench.thread(read)
    writers = [bench.thread(lambda n=n: write(n)) for n in range(16)]  # type: ignore[misc]
    for writer in writers:
        writer.join(HANG)
    stop.set()
    reader.join(HANG)
    bench.join()
    final = bench.results.get(key).value
    check(len(won) == 1 and won[0] == final["n"], f"{len(won)} writers were told that their final result is stored")
    for record in filter(None, [*seen, final]):
        n = record["n"]
        check(record["fill"] == str(n % 10) * (10 + 997 * n), f"a reader saw a torn record of writer {n}")
    bench.measured["reads"] = len(seen)


@case("RES-16", crowd=True)
def first_use_by_many(bench: Bench) -> None:
    """Ten processes that use a new store for the first time at once all succeed; where only we read, they are told so."""
    read = "SUCCESS" if bench.results_capabilities.readers == "any" else "NotRequester"
    keys = [bench.key(f"{n}") for n in range(10)]
    if read != "SUCCESS":
        for key in keys:
            bench.results.reserve(key)
    actors = [
        bench.actor(
            "results",
            keys[n],
            url=bench.results_urls[0],
            options=dict(bench.harness.results_options()),
            value=n,
        )
        for n in range(10)
    ]
    for n, actor in enumerate(actors):
        stored = actor.wait_for("stored", within=60.0)
        check(stored["stored"] is True and stored["state"] == read, f"process {n}: {stored}")
        actor.wait_for("done")
    with bench.time.running():
        found = [bench.results.pending(key).result(timeout=HANG) for key in keys]
    check(found == list(range(10)), "values are missing")


@case("RES-27")
def read_your_write(bench: Bench) -> None:
    """What one connection has stored, another reads at once."""
    other = bench.store()
    for i in range(20):
        bench.results.set_result(bench.key(f"{i}"), i)
        check(other.get(bench.key(f"{i}")).value == i, f"a second connection does not see write {i}")


@case("RES-29")
def evicted_while_waiting(bench: Bench) -> None:
    """A record that the server drops while somebody waits ends the wait as lost, soon; it does not hang."""
    pending = bench.results.reserve(bench.key("evicted"))
    told: list[str] = []

    def wait() -> None:
        told.append(refused(lambda: pending.result(timeout=math.inf), ResultLost, "waiting for what is evicted").reason)

    thread = bench.thread(wait)
    bench.wait_until(lambda: not pending.done(), within=1, what="it is waiting")
    bench.storage(bench.results_urls[0]).evict(Role.RESULT, bench.key("evicted"))
    with bench.time.running():
        thread.join(HANG)
    bench.join()
    check(told in (["unknown"], ["evicted"]), f"the waiter was told {told}")
