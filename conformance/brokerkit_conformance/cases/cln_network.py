"""CLN: what is left of connections after close, after failing to connect, and when the server is away."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from brokerkit.errors import BrokerkitError
from brokerkit_conformance.bench import Bench, check
from brokerkit_conformance.casebook import case
from brokerkit_conformance.cases._refused import refused
from brokerkit_conformance.cases._through import belongings, outage, through_proxy
from brokerkit_conformance.faults import Cut, HalfOpen, Way


@case("CLN-01")
def connections_after_close(bench: Bench) -> None:
    """After brokers have worked and were closed, not one of their connections stands."""
    queue = bench.queue()
    with through_proxy(bench) as (proxy, url):
        for _ in range(5):
            broker = bench.connect(url=url)
            broker.send_many(queue, [b"x"] * 3)
            consumer = broker.consumer(queue)
            workers = [bench.thread(lambda b=broker: b.send(queue, b"beside")) for _ in range(4)]  # type: ignore[misc]
            for _ in range(7):
                bench.expect(consumer).ack()
            for worker in workers:
                worker.join(bench.slack)
            broker.close()
        bench.join()
        made = proxy.traffic().connections
        check(made >= 5, f"5 brokers made {made} connections: the harness's URL does not lead through the proxy")  # noqa: PLR2004 - as many
        bench.wait_until(
            lambda: proxy.traffic().open == 0,
            within=1.0 + bench.slack,
            what=f"of {made} connections none stands after close",
        )
        bench.measured["connections"] = made


@case("CLN-05", alone=True)
def half_way_in(bench: Bench) -> None:
    """Connections that break while they are made leave nothing behind: no thread, no file."""
    queue = bench.queue()
    with through_proxy(bench) as (proxy, url):
        bench.connect(url=url).purge(queue)
        before = belongings()
        for fault in (Cut(way=Way.DOWN, after=1, times=None), Cut(way=Way.UP, after=3, times=None)):
            with proxy.inject(fault) as cut:
                for _ in range(6):
                    broker = bench.connect(url=url, timeout=0.2)
                    error = refused(lambda b=broker: b.send(queue, b"x"), BrokerkitError, "a send on half a connection")  # type: ignore[misc]
                    check(error.retryable, f"half a connection is said to be no use to try again: {error!r}")
                    broker.close(timeout=1.0)
                cut.wait(times=6)
        _as_before(bench, before)
        check(proxy.traffic().open <= 4, f"{proxy.traffic().open} connections stand")  # noqa: PLR2004 - of the one that works
    bench.silent(queue, why="nobody got in")


def _as_before(bench: Bench, before: tuple[int, int]) -> None:
    def left() -> bool:
        threads, files = belongings()
        return threads <= before[0] + 2 and files <= before[1] + 4

    try:
        bench.wait_until(left, within=2 * bench.slack, what="all that was opened is closed")
    except AssertionError:
        raise AssertionError(f"{belongings()} (threads, files) are open, and were {before} before") from None


@case("CLN-07")
def close_while_away(bench: Bench) -> None:
    """Closing a consumer and its broker ends in its time, though the server is down or silent; messages come back."""
    for name in ("down", "silent"):
        queue = bench.queue(name)
        with through_proxy(bench) as (proxy, url):
            broker = bench.connect(url=url, timeout=60.0)
            consumer = bench.consumer(queue, broker=broker)
            sent = bench.broker.send_many(queue, [b"held", b"acked", b"prefetched"])
            taken = [bench.expect(consumer, within=bench.lease + bench.slack) for _ in range(2)]
            faults: dict[str, Callable[[], AbstractContextManager[object]]] = {
                "down": lambda p=proxy: outage(p),  # type: ignore[misc]
                "silent": lambda p=proxy: p.inject(HalfOpen()),  # type: ignore[misc]
            }
            with faults[name]():
                taken[1].ack()
                began = time.monotonic()
                consumer.close(timeout=0.5)
                broker.close(timeout=0.5)
                took = time.monotonic() - began
        # one step each: the acks and the extension that wait, two releases, the receiver, the connections
        bound = 2 * bench.lease + 5 * 0.5 + bench.slack
        check(took <= bound, f"closing with 0.5 s a step took {took:.1f} s while the server was {name}")
        bench.measured[name] = took
        _back(bench, queue, sent)


def _back(bench: Bench, queue: str, sent: list[str]) -> None:
    """What was held comes back; what was acked at the last moment may."""
    bench.let_pass(bench.past_lease())
    came = {delivery.id for delivery in bench.collect(queue)}
    check({sent[0], sent[2]} <= came <= set(sent), f"{len({sent[0], sent[2]} - came)} messages are lost")
