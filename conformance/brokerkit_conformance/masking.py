"""Keeps the secrets of a harness out of whatever the suite writes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final, TypeAlias

from brokerkit.url import MASK, URL, is_secret_name
from brokerkit_conformance.harness import Harness

__all__ = ["Mask", "hide_passwords", "mask_of", "masked"]

Mask: TypeAlias = Callable[[str], str]

# the password in any URL, whoever's it is
_USERINFO: Final = re.compile(r"(//[^/?#@:\s\"'<>]*:)([^/?#@\s\"'<>]+)@")

# what these name is a word of the suite's or a digest, never a text from outside
_OUR_WORDS: Final = frozenset(
    (
        "area",
        "case",
        "catalogue",
        "duty",
        "expected",
        "expires",
        "files",
        "format",
        "id",
        "level",
        "levels",
        "made",
        "must",
        "outcome",
        "phase",
        "scope",
        "title",
        "totals",
        "verdict",
        "not_yet_in_this_suite",
    )
)


def mask_of(harness: Harness) -> Mask:
    """Return what replaces every secret of the harness's URLs and options, and passwords in other URLs, by `***`."""
    urls: list[URL] = []
    for give in (harness.urls, harness.results_urls):
        with suppress(Exception):  # what cannot be read is told elsewhere, without its text
            urls += [URL.parse(text) for text in give()]
    # a URL knows in how many spellings its secrets may stand in a text
    for give_options in (harness.options, harness.results_options):
        with suppress(Exception):
            urls += [URL("secret", password=text) for text in _secrets("", give_options())]

    def mask(text: str) -> str:
        for url in urls:
            text = url.mask(text)
        return hide_passwords(text)

    return mask


def hide_passwords(text: str) -> str:
    """Return a text with the password in any URL replaced by `***`."""
    return _USERINFO.sub(rf"\1{MASK}@", text)


def masked(value: Any, mask: Mask, *, keys: bool = False) -> Any:
    """Return plain data with every text in it masked but the suite's own words; names of what was measured too."""
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, Mapping):
        return {
            mask(key) if keys else key: inner if key in _OUR_WORDS else masked(inner, mask, keys=key == "measured")
            for key, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [masked(inner, mask) for inner in value]
    return value


def _secrets(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _secrets(name if is_secret_name(name) else str(key), inner)
    elif isinstance(value, list | tuple | set | frozenset):
        for inner in value:
            yield from _secrets(name, inner)
    elif isinstance(value, str | bytes) and value and is_secret_name(name):
        yield value if isinstance(value, str) else value.decode(errors="replace")
    elif isinstance(value, str) and "://" in value:
        with suppress(Exception):
            yield from URL.parse(value).secrets
