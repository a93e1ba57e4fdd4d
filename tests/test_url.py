"""The laws of URLs (LAWS.md, URL-04, -05, -09 to -13): what is read, what is refused, and that no secret shows."""

from __future__ import annotations

import copy
import itertools
import logging
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerkit.errors import BrokerkitError, InvalidURL
from brokerkit.url import URL

CANARY = "cAnArY/päss"
CANARY_SPELLINGS = [CANARY, "cAnArY%2Fp%C3%A4ss", "cAnArY/p%C3%A4ss", "cAnArY"]


def parts(text: str) -> dict[str, Any]:
    url = URL.parse(text)
    found = {name: getattr(url, name) for name in URL.__slots__}
    return {name: value for name, value in found.items() if value not in (None, "", ())}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("memory://", {"scheme": "memory"}),
        ("memory://shop/eu", {"scheme": "memory", "hosts": (("shop", None),), "path": "/eu"}),
        ("  redis://h\n", {"scheme": "redis", "hosts": (("h", None),)}),
        ("REDIS://Host.Example:6379/0", {"scheme": "redis", "hosts": (("host.example", 6379),), "path": "/0"}),
        ("redis://:6379", {"scheme": "redis", "hosts": (("", 6379),)}),
        ("redis://127.0.0.1", {"scheme": "redis", "hosts": (("127.0.0.1", None),)}),
        ("redis://[::1]", {"scheme": "redis", "hosts": (("::1", None),)}),
        ("redis://[2001:DB8::1]:6379/0", {"scheme": "redis", "hosts": (("2001:db8::1", 6379),), "path": "/0"}),
        ("redis://[fe80::1%25eth0]:1", {"scheme": "redis", "hosts": (("fe80::1%eth0", 1),)}),
        ("redis://%2Frun%2FR.sock/0", {"scheme": "redis", "hosts": (("/run/R.sock", None),), "path": "/0"}),
        ("sqlite://", {"scheme": "sqlite"}),
        ("sqlite:///rel.db", {"scheme": "sqlite", "path": "/rel.db"}),
        ("sqlite:////abs/a.db", {"scheme": "sqlite", "path": "//abs/a.db"}),
        ("sqlite:////home/a@b/a b.db", {"scheme": "sqlite", "path": "//home/a@b/a b.db"}),
        ("sqlite:///:memory:", {"scheme": "sqlite", "path": "/:memory:"}),
        ("sqlalchemy+sqlite:///a.db", {"scheme": "sqlalchemy", "driver": "sqlite", "path": "/a.db"}),
        (
            "SQLA+postgresql+psycopg://h/db",
            {"scheme": "sqla", "driver": "postgresql+psycopg", "hosts": (("h", None),), "path": "/db"},
        ),
        (
            "redis+socket:///run/r.sock?virtual_host=2",
            {"scheme": "redis", "driver": "socket", "path": "/run/r.sock", "query": (("virtual_host", "2"),)},
        ),
        (
            "sentinel://h1:26379;h2:26379/0?master_name=x",
            {
                "scheme": "sentinel",
                "hosts": (("h1", 26379), ("h2", 26379)),
                "path": "/0",
                "query": (("master_name", "x"),),
            },
        ),
        ("memcached://a:11211;b:11211", {"scheme": "memcached", "hosts": (("a", 11211), ("b", 11211))}),
        ("memcached://a,b:2,[::1]:3", {"scheme": "memcached", "hosts": (("a", None), ("b", 2), ("::1", 3))}),
        ("sqs://key:secret@", {"scheme": "sqs", "username": "key", "password": "secret"}),
        ("amqp://h//", {"scheme": "amqp", "hosts": (("h", None),), "path": "//"}),
        ("amqp://h/%2F", {"scheme": "amqp", "hosts": (("h", None),), "path": "//"}),
        ("amqp://a//;amqp://b//", {"scheme": "amqp", "hosts": (("a", None), ("b", None)), "path": "//"}),
        (
            "sentinel://:pw@a:1/0;sentinel://b:2/0;sentinel://c",
            {
                "scheme": "sentinel",
                "password": "pw",
                "hosts": (("a", 1), ("b", 2), ("c", None)),
                "path": "/0",
            },
        ),
        (
            "redis://h?a=1%2B1&b=x%26y&c=",
            {"scheme": "redis", "hosts": (("h", None),), "query": (("a", "1+1"), ("b", "x&y"), ("c", ""))},
        ),
        ("redis://h?a=1+1", {"scheme": "redis", "hosts": (("h", None),), "query": (("a", "1+1"),)}),
        ("redis://h?", {"scheme": "redis", "hosts": (("h", None),)}),
    ],
)
def test_a_url_is_read_into_its_parts(text: str, expected: dict[str, Any]) -> None:
    assert parts(text) == expected


