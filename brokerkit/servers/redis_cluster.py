"""A Redis cluster: one node to see how keys of several slots are refused, three to see redirections and a lost node."""

from __future__ import annotations

from typing import Final, Literal, cast, final

from brokerkit.servers._fleet import Fleet
from brokerkit.servers._handshakes import Resp
from brokerkit.servers._places import Local
from brokerkit.servers.certificates import Certificates
from brokerkit.servers.redis import Redis

__all__ = ["RedisCluster"]

_SLOTS: Final = 16384
_WITHOUT_SLOTS: Final = 8  # fields of a node's line in CLUSTER NODES


@final
class RedisCluster(Fleet):
    """Masters without replicas, each with its share of the slots. Usable after some 2 seconds.

    Args:
        nodes: how many, 1 to 9.
        aof: as for `Redis`; without it, a node that was killed comes back empty, with its slots.
        tls: speak TLS only, as for `Redis`, also between the nodes.
        acl: as for `Redis`.
    """

    product = "redis-cluster"

    def __init__(
        self, nodes: int = 3, *, aof: Literal["", "always", "everysec"] = "", tls: bool = False, acl: bool = False
    ) -> None:
        if not 1 <= nodes <= 9:  # noqa: PLR2004 - enough for any test
            raise ValueError(f"1 to 9 nodes, not {nodes}")
        settings = {"tls-cluster": "yes"} if tls else {}
        made = [_Node(aof=aof, tls=tls, acl=acl, settings=settings) for _ in range(nodes)]
        for node in made[1:]:
            node.first = made[0]
        super().__init__(made)

    @property
    def nodes(self) -> tuple[Redis, ...]:
        """The nodes, in the order of their slots; each can be paused, killed and restarted alone."""
        return cast("tuple[Redis, ...]", self._parts)

    def url(self) -> str:
        """The URL of the first node, from which a client learns the others."""
        external = self._external()
        return external.url if external else self.nodes[0].url()

    def _together(self) -> bool:
        if external := self._external():
            with Resp(external.address(Redis.default_port), external.login) as connection:
                return b"cluster_state:ok" in connection.call("CLUSTER", "INFO")
        for index in range(len(self.nodes)):
            self._introduce(index)
        return all(
            b"cluster_state:ok" in (info := node.command("CLUSTER", "INFO", timeout=1.0))
            and b"cluster_known_nodes:%d\r" % len(self.nodes) in info
            for node in self.nodes
        )

    def _introduce(self, index: int) -> None:
        """Give a node its slots and let it meet the first one, unless it has them and did so."""
        node = self.nodes[index]
        known = node.command("CLUSTER", "NODES", timeout=1.0).decode().splitlines()
        me = next(line for line in known if "myself" in line).split()
        if len(me) == _WITHOUT_SLOTS:
            first, end = (_SLOTS * step // len(self.nodes) for step in (index, index + 1))
            if len(known) == 1 and me[6] == "0":
                node.command("CLUSTER", "SET-CONFIG-EPOCH", index + 1)
            node.command("CLUSTER", "ADDSLOTSRANGE", first, end - 1)
        if index > 0 and len(known) == 1:
            ports = self.nodes[0].facts.ports
            node.command("CLUSTER", "MEET", "127.0.0.1", ports["main"], ports["bus"])


class _Node(Redis):
    part_of_fleet = True
    first: Redis | None = None

    @property
    def certificates(self) -> Certificates:
        return super().certificates if self.first is None else self.first.certificates

    def _lines(self, local: Local) -> dict[str, str]:
        # the bus is by custom 10000 ports higher, where ports for outgoing connections may be
        bus = {"cluster-enabled": "yes", "cluster-port": str(self._port("bus")), "cluster-node-timeout": "2000"}
        return super()._lines(local) | bus

    def _certified(self, local: Local) -> Certificates:
        return super()._certified(local) if self.first is None else self.first.certificates
