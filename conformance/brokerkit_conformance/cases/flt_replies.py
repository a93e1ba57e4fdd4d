"""FLT, second part: replies that never come. The server has done it, or has not, and nobody knows."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from brokerkit.errors import BrokerkitError, LeaseLost, NotConnected, OutcomeUnknown, SendFailed
from brokerkit_conformance.bench import Bench, check
from brokerkit_conformance.casebook import case
from brokerkit_conformance.cases._through import ONCE, through_proxy
from brokerkit_conformance.faults import Blackhole, Cut, Proxy, Way

if TYPE_CHECKING:
    from brokerkit import Delivery

_TIMEOUT: Final = 1.5
_LOST: Final = {"its reply": Cut(way=Way.DOWN), "the request": Cut(way=Way.UP)}


@case("FLT-08")
def send_without_answer(bench: Bench) -> None:
    """The connection is reset under a send: what is repeated is the same message, and what is unknown is called so."""
    queue = bench.queue()
    with through_proxy(bench) as (proxy, url):
        patient, once = bench.connect(url=url, timeout=10.0), bench.connect(url=url, timeout=10.0, **ONCE)
        for way in (Way.DOWN, Way.UP):
            mark = f"mark-{way}-".encode()
            with proxy.inject(Cut(way=way, once=mark)) as cut:
                sent = patient.send(queue, mark + b"one")
                cut.wait()
            _came(bench, queue, [sent])
            with proxy.inject(Cut(way=way, once=mark)) as cut:
                many = patient.send_many(queue, [mark + b"%d" % i for i in range(5)])
                cut.wait()
            _came(bench, queue, many)
            with proxy.inject(Cut(way=way, once=mark)) as cut:
                unknown = _ids_unknown(lambda: once.send_many(queue, [mark + b"a", mark + b"b"]))  # noqa: B023 - called here
                cut.wait()
            came = [delivery.id for delivery in bench.collect(queue)]
            check(set(came) <= set(unknown), "a message came that was never sent")
            check(len(set(came)) == len(came), f"one try stored {len(came)} messages")


def _came(bench: Bench, queue: str, sent: list[str]) -> None:
    """Fail unless just these came, each once, or twice where a repeated send is not recognised."""
    came = [delivery.id for delivery in bench.collect(queue)]
    check(set(sent) <= set(came), f"{len(set(sent) - set(came))} of {len(sent)} messages were accepted, and are lost")
    check(set(came) <= set(sent), "the repeated send made another message of it, under an id of its own")
    most = 1 if bench.capabilities.idempotent_send else 2
    worst = max(map(came.count, sent))
    check(worst <= most, f"one message came {worst} times after one lost reply")


def _ids_unknown(send: Callable[[], object]) -> list[str]:
    try:
        send()
    except SendFailed as error:
        unknown = [message_id for message_id, outcome in error.outcomes if isinstance(outcome, OutcomeUnknown)]
        check(
            unknown and all(isinstance(outcome, OutcomeUnknown | NotConnected) for _, outcome in error.outcomes),
            f"the connection broke under a send, and its outcomes are {error.outcomes}",
        )
        return unknown  # the others were not written yet
    except Exception as error:
        raise AssertionError(f"the connection broke under a send, and it raised {error!r}") from error
    raise AssertionError(
        "the connection broke under a send that was not to be repeated, and it returned as if all was well"
    )


@case("ORD-06")
def order_after_lost_confirm(bench: Bench) -> None:
    """A publisher that repeats a send whose reply was lost turns no order round: at most one comes twice, by the same id."""
    queue = bench.queue()
    key: dict[str, Any] = {"ordering_key": "one"} if bench.capabilities.order == "group" else {}
    sent: list[str] = []
    with through_proxy(bench) as (proxy, url):
        broker = bench.connect(url=url, timeout=10.0)
        for i in range(8):
            mark = b"the-one-that-is-cut-%d" % i
            if i % 3:
                sent += broker.send_many(queue, [b"x", mark, b"z"], **key)
                continue
            with proxy.inject(Cut(way=Way.DOWN, once=mark)) as cut:
                sent += broker.send_many(queue, [b"x", mark, b"z"], **key)
                cut.wait()
    came = [delivery.id for delivery in bench.collect(queue)]
    firsts = list(dict.fromkeys(came))
    check(sorted(firsts) == sorted(sent), f"of {len(sent)} messages came {len(firsts)} different ones")
    check(firsts == sent, "after a lost confirmation messages came in another order")
    check(max(map(came.count, sent)) <= 2, "a message came more than twice")  # noqa: PLR2004 - once more
    bench.measured["duplicates"] = len(came) - len(sent)


@case("ACK-08")
def ack_without_answer(bench: Bench) -> None:
    """The reply to an ack is swallowed: it is tried again or raises, and no acked message comes back unmarked."""
    queue = bench.queue()
    with _holding(bench, queue) as (proxy, delivery), proxy.inject(Blackhole(way=Way.DOWN, new=False)) as swallowed:
        began = time.monotonic()
        acked = _settled(delivery)
        took = time.monotonic() - began
        check(took <= _TIMEOUT + bench.slack, f"an ack of {_TIMEOUT:g} s ended after {took:.1f} s")
        swallowed.wait()
    _past_lease(bench)
    _never_back_unmarked(bench, queue, acked, "whose ack was never answered")


@case("FLT-09")
def settling_without_answer(bench: Bench) -> None:
    """The connection is reset under an ack or an extension: what is said to be done is done, and nobody owns by mistake."""
    acks: list[tuple[str, bool, str]] = []
    extensions: list[tuple[str, bool, str]] = []
    for what, fault in _LOST.items():
        queue = bench.queue(f"ack-{fault.way}")
        with _holding(bench, queue) as (proxy, delivery), proxy.inject(fault) as cut:
            acks.append((queue, _settled(delivery), what))
            cut.wait()
    for what, fault in _LOST.items() if bench.capabilities.lease.extend else ():
        queue = bench.queue(f"extend-{fault.way}")
        extensions.append((queue, _extended(bench, queue, fault), what))
    _past_lease(bench)
    for queue, acked, what in acks:
        _never_back_unmarked(bench, queue, acked, f"whose ack lost {what}")
    for queue, extended, what in extensions:
        others = bench.collect(queue)
        check(
            not (others and extended),
            f"an extension lost {what}, was said to be done, and somebody else has the message",
        )
    bench.measured["said to be done"] = sum(done for _, done, _ in (*acks, *extensions))


@contextmanager
def _holding(bench: Bench, queue: str) -> Iterator[tuple[Proxy, Delivery]]:
    """Hold one delivery, through a proxy, with nothing else going on there, over connections that stand already."""
    bench.broker.send(queue, b"warms up")
    with through_proxy(bench) as (proxy, url):
        broker = bench.connect(url=url, timeout=_TIMEOUT)
        # the core's own first extension is far away
        consumer = bench.consumer(queue, broker=broker, visibility_timeout=2 * bench.lease, prefetch=1)
        bench.expect(consumer, within=bench.lease + bench.slack).ack(wait=True)
        bench.broker.send(queue, b"x")
        yield proxy, bench.expect(consumer, within=bench.lease + bench.slack)
        broker.close(timeout=_TIMEOUT)


def _settled(delivery: Delivery) -> bool:
    """Ack, and tell whether it was said to be done."""
    try:
        delivery.ack(wait=True)
    except BrokerkitError as error:
        check(error.retryable or isinstance(error, LeaseLost), f"an ack without an answer raised {error!r}")
        return False
    return True


def _extended(bench: Bench, queue: str, fault: Cut) -> bool:
    """Extend a lease that nobody else keeps while the connection is reset, and tell whether it was said to be done."""
    bench.broker.send(queue, b"x")
    with through_proxy(bench) as (proxy, url):
        receiver = bench.receiver(queue, broker=bench.connect(url=url), lease=2 * bench.lease)
        claimed = bench.claim(receiver, within=bench.lease + bench.slack)
        with proxy.inject(fault) as cut:
            try:
                lost = receiver.extend(claimed, visibility_timeout=6 * bench.lease, timeout=_TIMEOUT)
            except Exception:  # noqa: BLE001 - the client's own error is fine
                lost = claimed
            cut.wait()
        with contextlib.suppress(Exception):  # it closes what the fault has left
            receiver.close(timeout=_TIMEOUT)
    return not lost


def _past_lease(bench: Bench) -> None:
    bench.let_pass(2 * bench.lease + (bench.capabilities.redelivery.lease_end or 0.0) + 0.3)


def _never_back_unmarked(bench: Bench, queue: str, acked: bool, which: str) -> None:  # noqa: FBT001 - what was told
    """Fail if a message came back that is said to be acked, or one that looks as if it came for the first time."""
    for again in bench.collect(queue):
        confirmed = bench.capabilities.settle == "confirmed"
        check(not (acked and confirmed), f"a message {which} was said to be acked, and came back")
        check(again.attempt is None or again.attempt > 1, f"a message {which} came back as if for the first time")
