"""No secret stays in an exception that reaches the user (LAWS.md, URL-10), wherever a client's exception hid it."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerkit._secrets import Redacted, is_secret_name, masked, masker, secrets_in
from brokerkit.errors import AccessDenied, ErrorTable, QueueNotFound, Rule, SendFailed, StorageBroken
from brokerkit.url import URL

SECRET = "hunter2/ü"
MASK = URL("x", password=SECRET).mask
TABLE = ErrorTable()


class ClientError(Exception):
    pass


class Holder(Exception):
    """As SQLAlchemy's: the text is made of attributes, and another exception hangs on it."""

    def __init__(self, statement: str, params: Any, orig: Exception) -> None:
        super().__init__(statement)
        self.statement, self.params, self.orig = statement, params, orig

    def __str__(self) -> str:
        return f"{self.orig} [{self.statement}] {self.params}"


class Slotted(Exception):
    __slots__ = ("dsn",)

    def __init__(self, dsn: str) -> None:
        super().__init__()
        self.dsn = dsn

    def __str__(self) -> str:
        return self.dsn


class Opaque(Exception):
    """Its text comes from where nobody can reach."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tell: Callable[[], str] = lambda: text

    def __str__(self) -> str:
        return self.tell()


def chained(outer: Exception, inner: Exception, *, context: bool = False) -> Exception:
    try:
        try:
            raise inner  # noqa: TRY301 - it is about the chain
        except Exception as error:
            if context:
                raise outer  # noqa: B904 - a context is what is wanted
            raise outer from error
    except Exception as error:  # noqa: BLE001 - whatever was given
        return error


def noted(error: Exception) -> Exception:
    error.add_note(f"the password was {SECRET}")
    return error


LEAKY: list[Callable[[], Exception]] = [
    lambda: ClientError(f"bad password {SECRET}"),
    lambda: ClientError("redis://u:hunter2%2F%C3%BC@h refused"),
    lambda: Exception(
        "x", {"dsn": SECRET, SECRET: 1}, [SECRET], (SECRET, {SECRET}), frozenset([SECRET]), SECRET.encode()
    ),
    lambda: Exception([[[[{"a": [SECRET]}]]]]),
    lambda: KeyError(SECRET),
    lambda: OSError(5, SECRET),
    lambda: FileNotFoundError(2, "No such file", f"/run/{SECRET}", None, f"/b/{SECRET}"),
    lambda: UnicodeDecodeError("utf-8", f"pw={SECRET}".encode(), 0, 1, SECRET),
    lambda: ImportError(SECRET, name=SECRET, path=SECRET),
    lambda: Holder(SECRET, [{"a": SECRET}], ClientError(SECRET)),
    lambda: Slotted(SECRET),
    lambda: noted(ClientError("x")),
    lambda: chained(ClientError("outer"), ClientError(SECRET)),
    lambda: chained(ClientError("outer"), ClientError(SECRET), context=True),
    lambda: chained(StorageBroken(SECRET), ClientError(SECRET)),
    lambda: chained(QueueNotFound(SECRET), noted(KeyError(SECRET)), context=True),
    lambda: ExceptionGroup("several", [ClientError(SECRET), ExceptionGroup("more", [ValueError(SECRET)])]),
    lambda: ExceptionGroup(SECRET, [ClientError(SECRET)]),
    lambda: Opaque(SECRET),
    lambda: chained(ClientError("outer"), Opaque(SECRET)),
    lambda: chained(ClientError("outer"), chained(Opaque(SECRET), ClientError(SECRET)), context=True),
    lambda: Holder("outer", [], Opaque(SECRET)),
    lambda: SendFailed([("m1", ClientError(SECRET)), ("m2", None)]),
]


def reachable(error: BaseException) -> list[BaseException]:
    found: dict[int, BaseException] = {}
    todo: list[Any] = [error]
    while todo:
        one = todo.pop()
        if isinstance(one, BaseException) and id(one) not in found:
            found[id(one)] = one
            todo += [one.__cause__, one.__context__, *one.args, *getattr(one, "exceptions", ()), *vars(one).values()]
    return list(found.values())


def texts_of(error: BaseException) -> str:
    held = [str(error), repr(error), repr(error.args), repr(vars(error)), repr(getattr(error, "__notes__", ()))]
    slots = ("filename", "filename2", "strerror", "object", "reason", "msg", "name", "path", "dsn", "message")
    return " ".join([*held, *(repr(getattr(error, name, "")) for name in slots)])


@pytest.mark.parametrize("leaky", LEAKY, ids=range(len(LEAKY)))
def test_no_secret_stays_anywhere_that_can_be_reached_from_a_translated_error(leaky: Callable[[], Exception]) -> None:
    error = leaky()
    assert any("hunter2" in texts_of(one) for one in reachable(error))
    mapped = TABLE.translate(error, doing="send", mask=MASK)
    assert [texts_of(one) for one in reachable(mapped) if "hunter2" in texts_of(one)] == []
    assert "hunter2" not in "".join(traceback.format_exception(mapped))
    assert any("***" in texts_of(one) for one in reachable(mapped))


def test_the_chain_of_causes_keeps_its_shape_and_its_types() -> None:
    error = chained(ClientError(f"outer {SECRET}"), chained(KeyError(SECRET), ValueError(SECRET), context=True))
    mapped = TABLE.translate(error, doing="send", mask=MASK)
    assert mapped.__cause__ is error
    assert str(error) == "outer ***"
    middle = error.__cause__
    assert isinstance(middle, KeyError)
    assert middle.args == ("***",)
    assert isinstance(middle.__context__, ValueError)
    assert not middle.__suppress_context__
    assert error.__traceback__ is not None


def test_an_error_that_cannot_be_cleaned_is_replaced_by_one_that_names_it() -> None:
    mapped = TABLE.translate(chained(ClientError("outer"), Opaque(SECRET)), doing="send", mask=MASK)
    cause = mapped.__cause__
    assert isinstance(cause, ClientError)
    assert isinstance(cause.__cause__, Redacted)
    assert str(cause.__cause__).endswith("Opaque: ***")
    assert cause.__cause__.__traceback__ is not None
    assert cause.__context__ is cause.__cause__


def test_a_context_stays_a_context_when_it_is_replaced() -> None:
    error = chained(ClientError("outer"), Opaque(SECRET), context=True)
    TABLE.translate(error, doing="send", mask=MASK)
    assert isinstance(error.__context__, Redacted)
    assert (error.__cause__, error.__suppress_context__) == (None, False)


def test_a_built_in_error_keeps_its_type_and_attributes() -> None:
    error = FileNotFoundError(2, "No such file", f"/run/{SECRET}.sock")
    mapped = TABLE.translate(error, doing="send", mask=MASK)
    assert mapped.__cause__ is error
    assert (error.errno, error.strerror, error.filename) == (2, "No such file", "/run/***.sock")


def test_the_rule_sees_the_client_error_before_it_is_masked() -> None:
    table = ErrorTable(Rule(ClientError, AccessDenied, when=lambda error: SECRET in str(error)))
    assert type(table.translate(ClientError(SECRET), doing="send", mask=MASK)) is AccessDenied


def test_an_error_without_a_secret_is_left_as_it_is() -> None:
    args = ("text", b"bytes", [1, {"a": "b"}], {1, 2}, None)
    error = Holder("s", args, ClientError("x"))
    error.args = args
    TABLE.translate(error, doing="send", mask=MASK)
    assert all(a is b for a, b in zip(error.args, args, strict=True))
    assert error.params is args


def test_errors_that_refer_to_each_other_end() -> None:
    one, two = ClientError(SECRET), ClientError(SECRET)
    one.__context__, two.__context__ = two, one
    loop: list[Any] = [SECRET]
    loop.append(loop)
    one.args = (loop,)
    mapped = TABLE.translate(one, doing="send", mask=MASK)
    assert all("hunter2" not in str(found) for found in (mapped, mapped.__cause__))


# Long enough, and of such letters, that it does not stand in a text by chance.
SECRETS = st.text("Ωß /+%&\\\"'\n\U0001f511qzQZ", min_size=6, max_size=20).filter(lambda text: len(set(text)) > 3)


@given(
    SECRETS,
    st.sampled_from(
        [str, repr, ascii, json.dumps, quote, quote_plus, lambda s: quote(s, safe=""), lambda s: str(s.encode())]
    ),
)
def test_a_masked_text_shows_no_secret_whatever_wrote_it(secret: str, writer: Callable[[str], str]) -> None:
    text = masker([secret])(f"<{writer(secret)}>")
    assert "***" in text
    assert writer(secret)[1:-1] not in text


@given(SECRETS)
def test_what_is_shown_of_a_value_has_none_of_its_secrets(secret: str) -> None:
    for value in (
        {"password": secret},
        {"a": [{"token": secret}, ("x", {"api_key": secret})]},
        json.dumps({"a": {"secret": secret}}),
        f"amqp://u:{quote(secret, safe='')}@h",
        [f"http://u:{quote(secret, safe='')}@h"],
        {f"http://u:{quote(secret, safe='')}@h"},
    ):
        assert secret in set(secrets_in("option", value))
        shown = repr(masked("option", value))
        assert "***" in shown
        assert not [text for text in (secret, quote(secret, safe=""), repr(secret)[1:-1]) if text in shown]


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "Passwd",
        "passphrase",
        "pass",
        "redis_pass",
        "pwd",
        "secret",
        "client_secret",
        "token",
        "aws_session_token",
        "credentials",
        "api_key",
        "apikey",
        "api-key",
        "access_key",
        "secret_access_key",
        "private_key",
        "AccountKey",
        "key",
    ],
)
def test_names_that_tell_of_a_secret_are_known(name: str) -> None:
    assert is_secret_name(name)
    assert masked(name, "x") == "***"


@pytest.mark.parametrize(
    "name",
    ["visibility_timeout", "fanout_prefix", "key_prefix", "ordering_key", "passive", "region", "monkey", "username"],
)
def test_names_that_do_not_are_left_alone(name: str) -> None:
    assert not is_secret_name(name)
    assert masked(name, "x") == "x"
    assert list(secrets_in(name, "x")) == []
