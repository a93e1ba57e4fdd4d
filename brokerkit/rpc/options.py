"""Options of `rpc`, and which broker its URL means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from brokerkit import registry
from brokerkit.abc import Transport
from brokerkit.errors import InvalidOption, InvalidURL, nearest
from brokerkit.options import BrokerOptions, Options, ResultOptions, setting
from brokerkit.url import URL

__all__ = ["BrokerAddress", "RpcOptions", "broker_of"]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, repr=False)
class RpcOptions(Options):
    """Options of results over rpc. Those of the transport stand beside them, by their own names."""

    broker: str | None = setting(
        None, "The broker's URL, where the store's is a bare `rpc://`; `rpc+redis://…` has it in itself."
    )
    broker_options: Mapping[str, Any] | None = setting(
        None, "The transport's own options, in a mapping; written beside these by their names they mean the same."
    )
    max_length: int = setting(
        10_000,
        "Results that wait in the reply queue until their process reads them, where the engine can bound a queue. Who stores "
        "one more is told `QueueFull`.",
        min=1,
    )
    max_records: int = setting(
        10_000,
        "Results that the process holds or waits for. `reserve` beyond it is refused; what was read is dropped to make room.",
        min=1,
    )
    queue_expires: float = setting(
        86_400.0,
        "Seconds after which the reply queue of a dead process vanishes, where the engine can let it. A process that neither "
        "reads nor waits for so long loses what is in it.",
        above=0,
    )

    @classmethod
    def take(cls, given: dict[str, Any]) -> Self:
        """See `Options.take`. Whatever is neither ours nor of every result store is the transport's."""
        own = {name: given.pop(name) for name in list(given) if name in cls.names()}
        others = {name: given.pop(name) for name in list(given) if name not in ResultOptions.names()}
        taken = super().take(dict(own))
        if not others:
            return taken
        own["broker_options"] = _joined(taken.broker_options or {}, others)
        return super().take(own)


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where the messages go.

    Attributes:
        url: the broker's, without options.
        plugin: its transport.
        options: the transport's own.
        visibility_timeout: seconds that a result is claimed while it is taken from the reply queue.
    """

    url: URL
    plugin: type[Transport]
    options: Options
    visibility_timeout: float


def broker_of(url: URL, options: RpcOptions) -> BrokerAddress:
    """Return the broker that a store's URL means: what stands behind the `+`, or the option `broker`.

    Raises:
        InvalidURL: it names none, or has parts that mean nothing.
        InvalidOption: it names two, or the transport has no such option.
        UnknownScheme: nobody serves the broker's scheme.
    """
    broker = _broker_url(url, options)
    plugin: type[Transport] = registry.find(broker, "transport").load()
    query: dict[str, Any] = dict(broker.query)
    portable = BrokerOptions.take(query)  # takes its own out of the query: it may be the URL that `connect` has as well
    given = _joined(query, options.broker_options or {})
    known = plugin.options_type.names()
    if (unknown := next((name for name in given if name not in known), None)) is not None:
        names = sorted({*known, *RpcOptions.names(), *ResultOptions.names()})
        raise InvalidOption(
            f"{url.full_scheme}:// has no option {unknown!r}{nearest(unknown, names)} (known: {', '.join(names)})"
        )
    return BrokerAddress(broker.with_query(()), plugin, plugin.options_type.take(given), portable.visibility_timeout)


def _broker_url(url: URL, options: RpcOptions) -> URL:
    if not url.driver:
        if url.hosts or url.path:
            raise InvalidURL(f"{url}: write {url.scheme}+redis://host/0, or {url.scheme}:// with the option broker")
        if options.broker is None:
            raise InvalidURL(
                f"{url.scheme}:// names no broker; write {url.scheme}+amqp://…, {url.scheme}+redis://… or the like, "
                "or give the broker's URL as the option broker"
            )
        return URL.parse(options.broker)
    if options.broker is not None:
        raise InvalidOption(f"option 'broker': {url.full_scheme}:// names the broker already; give it once")
    scheme, _, driver = url.driver.partition("+")
    return URL(scheme, driver=driver, username=url.username, password=url.password, hosts=url.hosts, path=url.path)


def _joined(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    twice = next((name for name in first if name in second and first[name] != second[name]), None)
    if twice is not None:
        raise InvalidOption(f"option {twice!r} is given twice, once among those of the broker; give it once")
    return {**first, **second}
