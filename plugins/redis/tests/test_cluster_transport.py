"""The transport on a cluster: queues in several slots, nodes that fail, and slots that move."""

import queue
import threading
import time
from collections import Counter
from itertools import count

import pytest
from brokerkit_redis.cluster_receiver import ClusterReceiver
from redis.crc import key_slot

from brokerkit import errors, servers
from brokerkit.models import Depth

HANG = 60.0
EMPTY = Depth(ready=0, in_flight=0, delayed=0)


def url_of(cluster):
    return "cluster://" + ";".join(f"127.0.0.1:{node.facts.port}" for node in cluster.nodes)


@pytest.fixture
def connect(open_broker):
    return lambda cluster: open_broker(url_of(cluster))


@pytest.fixture
def spread(cluster):
    """Names of queues, one for each node of the shared cluster, never given before."""
    return names_at(cluster, next(_series))


_series = count()


def names_at(cluster, series):
    """Return names of queues, one for each node."""
    found = {}
    numbers = count()
    while len(found) < len(cluster.nodes):
        name = f"q{series}-{next(numbers)}"
        found.setdefault(key_slot(f"bk:{{{name}}}:m".encode()) * len(cluster.nodes) // 16384, name)
    return [found[node] for node in range(len(cluster.nodes))]


def declared(broker, names):
    for name in names:
        broker.declare(name)
    return names


def commands(cluster):
    """How many commands all nodes did since their start, those of this question aside."""
    return sum(_processed(node) for node in cluster.nodes)


def _processed(node):
    lines = node.command("INFO", "stats").decode().splitlines()
    return int(next(line for line in lines if line.startswith("total_commands_processed:")).partition(":")[2])


def taken(consumer, number, timeout=HANG):
    """Receive and ack so many; returns their queue and payload."""
    found = []
    while len(found) < number:
        delivery = consumer.receive(timeout=timeout)
        assert delivery is not None, f"only {found} came"
        found.append((delivery.queue, delivery.payload))
        delivery.ack()
    return found


def test_a_consumer_of_queues_at_several_nodes_gets_all_of_each_in_order(cluster, connect, spread):
    broker = connect(cluster)
    declared(broker, spread)
    for number in range(20):
        for name in spread:
            broker.send(name, number)
    with broker.consumer(*spread, prefetch=5) as consumer:
        found = taken(consumer, 60)
    for name in spread:
        assert [payload for of, payload in found if of == name] == list(range(20))
    assert [broker.depth(name) for name in spread] == [EMPTY] * 3


def test_each_queue_gets_its_turn(cluster, connect, spread):
    broker = connect(cluster)
    busy, *others = declared(broker, spread)
    broker.send_many(busy, range(200))
    for name in others:
        broker.send(name, "once")
    with broker.consumer(*spread, prefetch=10) as consumer:
        first = taken(consumer, 40)
    assert Counter(name for name, _ in first) == {busy: 38, others[0]: 1, others[1]: 1}


def test_who_waits_for_all_queues_is_woken_by_any(cluster, connect, spread, pause):
    broker = connect(cluster)
    declared(broker, spread)
    came = queue.SimpleQueue()
    waits = []
    with broker.consumer(*spread) as consumer:
        thread = threading.Thread(target=lambda: consumer.run(came.put), daemon=True)
        thread.start()
        for number in range(31):
            pause(0.02)  # so that it waits
            began = time.monotonic()
            broker.send(spread[number % 3], number)
            assert came.get(timeout=HANG).payload == number
            waits.append(time.monotonic() - began)
        consumer.stop()
        thread.join(HANG)
    # it looks by itself once a second, so half of these would be later, were it not woken
    assert sorted(waits)[15] < 0.25, waits


def test_waiting_costs_next_to_nothing(cluster, connect, spread):
    broker = connect(cluster)
    declared(broker, spread)
    with broker.consumer(*spread) as consumer:
        assert consumer.receive(timeout=1.5) is None  # connections are there
        before = commands(cluster)
        assert consumer.receive(timeout=3) is None
        # three looks of some 30 commands each at three queues, and what the nodes say to each other
        assert commands(cluster) - before < 600


def test_delayed_messages_and_ended_leases_come_to_who_waits_for_all(cluster, connect, spread):
    broker = connect(cluster)
    declared(broker, spread)
    transport = connect(cluster).transport
    dead = transport.open_receiver(spread, prefetch=1, visibility_timeout=0.5)
    assert isinstance(dead, ClusterReceiver)
    broker.send(spread[1], "later", delay=0.3)
    (held,), _ = dead.receive(limit=1, timeout=HANG)
    with broker.consumer(*spread) as consumer:
        delivery = consumer.receive(timeout=HANG)
        assert (delivery.payload, delivery.attempt) == ("later", 2)
        assert dead.ack([held]) == [held]
        delivery.ack()
    dead.close(timeout=HANG)


def test_a_missing_queue_is_told_once_and_the_others_go_on(cluster, connect, spread):
    broker = connect(cluster)
    declared(broker, spread)
    with broker.consumer(*spread) as consumer:
        assert consumer.receive(timeout=0.1) is None
        broker.delete(spread[0])
        with pytest.raises(errors.QueueNotFound, match=spread[0]):
            consumer.receive(timeout=HANG)
        broker.send(spread[2], "on")
        assert taken(consumer, 1) == [(spread[2], "on")]


def test_release_extend_and_close_reach_the_node_of_each_queue(cluster, connect, spread):
    broker = connect(cluster)
    declared(broker, spread)
    for name in spread:
        broker.send(name, name)
    with broker.consumer(*spread, prefetch=3) as consumer:
        held = [consumer.receive(timeout=HANG) for _ in spread]
        for delivery in held:
            delivery.extend(120)
        held[0].release()
        held[1].ack(wait=True)
        assert broker.depth(held[1].queue) == EMPTY
    with broker.consumer(*spread) as consumer:  # what was held came back at once
        assert sorted(name for name, _ in taken(consumer, 2)) == sorted([held[0].queue, held[2].queue])


def test_close_ends_a_wait(cluster, connect, spread, pause):
    broker = connect(cluster)
    declared(broker, spread)
    consumer = broker.consumer(*spread)
    ended = []

    def wait():
        try:
            consumer.receive(timeout=HANG)
        except errors.Closed:
            ended.append(True)

    assert consumer.receive(timeout=0.1) is None
    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    pause(0.2)
    consumer.close()
    thread.join(HANG)
    assert ended
    assert not thread.is_alive()


def test_a_published_message_reaches_queues_at_all_nodes(cluster, connect, spread):
    broker = connect(cluster)
    declared(broker, spread)
    for name in spread:
        broker.bind(name, "news")
    broker.publish("news", "x")
    with broker.consumer(*spread) as consumer:
        assert sorted(taken(consumer, 3)) == sorted((name, "x") for name in spread)
    for name in spread:
        broker.unbind(name, "news")


def test_a_publish_that_reached_some_is_unknown_and_a_repeat_completes_it(start, connect):
    cluster = start(servers.RedisCluster(3, aof="always"))
    names = names_at(cluster, "p")
    broker = connect(cluster)
    declared(broker, names)
    for name in names:
        broker.bind(name, "news")
    broker.publish("news", "first")
    refusing = cluster.nodes[2]
    refusing.command("CONFIG", "SET", "maxmemory", 1)
    with pytest.raises(errors.OutcomeUnknown, match="of 3 queues have their copies"):
        broker.publish("news", "second", timeout=2)
    refusing.command("CONFIG", "SET", "maxmemory", 0)
    with broker.consumer(*names) as consumer:
        found = taken(consumer, 5)
    assert Counter(payload for _, payload in found) == {"first": 3, "second": 2}
