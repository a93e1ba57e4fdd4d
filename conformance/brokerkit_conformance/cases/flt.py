"""FLT: what a caller is told when the server is away, refuses, or answers nonsense; and how often it is tried."""

from __future__ import annotations

import time
import traceback
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from brokerkit.errors import (
    AccessDenied,
    BrokerkitError,
    ConnectionLost,
    NotConnected,
    OperationTimeout,
    OutcomeUnknown,
    QueueNotFound,
    StorageBroken,
    StorageFull,
    Throttled,
    TransportError,
)
from brokerkit.url import URL
from brokerkit_conformance.bench import HANG, Bench, check
from brokerkit_conformance.casebook import case
from brokerkit_conformance.cases._refused import refused
from brokerkit_conformance.cases._through import ONCE, outage, through_proxy, with_password
from brokerkit_conformance.faults import Cut, Fault, Garble, HalfOpen, Refuse, Way
from brokerkit_conformance.model import NotRun

if TYPE_CHECKING:
    from brokerkit import Broker, Consumer

_SECRET: Final = "s3cr3t-of-this-case"  # noqa: S105 - to look for it
_REFUSED: Final[Mapping[str, tuple[type[TransportError], ...]]] = {
    "loading": (Throttled, NotConnected),
    "read only": (StorageBroken, NotConnected),  # a replica that was a leader a moment ago
    "full": (StorageFull,),
    "throttled": (Throttled,),
}
_NEVER_BACK: Final[dict[str, Any]] = {"interval_start": 0.2, "interval_step": 0.0, "interval_max": 0.2}


@case("FLT-01")
def nothing_listens(bench: Bench) -> None:
    """Where nothing listens, every call says `NotConnected` in time, may be repeated, and shows no password."""
    queue = bench.queue()
    with through_proxy(bench) as (proxy, url), proxy.inject(Refuse()):
        broker = bench.connect(url=with_password(url, _SECRET), timeout=1.0)
        consumer = bench.consumer(queue, broker=broker)
        for what, call in {
            "send": lambda: broker.send(queue, b"never"),
            "send_many": lambda: broker.send_many(queue, [b"never"]),
            "declare": lambda: broker.declare(queue),
            "receive": lambda: consumer.receive(timeout=1.0),
        }.items():
            began = time.monotonic()
            error = refused(call, NotConnected, f"{what}, where nothing listens")
            took = time.monotonic() - began
            check(took <= 1.0 + bench.slack, f"{what} with 1 s as timeout raised after {took:.1f} s")
            check(error.retryable, f"{what}: the error says that it is no use to try again")
            shown = "".join(traceback.format_exception(error)) + repr(error)
            check(_SECRET not in shown, f"the error of {what} shows the password")
        broker.close(timeout=1.0)
    bench.silent(queue, why="nothing was sent")


@case("FLT-02")
def not_let_in(bench: Bench) -> None:
    """Wrong credentials, or the like: `AccessDenied` at once, without a repeat, and no secret in any text."""
    urls = bench.harness.wrong_credentials()
    if not urls:
        raise NotRun("the harness gives no URLs of its server that are refused")
    for url in urls:
        events: list[str] = []
        broker = bench.connect(url=url, timeout=5.0, on_event=lambda event, to=events: to.append(event.name))
        began = time.monotonic()
        error = refused(lambda b=broker: b.send(bench.name(), b"x"), AccessDenied, "a URL that is not let in")  # type: ignore[misc]
        took = time.monotonic() - began
        check(not error.retryable and "retrying" not in events, "it was tried again")
        check(took < 1.0 + bench.slack, f"it took {took:.1f} s to be refused")
        shown = "".join(traceback.format_exception(error)) + repr(error)
        check(not any(text in shown for text in broker.url.secrets), "the error shows a secret")


@case("FLT-16", cap=90.0)  # each reason has a server of its own
def refused_by_the_server(bench: Bench) -> None:
    """A server that loads, is full, takes nothing or is asked too much: the right error each time; then it goes on."""
    servers = bench.harness.refusals()
    if not servers:
        raise NotRun("the harness gives no server that can be made to refuse")
    for reason, server in servers.items():
        with server as refusing:
            broker = bench.connect(url=refusing.url, **{"timeout": 2.0, **refusing.options})
            queue = bench.name(reason.replace(" ", "-"))
            broker.declare(queue)
            broker.send(queue, b"before")
            refusing.bound(True)
            unknown = _refused_while(broker, queue, reason)
            refusing.bound(False)
            broker.send(queue, b"after")
            consumer = bench.consumer(queue, broker=broker)
            came = _until(bench, consumer, b"after")
            check(
                Counter(came) - Counter([b"x0"] * unknown) == Counter([b"before", b"after"]), f"{reason}: came {came}"
            )
            broker.delete(queue)
            broker.close()
    bench.measured["reasons"] = ", ".join(servers)


