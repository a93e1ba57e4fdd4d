"""Publishing: an outcome for each message, and none that is a guess."""

import time

import pytest
from amqp import exceptions
from brokerkit_conformance.faults import Blackhole, Cut, HalfOpen, HoldReply, Proxy, Way
from brokerkit_rabbitmq import answers, methods
from brokerkit_rabbitmq.errors import ERRORS, Lost, Refused, Silence, Unreachable, Unrouted
from brokerkit_rabbitmq.properties import encode_stored
from brokerkit_rabbitmq.publisher import Publisher

from brokerkit import errors
from brokerkit._clock import SYSTEM_CLOCK

HANG = 30.0


def soon(seconds=HANG):
    return time.monotonic() + seconds


def item(key, name, body=b"x", **headers):
    return key, encode_stored(name, headers), body


@pytest.fixture
def proxy(node):
    with Proxy("127.0.0.1", node.facts.port) as proxy:
        yield proxy


@pytest.fixture
def admin(vhost, open_link):
    """A channel of another connection, to make things and to look at them."""
    return open_link(vhost).open_channel(lambda _: None, deadline=soon())


@pytest.fixture
def declare(admin):
    def make(name, **arguments):
        settings = {key.replace("_", "-"): value for key, value in arguments.items()}
        request = methods.queue_declare(admin.number, name, arguments=settings)
        return answers.read_declared(admin.call(request, answers.QUEUE_DECLARE_OK, deadline=soon()).args)

    return make


@pytest.fixture
def open_publisher(vhost, open_link):
    def open_one(url=vhost, **options):
        link = open_link(url, **options)
        publisher = Publisher(link, SYSTEM_CLOCK)

        def publish(items, exchange="", *, mandatory=True, deadline=None):
            return publisher.publish(exchange, items, mandatory=mandatory, deadline=deadline or soon())

        publish.link = link
        publish.publisher = publisher
        return publish

    return open_one


@pytest.fixture
def through(proxy, vhost, open_publisher):
    """A publisher through the proxy."""
    return lambda **options: open_publisher(
        f"amqp://guest:guest@127.0.0.1:{proxy.port}/{vhost.rpartition('/')[2]}", **{"heartbeat": 60} | options
    )


@pytest.mark.parametrize("kind", ["quorum", "classic"])
def test_what_is_confirmed_is_there(kind, declare, open_publisher):
    declare("q", x_queue_type=kind)
    publish = open_publisher()
    assert publish([item("q", "a")]) == [None]
    assert publish([item("q", "a", bytes(300_000))]) == [None]
    assert publish([item("q", f"{place}") for place in range(4500)]) == [None] * 4500  # more than one window
    assert declare("q", x_queue_type=kind).messages == 4502


def test_what_no_queue_wants_is_told_of_exactly_these_messages(declare, open_publisher):
    declare("q")
    wanted = ["q" if place % 3 else "missing" for place in range(2500)]
    outcomes = open_publisher()([item(key, f"{place}") for place, key in enumerate(wanted)])
    assert [type(outcome) for outcome in outcomes] == [type(None) if key == "q" else Unrouted for key in wanted]
    assert (outcomes[0].code, outcomes[0].exchange, outcomes[0].key) == (312, "", "missing")
    assert declare("q").messages == wanted.count("q")
    assert open_publisher()([item("missing", "a")], mandatory=False) == [None]


def test_the_same_message_twice_in_one_window(declare, open_publisher):
    declare("q")
    outcomes = open_publisher()([item("missing", "a"), item("q", "a"), item("missing", "a")])
    assert [type(outcome) for outcome in outcomes] == [Unrouted, type(None), Unrouted]


@pytest.mark.parametrize("kind", ["quorum", "classic"])
def test_a_queue_that_is_full_refuses_and_one_that_has_room_again_does_not(
    kind, admin, declare, open_publisher, eventually
):
    limits = {"x_queue_type": kind, "x_max_length": 2, "x_overflow": "reject-publish"}
    declare("q", **limits)
    publish = open_publisher()
    outcomes = []
    while not outcomes or outcomes[-1] is None:  # a quorum queue takes some more before it says so
        assert len(outcomes) < 5000
        outcomes += publish([item("q", f"{len(outcomes)}")])
    outcomes += publish([item("q", f"late-{place}") for place in range(50)])
    refused = [outcome for outcome in outcomes if outcome is not None]
    assert {type(outcome) for outcome in refused} == {Refused}
    assert declare("q", **limits).messages == len(outcomes) - len(refused)
    assert type(ERRORS.translate(refused[0], doing="send")) is errors.StorageFull
    admin.call(methods.queue_purge(admin.number, "q"), answers.QUEUE_PURGE_OK, deadline=soon())
    eventually(lambda: publish([item("q", "again")]) == [None])


