"""Options of the Redis transport and result backend. Names that Celery and redis-py have keep them, and their meaning."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Self

from brokerkit.errors import InvalidOption
from brokerkit.options import FanoutOptions, setting
from brokerkit.tls import TLSOptions

__all__ = ["RedisOptions", "RedisResultOptions", "RedisTransportOptions", "SentinelOptions"]

_PREFIX: Final = re.compile(r"[^\x00-\x20\x7f{}*?\[\]\\]{1,100}")
_NAME: Final = re.compile(r"[!-~]{1,100}")
_LEVELS: Final = tuple(map(str, range(10)))


@dataclass(frozen=True, kw_only=True, repr=False)
class SentinelOptions(TLSOptions):
    """How the sentinels themselves are reached; nothing is taken over from the options for Redis."""

    username: str | None = setting(None, "User of the sentinels, where they have any.")
    password: str | None = setting(None, "Password of the sentinels.")
    socket_timeout: float = setting(1.0, "Seconds to wait for a sentinel's answer before the next is asked.", above=0)
    socket_connect_timeout: float = setting(1.0, "Seconds to wait for a connection to a sentinel.", above=0)


@dataclass(frozen=True, kw_only=True, repr=False)
class RedisOptions(TLSOptions):
    """Options of everything that talks to Redis."""

    key_prefix: str = setting(
        "bk:", "Begins every key and channel; two prefixes in one database know nothing of each other."
    )
    global_keyprefix: str | None = setting(None, "Celery's name of `key_prefix`.")
    virtual_host: int | str | None = setting(None, "The database's number, where the URL's path is a socket's.")
    master_name: str | None = setting(None, "Whom to ask the sentinels for; sentinel:// needs it.")
    sentinel_kwargs: SentinelOptions = setting(
        SentinelOptions(), "For the sentinels themselves: username, password, ssl…, socket_timeout."
    )
    cluster: bool = setting(False, "The hosts are nodes of a Redis Cluster; as cluster://.")
    socket_timeout: float = setting(
        5.0,
        "Seconds to wait for an answer before the connection counts as broken: how late a frozen server is noticed. Below "
        "the server's longest pause, calls fail that would have succeeded.",
        above=0,
        max=3600,
    )
    socket_connect_timeout: float = setting(5.0, "Seconds to wait for a connection to one host.", above=0, max=3600)
    socket_keepalive: bool = setting(True, "Let the system probe silent connections, so that dead ones are noticed.")
    health_check_interval: float = setting(
        25.0, "A connection that was idle for so many seconds is tried with PING before it is used; 0 for never.", min=0
    )
    max_connections: int = setting(
        50, "Connections for calls of one process; further calls wait. Each waiting consumer has one more.", min=1
    )
    persistence: Literal["none", "rdb", "aof"] = setting(
        "none",
        "What the server writes down, as its owner set it; our promises of what survives a restart follow from it. With "
        "none, queues last as long as the server's process; with rdb, a kill loses the last minutes; aof loses little.",
    )
    client_name: str | None = setting(None, "What CLIENT LIST shows of our connections.")
    credential_provider: str | None = setting(
        None, "Gives user and password at each connect: an object of redis-py's CredentialProvider, or 'module:name'."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.global_keyprefix is not None:
            if self.key_prefix not in (type(self).key_prefix, self.global_keyprefix):
                raise InvalidOption(_differ(self.key_prefix, self.global_keyprefix))
            object.__setattr__(self, "key_prefix", self.global_keyprefix)
        if not _PREFIX.fullmatch(self.key_prefix):
            raise InvalidOption(
                f"option 'key_prefix' is {self.key_prefix!r}; it must be 1 to 100 characters without blanks, braces and the "
                "signs of patterns, for example 'bk:'"
            )
        if self.client_name is not None and not _NAME.fullmatch(self.client_name):
            raise InvalidOption(f"option 'client_name' is {self.client_name!r}; it must be ASCII without blanks")

    @classmethod
    def take(cls, given: dict[str, Any]) -> Self:
        """As any option set; beside texts, `credential_provider` may be an object."""
        prefix, alias = given.get("key_prefix"), given.get("global_keyprefix")
        if prefix is not None and alias is not None and prefix != alias:
            raise InvalidOption(_differ(prefix, alias))
        provider = given.get("credential_provider")
        if provider is not None and not isinstance(provider, str):
            del given["credential_provider"]
        options = super().take(given)
        if provider is not None and not isinstance(provider, str):
            object.__setattr__(options, "credential_provider", provider)
        return options


@dataclass(frozen=True, kw_only=True, repr=False)
class RedisTransportOptions(RedisOptions, FanoutOptions):
    """Options of the Redis transport."""

    wait_replicas: int = setting(
        0,
        "How many replicas must have what was sent before a send returns. Without it, a failover loses what the master had "
        "confirmed in its last moments; with it, each send waits for them.",
        min=0,
        max=100,
    )
    wait_replicas_timeout: float = setting(
        1.0, "Seconds to wait for these replicas; then the outcome of the send is unknown.", above=0, max=3600
    )
    queue_order_strategy: Literal["round_robin", "sorted", "priority"] = setting(
        "round_robin",
        "Which of its queues a consumer takes from first: each in turn; by name; or in the order given, the first always "
        "before the second.",
    )
    priority_steps: tuple[str, ...] | None = setting(
        None, "Celery's list of the levels that are kept apart. Here all ten are, always: nothing else is taken."
    )

    def __post_init__(self) -> None:
        RedisOptions.__post_init__(self)
        FanoutOptions.__post_init__(self)
        if self.priority_steps is not None and self.priority_steps != _LEVELS:
            raise InvalidOption(
                f"option 'priority_steps' is {','.join(self.priority_steps)!r}; all ten levels from 0 to 9 are kept apart "
                "here and none can be joined: leave it out"
            )

    @classmethod
    def take(cls, given: dict[str, Any]) -> Self:
        """As any option set; `priority_steps` may be a list of numbers."""
        steps = given.get("priority_steps")
        if isinstance(steps, Iterable) and not isinstance(steps, str | bytes | Mapping):
            given["priority_steps"] = [str(step) for step in steps]
        return super().take(given)


@dataclass(frozen=True, kw_only=True, repr=False)
class RedisResultOptions(RedisOptions):
    """Options of the Redis result backend."""


def _differ(prefix: object, alias: object) -> str:
    return f"options 'key_prefix' ({prefix!r}) and 'global_keyprefix' ({alias!r}) are one option's two names; give one"