def _refused_while(broker: Broker, queue: str, reason: str) -> bool:
    """Send twice, and fail unless both are refused for the right reason; tell whether the first one's outcome is unknown.

    It may be: a server that takes nothing may have been handed what it will take later, before it said so.
    """
    errors: list[TransportError] = []
    for body in (b"x0", b"x1"):
        kinds = _REFUSED[reason] + ((OutcomeUnknown,) if reason == "throttled" and not errors else ())
        errors.append(refused(lambda b=body: broker.send(queue, b, timeout=0.5), kinds, f"a send, {reason},"))  # type: ignore[misc]
        again = isinstance(errors[-1], Throttled | NotConnected | OutcomeUnknown)
        check(errors[-1].retryable is again, f"{reason}: {errors[-1]!r}, whose retryable is {errors[-1].retryable}")
    return isinstance(errors[0], OutcomeUnknown)


def _until(bench: Bench, consumer: Consumer, last: bytes) -> list[bytes]:
    """Take and ack everything up to a body, and what there is behind it."""
    came: list[bytes] = []
    while last not in came:
        (delivery := bench.expect(consumer)).ack(wait=True)
        came.append(delivery.body)
    if (behind := bench.receive(consumer, 0.5)) is not None:
        behind.ack(wait=True)
        came.append(behind.body)
    return came


@case("FLT-17")
def retry_budget(bench: Bench) -> None:
    """A call is repeated as often as the policy says and until its deadline, with pauses that differ."""
    queue = bench.queue()
    with through_proxy(bench) as (proxy, url), proxy.inject(Cut(way=Way.UP, times=None)) as cut:
        tried = _Tried(bench, url, timeout=4.0, retry_policy={"max_retries": 3, "interval_start": 0.05})
        _refused_as_away(lambda: tried.broker.send(queue, b"x"), "a send of which every try is cut off")
        check(len(tried.at) == 3, f"with max_retries=3 it was repeated {len(tried.at)} times")  # noqa: PLR2004 - its number
        connections = proxy.traffic().connections
        cut.wait()
        named = len(URL.parse(url).hosts)
        check(connections <= 2 * 4 * named, f"4 tries of {named} hosts made {connections} connections")
        _within_its_deadline(bench, url, queue)
        made = proxy.traffic().connections - connections
        check(made <= 2 * 2 * 22 * named, f"tries with pauses of at least 0.1 s made {made} connections in 4 s")
    bench.measured["connections"] = made
    bench.silent(queue, why="nothing came through")


def _within_its_deadline(bench: Bench, url: str, queue: str) -> None:
    tried = _Tried(bench, url, timeout=60.0, retry_policy=_NEVER_BACK)
    consumer = bench.consumer(queue, broker=tried.broker)
    for what, call in {
        "send": lambda: tried.broker.send(queue, b"x", timeout=2.0),
        "receive": lambda: consumer.receive(timeout=2.0),
    }.items():
        began = time.monotonic()
        _refused_as_away(call, what)
        took = time.monotonic() - began
        check(took <= 2.0 + bench.slack, f"{what} with 2 s as deadline ended after {took:.1f} s")
    tried.broker.close(timeout=1.0)
    gaps = [later - earlier for earlier, later in pairwise(tried.at)]
    check(3 <= len(gaps) < 20, f"with pauses of 0.1 to 0.2 s a send of 2 s was repeated {len(tried.at)} times")  # noqa: PLR2004 - plainly
    check(min(gaps) < 0.2, f"the pauses do not differ: the shortest of {len(gaps)} was {min(gaps):.3f} s of 0.2")  # noqa: PLR2004 - as above
    bench.measured["repeats in 2 s"] = len(tried.at)


