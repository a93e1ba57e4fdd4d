"""What connecting says about a server that may drop what we store."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from brokerkit.errors import EvictionRisk, Unsupported

__all__ = ["check_eviction"]


def check_eviction(product: str, evictable: Sequence[str], *, strict: bool) -> None:
    """Warn the caller's caller of what a server may drop by itself, or refuse the server if `strict`.

    Raises:
        Unsupported: `strict`, and it may drop something.
    """
    if not evictable:
        return
    text = f"{product} may drop by itself: {', '.join(evictable)}"
    if strict:
        raise Unsupported(f"strict=true: {text}")
    warnings.warn(text, EvictionRisk, stacklevel=3)
