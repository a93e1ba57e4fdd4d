"""Redis's errors and ours."""

import pytest
from brokerkit_redis.errors import ERRORS, Silence, Unreachable, Untrusted, answer_of, code_of, is_topology
from redis import exceptions

from brokerkit import errors

ANSWERS = {
    "OOM command not allowed when used memory > 'maxmemory'.": errors.StorageFull,
    "OOM command not allowed when used memory > 'maxmemory'. script: 1f, on @user_script:1.": errors.StorageFull,
    "ERR Error running script (call to f_1): @user_script:1: -OOM command not allowed": errors.StorageFull,
    "READONLY You can't write against a read only replica.": errors.NotConnected,
    "LOADING Redis is loading the dataset in memory": errors.Throttled,
    "BUSY Redis is busy running a script.": errors.Throttled,
    "NOREPLICAS Not enough good replicas to write.": errors.Throttled,
    "CLUSTERDOWN The cluster is down": errors.Throttled,
    "TRYAGAIN Multiple keys request during rehashing of slot": errors.Throttled,
    "MOVED 1 127.0.0.1:7000": errors.Throttled,
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.": errors.NotConnected,
    "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)": errors.Throttled,
    "ERR max number of clients reached": errors.Throttled,
    "NOAUTH Authentication required.": errors.AccessDenied,
    "WRONGPASS invalid username-password pair or user is disabled.": errors.AccessDenied,
    "NOPERM this user has no permissions to run the 'config|get' command": errors.AccessDenied,
    "NOPERM No permissions to access a key script: 1f, on @user_script:1.": errors.AccessDenied,
    "DENIED Redis is running in protected mode": errors.AccessDenied,
    "MISCONF Redis is configured to save RDB snapshots, but it's unable to persist to disk.": errors.StorageBroken,
    "WRONGTYPE Operation against a key holding the wrong kind of value": errors.StorageBroken,
    "ERR DB index is out of range": errors.InvalidURL,
    "ERR unknown command 'FOO'": errors.TransportError,
    "CROSSSLOT Keys in request don't hash to the same slot": errors.TransportError,
}
RETRYABLE = {errors.NotConnected, errors.Throttled, errors.ConnectionLost}


@pytest.mark.parametrize("text", ANSWERS)
def test_an_answer_becomes_the_right_error(text):
    mapped = ERRORS.translate(answer_of(text), doing="send to 'mail'")
    assert type(mapped) is ANSWERS[text]
    assert mapped.retryable == (ANSWERS[text] in RETRYABLE)
    assert str(mapped).startswith("send to 'mail': ")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Unreachable("h:1: refused"), errors.NotConnected),
        (Untrusted("h:1: self-signed certificate"), errors.AccessDenied),
        (exceptions.ConnectionError("broke"), errors.ConnectionLost),
        (Silence("silent", 5.0), errors.ConnectionLost),
        (exceptions.InvalidResponse("garbage"), errors.ConnectionLost),
        (exceptions.MaxConnectionsError("all 50 are taken"), errors.Throttled),
        (OSError(104, "reset"), errors.ConnectionLost),
    ],
)
def test_a_fault_of_the_connection_becomes_the_right_error(error, kind):
    mapped = ERRORS.translate(error, doing="send")
    assert type(mapped) is kind
    assert mapped.retryable == (kind in RETRYABLE)


def test_only_a_connection_that_could_not_be_made_says_that_nothing_was_sent():
    assert not isinstance(ERRORS.translate(Silence("x", 1.0), doing="send"), errors.NotConnected)
    assert not isinstance(ERRORS.translate(exceptions.ConnectionError("x"), doing="send"), errors.NotConnected)


def test_errors_of_the_wrong_server_are_told_from_others():
    def topology(text):
        return is_topology(answer_of(text))

    assert all(map(topology, [text for text in ANSWERS if code_of(answer_of(text)) in ("READONLY", "LOADING")]))
    assert topology("NOAUTH Authentication required.")
    assert not topology("OOM command not allowed")
    assert not topology("NOSCRIPT No matching script.")


def test_a_text_with_a_secret_is_masked():
    mapped = ERRORS.translate(
        exceptions.AuthenticationError("no user with hush"), doing="x", mask=lambda t: t.replace("hush", "***")
    )
    assert "hush" not in str(mapped)
    assert "hush" not in str(mapped.__cause__)
