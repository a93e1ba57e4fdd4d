"""A cluster under load, of which nodes fail, lose what they have, or hand over slots."""

from itertools import count

import pytest
from redis.crc import key_slot

from brokerkit import errors, servers

HANG = 60.0


@pytest.fixture
def fleet(start):
    return start(servers.RedisCluster(3, aof="always"))


@pytest.fixture
def names(fleet):
    return names_at(fleet, "x")


@pytest.fixture
def connect(open_broker):
    def connect_to(cluster, **options):
        hosts = ";".join(f"127.0.0.1:{node.facts.port}" for node in cluster.nodes)
        return open_broker(f"cluster://{hosts}", **options)

    return connect_to


def names_at(cluster, series):
    """Return names of queues, one for each node."""
    found = {}
    numbers = count()
    while len(found) < len(cluster.nodes):
        name = f"q{series}-{next(numbers)}"
        found.setdefault(slot_of(name) * len(cluster.nodes) // 16384, name)
    return [found[node] for node in range(len(cluster.nodes))]


def test_a_slot_moves_under_load_and_each_message_is_handled_once(fleet, connect, names, load, pause):
    broker = connect(fleet)
    for name in names:
        broker.declare(name)
    first = load(broker, names, consuming=connect(fleet))
    broker.declare("alone")
    single = load(broker, ["alone"], consuming=connect(fleet))
    first.flows()
    for turn in range(4):
        move(fleet, names[0], turn % 2, pause)
        move(fleet, "alone", turn % 2, pause)
        first.flows()
        single.flows()
    assert (first.finish(), single.finish()) == ([], [])
    assert set(first.handled.values()) == set(single.handled.values()) == {1}
    assert first.failed == single.failed == []


def test_a_half_moved_queue_is_refused_and_not_taken_for_damaged(fleet, connect, names, load, pause):
    broker = connect(fleet)
    broker.declare(names[0])
    for number in range(10):
        broker.send(names[0], number)
    root, slot = f"bk:{{{names[0]}}}:", slot_of(names[0])
    source, target = fleet.nodes[0], fleet.nodes[1]
    open_slot(slot, source, target)
    for suffix in ("b", "m"):
        source.command("MIGRATE", "127.0.0.1", target.facts.port, root + suffix, 0, 5000)
        with pytest.raises(errors.Throttled):
            broker.send(names[0], "refused", timeout=0.5)
        with broker.consumer(names[0]) as consumer, pytest.raises(errors.Throttled):
            consumer.receive(timeout=0.5)
    finish_move(fleet, slot, source, target)
    with broker.consumer(names[0]) as consumer:
        assert [consumer.receive(timeout=HANG).payload for _ in range(10)] == list(range(10))


@pytest.fixture(params=["kill -9", "SIGSTOP"])
def outage(request, pause):
    def happen_to(node):
        if request.param == "kill -9":
            node.kill9()
            pause(1.0)
            node.start()
        else:
            node.pause()
            pause(1.0)
            node.resume()

    return happen_to


def test_a_node_that_fails_and_comes_back_under_load_loses_nothing(fleet, connect, names, load, outage):
    broker = connect(fleet, transport_options={"socket_timeout": 0.5}, visibility_timeout=5)
    for name in names:
        broker.declare(name)
    first = load(
        broker, names, consuming=connect(fleet, transport_options={"socket_timeout": 0.5}, visibility_timeout=5)
    )
    first.flows()
    outage(fleet.nodes[1])
    first.flows()
    assert first.finish() == []
    assert all(error.retryable for error in first.failed)


def test_a_dead_node_leaves_the_queues_of_the_others_served(start, connect, load):
    fleet = start(servers.RedisCluster(3, aof="always"))
    for node in fleet.nodes:
        node.command("CONFIG", "SET", "cluster-require-full-coverage", "no")
    names, others = names_at(fleet, "y"), names_at(fleet, "z")[:2]
    broker = connect(fleet)
    for name in (*names, *others):
        broker.declare(name)
    first = load(broker, others, consuming=connect(fleet, visibility_timeout=3))
    both = load(broker, names, consuming=connect(fleet, visibility_timeout=3), timeout=0.5)
    both.flows()
    fleet.nodes[2].kill9()
    first.flows(100)
    both.flows(of=names[:2])
    fleet.nodes[2].start()
    both.flows()
    assert (first.finish(), both.finish()) == ([], [])
    assert first.failed == []
    assert all(isinstance(error, errors.BrokerkitError) and error.retryable for error in both.failed)


def test_a_node_that_was_flushed_is_told_and_the_others_go_on(fleet, connect, names, load, pause):
    broker = connect(fleet)
    for name in names:
        broker.declare(name)
    with broker.consumer(*names) as consumer:
        assert consumer.receive(timeout=0.1) is None
        fleet.nodes[0].command("FLUSHALL")
        with pytest.raises(errors.QueueNotFound, match=names[0]):
            consumer.receive(timeout=HANG)
        broker.send(names[1], "on")
        assert consumer.receive(timeout=HANG).payload == "on"
        broker.declare(names[0])
        broker.send(names[0], "again")
        assert consumer.receive(timeout=HANG).payload == "again"


def slot_of(name):
    return key_slot(f"bk:{{{name}}}:m".encode())


def move(fleet, name, number, pause):
    """Move the slot of a queue to the node of this number, or to the next if it is there; key after key."""
    slot = slot_of(name)
    source = next(node for node in fleet.nodes if has_slot(node, slot))
    target = fleet.nodes[number] if fleet.nodes[number] is not source else fleet.nodes[(number + 1) % 3]
    open_slot(slot, source, target)
    finish_move(fleet, slot, source, target, lambda: pause(0.02))


def has_slot(node, slot):
    port = node.facts.port
    ranges = node.command("CLUSTER", "SLOTS")
    return any(first <= slot <= last and owner_of[1] == port for first, last, owner_of, *_ in ranges)


def open_slot(slot, source, target):
    target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", source.command("CLUSTER", "MYID"))
    source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", target.command("CLUSTER", "MYID"))


def finish_move(fleet, slot, source, target, between=lambda: None):
    while keys := source.command("CLUSTER", "GETKEYSINSLOT", slot, 100):
        for key in keys:
            source.command("MIGRATE", "127.0.0.1", target.facts.port, key, 0, 5000)
            between()
    new_owner = target.command("CLUSTER", "MYID")
    for node in (target, source, *(node for node in fleet.nodes if node not in (source, target))):
        node.command("CLUSTER", "SETSLOT", slot, "NODE", new_owner)
