"""Servers and clients for the tests of this plugin."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
import redis
from brokerkit_redis.addresses import address_of
from brokerkit_redis.client import Client
from brokerkit_redis.errors import ERRORS
from brokerkit_redis.layout import queue_key
from brokerkit_redis.options import RedisResultOptions, RedisTransportOptions
from brokerkit_redis.results import RedisResultBackend
from brokerkit_redis.transport import RedisTransport

import brokerkit
from brokerkit import errors, servers
from brokerkit._clock import SYSTEM_CLOCK
from brokerkit._retry import Pauses
from brokerkit.models import Message, Queue, new_id
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


@pytest.fixture
def message() -> Callable[..., Message]:
    """Makes messages with ids of their own."""

    def make(body: bytes = b"x", **fields: Any) -> Message:
        return Message(id=new_id(time.time()), body=body, **fields)

    return make


@pytest.fixture
def open_transport() -> Iterator[Callable[..., RedisTransport]]:
    """Opens transports by a URL and options, as the core does; closes them at the end."""
    opened: list[RedisTransport] = []
    receivers: list[Any] = []  # kept, as those that a test does not close are closed with their transport

    def open_one(text: str, *, clock: Any = SYSTEM_CLOCK, **options: Any) -> RedisTransport:
        url = URL.parse(text)
        (settings,) = resolve(gather(url, options, None), RedisTransportOptions, scheme=url.scheme)
        made: Any = RedisTransport.from_url(url, settings, clock=clock)
        opened.append(made)
        open_receiver = made.open_receiver

        def kept(*args: Any, **kwargs: Any) -> Any:
            receivers.append(open_receiver(*args, **kwargs))
            return receivers[-1]

        made.open_receiver = kept
        return opened[-1]

    yield open_one
    for one in opened:
        one.close(timeout=HANG)


@pytest.fixture
def open_results() -> Iterator[Callable[..., RedisResultBackend]]:
    """Opens result backends by a URL and options; closes them at the end."""
    opened: list[RedisResultBackend] = []

    def open_one(text: str, *, clock: Any = SYSTEM_CLOCK, **options: Any) -> RedisResultBackend:
        url = URL.parse(text)
        (settings,) = resolve(gather(url, options, None), RedisResultOptions, scheme=url.scheme)
        opened.append(RedisResultBackend.from_url(url, settings, clock=clock))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close(timeout=HANG)


class Inside:
    """Looks into the keys of queues, and removes them as a server does that runs out of memory."""

    def __init__(self, server: servers.Redis) -> None:
        self.client: Any = redis.Redis(port=server.facts.port)

    def evict(self, queue: str, *suffixes: str) -> None:
        """Remove whole keys."""
        root = queue_key("bk:", queue)
        self.client.delete(*(root + suffix.encode() for suffix in suffixes))

    def keys(self, queue: str) -> set[str]:
        """What comes behind the queue's name in the names of its keys."""
        root = queue_key("bk:", queue)
        return {key.removeprefix(root).decode() for key in self.client.keys("*") if key.startswith(root)}

    def all_keys(self) -> list[bytes]:
        """Every key of the database."""
        return sorted(self.client.keys("*"))

    def places(self, queue: str) -> dict[str, str]:
        """Where each message stands, by its id; fails unless every message stands in exactly one place."""
        root = queue_key("bk:", queue)
        bodies = self.client.hgetall(root + b"b")
        used = self.client.hget(root + b"m", "u").decode()
        assert bodies.pop(b"") == b"", "the bodies lost their floor"
        found: list[tuple[bytes, str]] = []
        for priority in range(10):
            waiting = self.client.lrange(root + b"r%d" % priority, 0, -1)
            assert not waiting or str(priority) in used, f"priority {priority} is not looked at: {used}"
            found += [(each, "ready") for each in waiting]
        for suffix, place in ((b"z", "returned"), (b"t", "leased"), (b"s", "delayed")):
            tokens = [token for token in self.client.zrange(root + suffix, 0, -1) if token != b"-" * 80]
            assert all(str(token[-9]) in used for token in tokens), f"a priority is not looked at: {used}"
            found += [(token[:-9], place) for token in tokens]
        assert self.client.zscore(root + b"t", b"-" * 80) == float("inf"), "the leases lost their floor"
        assert sorted(each for each, _ in found) == sorted(bodies), "bodies and places do not match"
        return {each.hex(): place for each, place in found}