class _Tried:
    """A broker, and the moments at which it repeated a call."""

    def __init__(self, bench: Bench, url: str, **options: Any) -> None:
        self.at: list[float] = []
        self.broker = bench.connect(url=url, on_event=self._note, **options)

    def _note(self, event: Any) -> None:
        if event.name == "retrying":
            self.at.append(time.monotonic())


def _refused_as_away(call: Any, what: str) -> BrokerkitError:
    error = refused(call, (ConnectionLost, OperationTimeout, OutcomeUnknown), what)
    check(error.retryable, f"{what}: the error says that it is no use to try again")
    return error


@case("FLT-18")
def publish_during_outage(bench: Bench) -> None:
    """While the server is away a send raises; one that lasts longer than the outage succeeds, and is stored once."""
    queue = bench.queue()
    with through_proxy(bench) as (proxy, url):
        tried = _Tried(bench, url, timeout=HANG)
        broker = tried.broker
        broker.send(queue, b"before")
        maybe: set[bytes] = set()
        with outage(proxy):
            for body in (b"one", b"two", b"three"):
                error = _refused_as_away(
                    lambda body=body: broker.send(queue, body, timeout=0.3),
                    "a send while the server is away",
                )
                maybe |= set() if isinstance(error, NotConnected) else {body}
            repeats = len(tried.at)
            through = bench.thread(lambda: broker.send(queue, b"through"))
            bench.wait_until(lambda: len(tried.at) > repeats, within=HANG, what="a send with time left is tried again")
        through.join(HANG)
        check(not through.is_alive(), "a send does not notice that the server is back")
        bench.join()
        broker.close()
    bodies = [bytes(delivery.body) for delivery in bench.collect(queue)]
    for body in (b"before", b"through"):
        check(bodies.count(body) == 1, f"{body!r} was accepted, and came {bodies.count(body)} times")
    for body in (b"one", b"two", b"three"):
        check(
            bodies.count(body) <= (body in maybe), f"{body!r} came {bodies.count(body)} times after its send had failed"
        )


@case("OBS-01")
def taxonomy(bench: Bench) -> None:
    """Each fault of the connection has one name on every engine, and the right word on whether to try again."""
    queue, nobody = bench.queue(), bench.name("nobody")
    mark = queue.encode()  # of the request that is meant, as some clients try a connection first
    rows = [
        _Row("nothing listens", Refuse(), "purge", (NotConnected,)),
        _Row("nothing listens", Refuse(), "send", (NotConnected,)),
        _Row("the connection breaks under it", Cut(way=Way.DOWN, once=mark), "purge", (ConnectionLost,)),
        _Row("the connection breaks under it", Cut(way=Way.DOWN, once=mark), "send", (OutcomeUnknown,)),
        _Row("nobody answers", HalfOpen(), "purge", (OperationTimeout, ConnectionLost, NotConnected)),
        _Row("nobody answers", HalfOpen(), "send", (OutcomeUnknown, NotConnected)),
        _Row("the answer is garbage", Garble(once=mark), "purge", (ConnectionLost,)),
        _Row("there is no such queue", None, "send", (QueueNotFound,), nobody, retryable=False),
    ]
    with through_proxy(bench) as (proxy, url):
        for row in rows:
            # some engines connect at once, others at the first call: refused is a new connection
            injection = proxy.inject(row.fault) if isinstance(row.fault, Refuse) else None
            broker = bench.connect(url=url, timeout=1.5, **ONCE)
            if injection is None:
                broker.purge(queue)  # it is connected
                injection = None if row.fault is None else proxy.inject(row.fault)
            _check_row(row, broker, row.queue or queue)
            if injection is not None:
                injection.wait()
                injection.lift()
            broker.close(timeout=1.0)


@dataclass(frozen=True, slots=True)
class _Row:
    what: str
    fault: Fault | None
    method: str
    kinds: tuple[type[BrokerkitError], ...]
    queue: str = ""
    retryable: bool = True


def _check_row(row: _Row, broker: Broker, queue: str) -> None:
    what = f"{row.method}, when {row.what},"
    call = (lambda: broker.send(queue, b"x")) if row.method == "send" else (lambda: broker.purge(queue))
    error = refused(call, row.kinds, what)
    check(type(error) in row.kinds, f"{what} raised {error!r}, which says that nothing was sent")
    check(error.retryable is row.retryable, f"{what} raised {error!r}, whose retryable is {error.retryable}")
