"""ORD, second part: order by key, across connections, and for engines that claim none."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from brokerkit.abc import Receiver
from brokerkit.errors import ConfigurationError
from brokerkit.models import Received
from brokerkit_conformance.bench import Bench, check
from brokerkit_conformance.casebook import case, refusal
from brokerkit_conformance.cases._refused import refused
from brokerkit_conformance.model import Unclaimed

_KEYS = ("red", "green", "blue")
_RUNS = 5
_MANY = 20


@case("ORD-02")
def order_by_key(bench: Bench) -> None:
    """Three receivers, of which one ends on the way: no inversion within a key, which has one owner at a time."""
    queue = bench.queue()
    for number in range(30):
        bench.broker.send(queue, b"%d" % number, ordering_key=_KEYS[number % len(_KEYS)])
    receivers = [bench.receiver(queue, lease=30 * bench.lease) for _ in range(3)]
    held: dict[Receiver, list[Received]] = {receiver: [] for receiver in receivers}
    done: dict[str, list[int]] = {key: [] for key in _KEYS}
    turns = 0
    while sum(map(len, done.values())) < 30 and turns < 200:  # noqa: PLR2004
        receiver = receivers[turns % len(receivers)]
        turns += 1
        settled, held[receiver] = held[receiver], []
        check(not settled or not receiver.ack(settled), "a lease was lost")
        for one in settled:
            done[_key_of(one)].append(int(one.message.body))
        claimed, _ = receiver.receive(limit=2, timeout=0.0)
        others = {_key_of(one) for other in receivers if other is not receiver for one in held[other]}
        check(others.isdisjoint(map(_key_of, claimed)), "one key has two owners")
        held[receiver] = list(claimed)
        if turns == 10:  # noqa: PLR2004 - in the middle
            receivers.remove(receiver)
            receiver.close(timeout=5.0)
    for key, numbers in done.items():
        check(numbers == list(range(_KEYS.index(key), 30, len(_KEYS))), f"of key {key} came {numbers}")


@refusal("ORD-02")
def no_order_by_key(bench: Bench) -> None:
    """Without an order by key, a key is refused, unless the whole queue keeps its order: that of the keys with it."""
    queue = bench.queue()
    if bench.capabilities.order == "none":
        refused(lambda: bench.broker.send(queue, b"x", ordering_key="red"), ConfigurationError, "ordering_key='red'")
        bench.silent(queue, why="what was refused is not sent")
        return
    sent = [bench.broker.send(queue, b"x", ordering_key=_KEYS[i % len(_KEYS)]) for i in range(_MANY)]
    came = [delivery.id for delivery in bench.collect(queue)]
    check(came == sent, f"the order is {[sent.index(i) for i in came]}")


@case("ORD-07")
def across_connections(bench: Bench) -> None:
    """What was confirmed on one connection comes before what was sent on another one after that."""
    queue = bench.queue()
    one, two = bench.connect(), bench.connect()
    key: Any = {"ordering_key": "one"} if bench.capabilities.order == "group" else {}
    sent = [(one, two)[i % 2].send(queue, b"%d" % i, **key) for i in range(40)]
    came = [delivery.id for delivery in bench.collect(queue)]
    check(came == sent, f"the order of two connections is {[sent.index(i) for i in came if i in sent]}")


@case("ORD-08")
def inversions(bench: Bench) -> None:
    """How often two neighbours come in the wrong order; never in five runs is a claim that was not made."""
    turned = pairs = 0
    for run in range(_RUNS):
        queue = bench.queue(f"run-{run}")
        place = {message_id: n for n, message_id in enumerate(bench.broker.send_many(queue, [b"x"] * _MANY))}
        came = [place[received.message.id] for received in bench.claim(bench.receiver(queue), _MANY)]
        turned += sum(a > b for a, b in pairwise(came))
        pairs += _MANY - 1
    bench.measured["inversion rate"] = turned / pairs
    if bench.capabilities.order == "none" and not turned:
        raise Unclaimed(f"{_RUNS} times {_MANY} messages came in the order of sending, and order='none' is declared")


def _key_of(received: Received) -> str:
    return received.message.ordering_key or _KEYS[int(received.message.body) % len(_KEYS)]
