"""Exceptions as results, hostile on both sides: those that are captured, and records that somebody else has made."""

from __future__ import annotations

import gc
import json
import os
import pickle
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerkit._failures import SMALLER, Limits, allow, capture, rebuild
from brokerkit._records import Header, State, decode_record, encode_record
from brokerkit.errors import MalformedResult, RemoteFailure
from brokerkit.results import results
from brokerkit.serialization import Codec

CODEC = Codec()


def there_and_back(error, *classes):
    """What a reader gets: through bytes, as a store keeps them."""
    record = encode_record(Header(State.FAILURE, 1.5, error=capture(error)))
    result = decode_record("k", record, CODEC, allow(classes))
    assert result.problem is None
    return result.error


def decoded(failure, *classes):
    """What a reader gets of a record that somebody else wrote."""
    packed = json.dumps({"state": "FAILURE", "at": 1.0, "ttl": None, "error": failure}).encode()
    return decode_record("k", b"\x01" + len(packed).to_bytes(4, "big") + packed, CODEC, allow(classes))


# -- exceptions that resist ---------------------------------------------------------------------------------------------


def boom(self, *args):
    raise RuntimeError("no")


class Resisting(Exception):
    """Raises whatever Python asks of it."""

    __cause__ = __context__ = __suppress_context__ = __traceback__ = args = __notes__ = property(boom)
    __str__ = __repr__ = __eq__ = __hash__ = __reduce__ = __json__ = boom


class ResistingGroup(ExceptionGroup):
    exceptions = message = property(boom)
    __str__ = boom


class Lying(type):
    def __getattribute__(cls, name):
        if name in ("__qualname__", "__module__", "__name__"):
            raise RuntimeError("no")
        return super().__getattribute__(name)


class Nameless(Exception, metaclass=Lying):
    pass


class Raising(Exception):
    def __str__(self):
        raise Nameless


class Text(str):
    __slots__ = ()
    __len__ = __getitem__ = __str__ = __format__ = boom


class OddlyTexted(Exception):
    def __str__(self):
        return Text("odd")


class Changing(dict):
    """Another one each time it is looked at."""

    def items(self):
        self["n"] = self.get("n", 0) + 1
        return [("grown", "x" * 10 ** self["n"])]


@pytest.mark.parametrize(
    "error",
    [
        Resisting("a"),
        ResistingGroup("g", [Resisting(), ValueError("in it")]),
        Nameless("a"),
        Raising(),
        OddlyTexted(Text("b")),
        ValueError(Changing(a=1)),
        ValueError({1: {2: object()}}, b"\xff", "\ud800", 10**5000),
        type("X" * 10**6, (Exception,), {})("long name"),
        type("Y", (Exception,), {"__module__": 5})(),
        BaseExceptionGroup("b", [KeyboardInterrupt(), SystemExit(1)]),
    ],
    ids=lambda error: type.__dict__["__name__"].__get__(type(error))[:20],
)
def test_whatever_resists_is_kept_as_far_as_it_can_be_had(error):
    error_of_it = there_and_back(error)
    assert isinstance(error_of_it, RemoteFailure)
    assert len(error_of_it.type) < 600
    assert len(json.dumps(capture(error))) < 200_000


def test_what_python_keeps_of_it_is_not_asked_of_its_class():
    try:
        try:
            int("the cause")
        except ValueError as cause:
            raise Resisting("outer") from cause
    except Resisting as caught:
        error = there_and_back(caught)
    assert "the cause" in error.__cause__.message
    assert [e.type for e in there_and_back(ResistingGroup("g", [ValueError(1)])).exceptions] == ["ValueError"]


def test_arguments_are_plain_once_they_are_captured():
    captured = capture(ValueError(Changing(a=1), (1, 2)))
    assert type(captured["args"][0]) is dict
    assert captured["args"][1] == [1, 2]
    assert json.dumps(captured) == json.dumps(captured)


# -- notes, causes, groups ----------------------------------------------------------------------------------------------


def test_notes_are_kept_on_each_exception():
    inner, outer = ValueError("a"), KeyError("b")
    inner.add_note("first")
    inner.add_note("second")
    outer.__cause__ = inner
    error = there_and_back(outer, ValueError)
    assert error.__cause__.__notes__ == ["first", "second"]
    assert type(error.__cause__) is ValueError
    assert [note.partition(":")[0] for note in error.__notes__] == ["Remote traceback"]


