"""RabbitMQ's errors and ours."""

import pytest
from amqp import exceptions
from brokerkit_rabbitmq.errors import (
    ERRORS,
    Lost,
    Malformed,
    Refused,
    Silence,
    Unreachable,
    Unrouted,
    Untrusted,
    fresh,
    is_missing,
)

from brokerkit import errors

ANSWERS = {
    (403, "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN."): errors.AccessDenied,
    (403, "ACCESS_REFUSED - access to queue 'q' in vhost '/' refused for user 'bob'"): errors.AccessDenied,
    (403, "ACCESS_REFUSED - queue name 'amq.x' contains reserved prefix 'amq.*'"): errors.AccessDenied,
    (530, "NOT_ALLOWED - vhost missing not found"): errors.AccessDenied,
    (530, "NOT_ALLOWED - access to vhost 'shop' refused for user 'bob'"): errors.AccessDenied,
    (
        530,
        "NOT_ALLOWED - access to vhost '/' refused for user 'bob': connection limit (1) is reached",
    ): errors.Throttled,
    (530, "NOT_ALLOWED - attempt to reuse consumer tag 't'"): errors.TransportError,
    (541, "INTERNAL_ERROR - access to vhost '/' refused for user 'guest': vhost '/' is down"): errors.Throttled,
    (404, "NOT_FOUND - no exchange 'e' in vhost '/'"): errors.InconsistencyError,
    (404, "NOT_FOUND - no queue 'limit' in vhost '/'"): errors.InconsistencyError,
    (404, "NOT_FOUND - home node 'a' of durable queue 'q' in vhost '/' is down or inaccessible"): errors.Throttled,
    (405, "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q'"): errors.InconsistencyError,
    (406, "PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue 'q'"): errors.InconsistencyError,
    (406, "PRECONDITION_FAILED - message size 2000 is larger than configured max size 1000"): errors.MessageTooLarge,
    (406, "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out."): errors.ConnectionLost,
    (311, "CONTENT_TOO_LARGE"): errors.MessageTooLarge,
    (320, "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'"): errors.ConnectionLost,
    (501, "FRAME_ERROR"): errors.ConnectionLost,
    (504, "CHANNEL_ERROR - expected 'channel.open'"): errors.ConnectionLost,
    (506, "RESOURCE_ERROR"): errors.Throttled,
    (540, "NOT_IMPLEMENTED - queue TTL"): errors.TransportError,
    (541, "INTERNAL_ERROR"): errors.ConnectionLost,
}
OURS = {
    Lost("x"): errors.ConnectionLost,
    Silence("x"): errors.ConnectionLost,
    Malformed("x"): errors.ConnectionLost,
    Unreachable("x"): errors.NotConnected,
    Untrusted("x"): errors.AccessDenied,
    Refused("x"): errors.StorageFull,
    Unrouted(312, "NO_ROUTE", "", "q"): errors.InconsistencyError,
    TimeoutError("x"): errors.ConnectionLost,
    ConnectionResetError(104, "reset"): errors.ConnectionLost,
}


@pytest.mark.parametrize(("code", "text"), ANSWERS)
def test_what_the_server_says_becomes_the_right_error(code, text):
    error = exceptions.error_for_code(code, text, (50, 10), exceptions.ChannelError)
    mapped = ERRORS.translate(error, doing="send to 'mail'")
    assert type(mapped) is ANSWERS[code, text]
    assert text in str(mapped)


@pytest.mark.parametrize("error", OURS, ids=lambda error: type(error).__name__)
def test_what_we_find_becomes_the_right_error(error):
    assert type(ERRORS.translate(error, doing="send")) is OURS[error]


def test_a_mechanism_that_is_not_offered_is_a_matter_of_access():
    error = exceptions.ConnectionError("Couldn't find appropriate auth mechanism (can offer: EXTERNAL)")
    assert type(ERRORS.translate(error, doing="connect")) is errors.AccessDenied


def test_a_copy_is_the_same_to_who_reads_it():
    cause = OSError(104, "reset")
    for error in (*OURS, exceptions.NotFound("text", (60, 40), reply_code=404), errors.Closed("closed")):
        error.__cause__ = cause
        copied = fresh(error)
        assert copied is not error
        assert (type(copied), str(copied), copied.__cause__) == (type(error), str(error), cause)
        assert vars(copied) == vars(error)


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("no queue 'q' in vhost '/'", True),
        ("no queue 'home node a' in vhost '/'", True),
        ("home node 'a' of durable queue 'q' in vhost '/' is down or inaccessible", False),
        ("queue 'q' in vhost '/' process is stopped by supervisor", False),
        ("queue 'q' in vhost '/' has crashed and failed to restart", False),
    ],
)
def test_a_queue_whose_node_is_away_is_not_missing(text, missing):
    error = exceptions.error_for_code(404, f"NOT_FOUND - {text}", (50, 10), exceptions.ChannelError)
    assert is_missing(error) is missing
    assert not is_missing(exceptions.AccessRefused("no queue 'q'"))
    assert not is_missing(None)
