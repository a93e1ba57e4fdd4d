"""Putting the suite's proxy between a process and the server, and what cases do with it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from brokerkit.errors import BrokerkitError
from brokerkit.url import URL
from brokerkit_conformance.bench import Bench, check
from brokerkit_conformance.faults import Proxy, Refuse
from brokerkit_conformance.model import NotRun

if TYPE_CHECKING:
    from brokerkit import Consumer

__all__ = ["ONCE", "Taker", "belongings", "outage", "through_proxies", "through_proxy", "with_password"]

ONCE: Final = {"retry_policy": {"max_retries": 0}}
"""Options by which each call is tried once."""


@contextmanager
def through_proxy(bench: Bench, to: str | None = None, *, same_name: bool = False) -> Iterator[tuple[Proxy, str]]:
    """Start a proxy before the server of a URL, the broker's by default; gives it, and the URL that leads through it.

    Args:
        bench: of the case.
        to: the URL.
        same_name: leave the host's name as it is, which must be one of this machine: certificates hang on it.
    """
    with through_proxies(bench, 1, to, same_name=same_name) as ((proxy,), url):
        yield proxy, url


@contextmanager
def through_proxies(
    bench: Bench, number: int, to: str | None = None, *, same_name: bool = False
) -> Iterator[tuple[Sequence[Proxy], str]]:
    """Start proxies as several ways to one server, and give them with the URL that names them in their order."""
    text = to or bench.urls[0]
    with ExitStack() as stack:
        proxies = [stack.enter_context(Proxy()) for _ in range(number)]
        detour = bench.harness.detour(text, proxies)
        yield proxies, stack.enter_context(detour) if detour else _instead(text, proxies, same_name=same_name)


def _instead(text: str, proxies: Sequence[Proxy], *, same_name: bool) -> str:
    """Put proxies in the place of the one host of a URL."""
    url = URL.parse(text)
    if len(url.hosts) != 1 or url.hosts[0][1] is None:
        raise NotRun(
            "the harness's URL names no single host with a port, and `detour` tells no other place for a proxy"
        )
    host, port = url.hosts[0]
    assert port is not None  # noqa: S101 - for the type checker
    for proxy in proxies:
        proxy.door(host, port)
    return _changed(url, hosts=[(host if same_name else proxy.host, proxy.port) for proxy in proxies]).render(
        reveal_secrets=True
    )


def with_password(url: str, password: str) -> str:
    """Return a URL with another user and password."""
    return _changed(URL.parse(url), user=("somebody", password)).render(reveal_secrets=True)


@contextmanager
def outage(proxy: Proxy) -> Iterator[None]:
    """Let the server be away: nothing listens, and what stood is ended."""
    with proxy.inject(Refuse()):
        proxy.kill_connections()
        yield


def belongings() -> tuple[int, int]:
    """Return how many threads this process has, and how many open files."""
    try:
        return threading.active_count(), len(os.listdir("/dev/fd"))  # noqa: PTH208 - names alone
    except OSError:
        raise NotRun("this system does not tell which files a process has open") from None


class Taker:
    """Receives and acks in a thread, whatever happens to the connection, and takes down what came and what went wrong.

    A context manager, so that the thread ends with a case that fails.

    Attributes:
        bodies: what came, in order.
        acked: of that, what was said to be acked.
        errors: what receiving and acking raised.
    """

    def __init__(self, bench: Bench, consumer: Consumer, *, block: float = 0.5) -> None:
        self.bodies: list[bytes] = []
        self.acked: list[bytes] = []
        self.errors: list[BrokerkitError] = []
        self._bench = bench
        self._consumer = consumer
        self._block = block
        self._end = threading.Event()
        self._thread = bench.thread(self._work, "taker")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end.set()

    def wait_for(self, wanted: Callable[[], bool], *, within: float, what: str) -> None:
        """Fail unless it comes to something, and tell what came instead."""
        with suppress(AssertionError):
            self._bench.wait_until(wanted, within=within, what=what)
        check(
            wanted(),
            f"{what}: not within {within:g} s; {len(self.bodies)} deliveries came, {len(self.acked)} were acked, "
            f"and there were {len(self.errors)} errors, such as {self.errors[-1:]!r}",
        )

    def stop(self) -> None:
        """Take no more."""
        self._end.set()
        self._thread.join(self._bench.slack + 10)
        check(not self._thread.is_alive(), "a consumer that was told to stop hangs")

    def _work(self) -> None:
        while not self._end.is_set():
            try:
                delivery = self._consumer.receive(timeout=self._block)
                if delivery is not None:
                    self.bodies.append(delivery.body)
                    delivery.ack(wait=True)
                    self.acked.append(delivery.body)
            except BrokerkitError as error:
                self.errors.append(error)


def _changed(url: URL, *, hosts: Sequence[tuple[str, int]] = (), user: tuple[str, str] | None = None) -> URL:
    username, password = user or (url.username, url.password)
    return URL(
        url.scheme,
        driver=url.driver,
        username=username,
        password=password,
        hosts=hosts or url.hosts,
        path=url.path,
        query=url.query,
    )