@pytest.mark.parametrize("notes", [5, None, {"a": 1}, object(), [1, 2], ["ok", 3], "text", ["x" * 10**6, "y"]])
def test_notes_of_any_kind_do_no_harm(notes):
    error = ValueError("a")
    error.__notes__ = notes
    found = there_and_back(error).__notes__
    assert all(isinstance(note, str) for note in found)
    assert "Remote traceback" in found[-1]


def test_many_notes_are_bounded():
    error = ValueError("a")
    error.__notes__ = ["note"] * 10**5
    assert len(json.dumps(capture(error))) < 200_000


def test_cause_and_context_are_told_apart():
    cause, context = ValueError("cause"), ValueError("context")
    both, one, hidden = KeyError(1), KeyError(2), KeyError(3)
    both.__cause__, both.__context__ = cause, context
    one.__context__ = context
    hidden.__context__, hidden.__suppress_context__ = context, True
    found = [there_and_back(error) for error in (both, one, hidden)]
    assert [(str(e.__cause__), str(e.__context__)) for e in found] == [
        ("ValueError: cause", "None"),
        ("None", "ValueError: context"),
        ("None", "None"),
    ]


def test_a_group_keeps_its_members_with_their_causes():
    cause, member = OSError(2, "gone"), ValueError("a")
    member.__cause__ = cause
    group = ExceptionGroup("many", [member, ExceptionGroup("inner", [KeyError("b")])])
    error = there_and_back(group)
    assert [e.type for e in error.exceptions] == ["ValueError", "ExceptionGroup"]
    assert error.exceptions[0].__cause__.type == "FileNotFoundError"
    assert [e.type for e in error.exceptions[1].exceptions] == ["KeyError"]
    assert error.message == "many (2 sub-exceptions)"
    assert pickle.loads(pickle.dumps(error)).exceptions[0].type == "ValueError"
    rebuilt = there_and_back(group, ExceptionGroup, ValueError)
    assert type(rebuilt) is ExceptionGroup
    assert rebuilt.message == "many"
    assert type(rebuilt.exceptions[0]) is ValueError
    assert isinstance(rebuilt.exceptions[1].exceptions[0], RemoteFailure)


def test_a_group_of_too_many_is_no_group_again():
    error = there_and_back(ExceptionGroup("many", [ValueError(i) for i in range(1000)]), ExceptionGroup)
    assert isinstance(error, RemoteFailure)
    assert 10 < len(error.exceptions) < 100
    assert "999" not in str(error.exceptions)


def test_circles_through_groups_and_contexts_end():
    member = ValueError("member")
    group = ExceptionGroup("group", [member, member])
    member.__cause__ = group
    group.__context__ = member
    error = there_and_back(group)
    assert error.__context__.message == "member"
    assert error.__context__.__cause__ is None


@pytest.mark.parametrize("slot", ["__cause__", "__context__"])
def test_a_chain_of_a_hundred_thousand_is_cut(slot):
    first = error = ValueError("last")
    for i in range(100_000):
        setattr(error, slot, ValueError(str(i)))
        error = getattr(error, slot)
    captured = capture(first)
    assert captured["traceback"].count("ValueError: ") == 32
    assert captured["traceback"].endswith("and more\n")
    links, link = 0, there_and_back(first)
    while link is not None:
        links, link = links + 1, getattr(link, slot)
    assert links == 32
    while (error := getattr(first, slot)) is not None:  # else their end would be a recursion
        setattr(first, slot, getattr(error, slot))
    gc.collect()


def test_a_store_of_small_records_gets_a_shorter_failure():
    error = ValueError("x" * 10**5)
    error.add_note("n" * 10**5)
    error.__cause__ = KeyError("y" * 10**5)
    sizes = [len(json.dumps(capture(error, limits))) for limits in SMALLER]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 2000
    assert capture(error, Limits(links=1)).get("cause") is None


# -- classes that may be rebuilt ----------------------------------------------------------------------------------------


class Composing(Exception):
    """Makes its text of its argument, so that calling it with its `args` makes another text."""

    def __init__(self, code):
        super().__init__(f"code {code}")


class Keeping(Exception):
    def __init__(self, code, word="x"):
        super().__init__(code, word)
        self.code = code


class Elsewhere(Exception):
    def __new__(cls, *args):
        return ValueError(*args) if args == ("other",) else super().__new__(cls, *args)


class Locked(Exception):
    __cause__ = property(lambda self: None)
    __context__ = property(lambda self: None)
    add_note = boom