def test_an_exchange_that_is_missing_is_told_of_all_and_nothing_is_a_guess(declare, open_publisher):
    declare("q")
    publish = open_publisher()
    outcomes = publish([item("k", f"{place}") for place in range(5)], "missing", mandatory=False)
    assert {type(outcome) for outcome in outcomes} == {exceptions.NotFound}
    assert len({id(outcome) for outcome in outcomes}) == 5
    assert publish([item("q", "a")]) == [None]
    assert type(publish([item("k", "a")], "missing", mandatory=False)[0]) is exceptions.NotFound


def test_an_exchange_that_goes_under_way_leaves_no_certainty(admin, open_publisher):
    def exchange(request, answer):
        admin.call(request, answer, deadline=soon())

    publish = open_publisher()
    exchange(methods.exchange_declare(admin.number, "e", "topic"), answers.EXCHANGE_DECLARE_OK)
    assert publish([item("k", "a")], "e", mandatory=False) == [None]
    exchange(methods.exchange_delete(admin.number, "e"), answers.EXCHANGE_DELETE_OK)
    outcomes = publish([item("k", f"{place}") for place in range(5)], "e", mandatory=False)
    assert {type(outcome) for outcome in outcomes} == {errors.OutcomeUnknown}
    assert {type(outcome.__cause__) for outcome in outcomes} == {exceptions.NotFound}
    assert type(publish([item("k", "a")], "e", mandatory=False)[0]) is exceptions.NotFound
    exchange(methods.exchange_declare(admin.number, "e", "topic"), answers.EXCHANGE_DECLARE_OK)
    assert publish([item("k", "a")], "e", mandatory=False) == [None]


def test_others_publish_on_while_one_has_no_exchange(admin, open_publisher, run):
    admin.call(methods.exchange_declare(admin.number, "e", "topic"), answers.EXCHANGE_DECLARE_OK, deadline=soon())
    publish = open_publisher()

    def fine(_):
        return [publish([item("k", "a")], "e", mandatory=False)[0] for _ in range(20)]

    def lost(_):
        return [publish([item("k", "a")], "missing", mandatory=False)[0] for _ in range(20)]

    good, bad = [run(fine, place) for place in range(3)], [run(lost, place) for place in range(3)]
    assert {type(outcome) for value in bad for outcome in value()} <= {exceptions.NotFound, errors.OutcomeUnknown}
    assert {type(outcome) for value in good for outcome in value()} <= {type(None), errors.OutcomeUnknown}


def test_threads_share_one_channel_and_one_window(through, proxy, declare, run):
    declare("q")
    publish = through()

    def singly(place):
        return [publish([item("q", f"{place}-{turn}")])[0] for turn in range(20)]

    values = [run(singly, place) for place in range(32)]
    assert {outcome for value in values for outcome in value()} == {None}
    assert declare("q").messages == 640
    assert proxy.seen(b"\0\x55\0\x0a\0\xce") == 1  # confirm.select


def test_a_confirm_that_is_lost_with_the_connection_leaves_the_outcome_unknown(through, proxy, declare):
    declare("q")
    publish = through()
    publish([item("q", "first")])
    with proxy.inject(Cut(way=Way.DOWN, once=b"second")):
        (outcome,) = publish([item("q", "second")])
    assert type(outcome) is errors.OutcomeUnknown
    assert type(outcome.__cause__) is Lost
    with pytest.raises(Lost):
        publish([item("q", "third")])
    assert declare("q").messages == 2


def test_of_a_long_batch_what_was_not_sent_is_certain(through, proxy, declare):
    declare("q")
    publish = through()
    publish([item("q", "first")])
    with proxy.inject(Cut(way=Way.UP, once=b"the-10th")):
        outcomes = publish([item("q", f"the-{place}th") for place in range(6000)])
    kinds = [type(outcome) for outcome in outcomes]
    assert set(kinds) <= {type(None), errors.OutcomeUnknown, Unreachable}
    assert kinds[-1] is Unreachable
    assert kinds[11] is errors.OutcomeUnknown
    stored = declare("q").messages - 1
    assert kinds.count(type(None)) <= stored <= 6000 - kinds.count(Unreachable)
    assert type(ERRORS.translate(outcomes[-1], doing="send")) is errors.NotConnected


def test_a_confirm_that_does_not_come_in_time_leaves_the_outcome_unknown(through, proxy, declare):
    declare("q")
    publish = through()
    publish([item("q", "first")])
    with proxy.inject(HoldReply()):
        outcomes = publish([item("q", f"{place}") for place in range(3000)], deadline=soon(0.5))
        kinds = [type(outcome) for outcome in outcomes]
        assert kinds == [errors.OutcomeUnknown] * 2000 + [errors.OperationTimeout] * 1000
        with pytest.raises(errors.OperationTimeout):  # a channel that is late gets no more
            publish([item("q", "second")], deadline=soon(0.1))
    assert publish([item("q", "last")]) == [None]
    assert declare("q").messages == 1 + 2000 + 1
    link = publish.link
    assert link.wait(lambda: len(link._channels) == 1, soon())


