"""What is under test: the plugin's declaration, and whether the harness really leads to an engine of it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any, Final

import brokerkit
from brokerkit import registry
from brokerkit.errors import ConfigurationError, ConnectionLost, QueueNotFound
from brokerkit.results import results as open_results
from brokerkit.url import URL
from brokerkit_conformance.declaring import grace_of, unanswered
from brokerkit_conformance.gates import Subject
from brokerkit_conformance.harness import Harness
from brokerkit_conformance.model import HarnessError, LyingHarness, NoServer, Undeclared, WrongAddress
from brokerkit_conformance.storage import reasons

__all__ = ["declared_subject", "plugin_classes", "reach", "subject_of"]

_TIMEOUT: Final = 8.0
"""Seconds within which a server has to answer for the first time, unless the harness asks for others."""

_SIDES: Final[tuple[tuple[str, registry.Kind], ...]] = (("transport", "transport"), ("results", "result_backend"))


def subject_of(harness: Harness) -> Subject:
    """Ask the plugin what it declares.

    Raises:
        WrongAddress: the harness gives URLs or options that do not lead to a plugin.
        LyingHarness: its URLs are not what it says they are.
        Undeclared: the plugin leaves questions open.
        HarnessError: it raises, or gives nothing to test.
        NoServer: the plugin connects when it is opened, and nobody answers.
    """
    found: dict[str, Any] = {}
    grace: set[str] = set()
    for side, kind in _SIDES:
        urls = _urls(harness, side)
        if urls:
            plugin = _class_of(urls[0], side, kind)
            if hasattr(plugin, "capabilities"):  # else only an open engine declares anything
                _answered(side, plugin.capabilities)
            found[side] = _opened(harness, side, urls[0])
            grace |= _answered(side, found[side])
    if not found:
        raise HarnessError("the harness gives neither urls() nor results_urls(): there is nothing to test")
    return Subject(
        found.get("transport"), found.get("results"), frozenset(grace), without=reasons(harness.storage_map())
    )


def declared_subject(harness: Harness) -> Subject:
    """Return what the plugin's classes declare, where there is no server to ask; what they do not tell counts as claimed."""
    found = {}
    for side, kind in _SIDES:
        with suppress(Exception, HarnessError):
            if urls := _urls(harness, side):
                found[side] = getattr(_class_of(urls[0], side, kind), "capabilities", None)
    return Subject(found.get("transport"), found.get("results"))


def plugin_classes(harness: Harness) -> dict[str, tuple[type[Any], str]]:
    """Return the classes that serve the harness's URLs with their distributions, by "transport" and "results"."""
    found = {}
    for side, kind in _SIDES:
        with suppress(Exception, HarnessError):
            if urls := _urls(harness, side):
                plugin = registry.find(URL.parse(urls[0]), kind)
                found[side] = (plugin.load(), plugin.distribution)
    return found


def reach(harness: Harness, subject: Subject) -> None:
    """Make sure, before any case, that the URLs lead to a server, and to one and the same (HAR-01).

    Only what makes every case worthless is told as the harness's lie; the rest is left to the cases. An engine whose time
    is moved has no server, and could not wait for one.

    Raises:
        NoServer: nobody answers.
        LyingHarness: a queue that was declared through a URL is not there for another connection to the same URL.
    """
    if harness.clock() is not None:
        return
    if subject.transport is not None:
        _reach_broker(harness)
    if subject.results is not None:
        with ExitStack() as opened:
            store = opened.enter_context(_store(harness, _urls(harness, "results")[0]))
            _ask(lambda: store.get(f"bk{secrets.token_hex(6)}-nobody"))


def _reach_broker(harness: Harness) -> None:
    url, name = _urls(harness, "transport")[0], f"bk{secrets.token_hex(6)}-nobody"
    with ExitStack() as opened:
        one, other = (opened.enter_context(_broker(harness, url)) for _ in range(2))
        _ask(lambda: one.send(name, b"to nobody"))
        _ask(lambda: other.declare(name))
        opened.callback(_ask, lambda: other.delete(name))
        if isinstance(_ask(lambda: one.send(name, b"to somebody")), QueueNotFound):
            raise LyingHarness(
                "the harness lies: a queue declared through its URL is not found by a second connection to the same URL, "
                "so that 'there is no such queue' is not the server's answer"
            )


def _ask(call: Callable[[], object]) -> Exception | None:
    """Make a call; returns its error. What the plugin does wrong is for the cases to say.

    Raises:
        NoServer: it could not connect.
    """
    try:
        call()
    except Exception as error:
        if isinstance(error, ConnectionLost):
            raise NoServer(f"no server answers: {type(error).__name__}: {error}") from error
        return error
    return None


def _urls(harness: Harness, side: str) -> Sequence[str]:
    try:
        urls = list(harness.urls() if side == "transport" else harness.results_urls())
    except Exception as error:
        raise HarnessError(f"the harness cannot give its URLs: {type(error).__name__}: {error}") from error
    name = "urls()" if side == "transport" else "results_urls()"
    with suppress(ConfigurationError, TypeError):
        if len(urls) > 1 and URL.parse(urls[0]) == URL.parse(urls[1]):
            raise LyingHarness(
                f"the harness lies: the second of its {name} is to lead elsewhere, and is the first again"
            )
    return urls


def _class_of(url: str, side: str, kind: registry.Kind) -> type[Any]:
    try:
        found: type[Any] = registry.find(URL.parse(url), kind).load()
    except ConfigurationError as error:
        name = "urls()" if side == "transport" else "results_urls()"
        raise WrongAddress(f"the harness's {name} lead nowhere: {type(error).__name__}: {error}") from error
    return found


def _opened(harness: Harness, side: str, url: str) -> Any:
    try:
        with _broker(harness, url) if side == "transport" else _store(harness, url) as engine:
            return engine.capabilities
    except ConfigurationError as error:
        raise WrongAddress(f"the harness's URLs lead nowhere: {type(error).__name__}: {error}") from error
    except ConnectionLost as error:
        raise NoServer(f"no server answers: {type(error).__name__}: {error}") from error
    except AttributeError as error:
        if error.name == "capabilities":
            raise Undeclared(f"UNDECLARED: {side}: it declares no capabilities at all") from error
        raise HarnessError(f"the {side} cannot be opened: {error}") from error
    except Exception as error:
        raise HarnessError(f"the {side} cannot be opened: {type(error).__name__}: {error}") from error


def _broker(harness: Harness, url: str) -> brokerkit.Broker:
    return brokerkit.connect(url, clock=harness.clock(), **_patient(url, harness.options()))


def _store(harness: Harness, url: str) -> brokerkit.ResultStore:
    return open_results(url, clock=harness.clock(), **_patient(url, harness.results_options()))


def _patient(url: str, options: Mapping[str, Any]) -> dict[str, Any]:
    asked = {name for name, _ in URL.parse(url).query}
    return dict(options) if "timeout" in {*asked, *options} else {"timeout": _TIMEOUT, **options}


def _answered(side: str, declared: object) -> frozenset[str]:
    """Return the questions that may stay open for now.

    Raises:
        Undeclared: others are open.
    """
    holes = unanswered(side, declared)
    grace = grace_of(holes)
    if open_ones := {name: what for name, what in holes.items() if name not in grace}:
        raise Undeclared("UNDECLARED: " + "; ".join(f"{name}: {what}" for name, what in open_ones.items()))
    return grace
