"""FLT, TLS: who cannot prove to be the server that the URL names gets nothing, and nothing goes in clear."""

from __future__ import annotations

import time
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from brokerkit.errors import AccessDenied, ConnectionLost, InvalidOption, OperationTimeout
from brokerkit_conformance.bench import Bench, check
from brokerkit_conformance.casebook import case, without
from brokerkit_conformance.cases._refused import refused
from brokerkit_conformance.cases._through import ONCE, through_proxy
from brokerkit_conformance.faults import Proxy, Way
from brokerkit_conformance.model import NotRun

if TYPE_CHECKING:
    from brokerkit import Broker
    from brokerkit_conformance.harness import SecureServer

_BODY: Final = b"what nobody else may read"
_REASONS: Final = {"wrong authority", "wrong host"}
_WORDS: Final = ("certificate", "tls", "ssl")
_OPTIONS: Final = ({"ssl": True}, {"tls": True}, {"tls_verify": True}, {"ssl_ca_certs": "/etc/hosts"})


@case("FLT-19")
def the_right_server(bench: Bench) -> None:
    """With the right certificate all goes encrypted; with a wrong one nothing goes, and it is told at once and why."""
    server = bench.harness.tls()
    if server is None:
        raise NotRun("the harness gives no server that speaks TLS")
    if not server.untrusted.keys() >= _REASONS:
        raise NotRun(f"the harness gives no URL that is to be refused for: {_REASONS - server.untrusted.keys()}")
    _works_encrypted(bench, server)
    for reason, url in server.untrusted.items():
        _refused_at_once(bench, reason, url, server)
    if server.plain is not None:
        _no_way_back(bench, server.plain, server)
    bench.measured["refused"] = ", ".join([*server.untrusted, *(["no TLS"] if server.plain else [])])


def _works_encrypted(bench: Bench, server: SecureServer) -> None:
    with through_proxy(bench, server.url, same_name=True) as (proxy, url):
        broker = bench.connect(url=url, **server.options)
        queue = bench.name()
        broker.declare(queue)
        consumer = bench.consumer(queue, broker=broker)
        sent = broker.send(queue, _BODY)
        delivery = bench.expect(consumer)
        check((delivery.id, delivery.body) == (sent, _BODY), "a message came otherwise through TLS")
        delivery.ack(wait=True)
        consumer.close()
        broker.delete(queue)
        check(proxy.traffic().connections > 0, "it did not come by the proxy, so nothing is shown")
        _nothing_in_clear(bench, proxy, broker, "through TLS")
        with bench.time.running():
            broker.close()


def _refused_at_once(bench: Bench, reason: str, url: str, server: SecureServer) -> None:
    events: list[str] = []
    options: dict[str, Any] = {"timeout": 5.0, "on_event": lambda event: events.append(event.name), **server.options}
    with through_proxy(bench, url, same_name=True) as (proxy, through):
        broker = bench.connect(url=through, **options)
        began = time.monotonic()
        error = refused(lambda: broker.send(bench.name(), _BODY), AccessDenied, f"a send, {reason},")
        took = time.monotonic() - began
        check(not error.retryable and "retrying" not in events, f"{reason}: it was tried again")
        check(took < 1.0 + bench.slack, f"{reason}: it took {took:.1f} s to be refused")
        check(any(word in str(error).lower() for word in _WORDS), f"{reason}: the error does not tell why: {error}")
        shown = "".join(traceback.format_exception(error)) + repr(error)
        check(not any(text in shown for text in broker.url.secrets), f"{reason}: the error shows a secret")
        consumer = bench.consumer(bench.name(), broker=broker)
        refused(lambda: consumer.receive(timeout=1.0), AccessDenied, f"receive, {reason},")
        check(proxy.traffic().connections > 0, f"{reason}: it did not come by the proxy, so nothing is shown")
        _nothing_in_clear(bench, proxy, broker, reason)
        with bench.time.running():
            broker.close(timeout=1.0)


def _no_way_back(bench: Bench, plain: str, server: SecureServer) -> None:
    """A server without TLS is not spoken to, though it would understand."""
    kinds = (AccessDenied, ConnectionLost, OperationTimeout)
    with through_proxy(bench, plain, same_name=True) as (proxy, through):
        broker = bench.connect(url=through, **{"timeout": 2.0, **ONCE, **server.options})
        refused(lambda: broker.send(bench.name(), _BODY), kinds, "a send with TLS to a server without it")
        check(proxy.traffic().connections > 0, "it did not come by the proxy, so nothing is shown")
        _nothing_in_clear(bench, proxy, broker, "to a server without TLS")
        with bench.time.running():
            broker.close(timeout=1.0)


def _nothing_in_clear(bench: Bench, proxy: Proxy, broker: Broker, what: str) -> None:
    proxy.turn()
    needles: Sequence[bytes] = [bench.name().encode(), _BODY, *(secret.encode() for secret in broker.url.secrets)]
    seen = [needle for needle in needles if proxy.seen(needle, Way.BOTH)]
    # the password itself is not shown: a report is read by many
    names = ["a secret of the URL" if needle in needles[2:] else needle for needle in seen]
    check(not seen, f"{what}: it went in clear: {names}")


@without("tls")
def no_tls(bench: Bench) -> None:
    """Without TLS whatever asks for it is refused when it is opened: nobody is to believe that it is encrypted."""
    for options in _OPTIONS:
        refused(lambda o=options: bench.connect(**o), InvalidOption, f"{options}")  # type: ignore[misc]
