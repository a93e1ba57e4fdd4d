"""CLK: clocks that are wrong. A client's clock decides nothing that others rely on."""

from __future__ import annotations

import functools
import time
from collections import Counter
from typing import Any

from brokerkit.models import sent_at
from brokerkit.results import ResultStore
from brokerkit_conformance.actors import Actor
from brokerkit_conformance.bench import HANG, Bench, check
from brokerkit_conformance.casebook import case
from brokerkit_conformance.faults import environment_of
from brokerkit_conformance.model import Inconclusive

_HOUR = 3600.0


@case("CLK-01", crowd=True)
def one_clock_ahead(bench: Bench) -> None:
    """A client whose clock is leases ahead gets what others hold when their leases end, not before."""
    queue = bench.queue()
    kept_id, abandoned = bench.broker.send_many(queue, [b"kept", b"abandoned"])
    kept = bench.expect(bench.consumer(queue, prefetch=1))
    began = bench.time.now()
    claimed = bench.claim(holder := bench.receiver(queue))
    ahead = _skewed(bench, _far(bench), "consume", queue, count=2, do="hold")
    at_once = bench.broker.send(queue, b"for whoever comes")
    end = bench.time.now() + HANG
    while not ahead.events("received") and bench.time.now() < end:
        if bench.capabilities.lease.extend:
            began = bench.time.now()
            holder.extend(claimed, visibility_timeout=bench.lease)
        bench.let_pass(bench.lease / 10)
    check(ahead.wait_for("received")["id"] == at_once, "it got what others hold")
    came = ahead.wait_for("received", count=2)
    bench.measured["reclaimed after"] = waited = came["at"] - began
    check(came["id"] == abandoned, "it got what another consumer keeps")
    check(waited >= bench.lease - bench.capabilities.lease.resolution, f"it reclaimed a lease after {waited:g} s")
    check(waited <= bench.lease_end_bound(), f"it reclaimed an ended lease only after {waited:g} s")
    check(not kept.lease_lost and kept.id == kept_id, "a lease that is kept was lost to it")
    kept.ack(wait=True)


@case("CLK-02", crowd=True)
def one_clock_behind(bench: Bench) -> None:
    """What clients held whose clocks are leases behind, or ahead, comes back in time; to another such client, too."""
    queue = bench.queue()
    sent = bench.broker.send_many(queue, [b"%d" % i for i in range(2)])
    far = _far(bench)
    holders = [_skewed(bench, skew, "consume", queue, count=1, do="hold", prefetch=1) for skew in (-far, far)]
    for actor in holders:
        actor.wait_for("ready")
    behind = _skewed(bench, -far, "consume", queue, count=3, do="hold")
    at_once = bench.broker.send(queue, b"for whoever comes")
    check(behind.wait_for("received")["id"] == at_once, "it got what others hold")
    for actor in holders:
        actor.kill()
    began = bench.time.now()
    last = behind.wait_for("received", count=3)
    bench.measured["all back after"] = waited = last["at"] - began
    check({event["id"] for event in behind.events("received")} == {at_once, *sent}, "other messages came")
    check(waited <= bench.lease_end_bound(), f"the last message came {waited:g} s after both clients had died")


@case("CLK-03", crowd=True)
def two_clocks_apart(bench: Bench) -> None:
    """Two workers whose clocks are leases apart, and nothing goes wrong: each message is begun once."""
    queue = bench.queue()
    far = _far(bench)
    workers = [_skewed(bench, skew, "run", queue, seconds=bench.lease / 2, prefetch=2) for skew in (-far, far)]
    for worker in workers:
        worker.wait_for("ready")
    sent = bench.broker.send_many(queue, [b"%d" % i for i in range(8)])

    def done() -> set[str]:
        return {event["id"] for worker in workers for event in worker.events("handled")}

    bench.wait_until(lambda: done() == set(sent), within=HANG, what="all are handled")
    if not all(worker.events("handled") for worker in workers):
        raise Inconclusive("one of the workers had nothing to do")
    begun = Counter(event["id"] for worker in workers for event in worker.events("received"))
    bench.measured["duplicates"] = begun.total() - len(begun)
    check(begun == Counter(sent), f"{begun.total()} messages were begun of {len(sent)} that were sent")


@case("CLK-05", crowd=True)
def whose_clock_counts(bench: Bench) -> None:
    """Delays and times to live of clients that are an hour off are those of the declared clock, as measured."""
    delay = bench.lease
    late: float = bench.capabilities.delay.late  # type: ignore[union-attr] # the gate has seen it
    queue = bench.queue()
    consumer = bench.consumer(queue)
    senders = {
        skew: _skewed(bench, skew, "send", queue, count=1, body="delayed", delay=delay) for skew in (_HOUR, -_HOUR)
    }
    if bench.results_urls and bench.results_capabilities.expires is True:
        store = bench.results
        for skew in senders:
            bench.thread(functools.partial(_a_result, bench, store, skew))
    sent = {skew: sender.wait_for("sent") for skew, sender in senders.items()}
    for _ in senders:
        delivery = bench.expect(consumer, within=delay + late + bench.slack, what=f"a message {delay:g} s later")
        (skew,) = (skew for skew, event in sent.items() if event["id"] == delivery.id)
        # the id has the time before it was sent, by the client's clock; the log has the time after
        waited = time.time() + skew - sent_at(delivery.id)
        bench.measured[f"delay of {delay:g} s with a clock of {skew:+g} s"] = waited
        check(waited >= delay - 0.01, f"a delay of {delay:g} s took {waited:g} s")
        waited = bench.time.now() - sent[skew]["at"]
        check(waited <= delay + late + bench.slack, f"a delay of {delay:g} s took {waited:g} s")
        delivery.ack(wait=True)
    bench.join()
    bench.measured["whose clock"] = bench.capabilities.lease.time_source


def _a_result(bench: Bench, store: ResultStore, skew: float) -> None:
    """A result that a client with a wrong clock stores lives as long as it asked for."""
    expires, key = bench.lease, store.own_id(bench.name(f"result{skew:+g}"))
    options = {**bench.harness.results_options(), "expires": expires}
    storer = bench.actor("results", key, url=bench.results_urls[0], options=options, value=1, env=environment_of(skew))

    def there() -> bool:
        return store.get(key).state.final

    ready, stored = storer.wait_for("ready"), storer.wait_for("stored")
    check(there() or bench.time.now() - ready["at"] >= expires, "a result was gone too early")
    late = bench.results_capabilities.ttl_late
    bench.wait_until(lambda: not there(), within=expires + late + bench.slack, what="a result is gone")
    bench.measured[f"a result of {expires:g} s with a clock of {skew:+g} s"] = bench.time.now() - stored["at"]


def _skewed(bench: Bench, ahead: float, *words: str, **settings: Any) -> Actor:
    """Start a client whose clock is so many seconds ahead."""
    return bench.actor(*words, env=environment_of(ahead), **settings)


def _far(bench: Bench) -> float:
    """Return more than two leases, and so many seconds that no slack can hide them."""
    return 2 * (bench.lease + bench.slack)
