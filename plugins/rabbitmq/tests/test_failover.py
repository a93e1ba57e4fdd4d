"""Two nodes: when the one that a program talks to dies, it goes on at the other, and nothing confirmed is lost."""

import contextlib

import pytest

import brokerkit
from brokerkit import errors, servers

BEFORE, AFTER = 30, 60


@pytest.fixture
def cluster(start):
    return start(servers.RabbitMQCluster())


def test_a_dead_node_costs_no_confirmed_message(cluster, run, eventually):
    home, other = cluster.nodes
    # a classic queue lives where it was declared: on the node that stays
    with brokerkit.connect(home.url(), queue_type="classic") as broker:
        broker.declare("q")
    url = f"{other.url()};{home.url()}"
    handled, confirmed = set(), set()
    with brokerkit.connect(url, queue_type="classic", visibility_timeout=10) as broker:
        broker.declare("q")
        consumer = broker.consumer("q", prefetch=10)

        def handle():
            for delivery in consumer:
                with delivery:
                    handled.add(delivery.id)

        ended = run(handle)
        confirmed.update(broker.send("q", b"before") for _ in range(BEFORE))
        eventually(lambda: confirmed <= handled)
        connected = eventually(lambda: home.management("GET", "/connections?columns=node"))  # it is told late
        assert {each["node"] for each in connected} == {other.node_name}
        other.kill9()
        for _ in range(AFTER):
            with contextlib.suppress(errors.OutcomeUnknown, errors.ConnectionLost):  # it may or may not be stored
                confirmed.add(broker.send("q", b"after", timeout=20))
        assert len(confirmed) > BEFORE + AFTER / 2
        eventually(lambda: confirmed <= handled)
        consumer.stop()
        ended()
        consumer.close()