def test_a_class_that_does_not_keep_its_arguments_is_not_called_twice_over():
    error = there_and_back(Composing(7), Composing)
    assert isinstance(error, RemoteFailure)
    assert error.message == "code 7"
    assert there_and_back(Keeping(7), Keeping).code == 7
    other = Elsewhere("fine")
    other.args = ("other",)
    assert isinstance(there_and_back(other, Elsewhere), RemoteFailure)
    assert type(there_and_back(Elsewhere("fine"), Elsewhere)) is Elsewhere


def test_an_allowed_class_that_overrides_what_python_keeps_is_rebuilt():
    error = Locked("a")
    BaseException.__dict__["__cause__"].__set__(error, ValueError("cause"))
    found = there_and_back(error, Locked)
    assert type(found) is Locked
    assert BaseException.__dict__["__cause__"].__get__(found).message == "cause"


# -- records that others have made ---------------------------------------------------------------------------------------

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
words = {
    "type": st.sampled_from(["ValueError", "ExceptionGroup", "os.system", "builtins.eval"]) | anything,
    "message": st.text(max_size=5) | anything,
}
odd_links = st.recursive(
    st.fixed_dictionaries(words, optional={"args": anything, "notes": anything, "group": anything}),
    lambda inner: st.fixed_dictionaries(
        words,
        optional={
            "cause": inner | anything,
            "context": inner | anything,
            "members": st.lists(inner, max_size=3) | anything,
            "left_out": anything,
            "args": st.lists(anything, max_size=3) | anything,
            "traceback": anything,
            "notes": st.lists(st.text(max_size=3)) | anything,
        },
    ),
    max_leaves=6,
)


@given(odd_links | anything)
def test_no_record_raises_anything_but_what_it_should(failure):
    result = decoded(failure, ValueError, ExceptionGroup)
    if result.problem is not None:
        assert isinstance(result.problem, MalformedResult)
    else:
        assert isinstance(result.error, RemoteFailure | ValueError | ExceptionGroup)


GOOD = {"type": "a", "message": "b"}


@pytest.mark.parametrize(
    "failure",
    [
        GOOD | {"notes": [1]},
        GOOD | {"notes": "text"},
        GOOD | {"members": {}},
        GOOD | {"members": [3]},
        GOOD | {"members": [GOOD] * 100},
        GOOD | {"left_out": "1"},
        GOOD | {"group": 1},
        GOOD | {"context": []},
        GOOD | {"args": {}},
        {"type": ["a"], "message": "b"},
        {"type": "a"},
        [],
        "text",
    ],
)
def test_a_failure_of_another_shape_is_malformed(failure):
    assert isinstance(decoded(failure).problem, MalformedResult)
    with pytest.raises(ValueError, match="malformed"):
        rebuild(failure, {})


def test_a_record_nested_ten_thousand_deep_is_malformed():
    for opening, closing in (('{"cause":', "}"), ("[", "]")):
        nested = opening * 50_000 + "0" + closing * 50_000
        text = f'{{"state": "FAILURE", "at": 1.0, "ttl": null, "error": {nested}}}'.encode()
        record = b"\x01" + len(text).to_bytes(4, "big") + text
        assert isinstance(decode_record("k", record, CODEC, {}).problem, MalformedResult)


def test_nothing_named_in_a_record_is_imported_or_called(tmp_path):
    canary = Path(tmp_path / "canary")
    command = f"touch {canary}"
    hostile = [
        {"type": "os.system", "message": "", "args": [command]},
        {"type": "builtins.eval", "message": "", "args": [f"__import__('os').system({command!r})"]},
        {"type": "subprocess.CalledProcessError", "message": "", "args": [1, command], "__reduce__": ["os.system"]},
        {"type": "ValueError", "message": "", "args": [{"__type__": "os.system", "__value__": command}]},
        {"type": "ValueError", "message": "", "args": [{"__class__": "posix.system", "__init__": command}]},
        {"type": "antigravity.Fly", "message": "", "cause": {"type": "this.s", "message": "", "args": []}},
    ]
    before = set(sys.modules)
    for failure in hostile:
        assert decoded(failure, ValueError).state is not None
    assert not canary.exists()
    assert {"antigravity", "this"}.isdisjoint(set(sys.modules) - before)


class Bomb(Exception):
    def __reduce__(self):
        return os.mkdir, ("/nonexistent/bomb",)


def test_a_stored_bomb_does_not_go_off(url):
    with results(url) as store:
        store.set_exception("job", Bomb("tick"))
        assert store.get("job").error.message == "tick"
        assert pickle.loads(pickle.dumps(store.get("job").error)).message == "tick"
