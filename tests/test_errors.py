"""The laws of errors: the tree as it is drawn, translation that keeps the cause, and no secret anywhere (LAWS.md, URL-10)."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
import traceback
from collections.abc import Iterator

import pytest

from brokerkit import errors
from brokerkit.errors import (
    AccessDenied,
    BrokerkitError,
    Closed,
    ConnectionLost,
    ErrorTable,
    FanoutGap,
    InvalidOption,
    OperationTimeout,
    OutcomeUnknown,
    QueueFull,
    QueueNotFound,
    RemoteFailure,
    ResultLost,
    ResultTimeout,
    Rule,
    SendFailed,
    Throttled,
    TransportError,
    nearest,
)
from brokerkit.url import URL

MASK = URL("x", password="hunter2").mask


def classes() -> list[type[BrokerkitError]]:
    found = inspect.getmembers(errors, inspect.isclass)
    return [one for _, one in found if issubclass(one, BrokerkitError)]


# --------------------------------------------------------------------------------------------------------------- tree


def drawn() -> Iterator[tuple[str, str | None, str]]:
    """Yield (name, parent, remark) of each line of the tree in the module's docstring."""
    parents: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.fullmatch(r"    ((?:│   |    )*)((?:├── |└── )?)([A-Z]\w+)\s*(.*)", line)
        if match:
            depth = len(match[1]) // 4 + bool(match[2])
            yield match[3], parents[depth - 1] if depth else None, match[4]
            parents[depth:] = [match[3]]


def test_the_tree_at_the_top_of_the_module_is_the_tree_of_the_classes() -> None:
    real = {
        one.__name__: next((b.__name__ for b in one.__bases__ if issubclass(b, BrokerkitError)), None)
        for one in classes()
    }
    assert {name: parent for name, parent, _ in drawn()} == real
    assert len(real) > 30


def test_the_tree_says_retryable_of_exactly_those_that_are() -> None:
    assert {name for name, _, remark in drawn() if remark.startswith("retryable")} == {
        one.__name__ for one in classes() if one.retryable
    }


def test_every_error_of_the_tree_is_public_and_documented() -> None:
    assert {name for name, *_ in drawn()} <= set(errors.__all__)
    assert [
        one for one in classes() if not (one.__doc__ or "").endswith(".") and "Attributes" not in (one.__doc__ or "")
    ] == []


def test_time_outs_are_time_outs_to_python_too() -> None:
    assert issubclass(ResultTimeout, TimeoutError)


EXAMPLES = [
    *(one("some text") for one in classes() if one not in (SendFailed, FanoutGap, ResultLost, RemoteFailure)),
    QueueNotFound("mail", "audit"),
    FanoutGap("audit", 3),
    ResultLost("job-1", "evicted"),
    RemoteFailure("ValueError", "no", "Traceback …"),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_errors_survive_pickle_and_copy(error: BrokerkitError) -> None:
    error.add_note("a note")
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(other) is type(error)
        assert (str(other), other.args, vars(other)) == (str(error), error.args, vars(error))


def test_texts_name_what_happened_and_what_to_do() -> None:
    assert str(QueueNotFound("a", "b")) == "queue 'a', 'b' does not exist; declare it first: broker.declare('a')"
    assert str(FanoutGap("audit", 3)) == "queue 'audit' was over its max_length: 3 copies were dropped, oldest first"
    assert "'job-1' is gone (reason: evicted)" in str(ResultLost("job-1", "evicted"))
    assert str(RemoteFailure("ValueError", "no")) == "ValueError: no"
    assert nearest("visibilty", ["visibility", "x"]) == "; did you mean 'visibility'?"
    assert nearest("qqq", ["visibility"]) == ""


# ---------------------------------------------------------------------------------------------------------- SendFailed

OUTCOMES: list[tuple[str, Exception | None]] = [
    ("m1", None),
    ("m2", QueueFull("full")),
    ("m3", OutcomeUnknown("cut")),
    ("m4", QueueFull("full")),
]


def test_send_failed_groups_the_errors_and_keeps_every_outcome() -> None:
    error = SendFailed(OUTCOMES)
    assert error.outcomes == tuple(OUTCOMES)
    assert error.exceptions == tuple(one for _, one in OUTCOMES if one)
    assert isinstance(error, TransportError)
    assert isinstance(error, ExceptionGroup)
    assert not error.retryable  # the stored ones would be stored twice


def test_send_failed_never_says_of_an_unknown_one_that_it_was_not_stored() -> None:
    assert str(SendFailed(OUTCOMES)).startswith("2 of 4 were not stored, 1 may or may not have been (")
    assert str(SendFailed(OUTCOMES[:2])).startswith("1 of 2 were not stored (")
    assert str(SendFailed(OUTCOMES[2:3])).startswith("0 of 1 were not stored, 1 may or may not have been (")


def test_send_failed_without_a_failure_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="non-empty"):
        SendFailed([("m1", None)])


