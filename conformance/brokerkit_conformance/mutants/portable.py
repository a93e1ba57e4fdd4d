"""Defects in URLs, options and the registry, as a fork of the core might have."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote_plus

from brokerkit import _secrets, broker, options, registry
from brokerkit import url as urls
from brokerkit.errors import InvalidOption, UnknownScheme
from brokerkit.url import URL
from brokerkit_conformance import interpreter
from brokerkit_conformance.mutants.planting import Patch, mutant


def _in_fresh_interpreters(patch: Patch, code: str) -> None:
    """Run code right after `import brokerkit` in the interpreters that cases start."""
    patch.value(interpreter, "_OPEN", interpreter._OPEN.replace("import brokerkit\n", f"import brokerkit\n{code}\n", 1))  # noqa: SLF001


@mutant("URL-01", source="LAWS 2")
def unknown_schemes_not_explained(patch: Patch) -> None:
    """An unknown scheme is refused without a word about those that are known."""

    def make(find: Any) -> Any:
        def mutated(url: Any, kind: Any) -> Any:
            try:
                return find(url, kind)
            except UnknownScheme:
                raise UnknownScheme("unknown scheme") from None

        return mutated

    patch.wrap(registry, "find", make)


@mutant("URL-02", source="fsspec: order dependent")
def first_claim_wins(patch: Patch) -> None:
    """Of two distributions that claim one scheme, the first found gets it."""
    code = """
from brokerkit import registry as _r
_scan = _r._scan
def _first(kind):
    return {scheme: claims[:1] for scheme, claims in _scan(kind).items()}
_r._scan = _first
"""
    _in_fresh_interpreters(patch, code)


@mutant("URL-03", source="fsspec")
def one_broken_breaks_all(patch: Patch) -> None:
    """All plugins are imported when the first is looked for."""
    code = """
from brokerkit import registry as _r
_find = _r.find
def _all(url, kind):
    for claims in _r.installed(kind).values():
        for plugin in claims:
            plugin.load()
    return _find(url, kind)
_r.find = _all
"""
    _in_fresh_interpreters(patch, code)


@mutant("URL-04", source="PEERS: + read as a space")
def plus_is_a_space(patch: Patch) -> None:
    """A + in a user name or password is read as a space."""
    patch.value(urls, "_decode", lambda text, _: unquote_plus(text))


@mutant("URL-04", "URL-05", source="PEERS")
def credentials_not_decoded(patch: Patch) -> None:
    """Percent-encoded parts of a URL are taken as they stand."""
    patch.value(urls, "_decode", lambda text, _: text)


@mutant("URL-05", source="PEERS")
def ports_are_split_at_the_first_colon(patch: Patch) -> None:
    """An IPv6 address is split at its first colon."""

    def mutated(text: str, **_: Any) -> Any:
        host, _colon, port = text.strip("[]").partition(":")
        return host, int(port) if port.isdigit() else None

    patch.value(urls, "_host", mutated)


@mutant("URL-06", source="PEERS: kombu ignores them")
def unknown_options_ignored(patch: Patch) -> None:
    """An option that nobody knows is ignored."""

    def make(resolve: Any) -> Any:
        def mutated(given: Any, *kinds: Any, scheme: str) -> Any:
            known = {name for kind in kinds for name in kind.names()}
            return resolve({k: v for k, v in given.items() if k in known}, *kinds, scheme=scheme)

        return mutated

    patch.wrap(broker, "resolve", make)


@mutant("URL-07", source="PEERS")
def wrong_types_pass(patch: Patch) -> None:
    """Options are taken whatever their type or range."""
    patch.value(options, "_expect", lambda name, value, *_: value)  # noqa: ARG005


@mutant("URL-07", source="celery 9997")
def bad_secrets_shown(patch: Patch) -> None:
    """An error about a bad option shows its value, secret or not."""

    def make(resolve: Any) -> Any:
        def mutated(given: Any, *kinds: Any, scheme: str) -> Any:
            try:
                return resolve(given, *kinds, scheme=scheme)
            except InvalidOption as error:
                raise InvalidOption(f"{error} in {given}") from None

        return mutated

    patch.wrap(broker, "resolve", make)


@mutant("URL-08", source="PEERS")
def keywords_lose(patch: Patch) -> None:
    """The timeout given in transport_options is ignored."""

    def make(gather: Any) -> Any:
        def mutated(url: Any, keywords: Any, transport_options: Any) -> Any:
            kept = {k: v for k, v in (transport_options or {}).items() if k != "timeout"}
            return gather(url, keywords, kept)

        return mutated

    patch.wrap(broker, "gather", make)


@mutant("URL-09", source="LAWS 2")
def opener_changes_the_url(patch: Patch) -> None:
    """The opener takes the options out of the URL that it was given."""

    def mutated(self: Any, query: Any) -> Any:
        object.__setattr__(self, "query", tuple(query))
        return self

    patch.value(URL, "with_query", mutated)


@mutant("URL-10", "URL-12", source="celery 10484, kombu 1085")
def urls_show_passwords(patch: Patch) -> None:
    """The text of a URL shows its password."""
    patch.value(URL, "__str__", lambda self: self.render(reveal_secrets=True))


@mutant("URL-10", source="go-cloud: the unknown scheme's error")
def unknown_scheme_shows_the_url(patch: Patch) -> None:
    """The error about an unknown scheme shows the whole URL."""

    def make(find: Any) -> Any:
        def mutated(url: Any, kind: Any) -> Any:
            try:
                return find(url, kind)
            except UnknownScheme as error:
                raise UnknownScheme(f"{error}: {url.render(reveal_secrets=True)}") from None

        return mutated

    patch.wrap(registry, "find", make)


@mutant("URL-12", source="LAWS 2")
def tokens_are_no_secrets(patch: Patch) -> None:
    """Only the password counts as a secret, and a token in the query is shown."""
    patch.value(_secrets, "is_secret_name", lambda name: "pass" in name)


@mutant("URL-13", source="PEERS")
def only_the_first_of_a_list(patch: Patch) -> None:
    """Of a list of URLs only the first is read."""
    parse = URL.parse.__func__  # type: ignore[attr-defined]
    patch.value(
        URL, "parse", classmethod(lambda cls, text: parse(cls, text.split(";")[0] if isinstance(text, str) else text))
    )
