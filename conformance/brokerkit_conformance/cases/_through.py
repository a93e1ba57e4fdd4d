"""Putting the suite's proxy between a process and the server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from brokerkit.url import URL
from brokerkit_conformance.bench import Bench
from brokerkit_conformance.faults import Proxy
from brokerkit_conformance.model import NotRun

__all__ = ["through_proxy"]


@contextmanager
def through_proxy(bench: Bench) -> Iterator[tuple[Proxy, str]]:
    """Start a proxy before the server of the broker's URL; gives it, and the URL that leads through it."""
    url = URL.parse(bench.urls[0])
    if len(url.hosts) != 1 or url.hosts[0][1] is None:
        raise NotRun("the harness's URL names no single host with a port, so that no proxy can stand before it")
    host, port = url.hosts[0]
    assert port is not None  # noqa: S101 - for the type checker
    with Proxy(host, port) as proxy:
        leads = URL(
            url.scheme,
            driver=url.driver,
            username=url.username,
            password=url.password,
            hosts=[(proxy.host, proxy.port)],
            path=url.path,
            query=url.query,
        )
        yield proxy, leads.render(reveal_secrets=True)
