"""A master that dies or freezes under load: what was confirmed with `wait_replicas` is kept, and the consumer goes on."""

import pytest

from brokerkit import errors, servers

HANG = 60.0
TYPED = (errors.OutcomeUnknown, errors.ConnectionLost, errors.Throttled, errors.OperationTimeout)


@pytest.fixture
def group(start):
    return start(servers.RedisSentinel())


@pytest.fixture
def connect(group, open_broker):
    hosts = ";".join(f"127.0.0.1:{sentinel.facts.port}" for sentinel in group.sentinels)

    def connect_with(**options):
        url = f"sentinel://{hosts}/1?master_name={group.master_name}&socket_timeout=1"
        return open_broker(url, visibility_timeout=5, **options)

    return connect_with


@pytest.fixture(params=["kill -9", "SIGSTOP"])
def outage(request):
    """Takes the master away, and returns how it comes back."""

    def happen_to(master):
        if request.param == "kill -9":
            master.kill9()
            return master.start
        master.pause()
        return master.resume

    return happen_to


def test_what_replicas_had_survives_a_failover_under_load(group, connect, load, outage, patiently):
    """The group comes back whole, as `wait_replicas` has nobody to wait for before that."""
    broker = connect(transport_options={"wait_replicas": 1, "wait_replicas_timeout": 0.5})
    broker.declare("jobs")
    broker.declare("other")
    work = load(broker, ["jobs", "other"], consuming=connect(), timeout=2.0)
    work.flows()
    first = group.master
    back = outage(first)
    patiently(lambda: group.master, until=lambda master: master is not first)
    back()
    work.flows()
    assert work.finish() == []
    assert all(isinstance(error, TYPED) and error.retryable for error in work.failed), work.failed


def test_without_waiting_the_sender_goes_on_after_the_failover(group, connect, load, outage, patiently):
    """What the dead one had confirmed in its last moments may be gone; everything later flows, over one Redis alone."""
    broker = connect()
    broker.declare("jobs")
    work = load(broker, ["jobs"], consuming=connect(), timeout=HANG)
    work.flows()
    first = group.master
    outage(first)
    work.flows(200)
    patiently(lambda: group.master, until=lambda master: master is not first)
    assert work.failed == []
    work.stop()


def test_the_url_of_the_servers_is_one_that_can_be_connected_to(group, open_broker):
    broker = open_broker(group.url(database=1), master_name=group.master_name)
    broker.declare("jobs")
    broker.send("jobs", 1)
    assert group.master.command("INFO", "keyspace").find(b"db1:keys=") > 0
    with broker.consumer("jobs") as consumer:
        assert consumer.receive(timeout=HANG).payload == 1


def test_a_publish_waits_for_replicas_too(group, connect):
    broker = connect(transport_options={"wait_replicas": 1, "wait_replicas_timeout": 0.2})
    broker.declare("jobs")
    broker.bind("jobs", "news")
    broker.publish("news", 1)
    group.replica.pause()
    with pytest.raises(errors.OutcomeUnknown, match="0 of 1 replicas have it"):
        broker.publish("news", 2, timeout=1)
    group.replica.resume()
    broker.publish("news", 3)
    with broker.consumer("jobs") as consumer:
        found = [consumer.receive(timeout=HANG).payload for _ in range(3)]
    assert found == [1, 2, 3]
