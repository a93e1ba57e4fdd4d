"""From one URL to a broker and a result store, each with the options that are its own; for commands that take one URL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from brokerkit import registry
from brokerkit.broker import Broker, connect
from brokerkit.errors import UnknownScheme
from brokerkit.options import BrokerOptions, ResultOptions
from brokerkit.registry import Plugin
from brokerkit.results import ResultStore, results
from brokerkit.url import URL

__all__ = ["Target", "target"]


@dataclass(frozen=True)
class Target:
    """What serves a URL, not yet connected.

    Attributes:
        url: as it was given.
        transport: the plugin for messages, or None.
        backend: the plugin for results, or None.
        broker_url: the URL for `connect`: without the options that only the result backend has.
        results_url: the URL for `results`, likewise.
    """

    url: URL
    transport: Plugin | None
    backend: Plugin | None
    broker_url: URL
    results_url: URL

    def broker(self, *, url: URL | None = None, **options: Any) -> Broker:
        """Connect to the broker, or to another one of its kind at `url`; refused if the scheme has none.

        Options of the URL stand above those given here.
        """
        address = url or self.broker_url
        return connect(address, **{name: value for name, value in options.items() if name not in dict(address.query)})

    @property
    def transport_options(self) -> tuple[str, ...]:
        """The names of the transport's own options."""
        return _options(self.transport) if self.transport else ()

    def results(self, **options: Any) -> ResultStore:
        """Connect to the result store; refused if the scheme has none."""
        return results(self.results_url, **options)


def target(text: str) -> Target:
    """Find what serves a URL.

    Raises:
        ConfigurationError: nothing does, or the URL is wrong.
    """
    url = URL.parse(text)
    try:
        transport = registry.find(url, "transport")
    except UnknownScheme:
        transport = None
    try:
        backend = registry.find(url, "result_backend")
    except UnknownScheme:
        if transport is None:
            registry.find(url, "transport")  # raises again: its text is the one that helps
        backend = None
    of_broker = {*BrokerOptions.names(), *_options(transport)} if transport else set()
    of_results = {*ResultOptions.names(), *_options(backend)} if backend else set()
    return Target(
        url,
        transport,
        backend,
        url.with_query(pair for pair in url.query if pair[0] in of_broker or pair[0] not in of_results),
        url.with_query(pair for pair in url.query if pair[0] in of_results or pair[0] not in of_broker),
    )


def _options(plugin: Plugin) -> tuple[str, ...]:
    names: tuple[str, ...] = plugin.load().options_type.names()
    return names
