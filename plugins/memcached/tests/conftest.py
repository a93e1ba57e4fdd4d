"""Servers and backends for the tests of this plugin."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from brokerkit_memcached.options import MemcachedResultOptions
from brokerkit_memcached.results import MemcachedResultBackend

from brokerkit import servers
from brokerkit._clock import SYSTEM_CLOCK
from brokerkit.options import gather, resolve
from brokerkit.results import ResultStore, results
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
def start() -> Iterator[Callable[..., servers.Memcached]]:
    """Starts servers for one test."""
    begun: list[Any] = []

    def start_one(**settings: Any) -> Any:
        begun.append(servers.Memcached(**settings))
        return started(begun[-1])

    yield start_one
    for one in begun:
        one.close()


@pytest.fixture(scope="module")
def shared() -> Iterator[servers.Memcached]:
    """A server for tests that leave it running."""
    server = servers.Memcached()
    yield started(server)
    server.close()


@pytest.fixture
def plain(shared: servers.Memcached) -> servers.Memcached:
    """The shared server, which is empty now."""
    shared.command("flush_all")
    return shared


@pytest.fixture
def locked(shared: servers.Memcached, tmp_path: Any) -> Iterator[int]:
    """The port of a server that lets in "user" with the password "s3cret" only."""
    assert shared
    secrets = tmp_path / "users"
    secrets.write_text("user:s3cret\n", encoding="ascii")
    tmp_path.chmod(0o755)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = shutil.which("memcached") or ""
    words = [program, "-u", "root", "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-Y", str(secrets)]
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as child:
        try:
            wait_until(lambda: _listens(port))
            yield port
        finally:
            child.kill()


@pytest.fixture
def open_results() -> Iterator[Callable[..., MemcachedResultBackend]]:
    """Opens result backends by a URL and options, as the core does; closes them at the end."""
    opened: list[MemcachedResultBackend] = []

    def open_one(text: str, *, clock: Any = SYSTEM_CLOCK, **options: Any) -> MemcachedResultBackend:
        url = URL.parse(text)
        (settings,) = resolve(gather(url, options, None), MemcachedResultOptions, scheme=url.scheme)
        opened.append(MemcachedResultBackend.from_url(url, settings, clock=clock))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close(timeout=HANG)


@pytest.fixture
def backend(plain: servers.Memcached, open_results: Callable[..., MemcachedResultBackend]) -> MemcachedResultBackend:
    """A backend on the shared server."""
    return open_results(plain.url())


@pytest.fixture
def open_store() -> Iterator[Callable[..., ResultStore]]:
    """Opens result stores; closes them at the end. That they may forget is known here, and no reason to warn."""
    opened: list[ResultStore] = []

    def open_one(url: str, **options: Any) -> ResultStore:
        with pytest.warns(UserWarning, match="memcached may drop by itself: records"):
            opened.append(results(url, **options))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


@pytest.fixture
def until() -> Callable[..., None]:
    """Waits until a condition holds."""
    return wait_until


def wait_until(condition: Callable[[], Any], seconds: float = HANG) -> None:
    """Wait until a condition holds, and fail if it never does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to be"
        with (held := threading.Condition()):
            SYSTEM_CLOCK.wait(held, 0.01)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
