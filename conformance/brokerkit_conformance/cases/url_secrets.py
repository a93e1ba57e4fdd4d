"""URL, second part: no secret in any text."""

from __future__ import annotations

import contextlib
import json
import logging
import pickle
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from brokerkit import URL
from brokerkit_conformance.bench import Bench, check
from brokerkit_conformance.casebook import case
from brokerkit_conformance.cases.url import kinds_of, with_query

CANARY = "c4n4ry%P@ss:w/rd"
SPELLINGS = ("c4n4ry", "P%40ss", "w%2Frd", "w/rd")


@case("URL-10", alone=True)
def secret_sweep(bench: Bench) -> None:
    """A password, a token in the query, one in an option: in no log, repr, error, cause, warning, pickle or JSON."""
    for kind, text, opener, options in kinds_of(bench):
        with listening() as heard:
            for attempt in _attempts(URL.parse(text), opener, options):
                heard.extend(_texts_of(attempt, kind))
        shown = [line for line in heard if any(spelling in line for spelling in SPELLINGS)]
        check(not shown, f"{len(shown)} of {len(heard)} texts show the secret")
        bench.measured[f"texts looked at, {kind}"] = len(heard)


def _attempts(base: URL, opener: Callable[..., Any], options: dict[str, Any]) -> list[Callable[[], object]]:
    """Return calls that are given a secret in all the ways in which people give one, right and wrong."""
    url = URL(
        base.scheme,
        driver=base.driver,
        username="someone",
        password=CANARY,
        hosts=base.hosts or [("localhost", None)],
        path=base.path,
        query=base.query,
    )
    whole = url.render(reveal_secrets=True)
    return [
        lambda: opener(whole, **options),
        lambda: opener(with_query(whole, "password=" + CANARY.replace("%", "%25")), **options),
        lambda: opener(whole, transport_options={"token": CANARY}, **options),
        lambda: opener(whole, api_key=CANARY, **options),
        lambda: opener(whole + "#fragment", **options),
        lambda: opener(whole.replace("@", ":notaport@x:y", 1), **options),
        lambda: opener("nosuch" + whole, **options),
        lambda: opener(f"{whole};{whole.replace('someone', 'else')}", **options),
        lambda: opener(f"{base.scheme}://u:{CANARY}@host/", **options),  # not encoded
        lambda: pickle.dumps(url),
        lambda: url,
    ]


def _texts_of(attempt: Callable[[], object], kind: str) -> list[str]:
    """Return every text that can be made of what an attempt returns, or of what it raises, to the last cause."""
    try:
        found = attempt()
    except Exception as error:  # noqa: BLE001 - whatever it is, its texts are looked at
        return list(error_texts(error))
    texts = [str(found), repr(found), json.dumps(found, default=repr)]
    for part in ("options", "transport_options", "url", "transport", "capabilities"):
        if hasattr(found, part):
            texts += [repr(getattr(found, part)), str(getattr(found, part))]
    with contextlib.suppress(TypeError, AttributeError, pickle.PicklingError):
        texts.append(pickle.dumps(found).decode("latin-1"))
    try:  # and what it says when it is used
        if kind == "transport":
            found.depth("a-queue-that-is-not-there")  # type: ignore[attr-defined]
        else:
            found.get("an-id-that-is-not-there")  # type: ignore[attr-defined]
    except Exception as error:  # noqa: BLE001 - as above
        texts += error_texts(error)
    with contextlib.suppress(Exception):
        found.close()  # type: ignore[attr-defined]
    return texts


def error_texts(error: BaseException | None) -> Iterator[str]:
    """Yield every text of an error, to the last cause."""
    while error is not None:
        yield f"{error} {error!r} {error.args!r} {getattr(error, '__notes__', '')}"
        yield from (f"{inner!r}" for inner in getattr(error, "exceptions", ()))
        error = error.__cause__ or error.__context__


@contextlib.contextmanager
def listening() -> Iterator[list[str]]:
    """Collect everything that is logged, at DEBUG, and every warning."""
    heard: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(self.format(record))

    ear, root = Ear(logging.DEBUG), logging.getLogger()
    loggers = [root, logging.getLogger("brokerkit")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    root.addHandler(ear)
    try:
        with _warnings_lock, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield heard
            heard += [str(warning.message) for warning in caught]
    finally:
        root.removeHandler(ear)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


_warnings_lock = threading.Lock()


@case("URL-12")
def one_call_reveals(bench: Bench) -> None:
    """A URL shows its secrets by one named call with a keyword, and by nothing else."""
    base = URL.parse((bench.urls or bench.results_urls)[0])
    url = URL(base.scheme, username="u", password=CANARY, hosts=[("h", None)], query={"token": "t0ken-9", "x": "y"})
    for text in (str(url), repr(url), f"{url}", url.render(reveal_secrets=False)):
        check(not any(secret in text for secret in (*SPELLINGS, "t0ken-9")), "a text of a URL shows its secret")
        check("x=y" in text and "u:" in text, f"more than the secrets is hidden: {text}")
    check(URL.parse(url.render(reveal_secrets=True)) == url, "the one call that reveals does not give it all")
    with contextlib.suppress(TypeError):
        url.render(True)  # type: ignore[call-arg]
        raise AssertionError("render() reveals without its keyword")
