"""One connection and its threads: who waits reads for all, nobody hangs, and every end is noticed."""

import threading
import time

import pytest
from amqp import exceptions
from brokerkit_conformance.faults import Chunks, Ending, Garble, HalfOpen, Proxy, Way
from brokerkit_rabbitmq import answers, methods
from brokerkit_rabbitmq.errors import ERRORS, Lost, Malformed, Silence
from brokerkit_rabbitmq.frames import HEARTBEAT, content
from brokerkit_rabbitmq.properties import encode_stored

from brokerkit import errors

HANG = 30.0


def soon():
    return time.monotonic() + HANG


def never():
    return False


def unlucky(call, *args, **kwargs):
    with pytest.raises(Exception) as caught:
        call(*args, **kwargs)
    return caught.value


@pytest.fixture
def proxy(node):
    with Proxy("127.0.0.1", node.facts.port) as proxy:
        yield proxy


@pytest.fixture
def through(proxy, vhost):
    """The URL of the virtual host through the proxy."""
    return f"amqp://guest:guest@127.0.0.1:{proxy.port}/{vhost.rpartition('/')[2]}"


@pytest.fixture
def two_links(through, open_link):
    """Two connections through the proxy, which end by no heartbeat within a test."""
    return open_link(through, heartbeat=60), open_link(through, heartbeat=60)


def consumer(link, name, *, prefetch=100):
    """Declare a queue and consume it; return the channel and the list that its deliveries come to."""
    came = []
    channel = link.open_channel(came.append, deadline=soon())
    channel.call(methods.queue_declare(channel.number, name), answers.QUEUE_DECLARE_OK, deadline=soon())
    channel.call(methods.basic_qos(channel.number, prefetch), answers.BASIC_QOS_OK, deadline=soon())
    channel.call(methods.basic_consume(channel.number, name, "tag"), answers.BASIC_CONSUME_OK, deadline=soon())
    return channel, came


def publish(link, channel, name, body=b"x", count=1):
    properties = encode_stored("i", {})
    frame = methods.basic_publish(channel.number, "", name)
    link.write(*[frame, *content(channel.number, properties, body, link.frame_max)] * count)


def test_what_the_server_said_of_itself(vhost, open_link):
    link, other = open_link(vhost, heartbeat=7), open_link(vhost)
    assert link.server["product"] == "RabbitMQ"
    assert (link.heartbeat, other.heartbeat) == (7, 10)
    assert (link.broken, link.blocked, link.unsent) == (None, None, 0)


def test_a_wait_ends_by_what_arrives_and_else_at_its_deadline(vhost, open_link):
    link = open_link(vhost)
    channel, came = consumer(link, "q")
    assert link.wait(lambda: bool(came), time.monotonic() + 0.05) is False
    assert link.wait(lambda: bool(came), 0.0) is False
    publish(link, channel, "q")
    assert link.wait(lambda: bool(came), soon())
    assert (came[0].id, came[0].body) == (answers.BASIC_DELIVER, b"x")
    assert answers.read_deliver(came[0].args).delivery_tag == 1


def test_many_threads_wait_on_one_connection_and_each_gets_its_own(vhost, open_link, run):
    link = open_link(vhost)
    lines = [(*consumer(link, f"q{place}"), place) for place in range(12)]
    rounds = 30

    def play(channel, came, place):
        for turn in range(1, rounds + 1):
            publish(link, channel, f"q{place}", b"%d" % turn)
            assert link.wait(lambda: len(came) >= turn, soon())  # noqa: B023 - it ends within the turn
        return [int(method.body) for method in came]

    for value in [run(play, *line) for line in lines]:
        assert value() == list(range(1, rounds + 1))


def test_who_waits_is_woken_for_what_another_thread_changed(vhost, open_link, run):
    link = open_link(vhost)
    changed = [threading.Event() for _ in range(4)]
    waiting = [run(link.wait, event.is_set, soon()) for event in changed]
    for event, value in zip(changed, waiting, strict=True):
        event.set()
        link.wake()
        assert value() is True


def test_an_error_of_what_is_waited_for_is_its_own_threads(vhost, open_link, run):
    link = open_link(vhost)
    _, came = consumer(link, "q")
    others = [run(link.wait, lambda: bool(came), soon()) for _ in range(3)]

    def wrong():
        raise LookupError("mine")

    assert isinstance(unlucky(link.wait, wrong, soon()), LookupError)
    publish(link, *([link.open_channel(lambda _: None, deadline=soon())]), "q")
    assert [value() for value in others] == [True, True, True]


def test_both_sides_full_of_bytes_do_not_hold_each_other_up(vhost, open_link):
    link = open_link(vhost)
    channel, came = consumer(link, "q", prefetch=0)
    body, count = bytes(1024 * 1024), 48
    for _ in range(count):
        publish(link, channel, "q", body)  # nobody reads meanwhile, and the server sends it all back
    assert link.wait(lambda: len(came) == count, soon())
    assert link.unsent == 0
    assert {method.body for method in came} == {body}


def test_heartbeats_keep_an_idle_connection_alive_on_both_sides(through, proxy, open_link):
    link = open_link(through, heartbeat=2)
    mark = proxy.mark()
    proxy.wait_until_seen(HEARTBEAT, Way.UP, count=6, since=mark, within=HANG)
    proxy.wait_until_seen(HEARTBEAT, Way.DOWN, count=3, since=mark, within=HANG)
    assert link.wait(never, 0.0) is False


