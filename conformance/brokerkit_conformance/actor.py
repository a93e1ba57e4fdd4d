"""`python -m brokerkit_conformance.actor`: one process that works on a URL and logs what it does, a line of JSON each.

It reads its orders as one line of JSON from standard input: url, options, words (the verb, then the queues) and
settings. Each line that it writes is flushed at once, so that what was logged has happened, also if it is killed.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import sys
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import brokerkit
from brokerkit.errors import BrokerkitError
from brokerkit.results import results
from brokerkit_conformance.faults import clock_from_environment
from brokerkit_conformance.load_actor import perform_here
from brokerkit_conformance.mortal import end_with

if TYPE_CHECKING:
    from brokerkit import Broker, Consumer, Delivery

__all__ = ["main"]

_PATIENCE: Final = 10.0


def main() -> int:
    """Do what the orders say."""
    orders = json.loads(sys.stdin.readline())
    end_with(orders["parent"])
    verb, *names = orders["words"]
    if orders["prepare"]:
        where, argument = orders["prepare"]
        module, _, function = where.partition(":")
        getattr(importlib.import_module(module), function)(argument)
    try:
        if verb == "load":
            perform_here(orders["url"], orders["options"], orders["settings"], log)
            return 0
        if verb == "results":
            _store(orders["url"], names, orders["settings"])
            return 0
        clock = clock_from_environment()
        with brokerkit.connect(orders["url"], clock=clock, on_event=_log_event, **orders["options"]) as broker:
            (_VERBS.get(verb) or _own(verb))(broker, names, orders["settings"])
    except BrokerkitError as error:
        log("failed", error=type(error).__name__, text=str(error))
        return 1
    log("done")
    return 0


def log(what: str, **fields: Any) -> None:
    """Write one line; it is on its way before the next thing happens."""
    line = json.dumps({"what": what, "at": time.monotonic(), "pid": os.getpid(), **fields}) + "\n"
    os.write(1, line.encode())


def _log_event(event: Any) -> None:
    log("event", name=event.name, id=event.message_id, reason=event.reason)


def _send(broker: Broker, queues: list[str], settings: Mapping[str, Any]) -> None:
    for i in range(settings["count"]):
        body = f"{settings['body']} {i}".encode()
        log("sent", id=broker.send(queues[0], body, delay=settings.get("delay", 0.0)), body=body.decode())
    log("ready")
    if settings.get("then") == "hang":
        _hang()


def _publish(broker: Broker, topics: list[str], settings: Mapping[str, Any]) -> None:
    for i in range(settings["count"]):
        body = f"{settings['body']} {i}".encode()
        log("sent", id=broker.publish(topics[0], body, routing_key=settings.get("routing_key", "")))


def _declare(broker: Broker, queues: list[str], settings: Mapping[str, Any]) -> None:
    broker.declare(queues[0], **settings.get("queue", {}))
    if topic := settings.get("topic"):
        broker.bind(queues[0], topic)
    log("ready")
    if settings.get("then") == "consume":
        _hold_all(broker.consumer(*queues))


def _consume(broker: Broker, queues: list[str], settings: Mapping[str, Any]) -> None:
    """Receive `count` messages; then ack each, or hold them and hang, or let the process end by a signal."""
    consumer = broker.consumer(
        *queues,
        prefetch=settings.get("prefetch", 100),
        visibility_timeout=settings.get("visibility_timeout"),
        auto_ack=settings.get("auto_ack", False),
    )
    held = []
    for _ in range(settings["count"]):
        delivery = consumer.receive(timeout=_PATIENCE)
        if delivery is None:
            log("empty")
            return
        log("received", id=delivery.id, body=delivery.body.decode("latin-1"), attempt=delivery.attempt)
        if settings["do"] == "ack":
            delivery.ack(wait=True)
            log("acked", id=delivery.id)
        held.append(delivery)
    log("ready")
    if settings["do"] == "hold":
        _watch(held)
    if settings.get("then") == "hang":
        _hang()
    if settings["do"] == "block":
        _block(held[0], settings["seconds"])
    consumer.close()


def _hold_all(consumer: Consumer) -> None:
    """Receive for ever, and settle nothing."""
    held = []
    while True:
        delivery = consumer.receive(timeout=_PATIENCE)
        if delivery is not None:
            held.append(delivery)
            log("received", id=delivery.id, attempt=delivery.attempt)


def _run(broker: Broker, queues: list[str], settings: Mapping[str, Any]) -> None:
    """`Consumer.run` until a signal; each handler takes `seconds`."""
    consumer: Consumer = broker.consumer(
        *queues, prefetch=settings.get("prefetch", 100), visibility_timeout=settings.get("visibility_timeout")
    )

    def handle(delivery: Delivery) -> None:
        log("received", id=delivery.id, attempt=delivery.attempt)
        threading.Event().wait(settings["seconds"])
        log("handled", id=delivery.id)

    log("ready")
    consumer.run(handle)


def _watch(held: list[Delivery]) -> None:
    """Hold deliveries for ever, and tell when one is lost; then try to ack it."""
    open_ones = list(held)
    while True:
        for delivery in [d for d in open_ones if d.lease_lost]:
            log("lease_lost", id=delivery.id)
            open_ones.remove(delivery)
            try:
                delivery.ack(wait=True)
            except BrokerkitError as error:
                log("ack_refused", id=delivery.id, error=type(error).__name__)
            else:
                log("late_ack_accepted", id=delivery.id)
        threading.Event().wait(0.05)


def _block(delivery: Delivery, seconds: float) -> None:
    """Hold the interpreter's lock for so long that no other thread can keep the lease; then see what we are told."""
    import ctypes  # noqa: PLC0415 - only here

    ctypes.PyDLL(None).usleep(int(seconds * 1e6))  # PyDLL: the lock is not let go of
    try:
        delivery.ack(wait=True)
    except BrokerkitError as error:
        log("ack_refused", id=delivery.id, error=type(error).__name__)
    else:
        log("late_ack_accepted", id=delivery.id)


def _store(url: str, keys: list[str], settings: Mapping[str, Any]) -> None:
    """Store a result under each key, and read it again."""
    with results(url, clock=clock_from_environment(), **settings["options"]) as store:
        log("ready")
        for key in keys:
            stored = store.set_result(key, settings["value"])
            (found,) = store.get_many([key])
            state = str(found.state) if found.problem is None else type(found.problem).__name__
            log("stored", key=key, stored=stored, state=state)
    log("done")


def _own(verb: str) -> Any:
    """Return the deed of a case's own, "module:function": called with the broker, the queues, the settings and `log`."""
    module, _, function = verb.partition(":")
    return functools.partial(getattr(importlib.import_module(module), function), log=log)


def _hang() -> None:
    threading.Event().wait()


_VERBS: Final = {"send": _send, "publish": _publish, "declare": _declare, "consume": _consume, "run": _run}

if __name__ == "__main__":
    sys.exit(main())