@pytest.mark.parametrize("mark", ["@", ":", "/", "#", "?", "%", "+", " ", "&", "=", ";", "ü", "密", "\n", "%40"])
def test_credentials_with_any_character_arrive_exactly(mark: str) -> None:
    user, password = f"u{mark}ser", f"{mark}p{mark}w{mark}"
    text = URL("amqp", username=user, password=password, hosts=[("h", 1)]).render(reveal_secrets=True)
    read = URL.parse(text)
    assert (read.username, read.password, read.hosts) == (user, password, (("h", 1),))


@pytest.mark.parametrize(
    ("text", "username", "password"),
    [
        ("redis://h", None, None),
        ("redis://@h", None, None),
        ("redis://:@h", None, ""),
        ("redis://:pw@h", None, "pw"),
        ("redis://user@h", "user", None),
        ("redis://user:@h", "user", ""),
        ("redis://us%40er:p%2Bw+@h", "us@er", "p+w+"),
    ],
)
def test_no_user_no_password_and_an_empty_password_are_told_apart(
    text: str, username: str | None, password: str | None
) -> None:
    url = URL.parse(text)
    assert (url.username, url.password) == (username, password)
    assert URL.parse(url.render(reveal_secrets=True)) == url


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "scheme://…"),
        ("localhost", "scheme://…"),
        ("localhost:6379", "'localhost' does not begin with a scheme"),
        ("redis:/h", "'redis' does not begin with a scheme"),
        ("redis+://h", "'redis\\+' does not begin"),
        ("red_is://h", "'red_is' does not begin"),
        ("redis://u:hunter2#@h", "'#'.*%23"),
        ("redis://h/0#x", "'#'.*%23"),
        ("redis://u:hunter2@x@h", "'@'.*%40"),
        ("redis://u:hunter2/x@h", "%2F"),
        ("redis://u:1/hunter2@h", "'@' stands behind the host.*%2F"),
        ("redis://u:1?hunter2=x@h", "'@' stands behind the host.*%3F"),
        ("redis://u:p@h/0?client=hunter2@x", "'@' stands behind the host"),
        ("redis://u:pw:hunter2@h", "':'.*%3A"),
        ("redis://u:hunter2%zz@h", "'%' that begins no escape; write '%' as %25"),
        ("redis://u%:hunter2@h", "user name has a '%'"),
        ("redis://u:hunter2%ff@h", "password is percent-encoded, but not as UTF-8"),
        ("redis://u:hunter2\n@h", "control characters"),
        ("redis://h/%", "path has a '%'"),
        ("redis://h?a=%", "query has a '%'"),
        ("redis://h:x", "port .*65535"),
        ("redis://h:65536", "port .*65535"),
        ("redis://h:-1", "port .*65535"),
        ("redis://h:1e3", "port .*65535"),
        ("redis://h:٣", "port .*65535"),
        ("redis://h:" + "0" * 5000, "port .*65535"),
        ("redis://u:p@h:", "'h:' ends in ':' without a port"),
        ("amqp://a,amqp://b", "without a port; the URLs of a list stand apart by ';'"),
        ("redis://::1", r"brackets, \[::1\]"),
        ("redis://[::1", r"brackets, \[::1\]"),
        ("redis://[::1]6379", r"brackets, \[::1\]"),
        ("redis://[localhost]", "no IPv6 address"),
        ("redis://[fe80::1%eth0]", "'%' as %25"),
        ("redis://a b", "a host has a blank"),
        ("redis://a%00b", "control character"),
        ("redis://h?a", "name=value"),
        ("redis://h?a=1&&b=2", "name=value"),
        ("redis://h?=1", "name=value"),
        ("redis://h?a=1&a=2", "option 'a' stands twice"),
        ("redis://h?a=1&%61=1", "option 'a' stands twice"),
        ("redis://a;amqp://b", "mixes redis and amqp; use one scheme"),
        ("sqla+x://a;sqla+y://b", r"mixes sqla\+x and sqla\+y"),
        ("redis://u:hunter2@a;redis://u:other@b", "differ in their credentials"),
        ("redis://a/0;redis://b/1", "differ in path or query"),
        ("redis://a;redis://b?x=1", "differ in path or query"),
    ],
)
def test_what_is_no_url_is_refused_with_what_to_write_and_without_the_secret(text: str, hint: str) -> None:
    with pytest.raises(InvalidURL, match=hint) as caught:
        URL.parse(text)
    assert_clean(caught.value, ["hunter2"])


