"""Records as bytes: round trips, foreign bytes, and exceptions of every unpleasant kind."""

from __future__ import annotations

import json
import math
import struct
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerkit._failures import MAX_TRACEBACK, allow, capture, rebuild
from brokerkit._records import Header, State, decode_record, encode_record, read_header
from brokerkit.errors import DecodeError, EncodeError, InvalidOption, MalformedResult, RemoteFailure
from brokerkit.serialization import Codec

CODEC = Codec()
NOT_FINAL = [State.PENDING, State.STARTED, State.RETRY]

texts = st.text(st.characters())
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=10,
).filter(lambda value: "__type__" not in repr(value))
times = st.floats(0, 1e12)


def record_of(value, codec=CODEC, **header):
    body, headers = codec.encode(value)
    return encode_record(Header(State.SUCCESS, 1.5, headers=headers, **header), body)


def failure_of(error):
    return encode_record(Header(State.FAILURE, 1.5, error=capture(error)))


def raised(error):
    try:
        raise error  # noqa: TRY301 - for its traceback
    except BaseException as caught:  # noqa: BLE001 - that is the point
        return caught


@given(values | st.binary(), values, times, st.none() | times)
def test_a_success_comes_back_equal(value, meta, at, ttl):
    body, headers = CODEC.encode(value)
    record = encode_record(Header(State.SUCCESS, at, ttl, headers, meta), body)
    result = decode_record("k", record, CODEC, {})
    assert (result.key, result.state, result.value) == ("k", State.SUCCESS, value)
    assert (result.meta, result.at, result.error, result.problem) == (meta, at, None, None)
    assert read_header("k", record)[0].ttl == ttl


@given(st.sampled_from(NOT_FINAL), values)
def test_a_state_comes_back_with_its_meta(state, meta):
    result = decode_record("k", encode_record(Header(state, 2.0, meta=meta)), CODEC, {})
    assert (result.state, result.meta, result.value) == (state, meta, None)
    assert not result.state.final


def test_the_final_states_are_three():
    assert [state for state in State if state.final] == [State.SUCCESS, State.FAILURE, State.REVOKED]


def test_revoked_reads_as_a_failure_of_its_own():
    result = decode_record("k", encode_record(Header(State.REVOKED, 2.0, meta="why")), CODEC, {})
    assert isinstance(result.error, RemoteFailure)
    assert (result.error.type, result.meta) == ("Revoked", "why")


@pytest.mark.parametrize("meta", [math.nan, object(), {"a": math.inf}])
def test_meta_that_json_cannot_hold_is_refused(meta):
    with pytest.raises(EncodeError):
        encode_record(Header(State.STARTED, 1.0, meta=meta))


# -- foreign bytes ----------------------------------------------------------------------------------------------------


@given(st.binary(max_size=100))
def test_foreign_bytes_are_malformed_and_nothing_worse(record):
    result = decode_record("k", record, CODEC, {})
    assert isinstance(result.problem, MalformedResult)
    with pytest.raises(MalformedResult, match="'k'"):
        _ = result.value


@given(st.data())
def test_a_damaged_record_is_read_or_malformed_and_nothing_worse(data):
    record = bytearray(record_of({"a": [1, 2.5, "text"]}, meta={"m": 1}))
    for _ in range(data.draw(st.integers(1, 3))):
        record[data.draw(st.integers(0, len(record) - 1))] = data.draw(st.integers(0, 255))
    result = decode_record("k", bytes(record[: data.draw(st.integers(0, len(record)))]), CODEC, {})
    assert result.problem is None or isinstance(result.problem, MalformedResult | DecodeError)


GOOD = {"state": "SUCCESS", "at": 1.0, "ttl": None}


def framed(header, version=1):
    packed = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack(">BI", version, len(packed)) + packed + b"1"


def test_the_frame_of_these_tests_is_right():
    assert decode_record("k", framed(GOOD), CODEC, {}).value == b"1"


@pytest.mark.parametrize(
    "header",
    [
        b"{",
        b"\xff\xff",
        b"[" * 50_000,
        [],
        1,
        {},
        GOOD | {"state": "NO SUCH"},
        GOOD | {"state": "UNKNOWN"},
        GOOD | {"state": []},
        GOOD | {"at": "1"},
        GOOD | {"at": True},
        GOOD | {"at": math.nan},
        GOOD | {"ttl": "1"},
        GOOD | {"headers": {"a": 1}},
        GOOD | {"headers": []},
        GOOD | {"error": {"type": "a", "message": "b"}},
        GOOD | {"state": "FAILURE"},
        GOOD | {"state": "FAILURE", "error": []},
        GOOD | {"state": "FAILURE", "error": {"type": 1, "message": "b"}},
        GOOD | {"state": "FAILURE", "error": {"type": "a", "message": "b", "args": 1}},
        GOOD | {"state": "FAILURE", "error": {"type": "a", "message": "b", "traceback": 1}},
        GOOD | {"state": "FAILURE", "error": {"type": "a", "message": "b", "cause": 1}},
    ],
    ids=lambda header: repr(header)[:60],
)
def test_a_header_of_the_wrong_shape_is_malformed(header):
    assert isinstance(decode_record("k", framed(header), CODEC, {}).problem, MalformedResult)


def test_a_record_of_a_later_version_names_it():
    problem = decode_record("k", framed(GOOD, version=2), CODEC, {}).problem
    assert "version is 2" in str(problem)


def test_a_value_that_is_not_accepted_is_a_problem_of_the_value_only():
    result = decode_record("k", record_of([1], Codec("msgpack"), meta=7), CODEC, {})
    assert (result.state, result.meta) == (State.SUCCESS, 7)
    with pytest.raises(DecodeError, match=r"x-msgpack.*accept"):
        _ = result.value