def test_except_star_takes_send_failed_apart() -> None:
    full: list[Exception] = []
    rest: list[Exception] = []
    try:
        raise SendFailed(OUTCOMES)
    except* QueueFull as group:
        full.extend(group.exceptions)
    except* OutcomeUnknown as group:
        rest.extend(group.exceptions)
    assert (full, rest) == ([OUTCOMES[1][1], OUTCOMES[3][1]], [OUTCOMES[2][1]])


def test_except_star_for_a_parent_takes_send_failed_as_a_whole() -> None:
    caught: list[Exception] = []
    try:
        raise SendFailed(OUTCOMES)
    except* TransportError as group:
        caught.append(group)
    assert isinstance(caught[0], SendFailed)
    assert caught[0].outcomes == tuple(OUTCOMES)


def test_send_failed_survives_pickle_and_copy() -> None:
    error = SendFailed(OUTCOMES)
    error.add_note("a note")
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert isinstance(other, SendFailed)
        assert [(id_, repr(one)) for id_, one in other.outcomes] == [(id_, repr(one)) for id_, one in OUTCOMES]
        assert (str(other), repr(other), other.__notes__) == (str(error), repr(error), ["a note"])
        assert other.exceptions == tuple(one for _, one in other.outcomes if one)


def test_a_traceback_of_send_failed_shows_each_error() -> None:
    text = "".join(traceback.format_exception(SendFailed(OUTCOMES)))
    assert text.count("QueueFull: full") == 2
    assert "OutcomeUnknown: cut" in text


# --------------------------------------------------------------------------------------------------------- translation


class ClientError(Exception):
    def __init__(self, text: str, code: int = 0) -> None:
        super().__init__(text)
        self.code = code


TABLE = ErrorTable(
    Rule(ClientError, Throttled, when=lambda error: error.code == 429),
    Rule(ClientError, AccessDenied, when=lambda error: error.code == 401, hint="see the user's permissions"),
    Rule(TimeoutError, OperationTimeout),
    Rule(OSError, ConnectionLost),
)


@pytest.mark.parametrize(
    ("error", "expected", "text"),
    [
        (ClientError("slow down", 429), Throttled, "send to 'mail': slow down"),
        (ClientError("no", 401), AccessDenied, "send to 'mail': no (see the user's permissions)"),
        (ClientError("odd", 500), TransportError, "send to 'mail': odd"),
        (TimeoutError("late"), OperationTimeout, "send to 'mail': late"),
        (ConnectionResetError("cut"), ConnectionLost, "send to 'mail': cut"),
        (TimeoutError(), OperationTimeout, "send to 'mail': TimeoutError"),
        (KeyError("x"), TransportError, "send to 'mail': 'x'"),
    ],
)
def test_the_first_rule_that_fits_decides_and_the_cause_is_kept(
    error: Exception, expected: type[BrokerkitError], text: str
) -> None:
    mapped = TABLE.translate(error, doing="send to 'mail'")
    assert (type(mapped), str(mapped)) == (expected, text)
    assert mapped.__cause__ is error


def test_an_error_of_ours_passes_through() -> None:
    error = QueueNotFound("mail")
    assert TABLE.translate(error, doing="send") is error


def test_an_unknown_error_is_not_retried() -> None:
    assert not TABLE.translate(RuntimeError("?"), doing="send").retryable


def test_the_text_of_a_huge_client_error_is_cut() -> None:
    assert len(str(TABLE.translate(RuntimeError("x" * 10**6), doing="send"))) < 1100


def test_a_client_error_whose_text_fails_is_translated_too() -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    mapped = TABLE.translate(Broken(), doing="send", mask=MASK)
    assert (type(mapped), type(mapped.__cause__)) == (TransportError, Broken)


@pytest.mark.parametrize("kind", [QueueNotFound, SendFailed, FanoutGap, ResultLost, RemoteFailure])
def test_a_rule_cannot_raise_what_takes_more_than_a_text(kind: type[BrokerkitError]) -> None:
    with pytest.raises(TypeError, match=kind.__name__):
        Rule(OSError, kind)


def test_every_other_error_can_be_raised_by_a_rule() -> None:
    for kind in set(classes()) - {QueueNotFound, SendFailed, FanoutGap, ResultLost, RemoteFailure}:
        mapped = ErrorTable(Rule(OSError, kind)).translate(OSError("cut"), doing="send")
        assert (type(mapped), str(mapped)) == (kind, "send: cut")


def test_closed_and_configuration_errors_are_not_retried() -> None:
    assert not any(kind.retryable for kind in (Closed, InvalidOption, BrokerkitError))
