"""What connecting says about a server that may drop what we store."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Final

from brokerkit._retry import Caller, fail
from brokerkit.abc import ResultBackend, SupportsEvictionCheck, Transport
from brokerkit.errors import EvictionRisk, Unsupported

__all__ = ["check_eviction"]

_PATIENCE: Final = 2.0
"""Seconds for the question; a server that is not there yet is no reason not to open a broker on it."""


def check_eviction(
    product: str, evictable: Sequence[str], driver: Transport | ResultBackend, caller: Caller, *, strict: bool
) -> None:
    """Warn the caller's caller of what a server may drop by itself, or refuse the server if `strict`.

    Args:
        product: the engine, for people.
        evictable: what its capabilities say.
        driver: is asked what its server says, if it can; once, and without repeats. Closed if it is refused.
        caller: translates its error.
        strict: refuse also a server that cannot be asked.

    Raises:
        Unsupported: `strict`, and it may drop something.
        TransportError: `strict`, and it does not answer.
    """
    told = list(evictable)
    error = None
    if isinstance(driver, SupportsEvictionCheck):
        try:
            told += driver.evictable(timeout=min(caller.timeout, _PATIENCE))
        except Exception as raised:  # noqa: BLE001 - the table decides what it is
            error = caller.translate(raised, "ask the server what it may drop")
    if strict and (error or told):
        driver.close(timeout=_PATIENCE)
    if strict and error is not None:
        fail(error)
    if not told:
        return
    text = f"{product} may drop by itself: {', '.join(told)}"
    if strict:
        raise Unsupported(f"strict=true: {text}")
    warnings.warn(text, EvictionRisk, stacklevel=3)