# -- exceptions -------------------------------------------------------------------------------------------------------


class Custom(Exception):
    def __init__(self, code, *, extra):
        super().__init__(f"code {code}")
        self.extra = extra


class Plain(Exception):
    pass


class Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


class BadArgs(Exception):
    args = property(lambda self: 1 / 0)


class Unpicklable(Exception):
    def __reduce__(self):
        raise TypeError("not me")


def read_failure(error, *classes):
    return decode_record("k", failure_of(error), CODEC, allow(classes))


@pytest.mark.parametrize(
    "error",
    [
        ValueError("é\ud800\0"),
        Custom(7, extra=object()),
        Unspeakable(object()),
        Unpicklable(lambda: None),
        BadArgs(),
        KeyError(),
        OSError(2, "gone", "file"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        SystemExit(3),
        KeyboardInterrupt(),
        ExceptionGroup("many", [ValueError("a"), Plain("b")]),
        Plain(math.nan, {1, 2}),
        Plain("x" * 10_000_000),
    ],
    ids=lambda error: type(error).__name__,
)
def test_any_exception_is_kept_as_a_remote_failure(error):
    record = failure_of(raised(error))
    assert len(record) < 200_000
    result = decode_record("k", record, CODEC, {})
    assert isinstance(result.error, RemoteFailure)
    assert result.error.type.endswith(type(error).__qualname__)
    assert isinstance(result.error.message, str)
    assert type(error).__name__ in result.traceback
    assert result.error.remote_traceback == result.traceback


def test_a_failure_keeps_message_and_traceback():
    result = read_failure(raised(ValueError("a", 1)))
    assert (result.error.type, result.error.message) == ("ValueError", "('a', 1)")
    assert "in raised" in result.traceback
    assert "in raised" in result.error.__notes__[0]


def test_an_allowed_exception_is_rebuilt_with_its_arguments():
    error = read_failure(raised(Plain("a", [1], None)), Plain, ValueError).error
    assert type(error) is Plain
    assert error.args == ("a", [1], None)
    assert "in raised" in error.__notes__[0]


def test_an_allowed_exception_that_does_not_take_its_arguments_stays_remote():
    error = read_failure(Custom(7, extra=1), Custom).error
    assert isinstance(error, RemoteFailure)
    assert error.message == "code 7"


def test_an_allowed_exception_with_arguments_that_were_not_kept_stays_remote():
    assert isinstance(read_failure(Plain(object()), Plain).error, RemoteFailure)


def test_a_subclass_of_an_allowed_exception_is_not_allowed():
    class Child(Plain):
        pass

    assert isinstance(read_failure(Child("a"), Plain).error, RemoteFailure)


def test_a_failure_that_names_a_class_runs_and_imports_nothing():
    assert "antigravity" not in sys.modules
    failure = {"type": "antigravity.Fly", "message": "up", "args": ["x"]}
    assert isinstance(rebuild(failure, allow([ValueError])), RemoteFailure)
    assert isinstance(rebuild({"type": "os.system", "message": "", "args": ["false"]}, {}), RemoteFailure)
    assert "antigravity" not in sys.modules


def test_the_chain_of_causes_is_kept():
    def chained():
        try:
            try:
                int("inner")
            except ValueError as inner:
                raise Plain("middle") from inner
        except Plain:
            raise KeyError("outer")  # noqa: B904 - by context

    with pytest.raises(KeyError) as caught:
        chained()
    outer = read_failure(caught.value, Plain).error
    middle = outer.__context__  # not its cause: it was raised while that was handled
    assert (outer.__cause__, outer.__suppress_context__) == (None, False)
    assert (outer.type, type(middle), middle.args) == ("KeyError", Plain, ("middle",))
    innermost = middle.__cause__
    assert (innermost.type, innermost.__cause__) == ("ValueError", None)
    assert "'inner'" in innermost.message


def test_a_hidden_context_is_not_kept():
    def hiding():
        try:
            int("hidden")
        except ValueError:
            raise Plain("shown") from None

    with pytest.raises(Plain) as caught:
        hiding()
    assert read_failure(caught.value).error.__cause__ is None


def test_a_circle_of_causes_ends():
    first, second = Plain("1"), Plain("2")
    first.__cause__, second.__cause__ = second, first
    error = read_failure(first).error
    assert (error.message, error.__cause__.message, error.__cause__.__cause__) == ("1", "2", None)


def test_a_chain_of_a_thousand_causes_is_bounded():
    error = Plain("0")
    for i in range(1000):
        nxt = Plain(str(i))
        nxt.__cause__ = error
        error = nxt
    assert read_failure(error).problem is None


def test_a_huge_traceback_is_cut_in_the_middle():
    error = Plain("at the end")
    error.add_note("note " * 1_000_000)
    traceback = read_failure(raised(error)).traceback
    assert len(traceback) < MAX_TRACEBACK + 100
    assert traceback.startswith("Traceback (most recent call last)")
    assert "characters left out" in traceback


def test_a_failure_nested_too_deep_is_malformed():
    failure = {"type": "a", "message": "b"}
    for _ in range(100):
        failure = {"type": "a", "message": "b", "cause": failure}
    record = framed(GOOD | {"state": "FAILURE", "error": failure})
    assert isinstance(decode_record("k", record, CODEC, {}).problem, MalformedResult)


@pytest.mark.parametrize("wrong", [KeyboardInterrupt, int, "ValueError", ValueError("x")])
def test_only_classes_of_exceptions_can_be_allowed(wrong):
    with pytest.raises(InvalidOption, match="exceptions"):
        allow([wrong])