def test_what_a_hole_has_swallowed_is_never_taken_for_confirmed(through, proxy, declare):
    declare("q")
    publish = through()
    publish([item("q", "first")])
    with proxy.inject(Blackhole(way=Way.UP)):
        assert type(publish([item("q", "swallowed")], deadline=soon(0.1))[0]) is errors.OutcomeUnknown
    outcomes = [publish([item("q", f"{place}")], deadline=soon(5))[0] for place in range(3)]
    assert outcomes == [None] * 3
    assert declare("q").messages == 4


def test_a_server_that_is_gone_leaves_nobody_waiting(through, proxy, declare, run):
    declare("q")
    publish = through(heartbeat=1)
    publish([item("q", "first")])
    with proxy.inject(HalfOpen()):
        values = [run(publish, [item("q", f"{place}")]) for place in range(8)]
        outcomes = [value()[0] for value in values]
    assert {type(outcome) for outcome in outcomes} == {errors.OutcomeUnknown}
    assert {type(outcome.__cause__) for outcome in outcomes} == {Silence}


@pytest.fixture
def small(node):
    """Lets the node take messages of 1000 bytes at most, on channels that are opened meanwhile."""
    setting = "application:{}(rabbit, max_message_size{})."
    usual = node.control("eval", "{ok, Size} = application:get_env(rabbit, max_message_size), Size.").strip()
    node.control("eval", setting.format("set_env", ", 1000"))
    yield
    node.control("eval", setting.format("set_env", f", {usual}"))


def test_a_message_that_is_too_large_for_the_server(small, open_publisher):
    (outcome,) = open_publisher()([item("q", "a", bytes(2000))])
    assert type(ERRORS.translate(outcome, doing="send")) is errors.MessageTooLarge


def test_headers_that_fit_no_frame_are_refused_and_the_others_go_on(declare, open_publisher):
    declare("q")
    publish = open_publisher(frame_max=4096)
    fits = item("q", "a", h="x" * (4096 - 8 - 14 - 2 - 1 - 2 - 4 - 2 - 1 - 4))
    assert len(fits[1]) == 4096 - 22
    outcomes = publish([item("q", "b", h="x" * 5000), fits, (fits[0], fits[1] + b"x", b"")])
    assert [type(outcome) for outcome in outcomes] == [errors.MessageTooLarge, type(None), errors.MessageTooLarge]
    assert type(publish([item("q", "b", h="x" * 5000)])[0]) is errors.MessageTooLarge
    assert declare("q").messages == 1


@pytest.fixture
def alarm(node):
    """Lets the node have no memory left, or as much as before."""
    yield node.alarm
    node.alarm(False)


@pytest.fixture
def publish_on(open_publisher, alarm):
    """A publisher whose channel is open, on a node that has just run out of memory."""
    publish = open_publisher()
    publish.publisher._queues._opened(soon())
    alarm(True)
    return publish


def test_a_server_without_memory_takes_nothing_and_is_told_at_once(publish_on, alarm, declare, eventually):
    declare("q")
    link = publish_on.link
    (outcome,) = publish_on([item("q", "a")], deadline=soon(0.5))
    assert type(outcome) is errors.OutcomeUnknown  # it was on its way when the server said so
    assert link.wait(lambda: link.blocked is not None, soon())
    with pytest.raises(errors.Throttled, match="memory"):
        publish_on([item("q", "b")])
    with pytest.raises(errors.Throttled, match="memory"):  # the server reads nothing more of this connection
        link.open_channel(lambda _: None, deadline=soon(0.1))
    alarm(False)
    assert link.wait(lambda: link.blocked is None, soon())
    assert publish_on([item("q", "c")]) == [None]
    eventually(lambda: declare("q").messages == 2)


def test_of_a_batch_to_a_server_without_memory_what_was_not_written_is_certain(publish_on, alarm, declare, eventually):
    declare("q")
    outcomes = publish_on([item("q", f"{place}", bytes(100_000)) for place in range(64)], deadline=soon(1))
    kinds = [type(outcome) for outcome in outcomes]
    assert kinds[0] is errors.OutcomeUnknown
    assert set(kinds[1:]) <= {errors.Throttled, errors.OperationTimeout}
    alarm(False)
    eventually(lambda: declare("q").messages == 1)
    assert publish_on.link.wait(lambda: publish_on.link.blocked is None, soon())
    assert publish_on([item("q", f"{place}", bytes(100_000)) for place in range(64)]) == [None] * 64
    assert declare("q").messages == 65


def test_closing_does_not_wait_for_a_server_without_memory(publish_on):
    link = publish_on.link
    publish_on([item("q", "a")], mandatory=False, deadline=soon(0.1))
    assert link.wait(lambda: link.blocked is not None, soon())
    link.close(deadline=soon(300))
    assert type(link.broken) is errors.Closed
