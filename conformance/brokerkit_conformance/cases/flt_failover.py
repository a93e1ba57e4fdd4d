"""FLT, failover: one URL that names two ways to one server, each through a proxy."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from brokerkit.errors import ConnectionLost, InvalidURL, OperationTimeout, OutcomeUnknown
from brokerkit.url import URL
from brokerkit_conformance.bench import Bench, check
from brokerkit_conformance.casebook import case, without
from brokerkit_conformance.cases._refused import refused
from brokerkit_conformance.cases._through import Taker, outage, through_proxies
from brokerkit_conformance.faults import Cut, Proxy, Way

if TYPE_CHECKING:
    from brokerkit import Broker

_AWAY: Final = (ConnectionLost, OperationTimeout, OutcomeUnknown)
_PATIENCE: Final = 6.0  # seconds for a call, in which the other host has to be found
_TRIES: Final = 2
_EACH: Final = 3  # messages in each state of the hosts
_CONNECTIONS: Final = 12  # that a broker with one consumer may need to come to another host


@case("FLT-14")
def the_next_host(bench: Bench) -> None:
    """The first host that answers serves sends and consumption, the other when it is gone; each message comes once."""
    queue = bench.queue()
    with through_proxies(bench, 2) as ((first, second), url):
        broker = bench.connect(url=url, timeout=_PATIENCE)
        with Taker(bench, bench.consumer(queue, broker=broker), block=0.2) as taker:
            work = _Work(bench, broker, queue, taker)
            work.goes_on("both are there", by=first)
            made = second.traffic().connections
            check(made == 0, f"both are there: {made} connections went to the second, as if it were another queue")
            with outage(first):
                work.goes_on("the first is away", by=second)
            work.goes_on("the first is back")
            with outage(second):
                work.goes_on("the second is away", by=first)
            taker.stop()
        with bench.time.running():
            broker.close()
        came = Counter(taker.bodies)
        check(set(came.values()) == {1}, f"each message was sent once, and came so often: {came}")
        check(came.keys() <= work.tried, f"what nobody sent came: {came.keys() - work.tried}")
        check(all(isinstance(error, _AWAY) for error in taker.errors), f"a consumer was told: {taker.errors}")
        _nobody_answers(bench, url, queue, (first, second))
    bench.silent(queue, why="all was acked, and nothing else was accepted")


class _Work:
    """Sends messages that a taker takes, and counts the connections that this costs."""

    def __init__(self, bench: Bench, broker: Broker, queue: str, taker: Taker) -> None:
        self.tried: set[bytes] = set()
        self._bench = bench
        self._broker = broker
        self._queue = queue
        self._taker = taker

    def goes_on(self, state: str, *, by: Proxy | None = None) -> None:
        """Fail unless messages are accepted and come, with few new connections to the host that is there."""
        before = by.traffic().connections if by is not None else 0
        sent = {self._send(b"%s, no. %d" % (state.encode(), i)) for i in range(_EACH)}
        bench = self._bench
        bound = bench.lease + (bench.capabilities.redelivery.lease_end or 0) + 2 * bench.slack
        self._taker.wait_for(lambda: sent <= set(self._taker.acked), within=bound, what=f"{state}: {sent}")
        made = by.traffic().connections - before if by is not None else 0
        check(made <= _CONNECTIONS, f"{state}: {made} connections were made to go on")

    def _send(self, text: bytes) -> bytes:
        """Send until it is accepted, each time another body: what remains of a host in a connection may show once."""
        for again in range(_TRIES):
            body = b"%s, try %d" % (text, again)
            self.tried.add(body)
            with suppress(*_AWAY):
                self._broker.send(self._queue, body)
                return body
        raise AssertionError(f"{text!r} was not accepted in {_TRIES} sends of {_PATIENCE:g} s")


def _nobody_answers(bench: Bench, url: str, queue: str, hosts: tuple[Proxy, Proxy]) -> None:
    """With both hosts gone it is told, after as many tries as the policy says, and no hot loop over the list."""
    patience = {"max_retries": 2, "interval_start": 0.05}
    before = sum(host.traffic().connections for host in hosts)
    with hosts[0].inject(Cut(way=Way.UP, times=None)), hosts[1].inject(Cut(way=Way.UP, times=None)):
        broker = bench.connect(url=url, timeout=4.0, retry_policy=patience)
        refused(lambda: broker.send(queue, b"to nobody"), _AWAY, "a send, where both hosts hang up,")
        with bench.time.running():
            broker.close(timeout=1.0)
    made = sum(host.traffic().connections for host in hosts) - before
    bench.measured["connections where both hang up"] = made
    named = len(URL.parse(url).hosts)
    check(made <= 2 * 3 * named, f"3 tries of {named} hosts made {made} connections")


@without("failover")
def one_host(bench: Bench) -> None:
    """Without failover a URL with a second host is refused when it is opened: nobody is to believe that it is used."""
    url = URL.parse(bench.urls[0])
    hosts = [*(url.hosts or [("somewhere", None)]), ("elsewhere", None)]
    text = URL(
        url.scheme,
        driver=url.driver,
        username=url.username,
        password=url.password,
        hosts=hosts,
        path=url.path,
        query=url.query,
    ).render(reveal_secrets=True)
    refused(lambda: bench.connect(url=text), InvalidURL, "a URL with two hosts")
