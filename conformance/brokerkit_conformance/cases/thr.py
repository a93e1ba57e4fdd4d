"""THR: threads, signals, pickles and the interpreter's end."""

from __future__ import annotations

import contextlib
import pickle
import sys
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from brokerkit.url import URL
from brokerkit_conformance.bench import Bench, check
from brokerkit_conformance.casebook import case, refusal
from brokerkit_conformance.cases._inside import inside
from brokerkit_conformance.model import NotRun

_LEAVING = 3.0
"""Seconds that the interpreter may take to end with everything open, beside the slack."""


@case("THR-01", alone=True)
def fifty_threads(bench: Bench) -> None:
    """Fifty threads share one broker and two consumers: they send, receive, settle and count, and nothing goes astray."""
    queue = bench.queue()
    shared = [bench.consumer(queue, prefetch=30) for _ in range(2)]
    sent, acked, lock = Counter[str](), Counter[str](), threading.Lock()
    released: set[str] = set()  # once each: who does not count attempts would give the last ones back for ever
    total = 50 * 8

    def work(number: int) -> None:
        for i in range(8):
            ids = [bench.broker.send(queue, b"x")] if i % 4 else bench.broker.send_many(queue, [b"x"])
            with lock:
                sent.update(ids)
        consumer = shared[number % 2]
        while acked.total() < total and (delivery := consumer.receive(timeout=1.0)) is not None:
            if number % 5 == 0 and delivery.attempt in (1, None) and delivery.id not in released:
                released.add(delivery.id)
                delivery.release()
                continue
            delivery.ack(wait=number % 2 == 0)
            with lock:
                acked[delivery.id] += 1

    with bench.time.running():
        for number in range(50):
            bench.thread(lambda number=number: work(number))  # type: ignore[misc]
        bench.join()
        left = [] if acked == sent else bench.collect(queue)
    acked.update(delivery.id for delivery in left)
    check(sent.total() == total and acked == sent, f"{total} were sent, {acked.total()} acked, {len(acked)} different")


@case("THR-02")
def one_thread_each(_: Bench) -> None:
    """No engine can declare that each thread needs an object of its own: the contract asks sharing of all."""
    raise NotRun("no capability says that each thread needs an object of its own")


@refusal("THR-02")
def made_here_used_there(bench: Bench) -> None:
    """What one thread has made and used another uses at once: broker, transport, consumer, receiver, delivery, store."""
    queue = bench.queue()
    consumer, bare = bench.consumer(queue, prefetch=1), bench.receiver(queue)
    bench.broker.send_many(queue, [b"x"] * 4)
    held = bench.expect(consumer)
    claimed = bench.claim(bare)
    steps: list[Callable[[], object]] = [
        lambda: held.ack(wait=True),
        lambda: bare.ack(claimed),
        lambda: bench.expect(consumer).ack(wait=True),
        lambda: bare.ack(bench.claim(bare)),
        lambda: bench.broker.send(queue, b"x"),
        lambda: bench.transport.purge(queue, timeout=5.0),
        consumer.close,
        lambda: bare.close(timeout=5.0),
    ]
    if bench.results_urls:
        bench.results.set_result(bench.key("r"), 1)
        steps += [lambda: bench.results.get(bench.key("r")), bench.results.close]
    steps.append(bench.broker.close)
    for step in steps:  # each in a thread that has never met the object
        bench.thread(step)
        bench.join()


@case("THR-06")
def what_is_pickled(bench: Bench) -> None:
    """URL and capabilities are pickled, but for a URL with a secret; nothing that holds a connection is."""
    url = URL.parse(bench.urls[0])
    if url.secrets:
        _refuses(url, TypeError)
    else:
        other = pickle.loads(pickle.dumps(url))  # noqa: S301 - ours
        check(other == url, f"a pickled URL is another one: {other}")
        with contextlib.closing(bench.connect(url=other.render(reveal_secrets=True))) as broker:
            broker.delete(bench.name("nothing"))
    again = pickle.loads(pickle.dumps(bench.capabilities))  # noqa: S301 - ours
    check(again == bench.capabilities, "pickled capabilities are other ones")
    queue = bench.queue()
    consumer = bench.consumer(queue)
    bench.broker.send(queue, b"x")
    live: list[Any] = [bench.broker, consumer, bench.expect(consumer)]
    plugins: list[Any] = [bench.transport, bench.receiver(queue)]
    if bench.results_urls:
        live += [bench.results, bench.results.pending(bench.key("r"))]
        plugins.append(bench.backend())
    for handle in live:
        _refuses(handle, TypeError)
    for handle in plugins:
        _refuses(handle, Exception)


@case("THR-10")
def signals_while_waiting(bench: Bench) -> None:
    """A signal in a blocking receive: swallowed, the wait goes on; raised, it ends at once; no message and no ack is lost."""
    ended = inside(bench, "signals", queues=("q",), bound=1.0 + bench.slack)
    bench.measured["ended after SIGINT, seconds"] = [round(fact["after"], 3) for fact in ended.facts("interrupted")]


@case("THR-11")
def the_end_with_everything_open(bench: Bench) -> None:
    """A script that leaves broker, consumers, deliveries and waits open ends soon, with code 0, and says nothing."""
    ended = inside(bench, "leave", queues=("q",))
    check(not ended.said.strip(), f"on its way out it said: {ended.said[-1000:]}")
    took = ended.at - ended.facts("leaving")[0]["at"]
    check(took < _LEAVING + bench.slack, f"the interpreter took {took:.1f} s to end")
    bench.measured["interpreter's end, seconds"] = round(took, 3)


@case("THR-12", alone=True)
def free_threads(bench: Bench) -> None:
    """On a free-threaded build, with the engine's modules loaded, there still is no lock of the interpreter; threads share."""
    enabled: Callable[[], bool] = getattr(sys, "_is_gil_enabled", lambda: True)
    queue = bench.queue()
    bench.broker.send(queue, b"x")
    if enabled():
        raise NotRun("this interpreter has a global lock: run the suite on a free-threaded build to show this")
    fifty_threads(bench.twin())


def _refuses(handle: object, expected: type[Exception]) -> None:
    """Fail unless pickling an object is refused, with a text."""
    name = type(handle).__name__
    try:
        pickle.dumps(handle)
    except expected as error:
        check(str(error), f"pickling a {name} is refused without a word")
    except Exception as error:
        raise AssertionError(f"pickling a {name} raised {type(error).__name__} ({error}), no TypeError") from error
    else:
        raise AssertionError(f"a {name} was pickled, with its connections")
