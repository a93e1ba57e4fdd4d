"""`brokerkit plugins` and `brokerkit capabilities`: what is installed, and what an engine promises."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import typer

from brokerkit import registry
from brokerkit._targets import target
from brokerkit.capabilities import Absent, Impossible, promises
from brokerkit.cli import exits
from brokerkit.cli.terminal import Debug, Json, Terminal, Url, table, terminal
from brokerkit.errors import BrokerkitError
from brokerkit.registry import Kind, Plugin

__all__ = ["capabilities", "plugins"]

_KINDS: tuple[Kind, ...] = ("transport", "result_backend")


def plugins(*, json: Json = False, debug: Debug = False) -> None:
    """List the installed plugins: their schemes, where they come from, and whether they import.

    Exits 1 if one is broken, or two claim one scheme.
    """
    with terminal(json=json, debug=debug) as out:
        found = [_tried(plugin, len(claims)) for plugin, claims in _installed()]
        document = {"plugins": found}
        rows = [
            (p["scheme"] + "://", p["kind"].replace("_", " "), p["distribution"], p["error"] or "ok") for p in found
        ]
        out.answer(document, lambda: table(("scheme", "kind", "distribution", "imports"), rows))
        if any(plugin["error"] for plugin in found):
            raise typer.Exit(exits.NO)


def capabilities(url: Url, *, json: Json = False, debug: Debug = False) -> None:
    """Show what the engine behind a URL promises. Nothing is connected for it."""
    with terminal(json=json, debug=debug) as out:
        aim = target(url)
        told: dict[str, Any] = {"transport": None, "result_backend": None}
        if aim.transport:
            with aim.broker() as broker:
                told["transport"] = broker.capabilities
        if aim.backend:
            with aim.results() as store:
                told["result_backend"] = store.capabilities
        document = {"url": str(aim.url)} | {kind: dict(_flat("", c)) if c else None for kind, c in told.items()}
        out.answer(document, lambda: _tables(out, told))


def _installed() -> Iterator[tuple[Plugin, tuple[Plugin, ...]]]:
    for kind in _KINDS:
        for _, claims in sorted(registry.installed(kind).items()):
            for plugin in claims:
                yield plugin, claims


def _tried(plugin: Plugin, claims: int) -> dict[str, Any]:
    error = f"{claims} distributions claim this scheme; uninstall all but one" if claims > 1 else None
    try:
        plugin.load()
    except BrokerkitError as failure:
        error = str(failure)
    return {
        "scheme": plugin.scheme,
        "kind": plugin.kind,
        "distribution": plugin.distribution,
        "entry_point": plugin.entry_point.value,
        "error": error,
    }


def _tables(out: Terminal, told: dict[str, Any]) -> None:
    for kind, given in told.items():
        if given is not None:
            title = f"{kind.replace('_', ' ')} of {given.product}"
            out.show(table(("promise", "value"), promises(given), title=title))


def _flat(prefix: str, given: Any) -> Iterator[tuple[str, Any]]:
    """Yield promises as `promises` does, with values that keep their type in JSON."""
    for field in fields(given):
        value, name = getattr(given, field.name), f"{prefix}{field.name}"
        if isinstance(value, Absent | Impossible):
            yield name, {"missing": type(value).__name__.lower(), "reason": value.reason}
        elif is_dataclass(value):
            yield from _flat(f"{name}.", value)
        else:
            yield name, value
