"""The least rights that a user needs, as the plugin's page lists them: enough for everything, and none too many."""

import re
import threading
from pathlib import Path

import pytest

import brokerkit
from brokerkit import errors, servers

HANG = 30.0
PAGE = Path(__file__).parent.parent / "README.md"
RULES = dict(re.findall(r"^ACL SETUSER (\w+) on >secret (.+)$", PAGE.read_text(), re.MULTILINE))
OF_CLUSTERS = {"asking", "cluster|slots", "get", "publish"}
"""Commands of the page that no single server is asked."""


@pytest.fixture(scope="module")
def server():
    """One whose users may do what the page says; its "admin" may do all."""
    with servers.Redis(acl=True) as one:
        for name, rules in RULES.items():
            one.command("ACL", "SETUSER", name, "reset", "on", ">secret", *rules.split())
        yield one


def test_the_page_has_a_user_for_everything_and_one_for_results():
    assert set(RULES) == {"app", "results"}


def test_the_user_of_the_page_may_do_everything_and_none_of_its_rights_is_unused(server):
    server.command("SCRIPT", "FLUSH")
    server.command("CONFIG", "RESETSTAT")
    url = _url(server, "app")
    with brokerkit.connect(url, health_check_interval=0.001, client_name="shop") as broker:
        _use_queues(broker)
        _lose_and_repair(broker, server)
    with brokerkit.connect(f"{url[:-1]}1") as broker:
        _use_topics(broker)
    with (
        brokerkit.connect(url, wait_replicas=1, wait_replicas_timeout=0.01) as broker,
        pytest.raises(errors.OutcomeUnknown),
    ):
        broker.send("q", 1, timeout=0.5)
    _use_results(url)
    assert _refused(server) == set()
    assert _rights(RULES["app"]) - _asked(server) == OF_CLUSTERS


def test_the_user_for_results_reads_and_writes_results_and_no_queue(server):
    server.command("SCRIPT", "FLUSH")
    server.command("CONFIG", "RESETSTAT")
    url = _url(server, "results")
    _use_results(f"{url[:-1]}1", health_check_interval=0.001)
    assert _refused(server) == set()
    assert _rights(RULES["results"]) - _asked(server) == OF_CLUSTERS - {"publish"}
    with brokerkit.connect(url) as broker, pytest.raises(errors.AccessDenied):
        broker.declare("q")
    assert _refused(server) == {"bk:{q}:m"}


def test_who_may_not_hear_of_changed_keys_is_told_so_by_the_first_wait(server):
    server.command("ACL", "SETUSER", "deaf", "reset", "on", ">secret", *RULES["app"].split(), "resetchannels")
    with brokerkit.results(_url(server, "deaf")) as store:
        pending = store.reserve("deaf")
        with pytest.raises(errors.AccessDenied, match="__redis__:invalidate"):
            pending.result(timeout=HANG)
    assert _refused(server) == {"__redis__:invalidate"}


def test_a_right_that_is_missing_within_a_script_is_told_as_one(server):
    server.command("ACL", "SETUSER", "half", "reset", "on", ">secret", *RULES["app"].split(), "-hset")
    with brokerkit.connect(_url(server, "half")) as broker, pytest.raises(errors.AccessDenied):
        broker.declare("half")
    assert _refused(server) == {"hset"}


def _url(server, user):
    return re.sub("//.*@", f"//{user}:secret@", server.url())


def _use_queues(broker):
    """Priorities, delays, bounds, queues that vanish; claims, acks, releases, extensions; a large body; looks and purges."""
    broker.declare("q")
    broker.declare("vanishing", expires=60, message_ttl=60)
    broker.declare("bounded", max_length=3)
    for queue in ("q", "vanishing", "bounded"):
        broker.send(queue, 1)
        broker.send(queue, 2, priority=9, ttl=60)
        broker.send(queue, 3, delay=60)
        broker.depth(queue)
        with broker.consumer(queue, prefetch=1, visibility_timeout=5) as consumer:
            consumer.receive(timeout=HANG).ack()
            delivery = consumer.receive(timeout=HANG)
            delivery.extend()
            delivery.release()
            consumer.receive(timeout=HANG).release(delay=30)
            assert consumer.receive(timeout=0.1) is None
        assert broker.purge(queue) == 2
    broker.send_many("q", [b"x" * 20_000] * 3)
    with broker.consumer("q") as consumer:
        for _ in range(3):
            consumer.receive(timeout=HANG).ack()
    receiver = broker.transport.open_receiver(["q"], prefetch=1, visibility_timeout=5)
    late = threading.Timer(0.3, receiver.close, kwargs={"timeout": HANG})  # which unblocks what waits
    late.start()
    assert receiver.receive(limit=1, timeout=HANG)[0] == []
    late.join()
    broker.delete("vanishing")


def _use_topics(broker):
    broker.declare("bounded", max_length=3)
    broker.bind("bounded", "news", "eu.#")
    for number in range(6):
        broker.publish("news", number, routing_key="eu.paid")
    broker.unbind("bounded", "news", "eu.#")


def _lose_and_repair(broker, server):
    """Take away what keeps a queue's order, and its leases; then a message; then the queue's settings."""
    broker.send_many("q", [1, 2, 3])
    for kind in ("t", "r0"):
        server.command("RENAME", f"bk:{{q}}:{kind}", f"lost:{kind}")
    _meet_loss(broker, left=3)
    broker.send_many("q", [4, 5])
    server.command("HDEL", "bk:{q}:b", server.command("LINDEX", "bk:{q}:r0", 0))
    _meet_loss(broker, left=1)
    server.command("RENAME", "bk:{q}:m", "lost:m")
    with pytest.raises(errors.InconsistencyError):
        broker.send("q", 6)
    broker.declare("q")


def _meet_loss(broker, *, left):
    with broker.consumer("q") as consumer:
        for _ in range(left):
            consumer.receive(timeout=HANG).ack()
        with pytest.raises(errors.InconsistencyError):
            consumer.receive(timeout=HANG)


def _use_results(url, **options):
    with brokerkit.results(url, expires=60, **options) as store:
        pending = store.reserve("r")
        late = threading.Timer(0.2, store.set_result, ("r", 42))
        late.start()
        assert pending.result(timeout=HANG) == 42
        late.join()
        store.forget("r")


def _rights(rules):
    return {word[1:] for word in rules.split() if word.startswith("+")}


def _refused(server):
    """What was refused since the last call; without the look at the settings, which goes on with INFO."""
    entries = [dict(zip(flat[::2], flat[1::2], strict=True)) for flat in server.command("ACL", "LOG")]
    server.command("ACL", "LOG", "RESET")
    return {entry[b"object"].decode() for entry in entries} - {"config|get", "config"}


def _asked(server):
    """What was asked of the server, by commands and by scripts."""
    lines = server.command("INFO", "commandstats").decode().splitlines()
    return {line.removeprefix("cmdstat_").partition(":")[0] for line in lines}
