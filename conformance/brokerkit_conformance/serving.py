"""What runs behind an engine: product, version, real or emulator, and how it is set. As the harness tells, for the report."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from brokerkit.capabilities import Capabilities, ResultCapabilities
from brokerkit_conformance.harness import Harness

__all__ = ["server_of"]


def server_of(harness: Harness, declared: Iterable[Capabilities | ResultCapabilities]) -> dict[str, Any]:
    """Return what is known of the server: the product that the plugin claims, and what the harness says, if it does.

    A harness that fails at this tells nothing: a report is made of a run whose server did not start, too.
    """
    sides = list(declared)
    told, emulator = harness.server, harness.emulator
    try:
        settings = {str(name): str(value) for name, value in harness.server_settings().items()}
    except Exception:  # noqa: BLE001 - as the docstring says
        settings = {}
    return {
        "claimed": ", ".join(dict.fromkeys(str(getattr(side, "product", "?")) for side in sides)),
        "told": str(told or ""),
        "emulator": emulator if isinstance(emulator, bool) else None,
        "embedded": bool(sides) and all(getattr(side, "embedded", False) for side in sides),
        "settings": settings,
        "settings_digest": _digest(settings) if settings else "",
    }


def _digest(settings: dict[str, str]) -> str:
    canonical = json.dumps(settings, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return f"sha256:{hashlib.sha256(canonical.encode()).hexdigest()}"