@pytest.mark.parametrize(
    "text",
    [
        "hunter2@h",
        "user:hunter2@h",
        "hunter2:@h",
        "redis://:hunter2",
        "redis://u:70000",
        "redis://[hunter2",
        "redis://u:a:hunter2",
        "redis://hunter2:",
    ],
)
def test_half_of_a_url_that_may_be_a_password_is_not_shown(text: str) -> None:
    with pytest.raises(InvalidURL) as caught:
        URL.parse(text)
    assert_clean(caught.value, ["hunter2", "70000"])


def test_only_a_text_or_a_url_is_parsed() -> None:
    url = URL.parse("memory://")
    assert URL.parse(url) is url
    with pytest.raises(InvalidURL, match="must be a text, not int"):
        URL.parse(5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "build",
    [
        lambda: URL("re dis"),
        lambda: URL("redis+socket"),
        lambda: URL("sqla", driver="a/b"),
        lambda: URL("redis", path="0"),
        lambda: URL("redis", hosts=[("a/b?c", None)]),
        lambda: URL("redis", hosts=[("a", 65536)]),
        lambda: URL("redis", hosts=[("a:b", None)]),
        lambda: URL("redis", hosts=[("", None)]),
        lambda: URL("redis", query=[("a", "1"), ("a", "2")]),
    ],
)
def test_a_url_that_could_not_be_read_back_cannot_be_built(build: Any) -> None:
    with pytest.raises(InvalidURL):
        build()


ANY = st.text(st.characters(codec="utf-8"))
NAMES = st.text("abcxyzABC019.-_~;,é%ß", min_size=1)
HOSTS = st.one_of(NAMES, st.ip_addresses(v=6).map(str), st.just("fe80::1%eth0"), st.just("/run/X.sock"))


@given(
    scheme=st.from_regex(r"[A-Za-z][A-Za-z0-9.-]{0,5}", fullmatch=True),
    driver=st.from_regex(r"([A-Za-z][A-Za-z0-9+.-]{0,5})?", fullmatch=True),
    username=st.none() | ANY,
    password=st.none() | ANY,
    hosts=st.lists(st.tuples(HOSTS, st.none() | st.integers(0, 65535)), max_size=3),
    path=ANY.map(lambda text: f"/{text}" if text else ""),
    query=st.dictionaries(ANY.filter(bool), ANY, max_size=3),
)
def test_a_url_built_from_any_parts_is_read_back_equal(**given_parts: Any) -> None:
    url = URL(given_parts.pop("scheme"), **given_parts)
    text = url.render(reveal_secrets=True)
    assert text.isascii()
    again = URL.parse(text)
    assert again == url
    assert hash(again) == hash(url)
    assert (again.username or "", again.password) == (given_parts["username"] or "", given_parts["password"])
    assert dict(again.query) == given_parts["query"]


