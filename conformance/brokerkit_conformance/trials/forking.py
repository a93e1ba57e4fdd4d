"""Forks: what a child may do with what its parent had open, and what it must leave alone."""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Final

from brokerkit import Broker, Consumer
from brokerkit.errors import AlreadySettled, Closed, LeaseLost, Throttled
from brokerkit.results import results
from brokerkit_conformance.bench import check
from brokerkit_conformance.inside import Orders
from brokerkit_conformance.mortal import end_with

__all__ = ["LATE", "both", "ended_well", "in_child", "locks", "prefetched"]

CHILD_HANGS: Final = 15.0
_PATIENCE: Final = 8.0
_ROUNDS: Final = 5
LATE: Final = b"sent by the child when the parent had closed"

# newer Pythons warn of a fork while there are threads, which is what is tried here
warnings.filterwarnings("ignore", category=DeprecationWarning)


def both(orders: Orders) -> None:
    """Parent and child use the same broker at once; what the parent holds stays its own; and the parent ends first."""
    mine, theirs = orders.queues["parent"], orders.queues["child"]
    (reading, writing), (starting, started) = os.pipe(), os.pipe()
    disturbed: list[str] = []  # answers that went astray end connections, and what is repeated hides it
    broker = orders.connect(lambda event: disturbed.append(f"{event.name}: {event.reason}"))
    broker.declare(mine)
    held_id = broker.send(mine, b"held by the parent")
    consumer = broker.consumer(mine)
    held = consumer.receive(_PATIENCE)
    if held is None or held.id != held_id:
        raise AssertionError(f"before any fork came {held}")

    def child() -> None:
        os.write(started, b"x")
        for _ in range(_ROUNDS):
            _work(broker, theirs, "child")
        check(not disturbed, f"in the child: {disturbed[:2]}")
        os.read(reading, 1)
        broker.send(theirs, LATE)
        broker.close()

    pid = in_child(child) if orders.settings["fork"] else None
    if pid is not None:
        os.read(starting, 1)
    for _ in range(_ROUNDS):
        _work(broker, mine, "parent", consumer)
    held.ack(wait=True)
    again = consumer.receive(0.2)
    check(again is None, f"after all was acked came {again}")
    check(not disturbed, f"in the parent: {disturbed[:2]}")
    broker.close()
    os.write(writing, b"x")
    if pid is not None:
        ended_well(pid)


def locks(orders: Orders) -> None:
    """Children are forked while other threads are in the middle of calls; each child works."""
    stop = threading.Event()
    with ExitStack() as opened:
        broker = opened.enter_context(orders.connect())
        store = opened.enter_context(results(orders.results)) if orders.results else None
        queue = orders.queues["parent"]
        broker.declare(queue)

        def hammer(number: int) -> None:
            with broker.consumer(queue, prefetch=1) as consumer:
                while not stop.is_set():
                    broker.send(queue, b"x" * 100)
                    with suppress(Throttled):  # all threads are after one thing, and this one does not wait for long
                        if (delivery := consumer.receive(0.2)) is not None:
                            delivery.ack()
                    if store is not None:
                        store.set_state(store.own_id(f"{queue}-{number}"), "STARTED")

        def work() -> None:
            _work(broker, orders.queues["child"], "child")
            if store is not None:
                check(
                    store.set_result(store.own_id(f"{queue}-child-{os.getpid()}"), 1), "a child's result was not stored"
                )

        with _running(hammer, 4, stop):
            for _ in range(orders.settings["forks"]):
                ended_well(in_child(work))


def prefetched(orders: Orders) -> None:
    """A child gets none of the parent's messages, and its end takes nothing from the parent."""
    queue = orders.queues["parent"]
    with orders.connect() as broker:
        broker.declare(queue)
        sent = broker.send_many(queue, [b"x"] * 6)
        consumer = broker.consumer(queue, prefetch=6)
        first = consumer.receive(_PATIENCE)
        if first is None:
            raise AssertionError("before any fork no message came")

        def child() -> None:
            for name, call in (
                ("receive", lambda: consumer.receive(0.0)),
                ("ack", lambda: first.ack(wait=True)),
                ("release", first.release),
                ("extend", first.extend),
                ("dead_letter", first.dead_letter),
            ):
                _refused(name, call)
            consumer.close()
            broker.close()

        ended_well(in_child(child))
        taken = [first]
        while len(taken) < len(sent) and (delivery := consumer.receive(_PATIENCE)) is not None:
            taken.append(delivery)
        ids = [delivery.id for delivery in taken]
        check(
            sorted(ids) == sorted(sent),
            f"after the child's end the parent has {len(set(ids) & set(sent))} of its {len(sent)}",
        )
        check({d.attempt for d in taken} <= {1, None}, "what the parent had prefetched was delivered again")
        for delivery in taken:
            delivery.ack(wait=True)
        again = consumer.receive(0.2)
        check(again is None, f"after all was acked came {again}")


def in_child(work: Callable[[], object]) -> int:
    """Fork, and do something in the child, which ends then. Returns its pid."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        end_with(parent)
        work()
        code = 0
    except BaseException:  # noqa: BLE001 - nothing may leave the child by this way: the parent's stack lies above
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)


def ended_well(pid: int, within: float = CHILD_HANGS) -> None:
    """Wait for a child's end, and fail unless all was well in it."""
    end, pause = time.monotonic() + within, threading.Event()
    while (ended := os.waitpid(pid, os.WNOHANG)) == (0, 0):
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise AssertionError(f"a forked child hangs: no end after {within:g} s")
        pause.wait(0.005)
    code = os.waitstatus_to_exitcode(ended[1])
    check(code == 0, f"a forked child ended with code {code}; what it said stands above")


def _work(broker: Broker, queue: str, who: str, consumer: Consumer | None = None) -> None:
    """Send thirty messages to a queue of one's own, and receive just those."""
    broker.declare(queue)
    bodies = [f"{who} {os.getpid()} {i}".encode() for i in range(30)]
    for body in bodies[:10]:
        broker.send(queue, body)
    broker.send_many(queue, bodies[10:])
    own = consumer or broker.consumer(queue)
    came: list[bytes] = []
    for _ in bodies:
        delivery = own.receive(_PATIENCE)
        if delivery is None:
            raise AssertionError(f"{who}: {len(came)} of {len(bodies)} messages came")
        came.append(delivery.body)
        delivery.ack()
    check(sorted(came) == sorted(bodies), f"{who} received what it had not sent: {set(came) - set(bodies)}")
    if consumer is None:
        own.close()


def _refused(name: str, call: Callable[[], object]) -> None:
    try:
        answer = call()
    except (Closed, LeaseLost, AlreadySettled):
        return
    raise AssertionError(f"a forked child could {name} what the parent had received: {answer!r}")


@contextmanager
def _running(work: Callable[[int], object], count: int, stop: threading.Event) -> Iterator[None]:
    """Run threads meanwhile; what fails in one fails the trial."""
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    threads = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(CHILD_HANGS)
    if errors:
        raise errors[0]
