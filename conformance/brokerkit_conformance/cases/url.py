"""URL: from a URL to a plugin and its options; and no secret in any text."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import brokerkit
from brokerkit import URL, registry
from brokerkit.errors import ConfigurationError, InvalidOption, InvalidURL, UnknownScheme
from brokerkit.results import results
from brokerkit_conformance.bench import Bench, check
from brokerkit_conformance.casebook import case
from brokerkit_conformance.cases._refused import refused
from brokerkit_conformance.interpreter import ask

_OURS = {"transport": ("redis", "amqp", "sqs"), "result_backend": ("redis", "memcached")}
_GROUPS = {"transport": "brokerkit.transports", "result_backend": "brokerkit.result_backends"}


def kinds_of(bench: Bench) -> list[tuple[registry.Kind, str, Callable[..., Any], dict[str, Any]]]:
    """Return (kind, URL, opener, options) of what is under test."""
    found: list[tuple[registry.Kind, str, Callable[..., Any], dict[str, Any]]] = []
    if bench.urls:
        found.append(("transport", bench.urls[0], brokerkit.connect, dict(bench.harness.options())))
    if bench.results_urls:
        found.append(("result_backend", bench.results_urls[0], results, dict(bench.harness.results_options())))
    return found


def _parts(url: URL) -> tuple[object, ...]:
    names = ("scheme", "driver", "username", "password", "hosts", "path", "query")
    return tuple(getattr(url, name) for name in names)


def with_query(url: str, query: str) -> str:
    """Return a URL with one option more."""
    return f"{url}{'&' if '?' in url else '?'}{query}"


@case("URL-01")
def scheme_to_plugin(bench: Bench) -> None:
    """A scheme finds its plugin, which is not imported before; an unknown one is told what there is, and what is near."""
    kinds = kinds_of(bench)
    homes = [registry.installed(k)[URL.parse(u).scheme][0].entry_point.module for k, u, _, _ in kinds]
    plugins = [home.partition(".")[0] for home in homes if not home.startswith("brokerkit.")]
    answer = ask(
        [(kind, url, options) for kind, url, _, options in kinds], modules=plugins, prepare=bench.harness.prepare()
    )
    check(not answer["imported_too_early"], f"`import brokerkit` imports {answer['imported_too_early']}")
    check(all(what == "opened" for what, _ in answer["answers"]), f"opened by URL: {answer['answers']}")
    for kind, url, opener, _ in kinds:
        error = refused(lambda opener=opener: opener("nosuchthing://x"), UnknownScheme, "an unknown scheme")  # type: ignore[misc]
        scheme = URL.parse(url).scheme
        check(f"{scheme}://" in str(error), f"the error does not list what is installed: {error}")
        near = refused(lambda o=opener, s=scheme: o(f"{s}x://"), UnknownScheme, "a misspelt scheme")  # type: ignore[misc]
        check(f"did you mean '{scheme}'" in str(near), f"the error does not suggest {scheme!r}: {near}")
        foreign = next(
            (s for s in _OURS[kind] if s not in registry.installed(kind)),
            None,
        )
        if foreign is not None:
            missing = refused(lambda o=opener, s=foreign: o(f"{s}://x"), UnknownScheme, "a plugin that is missing")  # type: ignore[misc]
            check("brokerkit-messaging[" in str(missing), f"the error does not name the package: {missing}")


@case("URL-02")
def two_claims(bench: Bench) -> None:
    """Two distributions that claim one scheme: an error that names both, whichever comes first."""
    for kind, url, _, options in kinds_of(bench):
        scheme = URL.parse(url).scheme
        group = {_GROUPS[kind]: {scheme: "some.where:Else", "other": "some.where:Else"}}
        answer = ask([(kind, url, options)], distributions={"a-rival": group})
        name, text = answer["answers"][0]
        owner = registry.installed(kind)[scheme][0].distribution.partition(" ")[0]
        check(name == "DuplicateScheme", f"{scheme}:// claimed twice: {name} {text}")
        check("a-rival" in text and owner in text, f"the error names not both: {text}")


@case("URL-03")
def a_broken_neighbour(bench: Bench) -> None:
    """A plugin that cannot be imported is named when it is asked for, and harms nobody else."""
    kinds = kinds_of(bench)
    broken = {group: {"broken": "brokerkit_no_such_module:Plugin"} for group in _GROUPS.values()}
    urls: list[tuple[str, str, Mapping[str, Any]]] = [(kind, "broken://x", {}) for kind, _, _, _ in kinds]
    urls += [(kind, url, options) for kind, url, _, options in kinds]
    answers = ask(urls, distributions={"a-broken-plugin": broken}, prepare=bench.harness.prepare())["answers"]
    for name, text in answers[: len(kinds)]:
        check(name == "PluginBroken" and "a-broken-plugin" in text, f"a broken plugin gives {name}: {text}")
    check(all(name == "opened" for name, _ in answers[len(kinds) :]), f"beside a broken plugin: {answers}")


USERS = ("user", "us@er", "u:s", "u/s", "u#s", "u?s", "100%", "a+b", "ü ñ", "user;x", "%41", "")


@case("URL-04")
def credentials(bench: Bench) -> None:
    """User names and passwords with any character, percent-encoded, are what the plugin gets; and there and back."""
    base = URL.parse((bench.urls or bench.results_urls)[0])
    for user in USERS:
        for password in (*USERS, "p@:/#?%+é🐇&=", None):
            made = URL(base.scheme, username=user or None, password=password, hosts=[("host", 1)], path="/a b")
            again = URL.parse(made.render(reveal_secrets=True))
            check(again == made, f"user {user!r}, password {password!r} came back as {again.username!r}")
    for text in ("{}://us@er:p@host/", "{}://u:p:w@host/", "{}://u:p%w@host/", "{}://host:p#ss@x/", "{}://u:%ff@host/"):
        refused(lambda text=text: URL.parse(text.format(base.scheme)), InvalidURL, f"{text}")  # type: ignore[misc]


@case("URL-05")
def hosts(bench: Bench) -> None:
    """IPv6, ports, several hosts, socket paths, upper case and scheme+driver are read, or refused."""
    base = URL.parse((bench.urls or bench.results_urls)[0]).scheme
    table: dict[str, tuple[Any, ...]] = {
        f"{base}://[::1]:5/x": (base, "", (("::1", 5),), "/x"),
        f"{base}://[fe80::1%25eth0]/": (base, "", (("fe80::1%eth0", None),), "/"),
        f"{base.upper()}://HOST": (base, "", (("host", None),), ""),
        f"{base}+driver://h": (base, "driver", (("h", None),), ""),
        f"{base}://a:1;b:2,c": (base, "", (("a", 1), ("b", 2), ("c", None)), ""),
        f"{base}:///var/run/x.sock": (base, "", (), "/var/run/x.sock"),
        f"{base}://%2Fvar%2Frun/x": (base, "", (("/var/run", None),), "/x"),
    }
    for text, expected in table.items():
        url = URL.parse(text)
        check((url.scheme, url.driver, url.hosts, url.path) == expected, f"{text} is read as {_parts(url)}")
    for bad in ("://h", "no scheme", "", f"{base}://h:port", f"{base}://h:99999", f"{base}://[::1", f"{base}://h:-1"):
        refused(lambda bad=bad: URL.parse(bad), InvalidURL, f"the URL {bad!r}")  # type: ignore[misc]


@case("URL-06")
def misspelt_options(bench: Bench) -> None:
    """An option that is unknown, misspelt or given twice is refused with the nearest name, wherever it stands."""
    for _, url, opener, options in kinds_of(bench):
        for wrong, right in (("timeuot", "timeout"), ("serialiser", "serializer"), ("retry_polcy", "retry_policy")):
            calls: dict[str, Callable[[], object]] = {
                "the URL": lambda w=wrong, o=opener, u=url, kw=options: o(with_query(u, f"{w}=5"), **kw),  # type: ignore[misc]
                "a keyword": lambda w=wrong, o=opener, u=url, kw=options: o(u, **{w: "5"}, **kw),  # type: ignore[misc]
                "transport_options": lambda w=wrong, o=opener, u=url, kw=options: o(
                    u, transport_options={w: "5"}, **kw
                ),  # type: ignore[misc]
            }
            for where, call in calls.items():
                error = refused(call, InvalidOption, f"{wrong} in {where}")
                check(repr(right) in str(error), f"{where}: the error does not suggest {right!r}: {error}")
        twice = with_query(url, "timeout=5&timeout=6")
        refused(lambda o=opener, u=twice, kw=options: o(u, **kw), ConfigurationError, "an option twice in a URL")  # type: ignore[misc]
        both = with_query(url, "timeout=5")
        refused(lambda o=opener, u=both, kw=options: o(u, timeout=6, **kw), InvalidOption, "two values of one option")  # type: ignore[misc]


@case("URL-07")
def typed_options(bench: Bench) -> None:
    """A value of the wrong type or range is refused; the error names the option, and hides what may be secret."""
    bad = {"timeout": ("soon", "-1", "nan", "inf", "0"), "strict": ("perhaps",), "accept": (5,), "serializer": ("jsn",)}
    for _, url, opener, options in kinds_of(bench):
        for name, values in bad.items():
            for value in values:
                error = refused(
                    lambda n=name, v=value, o=opener, u=url, kw=options: o(u, **{n: v}, **kw),  # type: ignore[misc]
                    InvalidOption,
                    f"{name}={value!r}",
                )
                check(name in str(error), f"the error does not name the option {name!r}: {error}")
        for name in ("password", "api_key", "secret_token"):
            error = refused(
                lambda n=name, o=opener, u=url, kw=options: o(u, **{n: "canary-7f3a"}, **kw),  # type: ignore[misc]
                InvalidOption,
                f"{name}=…",
            )
            check("canary-7f3a" not in str(error), f"the error shows a secret: {error}")


@case("URL-08")
def three_ways(bench: Bench) -> None:
    """Options in the URL, as keywords and in transport_options give equal objects, in equal types."""
    for _, url, opener, options in kinds_of(bench):
        query = "timeout=7.5&strict=false&serializer=json&retry_policy=%7B%22max_retries%22%3A3%7D"
        given = {"timeout": 7.5, "strict": False, "serializer": "json", "retry_policy": {"max_retries": 3}}
        opened = [
            opener(with_query(url, query), **options),
            opener(url, **given, **options),
            opener(url, transport_options=given, **options),
        ]
        try:
            first, *others = [(each.options, repr(each.options)) for each in opened]
            check(all(other == first for other in others), f"the options differ: {[o for _, o in (first, *others)]}")
            check(opened[0].options.timeout == 7.5, "the option was ignored")  # noqa: PLR2004
        finally:
            for each in opened:
                each.close()


@case("URL-09")
def opener_changes_nothing(bench: Bench) -> None:
    """Fifty threads open one URL: all succeed alike, and it stays what it was; it cannot be changed."""
    for _, text, opener, options in kinds_of(bench):
        url, given = URL.parse(with_query(text, "timeout=9")), dict(options)
        before, seen = (_parts(url), hash(url)), list[Any]()

        def work(opener: Any = opener, url: URL = url, given: Any = given, seen: list[Any] = seen) -> None:
            opened = opener(url, **given)
            seen.append((opened.options, str(opened.url)))
            opened.close()

        threads = [bench.thread(work) for _ in range(50)]
        for thread in threads:
            thread.join(20)
        bench.join()
        check(len(seen) == 50 and all(one == seen[0] for one in seen), f"{len(seen)} of 50 opened it alike")  # noqa: PLR2004
        check((_parts(url), hash(url)) == before and given == options, "opening it has changed the URL or the options")
        for name in ("path", "password"):
            with contextlib.suppress(AttributeError):
                setattr(url, name, "changed")
                raise AssertionError("a URL can be changed")


@case("URL-13")
def lists(bench: Bench) -> None:
    """A list of URLs is one engine with several hosts; mixed schemes, credentials or paths are refused."""
    base = URL.parse((bench.urls or bench.results_urls)[0]).scheme
    url = URL.parse(f"{base}://u:p@a:1/v;{base}://b:2;{base}://u:p@c/v")
    check(url.hosts == (("a", 1), ("b", 2), ("c", None)), f"the hosts are {url.hosts}")
    check((url.username, url.password, url.path) == ("u", "p", "/v"), "user, password or path are lost")
    for mixed in (f"{base}://a;other://b", f"{base}://a;{base}://x:y@b", f"{base}://a/1;{base}://b/2"):
        refused(lambda mixed=mixed: URL.parse(mixed), InvalidURL, f"the list {mixed}")  # type: ignore[misc]
