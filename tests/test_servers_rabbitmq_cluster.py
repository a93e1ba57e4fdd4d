"""Two RabbitMQ that are one: what one is told the other knows, and one goes on without the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from brokerkit.servers import RabbitMQ, RabbitMQCluster, ServerFailed, ServerMissing
from brokerkit.servers.rabbitmq import api_path
from brokerkit.testing import wait_until

_QUEUE = api_path("queues", "/", "mail")


@pytest.fixture(scope="module")
def cluster() -> Iterator[RabbitMQCluster]:
    made = RabbitMQCluster()
    try:
        made.start()
    except ServerMissing as missing:
        if missing.required:
            raise
        pytest.skip(str(missing))
    try:
        yield made
    finally:
        made.close()


def waiting(node: RabbitMQ) -> list[str]:
    """What the messages of the queue carry; nothing while it is not there."""
    take = {"count": 10, "ackmode": "ack_requeue_true", "encoding": "auto"}
    try:
        return [one["payload"] for one in node.management("POST", f"{_QUEUE}/get", take)]
    except (ServerFailed, OSError):
        return []


def send(node: RabbitMQ, text: str) -> None:
    message: dict[str, Any] = {"properties": {"delivery_mode": 2}, "payload": text, "payload_encoding": "string"}
    where = api_path("exchanges", "/", "amq.default", "publish")
    assert node.management("POST", where, {**message, "routing_key": "mail"}) == {"routed": True}


def test_one_goes_on_without_the_other_which_comes_back(cluster: RabbitMQCluster) -> None:
    first, second = cluster.nodes
    assert cluster.url() == f"{first.url()};{second.url()}"
    second.management("PUT", _QUEUE, {"durable": True, "node": second.node_name})
    send(first, "one")
    wait_until(lambda: waiting(second) == ["one"])

    first.kill9()
    assert not cluster.ready()
    send(second, "two")
    first.start()
    wait_until(cluster.ready)
    wait_until(lambda: waiting(first) == ["one", "two"])


def test_all_come_back_after_all_were_killed(cluster: RabbitMQCluster) -> None:
    cluster.nodes[0].create_user("ada", "secret")
    cluster.nodes[0].permit("ada", "/")
    cluster.kill9()
    assert not cluster.ready()
    cluster.start()
    assert cluster.ready()
    users = cluster.nodes[1].management("GET", api_path("permissions", "/", "ada"))
    assert users["configure"] == ".*"


def test_a_cluster_has_several_nodes() -> None:
    with pytest.raises(ValueError, match="2 to 5"):
        RabbitMQCluster(1)
