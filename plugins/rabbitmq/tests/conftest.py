"""Servers and connections for the tests of this plugin."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from brokerkit_rabbitmq.addresses import address_of
from brokerkit_rabbitmq.connecting import Connector
from brokerkit_rabbitmq.link import Link
from brokerkit_rabbitmq.options import RabbitMQOptions
from brokerkit_rabbitmq.tender import Tender
from brokerkit_rabbitmq.transport import RabbitMQTransport

from brokerkit import servers
from brokerkit._clock import SYSTEM_CLOCK
from brokerkit.models import Message, new_id
from brokerkit.options import gather, resolve
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


@pytest.fixture(scope="session")
def node() -> Iterator[servers.RabbitMQ]:
    """One node for all tests, each of which keeps to its own virtual host."""
    server = servers.RabbitMQ()
    yield started(server)
    server.close()


@pytest.fixture
def vhost(node: servers.RabbitMQ) -> Iterator[str]:
    """The URL of a virtual host of the test's own."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    yield node.create_vhost(name)
    node.delete_vhost(name)


@pytest.fixture
def tender() -> Iterator[Tender]:
    """Looks after what a test opens."""
    tender = Tender(SYSTEM_CLOCK)
    yield tender
    tender.close()


@pytest.fixture
def connector(tender: Tender) -> Callable[..., Connector]:
    """Makes connectors by a URL and options, as the core does."""

    def make(text: str, **options: Any) -> Connector:
        url = URL.parse(text)
        (settings,) = resolve(gather(url, options, None), RabbitMQOptions, scheme=url.scheme)
        return Connector(address_of(url, settings), settings, SYSTEM_CLOCK, tender)

    return make


@pytest.fixture
def open_link(connector: Callable[..., Connector]) -> Iterator[Callable[..., Link]]:
    """Opens connections; closes them at the end."""
    opened: list[Link] = []

    def open_one(text: str, *, heartbeat: int = 10, **options: Any) -> Link:
        opened.append(connector(text, **options).open(deadline=soon(), heartbeat=heartbeat, purpose="test"))
        return opened[-1]

    yield open_one
    for link in opened:
        link.close(deadline=time.monotonic() + 5)


@pytest.fixture
def open_transport() -> Iterator[Callable[..., RabbitMQTransport]]:
    """Opens transports by a URL and options; closes them at the end."""
    opened: list[RabbitMQTransport] = []

    def open_one(text: str, **options: Any) -> RabbitMQTransport:
        url = URL.parse(text)
        calm = {"heartbeat": 10} | options  # a machine that is busy for seconds must not fail a test
        (settings,) = resolve(gather(url, calm, None), RabbitMQOptions, scheme=url.scheme)
        opened.append(RabbitMQTransport.from_url(url, settings, clock=SYSTEM_CLOCK))
        return opened[-1]

    yield open_one
    for transport in opened:
        transport.close(timeout=5)


@pytest.fixture
def message() -> Callable[..., Message]:
    """Makes messages."""
    return lambda body=b"x", **fields: Message(id=new_id(time.time()), body=body, **fields)


@pytest.fixture
def run() -> Iterator[Callable[..., Callable[[], Any]]]:
    """Runs calls in threads of their own: `run(call, …)` begins one, and what it returns waits for its value."""
    threads: list[threading.Thread] = []

    def begin(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Callable[[], Any]:
        ended: list[tuple[Any, BaseException | None]] = []

        def body() -> None:
            try:
                ended.append((call(*args, **kwargs), None))
            except BaseException as error:  # noqa: BLE001 - raised where it is awaited
                ended.append((None, error))

        thread = threading.Thread(target=body, daemon=True)
        threads.append(thread)
        thread.start()

        def value() -> Any:
            thread.join(HANG)
            assert ended, "it hangs"
            (result, error) = ended[0]
            if error is not None:
                raise error
            return result

        return value

    yield begin
    for thread in threads:
        thread.join(HANG)


@pytest.fixture
def eventually() -> Callable[[Callable[[], Any]], Any]:
    """Asks again until something is so, and returns it."""

    def ask(question: Callable[[], Any]) -> Any:
        pause, deadline = threading.Condition(), soon()
        with pause:
            while not (answer := question()):
                assert time.monotonic() < deadline, "it does not come about"
                pause.wait(0.02)
        return answer

    return ask


def soon() -> float:
    """A deadline that is far enough."""
    return time.monotonic() + HANG