@pytest.fixture
def inside() -> Iterator[Callable[[servers.Redis], Inside]]:
    """Opens a view into a server's keys."""
    opened: list[Inside] = []

    def look(server: servers.Redis) -> Inside:
        opened.append(Inside(server))
        return opened[-1]

    yield look
    for one in opened:
        one.client.close()


@pytest.fixture
def view(plain: servers.Redis, inside: Callable[[servers.Redis], Inside]) -> Inside:
    """Look into the shared server, which is empty now."""
    found = inside(plain)
    found.client.flushall()
    return found


@pytest.fixture
def transport(plain: servers.Redis, view: Inside, open_transport: Callable[..., RedisTransport]) -> RedisTransport:
    """A transport on the shared server, which has one queue, "q"."""
    made = open_transport(plain.url())
    made.declare(Queue(name="q"), timeout=30.0)
    return made


@pytest.fixture
def open_broker() -> Iterator[Callable[..., brokerkit.Broker]]:
    """Opens brokers; closes them at the end."""
    opened: list[brokerkit.Broker] = []

    def open_one(url: str, **options: Any) -> brokerkit.Broker:
        opened.append(brokerkit.connect(url, **{"visibility_timeout": 60, **options}))
        return opened[-1]

    yield open_one
    for broker in opened:
        broker.close()


@pytest.fixture
def load() -> type[Load]:
    """The class of producers and a consumer that work while something happens to the server."""
    return Load


@pytest.fixture
def pause() -> Callable[[float], None]:
    """Lets some time pass."""
    return _pause


class Load:
    """One producer for each queue, and one consumer of all of them, until `finish`.

    Attributes:
        confirmed: payloads whose send returned.
        failed: errors that a send ended with.
        handled: how often each payload was handled.
    """

    def __init__(
        self, broker: Any, names: list[str], *, consuming: Any, each: float = 0.002, timeout: float = 5.0
    ) -> None:
        self._broker = broker
        self._names = names
        self._each = each
        self._timeout = timeout
        self.confirmed: list[str] = []
        self.failed: list[Exception] = []
        self.handled: Counter[str] = Counter()
        self._done = False
        self._consumer = consuming.consumer(*names)
        self._producers = [threading.Thread(target=self._produce, args=(name,), daemon=True) for name in names]
        self._worker = threading.Thread(target=self._consume, daemon=True)
        for thread in (*self._producers, self._worker):
            thread.start()

    def flows(self, more: int = 20, *, of: list[str] | None = None) -> None:
        """Wait until so many more were handled of each queue."""
        names = of or self._names
        goal = {name: self._count(name) + more for name in names}
        _until(lambda: all(self._count(name) >= goal[name] for name in names), 2 * HANG)

    def finish(self) -> list[str]:
        """Stop sending, wait until all that was confirmed was handled, and end; returns what is missing."""
        self._stop_sending()
        end = time.monotonic() + HANG
        while (missing := set(self.confirmed) - set(self.handled)) and time.monotonic() < end:
            _pause(0.02)
        self.stop()
        return sorted(missing)

    def stop(self) -> None:
        """End at once."""
        self._stop_sending()
        alive = self._worker.is_alive()
        self._consumer.stop()
        self._worker.join(HANG)
        self._consumer.close()
        assert alive, "the consumer did not go on by itself"

    def _stop_sending(self) -> None:
        self._done = True
        for thread in self._producers:
            thread.join(2 * HANG)

    def _count(self, name: str) -> int:
        return sum(payload.startswith(f"{name}:") for payload in self.handled.copy())

    def _produce(self, name: str) -> None:
        for number in count():
            if self._done:
                return
            payload = f"{name}:{number}"
            try:
                self._broker.send(name, payload, timeout=self._timeout)
            except errors.BrokerkitError as error:
                self.failed.append(error)
            else:
                self.confirmed.append(payload)
            _pause(self._each)

    def _consume(self) -> None:
        self._consumer.run(lambda delivery: self.handled.update([delivery.payload]))


def _pause(seconds: float) -> None:
    with (condition := threading.Condition()):
        SYSTEM_CLOCK.wait(condition, seconds)


def _until(condition: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to be"
        _pause(0.01)