def test_a_connection_that_leads_nowhere_is_noticed_while_somebody_waits_and_while_nobody_does(
    through, proxy, open_link, run, eventually
):
    waited, alone = open_link(through, heartbeat=1), open_link(through, heartbeat=1)
    leader, follower = run(unlucky, waited.wait, never, soon()), run(unlucky, waited.wait, never, soon())
    with proxy.inject(HalfOpen()):
        assert (type(leader()), type(follower())) == (Silence, Silence)
        eventually(lambda: alone.broken is not None)
        assert type(alone.broken) is Silence
        assert type(ERRORS.translate(alone.broken, doing="wait")) is errors.ConnectionLost


@pytest.mark.parametrize("ending", Ending)
def test_a_connection_that_ends_is_noticed_at_once_by_all(ending, proxy, two_links, run, eventually):
    link, alone = two_links
    waiting = [run(unlucky, link.wait, never, soon()) for _ in range(5)]
    proxy.kill_connections(ending)
    errors_seen = [value() for value in waiting]
    assert {type(error) for error in errors_seen} == {Lost}
    assert len({id(error) for error in errors_seen}) == 5
    eventually(lambda: alone.broken is not None)
    assert type(unlucky(alone.write, HEARTBEAT)) is Lost
    assert type(unlucky(alone.drain)) is Lost
    assert type(unlucky(alone.open_channel, print, deadline=soon())) is Lost


def test_draining_finds_the_end_behind_what_came_before_it(through, proxy, open_link):
    link = open_link(through, heartbeat=60)
    channel, came = consumer(link, "q")
    publish(link, channel, "q", bytes(9000) + b"the end of it", count=3)
    proxy.wait_until_seen(b"the end of it", Way.DOWN, count=3, within=HANG)
    proxy.turn()
    proxy.kill_connections(Ending.FIN)
    assert type(unlucky(link.wait, lambda: len(came) > 3, soon())) is Lost
    assert len(came) == 3


def test_a_connection_that_the_owner_of_the_server_closes(node, vhost, open_link, run, eventually):
    link = open_link(vhost, client_name="closed-by-hand")
    waiting = run(unlucky, link.wait, never, soon())
    eventually(lambda: [c for c in node.management("GET", "/connections") if _name(c) == "closed-by-hand test"])
    (found,) = [c for c in node.management("GET", "/connections") if _name(c) == "closed-by-hand test"]
    node.management("DELETE", f"/connections/{found['name'].replace(' ', '%20').replace('>', '%3E')}")
    error = waiting()
    assert type(error) is exceptions.ConnectionForced
    assert "CONNECTION_FORCED" in str(error)
    assert type(ERRORS.translate(error, doing="wait")) is errors.ConnectionLost


def _name(connection):
    return connection.get("client_properties", {}).get("connection_name")


def test_what_we_say_wrong_ends_the_connection_with_the_servers_reason(vhost, open_link):
    link = open_link(vhost)
    link.write(methods.queue_purge(77, "q"))  # a channel that is not open
    error = unlucky(link.wait, never, soon())
    assert type(error) is exceptions.ChannelNotOpen
    assert "CHANNEL_ERROR" in str(error)
    assert type(unlucky(link.write, HEARTBEAT)) is exceptions.ChannelNotOpen


def test_what_comes_in_single_bytes_is_the_same(through, proxy, open_link):
    link = open_link(through)
    with proxy.inject(Chunks(size=1)):
        channel, came = consumer(link, "q")
        publish(link, channel, "q", b"abc" * 50, count=3)
        assert link.wait(lambda: len(came) == 3, soon())
    assert {method.body for method in came} == {b"abc" * 50}


def test_garbage_ends_the_connection_with_a_clear_error(through, proxy, open_link):
    link = open_link(through)
    channel, _ = consumer(link, "q")
    with proxy.inject(Garble(flips=1)):
        error = unlucky(
            channel.call, methods.queue_declare(channel.number, "q"), answers.QUEUE_DECLARE_OK, deadline=soon()
        )
    assert type(error) is Malformed
    assert type(ERRORS.translate(error, doing="declare")) is errors.ConnectionLost


def test_a_callback_that_fails_breaks_the_connection_instead_of_hanging_it(vhost, open_link):
    link = open_link(vhost)

    def fail(method):
        raise LookupError("a bug")

    channel = link.open_channel(fail, deadline=soon())
    channel.call(methods.queue_declare(channel.number, "q"), answers.QUEUE_DECLARE_OK, deadline=soon())
    channel.call(methods.basic_consume(channel.number, "q", "tag"), answers.BASIC_CONSUME_OK, deadline=soon())
    publish(link, channel, "q")
    assert isinstance(unlucky(link.wait, never, soon()), LookupError)


def test_closing_ends_what_waits_and_may_be_done_twice(vhost, open_link, run):
    link = open_link(vhost)
    waiting = [run(unlucky, link.wait, never, soon()) for _ in range(3)]
    link.close(deadline=soon())
    link.close(deadline=soon())
    assert {type(value()) for value in waiting} == {errors.Closed}
    assert type(unlucky(link.write, HEARTBEAT)) is errors.Closed


def test_what_was_written_before_closing_arrives(vhost, open_link):
    link, other = open_link(vhost), open_link(vhost)
    channel, came = consumer(link, "q")
    publish(link, channel, "q", bytes(2_000_000), count=3)
    assert link.wait(lambda: len(came) == 3, soon())
    channel.send(methods.basic_ack(channel.number, 3, multiple=True))
    link.close(deadline=soon())
    asked = other.open_channel(print, deadline=soon())
    answer = asked.call(methods.queue_declare(asked.number, "q"), answers.QUEUE_DECLARE_OK, deadline=soon())
    assert answers.read_declared(answer.args) == ("q", 0, 0)


def test_closing_does_not_wait_for_a_server_that_is_gone(through, proxy, open_link):
    link = open_link(through, heartbeat=60)
    with proxy.inject(HalfOpen()):
        link.close(deadline=time.monotonic() + 0.2)
    assert type(link.broken) is errors.Closed
