"""The laws of options (LAWS.md, URL-06 to -08 and -10): one set, three ways to give it, no secret in any text."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, dataclass
from typing import Any, Literal
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerkit.errors import InvalidOption
from brokerkit.options import (
    BrokerOptions,
    FanoutOptions,
    Options,
    ResultOptions,
    RetryPolicy,
    describe,
    gather,
    resolve,
    setting,
)
from brokerkit.url import URL

CANARY = "cAnArY"


@dataclass(frozen=True, kw_only=True)  # without repr=False, as an author may forget it
class Example(FanoutOptions):
    flag: bool = setting(default=False, doc="A flag.")
    count: int = setting(1, "A count.", min=0, max=10)
    seconds: float | None = setting(1.0, "Seconds.", above=0)
    mode: Literal["full", "Normal", 3] = setting("full", "A choice.")
    label: str | None = setting(None, "A text.")
    names_of_things: tuple[str, ...] = setting((), "Names.")
    extra: Mapping[str, Any] = setting(None, "A mapping.")
    password: str | None = setting(None, "A secret.")
    tag: str | int = setting("", "A number if it looks like one.")
    pin: int = setting(0, "A number.")
    policy: RetryPolicy = setting(RetryPolicy(), "A set of its own.")


def take(query: str = "", keywords: Mapping[str, Any] | None = None, given: Mapping[str, Any] | None = None) -> Any:
    url = URL.parse(f"x://h?{query}")
    return resolve(gather(url, keywords or {}, given), BrokerOptions, Example, scheme="x")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("visibility_timeout=60", {"visibility_timeout": 60}),
        ("visibility_timeout=0.5", {"visibility_timeout": 0.5}),
        ("prefetch=7", {"prefetch": 7}),
        ("prefetch=7", {"prefetch": 7.0}),
        ("max_attempts=none", {"max_attempts": None}),
        ("flag=true", {"flag": True}),
        ("flag=YES", {"flag": 1}),
        ("flag=off", {"flag": False}),
        ("flag=0", {"flag": 0}),
        ("seconds=None", {"seconds": None}),
        ("mode=normal", {"mode": "Normal"}),
        ("mode=3", {"mode": 3}),
        ("tag=5", {"tag": 5}),
        ("tag=5a", {"tag": "5a"}),
        ("label=None", {"label": None}),
        ("label=", {"label": ""}),
        ("label=a%20b%2B+", {"label": "a b++"}),
        ("accept=json,%20yaml", {"accept": ("json", "yaml")}),
        ("accept=json,yaml", {"accept": ["json", "yaml"]}),
        ("accept=json", {"accept": iter(["json"])}),
        ("accept=", {"accept": ()}),
        ("fanout_prefix=false", {"fanout_prefix": False}),
        ("fanout_prefix=true", {"fanout_prefix": True}),
        ("fanout_prefix=shop", {"fanout_prefix": "shop"}),
        ('retry_policy={"max_retries":3,"interval_max":2}', {"retry_policy": {"max_retries": 3, "interval_max": 2}}),
        ('retry_policy={"max_retries":null}', {"retry_policy": RetryPolicy()}),
        ('extra={"a":{"b":[1,null]}}', {"extra": {"a": {"b": [1, None]}}}),
        ("password=p%40ss", {"password": "p@ss"}),
    ],
)
def test_the_url_a_keyword_and_transport_options_give_equal_objects(text: str, value: dict[str, Any]) -> None:
    value = {name: list(v) if hasattr(v, "__next__") else v for name, v in value.items()}
    by_url, by_keyword, by_dict = take(text), take(keywords=value), take(given=value)
    assert by_url == by_keyword == by_dict
    assert repr(by_url) == repr(by_keyword) == repr(by_dict)  # equal in type too: 60 is 60.0


def test_what_is_given_arrives() -> None:
    core, own = take("visibility_timeout=60&accept=json,yaml&flag=yes&mode=normal&pin=7", {"label": "x"}, {"count": 3})
    assert (core.visibility_timeout, core.accept) == (60.0, ("json", "yaml"))
    assert (own.flag, own.mode, own.pin, own.label, own.count, own.seconds) == (True, "Normal", 7, "x", 3, 1.0)
    assert take('retry_policy={"max_retries":3}')[0].retry_policy == RetryPolicy(max_retries=3)


@given(
    visibility_timeout=st.floats(0.001, 1e9),
    prefetch=st.integers(1, 10_000),
    max_attempts=st.none() | st.integers(1),
    strict=st.booleans(),
    serializer=st.text("abc./+-é", min_size=1),
    retry_policy=st.fixed_dictionaries({"interval_start": st.floats(0, 10), "max_retries": st.none() | st.integers(0)}),
)
def test_any_values_are_equal_by_url_and_by_keyword(**values: Any) -> None:
    texts = {name: json.dumps(value) if isinstance(value, dict) else str(value) for name, value in values.items()}
    query = "&".join(f"{name}={quote(text, safe='')}" for name, text in texts.items())
    assert take(query) == take(keywords=values)


@pytest.mark.parametrize(
    ("given_value", "wanted"),
    [
        ({"prefetch": "many"}, "option 'prefetch' is 'many'; it must be a whole number"),
        ({"prefetch": "1.5"}, "it must be a whole number"),
        ({"prefetch": 1.5}, "it must be a whole number"),
        ({"prefetch": True}, "it must be a whole number"),
        ({"prefetch": None}, "it must be a whole number"),
        ({"prefetch": [1]}, "it must be a whole number"),
        ({"prefetch": 0}, "option 'prefetch' is 0; it must be at least 1"),
        ({"prefetch": 10_001}, "it must be at most 10000"),
        ({"visibility_timeout": 0}, "option 'visibility_timeout' is 0.0; it must be above 0"),
        ({"visibility_timeout": -1}, "it must be above 0"),
        ({"visibility_timeout": "nan"}, "it must be a number"),
        ({"visibility_timeout": "inf"}, "it must be a number"),
        ({"visibility_timeout": 10**400}, "it must be a number"),
        ({"visibility_timeout": "1h"}, "it must be a number"),
        ({"seconds": "0"}, "it must be above 0"),
        ({"strict": "maybe"}, "option 'strict' is 'maybe'; it must be true or false"),
        ({"strict": 2}, "it must be true or false"),
        ({"strict": None}, "it must be true or false"),
        ({"serializer": 5}, "it must be a text"),
        ({"fanout_prefix": 5}, "it must be bool or str"),
        ({"fanout_prefix": ""}, "'fanout_prefix' is empty; use false"),
        ({"mode": "fast"}, "it must be one of full, Normal, 3"),
        ({"mode": True}, "it must be one of"),
        ({"mode": 3.0}, "it must be one of"),
        ({"mode": ["full"]}, "it must be one of"),
        ({"accept": 5}, "it must be names"),
        ({"accept": [5]}, "it must be names"),
        ({"accept": b"json"}, "it must be names"),
        ({"accept": {"json": 1}}, "it must be names"),
        ({"extra": "{"}, "it must be a mapping, in a URL as JSON"),
        ({"extra": "[1]"}, "it must be a mapping"),
        ({"extra": 5}, "it must be a mapping"),
        (
            {"retry_policy": {"max_retries": -1}},
            "option 'retry_policy': option 'max_retries' is -1; it must be at least 0",
        ),
        (
            {"retry_policy": {"interval": 1}},
            "option 'retry_policy': .* has no option 'interval'; did you mean 'interval_",
        ),
        ({"serializer": "x" * 5000 + "%"} | {"prefetch": "y" * 5000}, r"option 'prefetch' is 'y{50,90}…; it must be"),
    ],
)
def test_a_wrong_value_is_refused_naming_the_option_and_what_it_must_be(
    given_value: dict[str, Any], wanted: str
) -> None:
    with pytest.raises(InvalidOption, match=wanted):
        take(keywords=given_value)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("visibilty_timeout", "did you mean 'visibility_timeout'?"),
        ("fanout_prefx", "did you mean 'fanout_prefix'?"),
        ("pre_fetch", "did you mean 'prefetch'?"),
        ("Prefetch", "did you mean 'prefetch'?"),
        ("qqqq", "known: accept, "),
    ],
)
@pytest.mark.parametrize("way", ["url", "keyword", "transport_options"])
def test_an_unknown_name_is_refused_with_the_nearest_one(name: str, hint: str, way: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        take(
            f"{name}=1" if way == "url" else "",
            {name: 1} if way == "keyword" else {},
            {name: 1} if way == "transport_options" else None,
        )
    assert f"x:// has no option {name!r}" in str(caught.value)
    assert hint in str(caught.value)


def test_a_name_that_is_no_text_is_refused_too() -> None:
    with pytest.raises(InvalidOption, match="has no option '5'"):
        take(given={5: 1})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("arguments", "both"),
    [
        (("prefetch=1", {"prefetch": 2}, None), "by the URL and by a keyword"),
        (("prefetch=1", {}, {"prefetch": 2}), "by the URL and by transport_options"),
        (("", {"prefetch": 1}, {"prefetch": 2}), "by a keyword and by transport_options"),
        (("password=Ab", {"password": "aB"}, None), "by the URL and by a keyword"),
    ],
)
def test_an_option_given_twice_is_refused_naming_both_places(arguments: Any, both: str) -> None:
    with pytest.raises(InvalidOption, match=both) as caught:
        take(*arguments)
    assert "Ab" not in str(caught.value)


def test_an_option_given_twice_alike_is_fine() -> None:
    assert take("serializer=yaml", {"serializer": "yaml"}, {"serializer": "yaml"})[0].serializer == "yaml"


def test_a_plugin_that_declares_an_option_of_the_core_again_is_found_out() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Clash(Options):
        timeout: float = setting(1.0, "Would never be filled.")

    with pytest.raises(TypeError, match=r"declares \['timeout'\]"):
        resolve({}, BrokerOptions, Clash, scheme="x")


def test_what_is_not_given_has_its_default_and_all_defaults_are_valid() -> None:
    for kind in (BrokerOptions, FanoutOptions, ResultOptions, RetryPolicy):
        (built,) = resolve({}, kind, scheme="x")
        assert built == kind()
        again = {name: getattr(built, name) for name in kind.names()}
        assert resolve(again, kind, scheme="x") == (built,)


def test_options_cannot_be_changed_nor_through_what_they_were_made_of() -> None:
    given_mapping = {"a": 1}
    _, built = take(keywords={"extra": given_mapping})
    given_mapping["a"] = 2
    assert built.extra == {"a": 1}
    with pytest.raises(FrozenInstanceError):
        built.flag = True


def test_every_option_is_described_for_the_tables() -> None:
    for kind in (BrokerOptions, FanoutOptions, ResultOptions, RetryPolicy, Example):
        rows = list(describe(kind))
        assert [name for name, *_ in rows] == list(kind.names())
        assert all(doc.endswith(".") and type_ for _, type_, _, doc in rows)
    described = {name: (type_, default) for name, type_, default, _ in describe(Example)}
    assert described["mode"] == ("'full' or 'Normal' or 3", "'full'")
    assert described["seconds"] == ("float or None", "1.0")
    assert described["names_of_things"] == ("names", "()")
    assert described["policy"] == ("mapping", "default policy")


# ------------------------------------------------------------------------------------------------------------ secrets

SECRETS: list[dict[str, Any]] = [
    {"password": CANARY},
    {"extra": {"password": CANARY}},
    {"extra": {"nodes": [{"access_key": CANARY}]}},
    {"extra": f'{{"token": "{CANARY}"}}'},
    {"label": f"http://user:{CANARY}@proxy"},
]


@pytest.mark.parametrize("secret", SECRETS, ids=range(len(SECRETS)))
def test_no_secret_shows_in_the_text_of_options_and_they_are_not_pickled(secret: dict[str, Any]) -> None:
    _, built = take(keywords=secret)
    for text in (repr(built), str(built), f"{built}", repr([built])):
        assert CANARY not in text
        assert "***" in text
    assert CANARY in built.secrets
    with pytest.raises(TypeError, match="hold a secret") as caught:
        pickle.dumps(built)
    assert CANARY not in repr(caught.value)
    assert copy.deepcopy(built) is built


def test_options_without_a_secret_are_pickled() -> None:
    for built in take(keywords={"label": "plain", "extra": {"a": [1]}}):
        assert pickle.loads(pickle.dumps(built)) == built
        assert built.secrets == ()


def test_an_option_without_a_value_is_shown_as_none() -> None:
    assert "password=None" in repr(Example())


@pytest.mark.parametrize(
    "given_value",
    [
        {"password": [CANARY]},
        {"password": {"x": CANARY}},
        {"extra": f'{{"password": "{CANARY}"'},
        {"extra": [{"password": CANARY}]},
        {"pin": f"http://u:{CANARY}@h"},
        {"policy": {"password": CANARY}},
        {"policy": f'{{"max_retries": {{"secret": "{CANARY}"}}}}'},
        {"policy": {"max_retries": {"secret": CANARY}}},
    ],
)
def test_a_refusal_does_not_show_the_secret_within_the_value(given_value: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption) as caught:
        take(keywords=given_value)
    error: BaseException | None = caught.value
    while error is not None:
        assert CANARY not in f"{error} {error!r} {error.args} {vars(error)}"
        error = error.__context__
