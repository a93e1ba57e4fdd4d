"""Signals that come while a thread waits for messages, and the interpreter's end with everything open."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from brokerkit import Consumer
from brokerkit.results import results
from brokerkit_conformance.bench import Bench, check
from brokerkit_conformance.harness import Harness
from brokerkit_conformance.inside import Orders, tell
from brokerkit_conformance.model import Outcome
from brokerkit_conformance.runner import examine

__all__ = ["leave", "signals", "stray"]

_PATIENCE: Final = 8.0
_open: Final[list[Any]] = []


def signals(orders: Orders) -> None:
    """A signal that a handler swallows ends no receive; one whose handler raises ends it, and then all goes on."""
    queue = orders.queues["q"]
    signal.signal(signal.SIGUSR1, lambda *_: None)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores it
    with orders.connect() as broker:
        broker.declare(queue)
        with broker.consumer(queue) as consumer:
            sent: list[str] = []
            _soon([_signal(signal.SIGUSR1)] * 5 + [lambda: sent.append(broker.send(queue, b"x"))])
            delivery = consumer.receive(_PATIENCE)
            check(delivery is not None, "after signals that were swallowed no message came")
            assert delivery is not None  # noqa: S101 - for the type checker
            delivery.ack()
            for round_ in range(2):
                waited = _interrupted(consumer)
                tell("interrupted", after=waited)
                check(waited < orders.settings["bound"], f"SIGINT ended a receive only after {waited:.1f} s")
                sent.append(broker.send(queue, b"x"))
                delivery = consumer.receive(_PATIENCE)
                check(delivery is not None and delivery.id == sent[-1], f"after interrupt {round_} came {delivery}")
                assert delivery is not None  # noqa: S101 - for the type checker
                delivery.ack()
        with broker.consumer(queue) as consumer:
            again = consumer.receive(orders.options["visibility_timeout"] * 1.2)
            check(again is None, f"what was acked before an interrupt came again: {again}")
            _end_by_sigterm(consumer)


def leave(orders: Orders) -> None:
    """Leave everything open and at work, some of it dropped, and go."""
    queue = orders.queues["q"]
    broker = orders.connect()
    broker.declare(queue)
    broker.send_many(queue, [b"x"] * 5)
    consumer, idle = broker.consumer(queue, prefetch=3), broker.consumer(queue)
    _open.extend([broker, consumer, idle, consumer.receive(_PATIENCE)])
    work: list[Callable[[], object]] = [lambda: list(idle)]
    if orders.results:
        store = results(orders.results)
        _open.append(store)
        work.append(lambda: store.reserve().result(timeout=60.0))
    for each in work:
        threading.Thread(target=each, daemon=True).start()
    broker.consumer(queue).receive(0.0)  # and one that nobody keeps
    threading.Event().wait(0.2)  # until they wait, too
    _open.append(_open)  # a cycle: all is collected as late as can be
    tell("leaving")


def stray(_: Orders) -> None:
    """Threads die of exceptions: the bench's, one of somebody else, and one that nobody waits for."""

    def bench() -> Bench:
        return Bench(Harness(), None, "stray")  # type: ignore[arg-type] # it opens nothing

    def theirs(_: Bench) -> None:
        thread = threading.Thread(target=_die)
        thread.start()
        thread.join()

    for name, test in (("bench", lambda b: b.thread(_die)), ("theirs", theirs), ("none", lambda _: None)):
        outcome, reason, _measured = examine(test, bench)
        tell("outcome", of=name, outcome=str(outcome), reason=reason)
        check(outcome is (Outcome.PASS if name == "none" else Outcome.FAIL), f"{name}: {outcome} {reason}")


def _die() -> None:
    raise LookupError("it is meant to die")


def _signal(number: signal.Signals) -> Callable[[], object]:
    return lambda: os.kill(os.getpid(), number)


def _soon(steps: list[Callable[[], object]]) -> threading.Thread:
    """Take steps in another thread, 50 ms apart, while this one goes on to wait."""

    def run() -> None:
        for step in steps:
            threading.Event().wait(0.05)
            step()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def _interrupted(consumer: Consumer) -> float:
    """Wait for messages until SIGINT; returns the seconds from the signal to the end of the wait."""
    at: list[float] = []
    thread = _soon([lambda: None, lambda: at.append(time.monotonic()), _signal(signal.SIGINT)])
    try:
        delivery = consumer.receive(_PATIENCE)
    except KeyboardInterrupt:
        ended = time.monotonic()
    else:
        raise AssertionError(f"SIGINT did not end a receive: it returned {delivery}")
    thread.join()
    return ended - at[0]


def _end_by_sigterm(consumer: Consumer) -> None:
    """Wait until SIGTERM, whose handler raises SystemExit: everything is closed on the way out."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    _soon([_signal(signal.SIGTERM)])
    consumer.receive(_PATIENCE)
    raise AssertionError("SIGTERM did not end a receive")
