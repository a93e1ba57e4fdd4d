"""What processes of crash cases do, each until it is killed. Run by `brokerkit_conformance.actor`, hence without a bench."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any, Final

import brokerkit
from brokerkit.errors import QueueNotFound

__all__ = ["bury", "fill", "look", "whole"]

_PADDING: Final = 400
_PATIENCE: Final = 10.0


def fill(broker: brokerkit.Broker, queues: list[str], settings: Mapping[str, Any], *, log: Callable[..., None]) -> None:
    """Declare a queue, and send to it for ever; each message is logged when it is confirmed."""
    broker.declare(queues[0])
    for number in count():
        log("sent", id=broker.send(queues[0], _body(number)))
        threading.Event().wait(settings.get("pause", 0.0))


def look(broker: brokerkit.Broker, queues: list[str], _: Mapping[str, Any], *, log: Callable[..., None]) -> None:
    """Take all there is, up to a message of one's own; a queue that is gone is declared anew. Log that all works."""
    try:
        mine = broker.send(queues[0], b"mine")
    except QueueNotFound:
        log("gone")
        broker.declare(queues[0])
        mine = broker.send(queues[0], b"mine")
    with broker.consumer(queues[0]) as consumer:
        while (delivery := consumer.receive(_PATIENCE)) is not None:
            delivery.ack(wait=True)
            if delivery.id == mine:
                log("works")
                return
            log("found", id=delivery.id, whole=whole(delivery.body))
    log("never came")


def bury(broker: brokerkit.Broker, queues: list[str], settings: Mapping[str, Any], *, log: Callable[..., None]) -> None:
    """Dead-letter what comes, and stop for ever before the first or the second call that this makes to the server."""
    passed = [0]

    def stopping(call: Callable[..., Any]) -> Callable[..., Any]:
        def at_the_point(*args: Any, **kwargs: Any) -> Any:
            if passed[0] == settings["calls"]:
                log("at the point")
                threading.Event().wait()
            passed[0] += 1
            return call(*args, **kwargs)

        return at_the_point

    transport: Any = broker.transport
    open_receiver = transport.open_receiver

    def open_stopping(*args: Any, **kwargs: Any) -> Any:
        receiver = open_receiver(*args, **kwargs)
        receiver.ack = stopping(receiver.ack)
        return receiver

    transport.open_receiver = open_stopping
    delivery = broker.consumer(queues[0]).receive(_PATIENCE)
    assert delivery is not None, "nothing came"  # noqa: S101 - the actor's log shows it
    log("received", id=delivery.id)
    transport.send = stopping(transport.send)
    delivery.dead_letter("broken", "it cannot be handled")
    log("buried")


def _body(number: int) -> bytes:
    return b"%d " % number * _PADDING


def whole(body: bytes) -> bool:
    """Tell whether a body is one that `fill` sends, to its end."""
    first, _, _ = body.partition(b" ")
    return body == (first + b" ") * _PADDING
