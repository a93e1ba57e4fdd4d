"""How clients of a fleet are led through proxies, though its servers name each other's addresses to them."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import redis
from brokerkit_conformance import NotRun, Proxy

from brokerkit.servers import Redis, RedisSentinel, ServerFailed
from brokerkit.url import URL

__all__ = ["UNCERTIFIED", "admit_onlooker", "around_cluster", "around_master", "nameless", "watch_from"]

_WATCHERS: Final = "127.0.0.2"  # where sentinels connect from, so that proxies can tell them from clients

UNCERTIFIED: Final = "127.0.0.4"
"""No certificate of ours is for this address of the machine."""

_CERTIFIED: Final[Mapping[str, str]] = {"127.0.0.1": "127.0.0.3"}
_ONLOOKER: Final = "onlooker"
_PATIENCE: Final = 1.0  # seconds for what takes 0.1 to 0.2
_NEVER: Final = 1_000_000  # as many sentinels have to agree on a failover
_turn: Final = itertools.count()


def nameless(nodes: Sequence[Redis]) -> bool:
    """Let nodes name no host to clients but only ports, at the host that was asked; tell whether they can: from Redis 7.0 on."""
    try:
        for node in nodes:
            node.command("CONFIG", "SET", "cluster-preferred-endpoint-type", "unknown-endpoint")
    except ServerFailed:
        return False
    return True


def admit_onlooker(group: RedisSentinel) -> None:
    """Let sentinels have a user that may do no more than see whether a master lives, and hear what they say of it anyway."""
    rights = ("-@all", "+ping", "+subscribe", "&__sentinel__:hello")
    group.master.command("ACL", "SETUSER", _ONLOOKER, "on", f">{_ONLOOKER}", *rights)


@contextlib.contextmanager
def around_cluster(url: str, nodes: Sequence[Redis], proxies: Sequence[Proxy], *, tls: bool = False) -> Iterator[str]:
    """Lead clients of a cluster through proxies, which have addresses of their own and the nodes' ports.

    For nodes that were told to be `nameless`, so that each client stays on its way.

    Raises:
        NotRun: the system has but one loopback address.
    """
    named = URL.parse(url).hosts[0][0]
    hosts: list[tuple[str, int]] = []
    for proxy in proxies:
        number = next(_turn)
        own = _CERTIFIED.get(named, UNCERTIFIED) if tls else f"127.1.{number // 250 % 250}.{number % 250 + 1}"
        _demand(own)
        for node in nodes:
            port = node.facts.port
            proxy.door("127.0.0.1", port, listen=(own, port))
            hosts.append((own, port))
    yield _changed(URL.parse(url), hosts, {})


@contextlib.contextmanager
def around_master(url: str, group: RedisSentinel, proxies: Sequence[Proxy]) -> Iterator[str]:
    """Lead clients of a master through proxies: the sentinels know it by another name, too, and by the proxies' addresses.

    Where there are several, each of the sentinels names another one, as if they differed after a failover. Under that name
    they are no more than onlookers: they would give its replica another master.

    Raises:
        NotRun: the system has but one loopback address.
    """
    _demand(_WATCHERS)
    name, known = f"via-{next(_turn)}", dict(URL.parse(url).query)["master_name"]
    with contextlib.ExitStack() as stack:
        hosts: list[tuple[str, int]] = []
        for number, sentinel in enumerate(group.sentinels[: len(proxies)] if len(proxies) > 1 else group.sentinels):
            client = stack.enter_context(redis.Redis(port=sentinel.facts.port))
            ((host, _),) = _told(client, ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", known))
            if number < len(proxies):
                port = group.master.facts.port
                address = proxies[number].door("127.0.0.1", port, listen=(host.decode(), 0), spared=[_WATCHERS])
            stack.callback(_forget, client, name)
            _told(  # in one packet, so that the sentinel does not look before it has its user
                client,
                ("SENTINEL", "MONITOR", name, *address, _NEVER),
                ("SENTINEL", "SET", name, "auth-user", _ONLOOKER, "auth-pass", _ONLOOKER),
            )
            hosts.append(("127.0.0.1", sentinel.facts.port))
        _watched(group.sentinels[: len(hosts)], name)
        yield _changed(URL.parse(url), hosts, {"master_name": name})


def watch_from() -> str:
    """Return where sentinels can connect from, to be known as such; empty if the system has but one loopback address."""
    try:
        _demand(_WATCHERS)
    except NotRun:
        return ""
    return _WATCHERS


def _watched(sentinels: Sequence[Any], name: str) -> None:
    """Return when sentinels have made their connections, which a case may take for leaks of its own, or cannot make them."""
    end = time.monotonic() + _PATIENCE
    for sentinel in sentinels:
        while time.monotonic() < end:
            flat = [word.decode() for word in sentinel.call("SENTINEL", "MASTER", name)]
            if dict(zip(flat[::2], flat[1::2], strict=True))["last-ping-sent"] == "0":  # and it was answered
                break
            threading.Event().wait(0.02)


def _demand(address: str) -> None:
    with socket.socket() as probe:
        try:
            probe.bind((address, 0))
        except OSError as error:
            raise NotRun(
                f"this system has no loopback address {address}, where a proxy could stand: {error}"
            ) from error


def _told(client: Any, *commands: Sequence[Any]) -> list[Any]:
    with client.pipeline(transaction=False) as together:
        for command in commands:
            together.execute_command(*command)
        answers: list[Any] = together.execute()
    return answers


def _forget(client: Any, name: str) -> None:
    with contextlib.suppress(redis.RedisError):  # it may be gone, or not have heard of it
        client.execute_command("SENTINEL", "REMOVE", name)


def _changed(url: URL, hosts: Sequence[tuple[str, int]], query: Mapping[str, str]) -> str:
    return URL(
        url.scheme,
        driver=url.driver,
        username=url.username,
        password=url.password,
        hosts=hosts,
        path=url.path,
        query=dict(url.query) | dict(query),
    ).render(reveal_secrets=True)
