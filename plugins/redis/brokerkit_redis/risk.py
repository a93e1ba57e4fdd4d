"""What a Redis server may drop by itself, read from its settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from redis import exceptions

from brokerkit_redis.calls import Call
from brokerkit_redis.errors import code_of

__all__ = ["UNKNOWN", "risk_of"]

UNKNOWN: Final = "perhaps anything: neither CONFIG GET nor INFO is allowed to this user, so its settings cannot be seen"
_ALL: Final = "queues, messages, bindings and results (maxmemory-policy is {policy}; noeviction is safe)"
_VOLATILE: Final = "results, and queues that expire (maxmemory-policy is {policy}; noeviction is safe)"


def risk_of(ask: Callable[[Call], Any]) -> tuple[str, ...]:
    """Return what may be dropped, in words; empty if nothing.

    Args:
        ask: sends one call and returns its answer, be it an error.
    """
    settings = _by_config(ask) or _by_memory(ask)
    if settings is None:
        return (UNKNOWN,)
    policy = settings.get("maxmemory_policy", "noeviction")
    if policy == "noeviction" or int(settings.get("maxmemory", "0")) == 0:
        return ()
    return ((_VOLATILE if policy.startswith("volatile") else _ALL).format(policy=policy),)


def _by_config(ask: Callable[[Call], Any]) -> Mapping[str, str] | None:
    flat: list[bytes] = []
    for name in ("maxmemory", "maxmemory-policy"):
        answer = ask(("CONFIG", "GET", name))
        if isinstance(answer, Exception):
            _raise_unless_refused(answer)
            return None
        flat += answer
    texts = [part.decode() for part in flat]
    return dict(zip((name.replace("-", "_") for name in texts[::2]), texts[1::2], strict=True))


def _by_memory(ask: Callable[[Call], Any]) -> Mapping[str, str] | None:
    answer = ask(("INFO", "memory"))
    if isinstance(answer, Exception):
        _raise_unless_refused(answer)
        return None
    pairs = (line.partition(":") for line in answer.decode().splitlines())
    return {name: value for name, _, value in pairs if name in ("maxmemory", "maxmemory_policy")}


def _raise_unless_refused(error: Exception) -> None:
    """Pass where the question itself was refused: by the user's rights, or since a provider took the command away."""
    if code_of(error) != "NOPERM" and not (isinstance(error, exceptions.ResponseError) and "unknown" in str(error)):
        raise error
