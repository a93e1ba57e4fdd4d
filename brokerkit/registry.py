"""From a URL's scheme to the plugin that serves it, by entry points; nothing is imported before it is needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final, Literal, TypeAlias

from brokerkit.errors import DuplicateScheme, PluginBroken, PluginNotInstalled, UnknownScheme, nearest
from brokerkit.url import URL

__all__ = ["Kind", "Plugin", "find", "forget", "installed"]

Kind: TypeAlias = Literal["transport", "result_backend"]

_GROUPS: Final[Mapping[Kind, str]] = {
    "transport": "brokerkit.transports",
    "result_backend": "brokerkit.result_backends",
}

# Schemes of our own plugins, so that a missing one can be named: scheme → extra of brokerkit-messaging.
_EXTRAS: Final[Mapping[str, str]] = {
    "amqp": "rabbitmq",
    "amqps": "rabbitmq",
    "cache": "memcached",
    "cluster": "redis",
    "db": "sqlalchemy",
    "memcached": "memcached",
    "pyamqp": "rabbitmq",
    "redis": "redis",
    "rediss": "redis",
    "sentinel": "redis",
    "sqla": "sqlalchemy",
    "sqlalchemy": "sqlalchemy",
    "sqlite": "sqlalchemy",
    "sqs": "sqs",
}


@dataclass(frozen=True, slots=True)
class Plugin:
    """An installed plugin, not yet imported.

    Attributes:
        scheme: what it serves.
        kind: transport or result backend.
        distribution: the package that brings it, with its version.
        entry_point: where it is.
    """

    scheme: str
    kind: Kind
    distribution: str
    entry_point: EntryPoint

    def load(self) -> Any:
        """Import the plugin and return its class.

        Raises:
            PluginBroken: it cannot be imported; the cause says why.
        """
        try:
            return self.entry_point.load()
        except Exception as error:
            raise PluginBroken(
                f"the plugin for {self.scheme}:// ({self.distribution}, {self.entry_point.value}) cannot be imported: "
                f"{type(error).__name__}: {error}"
            ) from error


def installed(kind: Kind) -> Mapping[str, tuple[Plugin, ...]]:
    """Return all installed plugins by scheme, without importing any. More than one for a scheme is a conflict."""
    return _scan(kind)


def find(url: URL, kind: Kind) -> Plugin:
    """Return the plugin for a URL. The whole scheme is tried first (`redis+socket`), then the part before the `+`.

    Raises:
        DuplicateScheme: two distributions claim the scheme.
        PluginNotInstalled: it is one of ours, and its package is missing.
        UnknownScheme: nobody serves it.
    """
    plugins = _scan(kind)
    for scheme in (url.full_scheme, url.scheme):
        claims = plugins.get(scheme, ())
        if len(claims) > 1:
            both = " and ".join(sorted(plugin.distribution for plugin in claims))
            raise DuplicateScheme(f"{scheme}:// is claimed by {both}; uninstall one of them")
        if claims:
            return claims[0]
    word = kind.replace("_", " ")
    known = ", ".join(f"{scheme}://" for scheme in sorted(plugins))
    extra = _EXTRAS.get(url.scheme)
    if extra is not None and not (url.scheme in _scan(_other(kind)) and url.scheme not in plugins):
        raise PluginNotInstalled(
            f"no {word} for {url.scheme}:// is installed; pip install 'brokerkit-messaging[{extra}]' (installed: {known})"
        )
    hint = nearest(url.full_scheme, [*plugins, *_EXTRAS]) or nearest(url.scheme, [*plugins, *_EXTRAS])
    raise UnknownScheme(f"no {word} serves {url.full_scheme}://{hint} (installed: {known})")


def forget() -> None:
    """Look at the installed distributions again at the next call; for tests, and after an install at run time."""
    _scan.cache_clear()


def _other(kind: Kind) -> Kind:
    return "result_backend" if kind == "transport" else "transport"


@lru_cache(maxsize=2)
def _scan(kind: Kind) -> Mapping[str, tuple[Plugin, ...]]:
    found: dict[str, dict[str, Plugin]] = {}
    for entry_point in entry_points(group=_GROUPS[kind]):
        dist = entry_point.dist
        distribution = f"{dist.name} {dist.version}" if dist else "an unknown distribution"
        # one distribution may be seen twice, through two folders of sys.path: that is no conflict
        found.setdefault(entry_point.name.lower(), {})[distribution] = Plugin(
            entry_point.name.lower(), kind, distribution, entry_point
        )
    return {scheme: tuple(claims.values()) for scheme, claims in found.items()}
