"""From a URL's scheme to the plugin that serves it, by entry points; nothing is imported before it is needed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from brokerkit.abc import ResultBackend, Transport
from brokerkit.errors import DuplicateScheme, PluginBroken, PluginNotInstalled, UnknownScheme, nearest
from brokerkit.url import URL

if TYPE_CHECKING:
    from importlib.metadata import Distribution, EntryPoint

__all__ = ["Kind", "Plugin", "find", "forget", "installed"]

Kind: TypeAlias = Literal["transport", "result_backend"]

_GROUPS: Final[Mapping[Kind, str]] = {
    "transport": "brokerkit.transports",
    "result_backend": "brokerkit.result_backends",
}
_CONTRACTS: Final[Mapping[Kind, type]] = {"transport": Transport, "result_backend": ResultBackend}

# Schemes of our own plugins, so that a missing one can be named: scheme → extra of brokerkit-messaging.
_REDIS: Final = ("cluster", "redis", "redis+socket", "redis+unix", "rediss", "sentinel")
_EXTRAS: Final[Mapping[Kind, Mapping[str, str]]] = {
    "transport": {
        **dict.fromkeys(("amqp", "amqps", "pyamqp"), "rabbitmq"),
        **dict.fromkeys(_REDIS, "redis"),
        **dict.fromkeys(("db", "sqla", "sqlalchemy", "sqlite"), "sqlalchemy"),
        "sqs": "sqs",
    },
    "result_backend": {
        **dict.fromkeys(("cache", "memcached"), "memcached"),
        **dict.fromkeys(_REDIS, "redis"),
        **dict.fromkeys(("db", "sqla", "sqlalchemy", "sqlite"), "sqlalchemy"),
    },
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
            loaded = self.entry_point.load()
        except Exception as error:
            raise PluginBroken(f"{self._named} cannot be imported: {type(error).__name__}: {error}") from error
        contract = _CONTRACTS[self.kind]
        if not (isinstance(loaded, type) and issubclass(loaded, contract)):
            raise PluginBroken(f"{self._named} is no subclass of brokerkit.abc.{contract.__name__}")
        return loaded

    @property
    def _named(self) -> str:
        return f"the plugin for {self.scheme}:// ({self.distribution}, {self.entry_point.value})"


def installed(kind: Kind) -> Mapping[str, tuple[Plugin, ...]]:
    """Return all installed plugins by scheme, without importing any. More than one for a scheme is a conflict."""
    return _scan(kind).plugins


def find(url: URL, kind: Kind) -> Plugin:
    """Return the plugin for a URL. The whole scheme is tried first (`redis+socket`), then the part before the `+`.

    Where any `redis+…` is claimed, the others are typing errors and refused. Else the plugin gets the part behind the
    `+` as `url.driver`, and refuses what it does not know.

    Raises:
        DuplicateScheme: two distributions claim the scheme.
        PluginNotInstalled: it is one of ours, and its package is missing.
        UnknownScheme: nobody serves it.
    """
    plugins = _scan(kind).plugins
    enumerated = any(name.startswith(f"{url.scheme}+") for name in (*plugins, *_EXTRAS[kind]))
    for scheme in (url.full_scheme,) if enumerated else (url.full_scheme, url.scheme):
        claims = plugins.get(scheme, ())
        if len(claims) > 1:
            both = " and ".join(sorted(plugin.distribution for plugin in claims))
            raise DuplicateScheme(f"{scheme}:// is claimed by {both}; uninstall one of them")
        if claims:
            return claims[0]
        if scheme in _EXTRAS[kind]:
            raise PluginNotInstalled(
                f"no {_word(kind)} for {scheme}:// is installed; "
                f"pip install 'brokerkit-messaging[{_EXTRAS[kind][scheme]}]'{_listed(kind)}"
            )
    raise _unknown(url, kind)


def forget() -> None:
    """Look at the installed distributions again at the next call; for tests, and after an install at run time."""
    _scan.cache_clear()


def _unknown(url: URL, kind: Kind) -> UnknownScheme:
    other: Kind = "result_backend" if kind == "transport" else "transport"
    known = {*_scan(kind).plugins, *_EXTRAS[kind]}
    hint = nearest(url.full_scheme, known) or nearest(url.scheme, known)
    if url.scheme in {*_scan(other).plugins, *_EXTRAS[other]} - known:
        hint = f"; it has a {_word(other)} only"
    return UnknownScheme(f"no {_word(kind)} serves {url.full_scheme}://{hint}{_listed(kind)}")


def _word(kind: Kind) -> str:
    return kind.replace("_", " ")


def _listed(kind: Kind) -> str:
    scan = _scan(kind)
    known = ", ".join(f"{scheme}://" for scheme in sorted(scan.plugins)) or "none"
    unreadable = f"; could not be read: {', '.join(scan.unreadable)}" if scan.unreadable else ""
    return f" (installed: {known}{unreadable})"


@dataclass(frozen=True, slots=True)
class _Scan:
    plugins: Mapping[str, tuple[Plugin, ...]]
    unreadable: tuple[str, ...]


@lru_cache(maxsize=2)
def _scan(kind: Kind) -> _Scan:
    from importlib.metadata import distributions  # noqa: PLC0415 - half the cost of `import brokerkit`, if it stood above

    found: dict[str, list[Plugin]] = {}
    unreadable: list[str] = []
    seen: set[str] = set()
    for distribution in distributions():
        try:
            entry_points = distribution.entry_points.select(group=_GROUPS[kind])
        except Exception as error:  # noqa: BLE001 - somebody's broken metadata must not take the other plugins away
            unreadable.append(f"{_named(distribution)} ({type(error).__name__}: {error})")
            continue
        named = _named(distribution) if entry_points else ""
        name = named.partition(" ")[0]
        if entry_points and name not in seen:  # else hidden by one of its name that stands earlier in sys.path
            seen.add(name)
            schemes = {entry_point.name.lower(): entry_point for entry_point in entry_points}
            for scheme, entry_point in schemes.items():
                found.setdefault(scheme, []).append(Plugin(scheme, kind, named, entry_point))
    return _Scan({scheme: tuple(claims) for scheme, claims in found.items()}, tuple(unreadable))


def _named(distribution: Distribution) -> str:
    """The distribution's name in its normal form, and its version; or what can be said of a damaged one."""
    try:
        name = re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower()
        return f"{name} {distribution.metadata['Version']}"
    except Exception:  # noqa: BLE001 - a folder that an interrupted install left behind
        return f"a-distribution-without-a-name in {distribution.locate_file('')}"
