"""RES: a result store whose connection dies, or that is away."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from brokerkit.errors import ConnectionLost, NotConnected, OperationTimeout
from brokerkit.results import State
from brokerkit.url import URL
from brokerkit_conformance.bench import HANG, Bench, check
from brokerkit_conformance.casebook import case
from brokerkit_conformance.cases._refused import refused
from brokerkit_conformance.cases._through import outage, through_proxy
from brokerkit_conformance.faults import Cut, HalfOpen, Refuse, Way

if TYPE_CHECKING:
    from brokerkit.results import ResultStore

_TRIES: Final = 20
"""In two seconds, with the pauses of the default policy, that is generous."""


@case("RES-10")
def wait_over_a_reset(bench: Bench) -> None:
    """The connection dies while somebody waits, and the result is stored in the gap: the waiter gets it."""
    with through_proxy(bench, bench.results_urls[0]) as (proxy, url):
        for how in ("reset", "silent"):
            store = bench.store(url=url, timeout=10.0)
            pending = store.reserve(bench.key(how, store))
            store.get(pending.id)
            got: list[Any] = []
            waiting = threading.Event()

            def wait(store: Any = store, key: str = pending.id, got: Any = got, waiting: Any = waiting) -> None:
                waiting.set()
                got.append(store.pending(key).result(timeout=HANG))

            requests = proxy.traffic().requests
            thread = bench.thread(wait)
            check(waiting.wait(HANG), "nobody began to wait")
            with suppress(AssertionError):  # it looks, and asks to be woken or looks again; some do both at once
                bench.wait_until(lambda r=requests: proxy.traffic().requests >= r + 2, within=1.0, what="it waits")  # type: ignore[misc]
            with outage(proxy) if how == "reset" else proxy.inject(HalfOpen()):
                check(bench.results.set_result(pending.id, how), "the result was not stored")  # by another way
                bench.let_pass(0.3)
            thread.join(HANG)
            check(got == [how], f"after a {how} connection the waiter got {got}")
            bench.join()
            store.close(timeout=2.0)


@case("RES-23")
def store_while_away(bench: Bench) -> None:
    """While the store is away, storing raises after bounded repeats; it never says that it is done."""
    with through_proxy(bench, bench.results_urls[0]) as (proxy, url):
        store = bench.store(url=url, timeout=2.0)
        store.get(bench.key("warm", store))
        for number, what in enumerate(("nothing listens", "nobody answers", "every request is cut off")):
            key, fault = bench.key(f"{number}"), (Refuse(), HalfOpen(), Cut(way=Way.UP, times=None))[number]
            with proxy.inject(fault):
                if number == 0:
                    proxy.kill_connections()
                before, began = proxy.traffic().connections, time.monotonic()
                error = refused(
                    lambda key=key: store.set_result(key, "value"),  # type: ignore[misc]
                    (ConnectionLost, OperationTimeout),
                    f"storing a result while {what}",
                )
                took, made = time.monotonic() - began, proxy.traffic().connections - before
                check(error.retryable, f"while {what}: the error says that it is no use to try again")
                check(took <= 2.0 + bench.slack, f"while {what}: storing with 2 s raised after {took:.1f} s")
                most = 2 * _TRIES * len(URL.parse(url).hosts)
                check(made <= most, f"while {what}: {made} connections in 2 s")
            if isinstance(error, NotConnected):  # of any other nobody knows whether it was done
                check(bench.results.get(key).state is State.UNKNOWN, f"while {what}: stored, and said not to be sent")
        check(_stored_soon(store, bench.key("after")), "the store is back, and takes nothing")
        check(bench.results.get(bench.key("after")).value == "value", "it was said to be stored, and is not there")
        store.close(timeout=2.0)


def _stored_soon(store: ResultStore, key: str) -> bool:
    for _ in range(3):
        try:
            return store.set_result(key, "value")
        except (ConnectionLost, OperationTimeout):
            continue  # what remains of the fault in a connection
    return store.set_result(key, "value")