@given(st.text(max_size=40) | st.text("redis:/@[]?#%&=;,+1a\\ ", max_size=40).map(lambda tail: f"redis://{tail}"))
def test_any_text_is_parsed_or_refused_with_our_error_and_no_other(text: str) -> None:
    try:
        url = URL.parse(text)
    except InvalidURL as error:
        kept = error.__context__
    else:
        assert URL.parse(url.render(reveal_secrets=True)) == url
        kept = None
    assert kept is None  # such as a UnicodeDecodeError, which holds the whole text


def test_a_url_cannot_be_changed() -> None:
    url = URL.parse("redis://u:p@h/0?a=1")
    before = url.render(reveal_secrets=True)
    for change in (
        lambda: setattr(url, "path", "/1"),
        lambda: delattr(url, "path"),
        lambda: setattr(url, "new", 1),
    ):
        with pytest.raises(AttributeError, match="immutable"):
            change()
    assert url.with_query([("b", "2")]).query == (("b", "2"),)
    assert url.render(reveal_secrets=True) == before


def test_a_copy_is_the_url_itself() -> None:
    url = URL.parse("redis://u:p@h")
    assert copy.copy(url) is url
    assert copy.deepcopy([url])[0] is url


def test_fifty_threads_read_and_use_one_url_and_it_stays_equal() -> None:
    text = "amqp://us%40er:p%2Fw@a:1;b:2/v?heartbeat=5&token=xyz"
    url = URL.parse(text)

    def use(number: int) -> tuple[URL, str, str, URL]:
        return URL.parse(text), str(url), url.mask("p/w xyz"), url.with_query([("n", str(number))])

    with ThreadPoolExecutor(50) as pool:
        seen = list(pool.map(use, range(1000)))
    assert all(parsed == url for parsed, *_ in seen)
    assert {(shown, masked) for _, shown, masked, _ in seen} == {(str(url), "*** ***")}
    assert [changed.query for *_, changed in seen] == [(("n", str(number)),) for number in range(1000)]
    assert url == URL.parse(text)


# ------------------------------------------------------------------------------------------------------------ secrets

SECRET_URLS = [
    URL("redis", username="u", password=CANARY, hosts=[("h", 1)], path="/0"),
    URL("redis", password=CANARY),
    URL("redis", hosts=[("h", 1)], query={"password": CANARY}),
    URL("sqs", query={"aws_secret_access_key": CANARY, "region": "x"}),
    URL("sqs", query={"session_token": CANARY}),
    URL("sqs", query={"api-key": CANARY}),
    URL("redis", query={"sentinel_kwargs": f'{{"password": "{CANARY}", "db": 0}}'}),
    URL("redis", query={"sentinel_kwargs": '{"password": "cAnArY\\/p\\u00e4ss"}'}),
    URL("redis", query={"nested": f'{{"nodes": [{{"passphrase": "{CANARY}"}}]}}'}),
    URL("redis", query={"broken_json": f'{{"password": "{CANARY}"'}),
    URL("sqs", query={"proxy": "http://user:cAnArY%2Fp%C3%A4ss@proxy:3128"}),
]


def assert_clean(error: BaseException, secrets: list[str]) -> None:
    todo: list[BaseException | None] = [error]
    while todo:
        one = todo.pop()
        if one is not None:
            shown = f"{one} {one!r} {one.args!r} {getattr(one, '__notes__', '')} {vars(one)}"
            assert not [secret for secret in secrets if secret in shown]
            todo += [one.__cause__, one.__context__]


