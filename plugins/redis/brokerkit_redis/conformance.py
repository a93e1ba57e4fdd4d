"""How the conformance suite reaches Redis: one server, a group with sentinels, a cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, final

from brokerkit_conformance import FullServer, NotRun, Proxy, SecureServer

from brokerkit.servers import Redis, RedisCluster, RedisSentinel
from brokerkit_redis.detours import UNCERTIFIED, admit_onlooker, around_cluster, around_master, nameless, watch_from
from brokerkit_redis.foreign import VirtualHost
from brokerkit_redis.harness import AnyRedis, Running

__all__ = ["RedisClusterHarness", "RedisHarness", "RedisSentinelHarness"]

_NODES: Final = 3
_ELSEWHERE: Final = "elsewhere"


@final
class RedisHarness(AnyRedis):
    """One server; two databases are two virtual hosts."""

    def wrong_credentials(self) -> Sequence[str]:
        """A wrong password, for a server that asks for one."""
        server = self.servers.enter_context(Redis(acl=True))
        before, _, rest = server.url().partition("@")
        return (f"{before.rpartition(':')[0]}:wrong@{rest}",)

    def refusals(self) -> Mapping[str, contextlib.AbstractContextManager[FullServer]]:
        """Servers that were made a replica, or lack memory altogether."""
        read_only = self.refusing(("REPLICAOF", "127.0.0.1", 1), ("REPLICAOF", "NO", "ONE"))
        return {"read only": read_only, **super().refusals()}

    def tls(self) -> SecureServer:
        """A server with TLS and users, one that shows a certificate which has expired, and one without TLS."""
        good, late, plain = (self.servers.enter_context(Redis(tls=tls, acl=True)) for tls in (True, True, False))
        late.command("CONFIG", "SET", "tls-cert-file", str(late.certificates.expired()))
        url, ours, theirs = good.url(user="admin"), str(good.certificates.ca), str(late.certificates.ca)
        untrusted = {
            "wrong authority": url.replace(ours, theirs),
            "wrong host": url.replace("@127.0.0.1:", "@127.1:"),  # the same machine by another name
            "expired": late.url(user="admin"),
        }
        unencrypted = plain.url(user="admin").replace("redis:", "rediss:", 1)
        return SecureServer(url, untrusted, plain=f"{unencrypted}?ssl_ca_certs={ours}")

    def make(self) -> Running:
        """A server that writes down every change."""
        return Redis(aof="always")

    def url_of(self, server: Any, number: int) -> str:
        """See `AnyRedis.url_of`."""
        url: str = server.url(database=number)
        return url

    def writable(self, server: Any) -> Sequence[Redis]:
        """See `AnyRedis.writable`."""
        return (server,)


@final
class RedisSentinelHarness(AnyRedis):
    """A master, its replica and three sentinels. What is killed or frozen is all of it; a failover is a plugin's own test."""

    title = "Redis Sentinel"

    def begin(self, server: Any) -> Any:
        """Start a group, and prepare it for `detour`."""
        super().begin(server)
        admit_onlooker(server)
        return server

    def detour(self, url: str, proxies: Sequence[Proxy]) -> contextlib.AbstractContextManager[str]:
        """The sentinels name the proxies as the master."""
        return around_master(url, self.known(url), proxies)

    def tls(self) -> SecureServer:
        """Groups with TLS and users: a good one, and one that shows a certificate which has expired. The sentinels have none."""
        good, late = (self.begin(_sentinels(tls=True)) for _ in range(2))
        late.master.command("CONFIG", "SET", "tls-cert-file", str(late.master.certificates.expired()))
        for sentinel in good.sentinels:  # a certificate is for the host that sentinels name
            sentinel.call("SENTINEL", "MONITOR", _ELSEWHERE, UNCERTIFIED, str(good.master.facts.port), "9")
        ours, theirs = good.master.certificates.ca, late.master.certificates.ca
        url = self._secure(good, ours)
        untrusted = {
            "wrong authority": self._secure(good, theirs),
            "wrong host": url.replace(f"master_name={good.master_name}", f"master_name={_ELSEWHERE}"),
            "expired": self._secure(late, theirs),
        }
        return SecureServer(url, untrusted, plain=f"{self.urls()[0]}&ssl=true&ssl_ca_certs={ours}")

    def make(self) -> Running:
        """A group that writes down every change."""
        return _sentinels()

    def url_of(self, server: Any, number: int) -> str:
        """See `AnyRedis.url_of`."""
        hosts = ";".join(f"127.0.0.1:{sentinel.facts.port}" for sentinel in server.sentinels)
        return f"sentinel://{hosts}/{number}?master_name={server.master_name}"

    def writable(self, server: Any) -> Sequence[Redis]:
        """See `AnyRedis.writable`."""
        return (server.master,)

    def _secure(self, server: Any, trusted: Path) -> str:
        return f"{_as_admin(self.url_of(server, 0))}&ssl=true&ssl_ca_certs={trusted}"


