"""The topic: two subscribers in each of two virtual hosts, which must not hear each other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Final

from brokerkit._targets import Target
from brokerkit.broker import Broker
from brokerkit.demo.plan import Plan
from brokerkit.errors import BrokerkitError, Unsupported
from brokerkit.url import URL

__all__ = ["Heard", "second_virtual_host", "tell_the_subscribers"]

_PATTERNS: Final = {"audit": "#", "europe": "eu.#"}
_KEYS: Final = ("eu.paid", "us.paid")
_SPACE: Final = "the option fanout_prefix"
_ARRIVAL_SECONDS: Final = 10.0
_SILENCE_SECONDS: Final = 0.3
_TRY_SECONDS: Final = 5.0


@dataclass(slots=True, kw_only=True)
class Heard:
    """What the subscribers got.

    Attributes:
        isolated_by: what makes the second virtual host.
        published: messages published, over both virtual hosts.
        copies: copies that all subscribers should have.
        heard: copies of their own virtual host that they got.
        leaked: copies of the other one.
    """

    isolated_by: str
    published: int = 0
    copies: int = 0
    heard: int = 0
    leaked: int = 0


@dataclass(slots=True)
class _Side:
    """One virtual host."""

    name: str
    broker: Broker
    plan: Plan
    queues: dict[str, str] = field(default_factory=dict)

    @property
    def topic(self) -> str:
        return f"{self.plan.queue}-notices"  # one name on both sides: only the virtual host keeps them apart

    def subscribe(self) -> None:
        for subscriber, pattern in _PATTERNS.items():
            self.queues[subscriber] = queue = f"{self.plan.queue}-{self.name}-{subscriber}"
            self.broker.declare(queue)
            self.broker.bind(queue, self.topic, pattern)

    def publish(self) -> int:
        for key in _KEYS:
            notices = [{"side": self.name, "number": f"{key} {n}"} for n in range(self.plan.notices // len(_KEYS))]
            self.broker.publish_many(self.topic, notices, routing_key=key)
        return self.plan.notices

    def leave(self) -> None:
        for queue in self.queues.values():
            self.broker.delete(queue)


def tell_the_subscribers(aim: Target, plan: Plan) -> Heard:
    """Publish in both virtual hosts under one topic name, and count what each subscriber hears.

    Raises:
        BrokerkitError: the broker refused something.
    """
    with ExitStack() as stack:
        isolated_by, far = second_virtual_host(aim, f"{plan.queue}-far")
        stack.enter_context(closing(far))
        # a space of its own on either side: one virtual host must not have a topic in a space and outside of one
        own_space = _space(aim, f"{plan.queue}-near") if isolated_by == _SPACE else None
        near = stack.enter_context(aim.broker(url=own_space))
        told = Heard(isolated_by=isolated_by)
        sides = [_Side("near", near, plan), _Side("far", far, plan)]
        for side in sides:
            stack.callback(side.leave)
            side.subscribe()
        for side in sides:
            told.published += side.publish()
        for side in sides:
            for subscriber, queue in side.queues.items():
                copies = plan.notices if subscriber == "audit" else plan.notices // len(_KEYS)
                told.copies += copies
                heard, leaked = _listen(side, queue, copies)
                told.heard += heard
                told.leaked += leaked
        return told


def second_virtual_host(aim: Target, name: str) -> tuple[str, Broker]:
    """Connect to another virtual host of the same broker server, and say what makes it one.

    Engines name theirs in different ways; the first that works here is taken, and a fanout prefix of its own is the last resort.

    Raises:
        Unsupported: none works.
    """
    why = ""
    for how, url in _candidates(aim, name):
        try:
            broker = aim.broker(url=url, timeout=_TRY_SECONDS)
            broker.declare(name)
            broker.delete(name)
        except BrokerkitError as error:
            why = str(error)
            continue
        return how, broker
    raise Unsupported(f"no second virtual host can be had of {aim.url}: {why}")


def _candidates(aim: Target, name: str) -> Iterator[tuple[str, URL]]:
    url, known = aim.broker_url, aim.transport_options
    if "virtual_host" in known:
        query = dict(url.query)
        here = query.get("virtual_host", "")
        for other in (str(int(here) + 1),) if here.isdecimal() else (name, "1"):
            yield "the option virtual_host", url.with_query({**query, "virtual_host": other}.items())
    if url.hosts or not url.path:  # else the path is a file's
        here = url.virtual_host
        path = f"/{int(here or 0) + 1}" if here.isdecimal() or not here else f"/{name}"
        for other in dict.fromkeys((path, f"/{name}")):
            yield (
                "the path",
                URL(
                    url.scheme,
                    driver=url.driver,
                    username=url.username,
                    password=url.password,
                    hosts=url.hosts,
                    path=other,
                    query=url.query,
                ),
            )
    if "fanout_prefix" in known:
        yield _SPACE, _space(aim, name)


def _space(aim: Target, name: str) -> URL:
    return aim.broker_url.with_query({**dict(aim.broker_url.query), "fanout_prefix": name}.items())


def _listen(side: _Side, queue: str, expected: int) -> tuple[int, int]:
    """Return how many different copies of this virtual host a subscriber hears, and how many of the other."""
    own: set[str] = set()
    leaked = 0
    with side.broker.consumer(queue) as consumer:
        while True:
            delivery = consumer.receive(_ARRIVAL_SECONDS if len(own) < expected else _SILENCE_SECONDS)
            if delivery is None:
                return len(own), leaked
            with delivery:
                if delivery.payload["side"] == side.name:
                    own.add(delivery.payload["number"])
                else:
                    leaked += 1
