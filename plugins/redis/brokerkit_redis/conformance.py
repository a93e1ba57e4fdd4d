"""How the conformance suite reaches Redis: one server, a group with sentinels, a cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, Final, final

from brokerkit_conformance import FullServer, SecureServer

from brokerkit.servers import Redis, RedisCluster, RedisSentinel
from brokerkit_redis.foreign import VirtualHost
from brokerkit_redis.harness import AnyRedis, Running

__all__ = ["RedisClusterHarness", "RedisHarness", "RedisSentinelHarness"]

_NODES: Final = 3


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

    def make(self) -> Running:
        """A group that writes down every change."""
        return RedisSentinel(aof="always")

    def url_of(self, server: Any, number: int) -> str:
        """See `AnyRedis.url_of`."""
        hosts = ";".join(f"127.0.0.1:{sentinel.facts.port}" for sentinel in server.sentinels)
        return f"sentinel://{hosts}/{number}?master_name={server.master_name}"

    def writable(self, server: Any) -> Sequence[Redis]:
        """See `AnyRedis.writable`."""
        return (server.master,)


@final
class RedisClusterHarness(AnyRedis):
    """Three masters. A cluster has no second database: a second `key_prefix` is the second virtual host."""

    title = "Redis Cluster"
    virtual_hosts = (VirtualHost(0, "bk:"), VirtualHost(0, "bk2:"))

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
