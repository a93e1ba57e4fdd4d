"""No descriptors left: what this process may open is used up, and given back."""

from __future__ import annotations

import os
import resource
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import brokerkit
from brokerkit import Broker
from brokerkit.errors import BrokerkitError, OutcomeUnknown
from brokerkit_conformance.bench import check
from brokerkit_conformance.inside import Orders, tell

__all__ = ["starve"]

_FEW: Final = 64
_PATIENCE: Final = 8.0
_ONCE: Final = {"timeout": 2.0, "retry_policy": {"max_retries": 0}}


def starve(orders: Orders) -> None:
    """With no descriptor left, calls work or raise what is typed; when there are some again, the same objects work."""
    queue = orders.queues["q"]
    accepted: list[bytes] = []
    doubtful: list[bytes] = []
    with _connected(orders) as old:
        old.declare(queue)
        with _connected(orders) as warm_up:  # whatever is imported late is imported now
            warm_up.send(queue, b"warm")
            accepted.append(b"warm")
        with _no_descriptors():
            errors = [_send(old, queue, b"old, starved", accepted, doubtful)]
            new, error = _try_to_connect(orders)
            errors.append(error if new is None else _send(new, queue, b"new, starved", accepted, doubtful))
        tell("starved", errors=errors)
        new = new or _connected(orders)
        for i, broker in enumerate((old, new)):
            body = b"after %d" % i
            for _ in range(2):  # what remains of it in a connection may show once
                if _send(broker, queue, body, accepted, doubtful) is None:
                    break
            check(body in accepted, f"{'an old' if broker is old else 'a new'} broker does not recover")
        new.close()
        with old.consumer(queue) as consumer:
            came = Counter[bytes]()
            while (delivery := consumer.receive(_PATIENCE if came.total() < len(accepted) else 0.0)) is not None:
                came[delivery.body] += 1
                delivery.ack(wait=True)
    lost = [body for body in accepted if not came[body]]
    check(not lost, f"{lost} were accepted and did not come")
    odd = [body for body in came if body not in accepted and body not in doubtful]
    check(not odd, f"{odd} came, and were refused")


def _connected(orders: Orders) -> Broker:
    return brokerkit.connect(orders.url, **{**orders.options, **_ONCE})


def _try_to_connect(orders: Orders) -> tuple[Broker | None, str | None]:
    """Open a broker, which may ask the server at once, as for what it evicts."""
    try:
        return _connected(orders), None
    except BrokerkitError as error:
        return None, type(error).__name__


def _send(broker: Broker, queue: str, body: bytes, accepted: list[bytes], doubtful: list[bytes]) -> str | None:
    try:
        broker.send(queue, body)
    except OutcomeUnknown as error:
        doubtful.append(body)
        return type(error).__name__
    except BrokerkitError as error:
        return type(error).__name__
    accepted.append(body)
    return None


@contextmanager
def _no_descriptors() -> Iterator[None]:
    """Use up all descriptors that this process may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.open(os.devnull, os.O_RDONLY)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(taken[0], 3) + _FEW, hard))
    try:
        try:
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        except OSError as error:
            check(len(taken) > 1, f"no descriptor could be taken: {error}")
        yield
    finally:
        for each in taken:
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
