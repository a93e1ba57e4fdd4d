"""Servers and clients for the tests of this plugin."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from brokerkit_redis.addresses import address_of
from brokerkit_redis.client import Client
from brokerkit_redis.errors import ERRORS
from brokerkit_redis.options import RedisTransportOptions

from brokerkit import servers
from brokerkit._clock import SYSTEM_CLOCK
from brokerkit._retry import Pauses
from brokerkit.options import RetryPolicy, gather, resolve
from brokerkit.url import URL

HANG = 30.0
"""Real seconds after which a test that should have ended fails."""


def started(server: Any) -> Any:
    """Start a server; where it is missing, fail or skip, as the environment demands."""
    try:
        server.start()
    except servers.ServerMissing as missing:
        if missing.required:
            raise
        pytest.skip(str(missing))
    return server


@pytest.fixture
def start() -> Iterator[Callable[[Any], Any]]:
    """Starts servers for one test."""
    begun: list[Any] = []

    def start_one(server: Any) -> Any:
        begun.append(server)
        return started(server)

    yield start_one
    for one in begun:
        one.close()


@pytest.fixture(scope="module")
def plain() -> Iterator[servers.Redis]:
    """A server for tests that leave it as it was."""
    server = servers.Redis()
    yield started(server)
    server.close()


@pytest.fixture(scope="module")
def cluster() -> Iterator[servers.RedisCluster]:
    """Three nodes, for tests that leave them as they were."""
    server = servers.RedisCluster(3)
    yield started(server)
    server.close()


@pytest.fixture
def open_client() -> Iterator[Callable[..., Client]]:
    """Opens clients by a URL and options, as the core does; closes them at the end."""
    opened: list[Client] = []

    def open_one(text: str, *, clock: Any = SYSTEM_CLOCK, **options: Any) -> Client:
        url = URL.parse(text)
        (settings,) = resolve(gather(url, options, None), RedisTransportOptions, scheme=url.scheme)
        opened.append(Client(address_of(url, settings), settings, clock=clock))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


@pytest.fixture
def patiently() -> Callable[..., Any]:
    """Repeats an attempt as the core does, while its error is retryable, or until its value is the one that is awaited."""

    def repeat(attempt: Callable[[], Any], *, until: Callable[[Any], bool] = lambda _: True) -> Any:
        pauses = Pauses(RetryPolicy(interval_max=0.2), SYSTEM_CLOCK, HANG)
        while True:
            try:
                value = attempt()
            except Exception as error:
                if not ERRORS.translate(error, doing="try").retryable or not pauses.pause():
                    raise
            else:
                if until(value) or not pauses.pause():
                    return value

    return repeat
