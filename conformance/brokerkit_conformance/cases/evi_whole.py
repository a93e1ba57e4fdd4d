"""EVI, second part: everything gone at once, a full server, warnings, and whether the storage map is complete."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

from brokerkit import Broker
from brokerkit.capabilities import Fanout
from brokerkit.errors import EvictionRisk, InconsistencyError, OutcomeUnknown, StorageFull, Unsupported
from brokerkit_conformance.bench import Bench, check
from brokerkit_conformance.casebook import case
from brokerkit_conformance.cases._order import as_sent
from brokerkit_conformance.cases._refused import refused
from brokerkit_conformance.cases.evi import GONE
from brokerkit_conformance.model import NotRun
from brokerkit_conformance.storage import Role
from brokerkit_conformance.timeline import RealTime, eventually

_WORKERS = 2


@case("EVI-09")
def dedup_keys(bench: Bench) -> None:
    """A dedup key that was forgotten by the server lets one more copy through, at most."""
    bench.private()
    queue = bench.queue()
    bench.broker.send(queue, b"x", dedup_key="once")
    bench.storage().evict(Role.DEDUPE, queue)
    for _ in range(3):
        bench.broker.send(queue, b"x", dedup_key="once")
    came = bench.collect(queue)
    check(1 <= len(came) <= 2, f"{len(came)} copies came, one or two are right")  # noqa: PLR2004


@case("EVI-11")
def everything(bench: Bench) -> None:
    """Everything is lost under load: workers survive and report, and what is sent after a new declaration flows in bound."""
    bench.private()
    ways = list(bench.storage().admin.disasters())
    check(ways, "the harness's admin knows no disaster")
    for way in ways:
        bench.private()
        _survive(bench, bench.storage().admin.disasters()[way], way)
    bench.measured["lost by"] = ", ".join(ways)


def _survive(bench: Bench, disaster: Callable[[], object], way: str) -> None:
    events: list[Any] = []
    handled: list[str] = []
    broker = bench.connect(on_event=events.append)
    queue = bench.queue(broker=broker)
    consumers = [bench.consumer(queue, broker=broker) for _ in range(_WORKERS)]
    threads = [
        bench.thread(lambda c=consumer: c.run(lambda delivery: handled.append(delivery.id)), "worker")  # type: ignore[misc]
        for consumer in consumers
    ]
    try:
        broker.send_many(queue, [b"x"] * 50)
        bench.wait_until(lambda: len(handled) >= 20, within=bench.slack + 5, what="the load is worked off")  # noqa: PLR2004
        broker.send_many(queue, [b"y"] * 20)
        disaster()
        reports = [each for each in (_said(broker, queue) for _ in range(3)) if each]
        # the workers get the time to meet it; whether they did decides nothing
        _soon(bench, lambda: any(isinstance(event.error, GONE) for event in events), 2.0)
        broker.declare(queue)
        new = broker.send_many(queue, [b"new"] * 10)
        check(_soon(bench, lambda: set(new) <= set(handled), 5.0), f"{way}: new messages do not flow within 5 s")
        check(all(thread.is_alive() for thread in threads), f"{way}: a worker died")
        reports += [event.error for event in events if isinstance(event.error, GONE)]
        check(reports, f"{way}: nobody was told")
        again = {each: n for each, n in Counter(handled).items() if n > 1}
        check(not again, f"{way}: handled more than once: {again}")
        bench.connect().send(queue, b"from a new connection")
    finally:
        for consumer in consumers:
            consumer.stop()
    bench.join()


def _soon(bench: Bench, condition: Callable[[], bool], seconds: float) -> bool:
    """Wait in real time, which is what a consumer's pause after a failure takes, whoever's clock is moved meanwhile."""
    with bench.time.running():
        return eventually(RealTime(bench.lease), condition, seconds)


def _said(broker: Broker, queue: str) -> BaseException | None:
    try:
        broker.send(queue, b"is anybody there?")
    except GONE as error:
        return error
    except OutcomeUnknown:  # it was under way when everything went
        return None
    return None


@case("EVI-12")
def statements(bench: Bench) -> None:
    """The server forgets what was prepared on it: every kind of call works as before."""
    bench.private()
    queue, topic = bench.queue(), bench.name("topic")
    consumer, storage = bench.consumer(queue, prefetch=1), bench.storage()
    fanout = not hasattr(bench.capabilities.fanout, "reason")
    if fanout:
        bench.broker.bind(queue, topic)
    bench.broker.send(queue, b"0")
    bench.expect(consumer).ack(wait=True)
    for round_ in range(3):
        storage.admin.forget_statements()
        sent = [bench.broker.send(queue, b"1"), *bench.broker.send_many(queue, [b"2", b"3"])]
        storage.admin.forget_statements()
        sent += [bench.broker.publish(topic, b"4")] if fanout else []
        deliveries = []
        for _ in sent:
            delivery = bench.expect(consumer)
            storage.admin.forget_statements()
            if bench.capabilities.lease.extend:
                delivery.extend()
            delivery.ack(wait=True)
            deliveries.append(delivery.id)
        check(deliveries == sent, f"in round {round_} came {len(deliveries)} of {len(sent)}")


@case("EVI-13")
def full(bench: Bench) -> None:
    """A server without room refuses to store, as StorageFull; what is there can be had, kept and settled; room heals it."""
    server = bench.harness.full_server()
    if server is None:
        raise NotRun("the harness gives no server whose room can be bounded")
    with server as bounded:
        bench.urls = [bounded.url]
        broker = bench.connect(**bounded.options, timeout=5.0)
        queue = bench.queue(broker=broker)
        first = broker.send_many(queue, [b"x" * 500] * 20)
        consumer = bench.consumer(queue, broker=broker, prefetch=5)
        held = bench.expect(consumer)
        bounded.bound(True)
        stored = _fill(broker, queue)
        if bench.capabilities.lease.extend:
            held.extend()
        held.ack(wait=True)
        for _ in range(10):
            bench.expect(consumer, what="a message of a full server").ack(wait=True)
        bounded.bound(False)
        last = broker.send(queue, b"after")
        rest = []
        while last not in rest:
            delivery = bench.expect(consumer)
            delivery.ack(wait=True)
            rest.append(delivery.id)
        check(len(rest) == len(first) - 11 + len(stored) + 1, f"of what was stored came {len(rest)} after it was full")
        with bench.time.running():
            consumer.close()


def _fill(broker: Broker, queue: str) -> list[str]:
    """Send until there is no room; return what was stored."""
    stored: list[str] = []
    for _ in range(2_000):
        try:
            stored.append(broker.send(queue, b"y" * 10_000))
        except StorageFull as error:
            check(str(error), "the error has no text")
            check(not error.retryable, "a full server is not worth a retry")
            return stored
    raise AssertionError("a server that was bounded took 20 MB more")


@case("EVI-14", alone=True)
def warned(bench: Bench) -> None:
    """Who connects to a server that may drop what it stores is warned; strict=True refuses it. Others are not warned."""
    url, _ = bench.harness.evicting_urls()
    bench.measured["evicting servers"] = int(url is not None)
    told_of_risks(bench.connect, url, certain=bool(bench.capabilities.evictable))


def told_of_risks(opener: Callable[..., object], url: str | None, *, certain: bool) -> None:
    """Fail unless opening a URL of an evicting server warns once; and opening the common one only if that is `certain`."""
    if url is not None:
        warned_of = _warnings(lambda: opener(url=url))
        check(len(warned_of) == 1 and warned_of[0], "there is no EvictionRisk that says what is at risk")
        refused(lambda: opener(url=url, strict=True), (Unsupported, InconsistencyError), "strict=True")
    if certain:
        check(_warnings(opener), "it does not warn of what its capabilities say")
    else:
        check(not _warnings(lambda: opener(strict=True)), "it warns of what its capabilities deny")


def _warnings(call: Callable[[], object]) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(each.message) for each in caught if issubclass(each.category, EvictionRisk)]


@case("EVI-15")
def idle(bench: Bench) -> None:
    """After nobody did anything for longer than any lease or bookkeeping lasts, everything works as if it were new."""
    queue, topic = bench.queue(), bench.name("topic")
    fanout = not hasattr(bench.capabilities.fanout, "reason")
    if fanout:
        bench.broker.bind(queue, topic)
    consumer = bench.consumer(queue)
    bench.broker.send(queue, b"0")
    bench.expect(consumer).ack(wait=True)
    waiting = bench.broker.send(queue, b"waits")
    if bench.time.clock is None:
        bench.let_pass(3 * bench.past_lease())
    else:
        bench.time.jump(40 * 86_400.0)
    sent = [waiting, bench.broker.send(queue, b"1")]
    sent += [bench.broker.publish(topic, b"2")] if fanout else []
    came = [bench.expect(consumer) for _ in sent]
    check(as_sent(bench, [delivery.id for delivery in came], sent), "after the idle time not everything came")
    check(all(delivery.attempt in (1, None) for delivery in came), "it counts attempts that there were not")
    for delivery in came:
        delivery.ack(wait=True)
    bench.silent(queue, consumer, why="all was settled")


@case("EVI-16")
def the_map_is_complete(bench: Bench) -> None:
    """After a full workload every key on the server has a role, and every new one belongs to us by name."""
    bench.private()
    first = bench.queue("first")
    storage = bench.storage()
    before = storage.everything()
    queue, topic = bench.queue(max_attempts=1), bench.name("topic")
    consumer, powers = bench.consumer(queue, prefetch=2), bench.capabilities
    if isinstance(powers.fanout, Fanout):
        bench.broker.bind(queue, topic, "a.*" if powers.fanout.patterns else "#")
        bench.broker.publish(topic, b"x", routing_key="a.b")
    bench.broker.send_many(queue, [b"x"] * 4, headers={"a": "b"})
    if not hasattr(powers.delay, "reason"):
        bench.broker.send(queue, b"later", delay=600.0)
    if not hasattr(powers.priority, "reason"):
        bench.broker.send(queue, b"sooner", priority=9)
    bench.expect(consumer).ack(wait=True)
    bench.expect(consumer).dead_letter("no")
    bench.remember(f"{queue}.dead")
    bench.expect(consumer)
    if bench.results_urls:
        store = bench.store(url=bench.results_urls[0])
        store.set_result(store.own_id(bench.name("result")), 1)
    keys = storage.everything()
    check(keys - before, "a full workload left no key on the server: the admin does not look there")
    unmapped = storage.unmapped(keys)
    check(not unmapped, f"{len(unmapped)} keys have no role, such as {unmapped[:3]}")
    kept = storage.find(Role.BOOKKEEPING)
    nameless = {role for role in Role if storage.nameless(role)}
    own = bench.name("")
    strangers = sorted(each for each in keys - before - kept if own not in each)
    strangers = [each for each in strangers if not any(each in storage.find(role) for role in nameless)]
    check(not strangers, f"{len(strangers)} keys do not bear our names, such as {strangers[:3]}")
    check(storage.find(Role.TOPOLOGY, first), "the first queue is not on the server")
    for role in (Role.TOPOLOGY, Role.BODY, Role.HELD):
        check(storage.has(role) is bool(storage.find(role, queue)), f"no key is of role {role!s}")