@pytest.mark.parametrize("url", SECRET_URLS, ids=range(len(SECRET_URLS)))
def test_no_text_made_of_a_url_shows_a_secret(url: URL, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("x").debug("%s %r", url, url, extra={"url": url})
    texts = [str(url), repr(url), f"{url}", f"{url!r}", "{}".format(url), "%s" % url, repr([url]), caplog.text]  # noqa: UP032, UP031
    assert [(secret, text) for secret, text in itertools.product(CANARY_SPELLINGS, texts) if secret in text] == []
    assert all("***" in text for text in texts)


@pytest.mark.parametrize("url", SECRET_URLS, ids=range(len(SECRET_URLS)))
def test_the_one_call_that_reveals_is_named(url: URL) -> None:
    assert URL.parse(url.render(reveal_secrets=True)) == url
    assert "***" not in url.render(reveal_secrets=True)
    assert url.render(reveal_secrets=False) == str(url)


@pytest.mark.parametrize("url", SECRET_URLS, ids=range(len(SECRET_URLS)))
def test_a_url_with_a_secret_is_not_pickled(url: URL) -> None:
    with pytest.raises(TypeError, match="holds a secret") as caught:
        pickle.dumps(url)
    assert_clean(caught.value, CANARY_SPELLINGS)


def test_a_url_without_a_secret_is_pickled() -> None:
    url = URL.parse("sqla+sqlite:////a%20b.db?synchronous=full")
    assert pickle.loads(pickle.dumps(url)) == url


@pytest.mark.parametrize("url", SECRET_URLS, ids=range(len(SECRET_URLS)))
@pytest.mark.parametrize(
    "spelling",
    [
        "{}",
        "cannot connect to redis://u:cAnArY%2Fp%C3%A4ss@h",
        "cannot connect to redis://u:cAnArY%2fp%c3%a4ss@h",
        "path cAnArY/p%C3%A4ss",
        r"{{'password': b'cAnArY/p\xc3\xa4ss'}}",
        r'{{"password": "cAnArY/p\u00e4ss"}}',
        r"'cAnArY/p\xe4ss'",
    ],
)
def test_others_texts_are_masked_however_the_secret_is_spelt_there(url: URL, spelling: str) -> None:
    text = url.mask(spelling.format(CANARY))
    assert "***" in text
    assert "cAnArY" not in text


def test_masking_leaves_other_texts_alone() -> None:
    assert URL.parse("redis://u@h/0?a=1").mask("u h 0 a=1 anything") == "u h 0 a=1 anything"
    assert URL.parse("redis://u:@h").mask("an empty password hides nothing") == "an empty password hides nothing"


def test_the_secrets_are_known_longest_first() -> None:
    url = URL("sqs", password="ab", query={"token": "abcd", "region": "eu", "secret": ""})
    assert url.secrets == ("abcd", "ab")
    assert url.mask("abcd ab") == "*** ***"


def test_equal_urls_are_equal_however_they_were_written() -> None:
    assert URL.parse("REDIS://H:1/a%62?x=%31") == URL.parse("redis://h:1/ab?x=1")
    assert URL.parse("redis://h") != URL.parse("redis://h?x=1")
    assert URL.parse("redis://h") != "redis://h"
    assert len({URL.parse("redis://a;b"), URL.parse("redis://a,b"), URL.parse("redis://a;redis://b")}) == 1


def test_the_virtual_host_is_the_path_without_its_slash() -> None:
    assert URL.parse("amqp://h").virtual_host == ""
    assert URL.parse("amqp://h/v").virtual_host == "v"
    assert URL.parse("amqp://h//").virtual_host == "/"
    assert URL.parse("sqla+sqlite:///a.db").full_scheme == "sqla+sqlite"


def test_every_refusal_is_one_of_ours_and_not_retried() -> None:
    with pytest.raises(BrokerkitError) as caught:
        URL.parse("redis")
    assert not caught.value.retryable