@final
class RedisClusterHarness(AnyRedis):
    """Three masters. A cluster has no second database: a second `key_prefix` is the second virtual host."""

    title = "Redis Cluster"
    virtual_hosts = (VirtualHost(0, "bk:"), VirtualHost(0, "bk2:"))

    def __init__(self) -> None:
        super().__init__()
        self._secured: list[RedisCluster] = []
        self._nameless: list[RedisCluster] = []

    def begin(self, server: Any) -> Any:
        """Start a cluster, and prepare it for `detour`."""
        super().begin(server)
        if nameless(server.nodes):
            self._nameless.append(server)
        return server

    def detour(self, url: str, proxies: Sequence[Proxy]) -> contextlib.AbstractContextManager[str]:
        """There is a proxy before each node."""
        server = self.known(url)
        if server not in self._nameless:
            raise NotRun("only from Redis 7.0 on clients of a cluster can be led through proxies")
        return around_cluster(url, server.nodes, proxies, tls=server in self._secured)

    def tls(self) -> SecureServer:
        """Clusters with TLS and users: a good one, and one that shows a certificate which has expired."""
        good, late = (self.begin(RedisCluster(nodes, tls=True, acl=True)) for nodes in (_NODES, 1))
        self._secured += [good, late]
        late.nodes[0].command("CONFIG", "SET", "tls-cert-file", str(late.nodes[0].certificates.expired()))
        ours, theirs = good.nodes[0].certificates.ca, late.nodes[0].certificates.ca
        url = self._secure(good, ours)
        untrusted = {
            "wrong authority": self._secure(good, theirs),
            "wrong host": url.replace("127.0.0.1:", "127.1:"),  # the same machine by another name
            "expired": self._secure(late, theirs),
        }
        return SecureServer(url, untrusted, plain=f"{self.urls()[0]}?ssl=true&ssl_ca_certs={ours}")

    def make(self) -> Running:
        """A cluster that writes down every change."""
        return RedisCluster(_NODES, aof="always")

    def url_of(self, server: Any, number: int) -> str:
        """See `AnyRedis.url_of`."""
        hosts = ";".join(f"127.0.0.1:{node.facts.port}" for node in server.nodes)
        return f"cluster://{hosts}" + (f"?key_prefix={self.virtual_hosts[number].prefix}" if number else "")

    def writable(self, server: Any) -> Sequence[Redis]:
        """See `AnyRedis.writable`."""
        nodes: Sequence[Redis] = server.nodes
        return nodes

    def _secure(self, server: Any, trusted: Path) -> str:
        return f"{_as_admin(self.url_of(server, 0))}?ssl=true&ssl_ca_certs={trusted}"


def _sentinels(*, tls: bool = False) -> RedisSentinel:
    return RedisSentinel(aof="always", tls=tls, acl=tls, watch_from=watch_from())


def _as_admin(url: str) -> str:
    return url.replace("://", f"://admin:{Redis.logins['admin']}@", 1)
