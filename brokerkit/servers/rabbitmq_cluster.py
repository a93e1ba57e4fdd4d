"""A RabbitMQ cluster: for tests in which a client has to go on at another node."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Self, cast, final

from brokerkit.servers._fleet import Fleet
from brokerkit.servers._groups import Command
from brokerkit.servers._places import Local
from brokerkit.servers.rabbitmq import RabbitMQ

__all__ = ["RabbitMQCluster"]

_MOST: Final = 5


@final
class RabbitMQCluster(Fleet):
    """Nodes that share users, virtual hosts and queues. Each boots in some 5 seconds and uses 160 MB.

    Its tests share the virtual host "/": a new one may wait longer for all nodes than RabbitMQ 3.10 allows itself.

    A quorum queue needs more than half of its nodes: with two, and one killed, it answers nobody until that is back. A
    classic queue lives on the node at which it was declared.

    Args:
        nodes: how many, 2 to 5.
    """

    product = "rabbitmq-cluster"

    def __init__(self, nodes: int = 2) -> None:
        if not 2 <= nodes <= _MOST:  # noqa: PLR2004 - a cluster
            raise ValueError(f"2 to {_MOST} nodes, not {nodes}")
        first = _Node(None)
        super().__init__([first, *(_Node(first) for _ in range(nodes - 1))])

    @property
    def nodes(self) -> tuple[RabbitMQ, ...]:
        """The nodes; each can be frozen, killed and restarted alone."""
        return cast("tuple[RabbitMQ, ...]", self._parts)

    def start(self, *, timeout: float = 60.0) -> Self:
        """Start the nodes, at first one after the other; once they are a cluster, all at once."""
        if self._external() is not None or not any(cast("_Node", node).there for node in self._parts):
            return super().start(timeout=timeout)
        # after the end of all, whoever ended last has to be there before the others go on: they boot together
        with ThreadPoolExecutor(len(self._parts)) as pool:
            list(pool.map(lambda node: node.start(timeout=timeout), self._parts))
        self._until(self._together, timeout, "its nodes did not come together again")
        return self

    def url(self, *, vhost: str = "/") -> str:
        """The URLs of the nodes, apart by semicolons."""
        external = self._external()
        return external.url if external else ";".join(node.url(vhost=vhost) for node in self.nodes)

    def _together(self) -> bool:
        if self._external():
            return True
        told: list[Any] = [node.management("GET", "/nodes?columns=name,running") for node in self.nodes]
        return all(sum(each["running"] for each in seen) == len(self.nodes) for seen in told)


class _Node(RabbitMQ):
    part_of_fleet = True

    def __init__(self, first: RabbitMQ | None) -> None:
        super().__init__()
        self._first = first

    @property
    def there(self) -> bool:
        """Whether it was started before, and has its data."""
        return self._place is not None

    def _port(self, use: str) -> int:
        return super()._port(use) if self._first is None or use != "epmd" else self._first._port(use)  # noqa: SLF001 - its epmd

    def _lines(self) -> dict[str, str]:
        if self._first is None:
            return super()._lines()
        joins = {"cluster_formation.peer_discovery_backend": "classic_config"}
        return super()._lines() | joins | {"cluster_formation.classic_config.nodes.1": self._first.node_name}

    def _companions(self, local: Local) -> Sequence[Command]:
        return super()._companions(local) if self._first is None else ()
