"""What a plugin declares: whether it answers every question, and how its answers are written down and read again."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from importlib import metadata
from typing import Any, Final, Literal

from brokerkit.capabilities import Absent, Capabilities, Impossible, ResultCapabilities

__all__ = ["NEW_SINCE", "decode", "encode", "grace_of", "unanswered"]

NEW_SINCE: Final[Mapping[str, str]] = {}
"""Questions that came after the first suite: "transport.lease.cancel": "0.2". In that version a missing answer is GRACE,
from the next on it is UNDECLARED."""

_KINDS: Final[Mapping[str, type]] = {"transport": Capabilities, "results": ResultCapabilities}
_MISSING: Final[Mapping[str, type]] = {"absent": Absent, "impossible": Impossible}
_NOTHING: Final = object()


def unanswered(kind: str, declared: object) -> dict[str, str]:
    """Return the questions that a declaration leaves open or answers with what cannot be meant: dotted name → what is wrong.

    Args:
        kind: "transport" or "results".
        declared: what the plugin has as its capabilities.
    """
    if declared is None:
        return {kind: "it declares no capabilities at all"}
    return dict(_holes(kind, _KINDS[kind], declared))


def grace_of(
    holes: Mapping[str, str], *, new_since: Mapping[str, str] = NEW_SINCE, suite: str | None = None
) -> frozenset[str]:
    """Return those unanswered questions that are new in this suite (or in the one given), so that they may stay open."""
    current = (suite or metadata.version("brokerkit-conformance")).split(".")[:2]
    return frozenset(name for name in holes if name in new_since and new_since[name].split(".")[:2] == current)


def encode(declared: object) -> Any:
    """Return a declaration as plain data, from which `decode` builds it again."""
    if isinstance(declared, Absent | Impossible):
        return {type(declared).__name__.lower(): declared.reason}
    if is_dataclass(declared):
        return {f.name: encode(getattr(declared, f.name)) for f in fields(declared) if hasattr(declared, f.name)}
    return list(declared) if isinstance(declared, tuple) else declared


def decode(kind: str, plain: Mapping[str, Any] | None) -> Any:
    """Build a declaration again; questions that were left open stay so.

    Raises:
        ValueError: the data answers a question with what cannot be meant.
    """
    return None if plain is None else _built(kind, _KINDS[kind], plain)


def _holes(name: str, wanted: type, value: object) -> Iterator[tuple[str, str]]:
    hints = typing.get_type_hints(wanted)
    for f in fields(wanted):
        answer = getattr(value, f.name, _NOTHING)
        where = f"{name}.{f.name}"
        if answer is _NOTHING:
            yield where, "it is not answered"
        elif (inner := _dataclass_of(hints[f.name], answer)) is not None:
            yield from _holes(where, inner, answer)
        elif not _fits(hints[f.name], answer):
            yield where, f"it is answered with {answer!r}"


def _dataclass_of(hint: Any, answer: object) -> type | None:
    """Return the dataclass that the answer is an instance of, if it is one of those asked for and no `Missing`."""
    kinds = [kind for kind in _members(hint) if is_dataclass(kind) and isinstance(kind, type)]
    return next((kind for kind in kinds if isinstance(answer, kind) and kind not in _MISSING.values()), None)


def _members(hint: Any) -> tuple[Any, ...]:
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return tuple(inner for member in typing.get_args(hint) for inner in _members(member)) if union else (hint,)


def _fits(hint: Any, answer: object) -> bool:
    return any(_is(member, answer) for member in _members(hint))


def _is(hint: Any, answer: object) -> bool:
    origin = typing.get_origin(hint)
    if origin is Literal:
        return any(answer == choice and type(answer) is type(choice) for choice in typing.get_args(hint))
    if origin is tuple:
        return isinstance(answer, tuple) and all(_is(typing.get_args(hint)[0], one) for one in answer)
    if hint in (int, float):
        return isinstance(answer, (int, float) if hint is float else int) and not isinstance(answer, bool)
    return isinstance(answer, hint)


def _built(name: str, wanted: type, plain: Mapping[str, Any]) -> Any:
    hints = typing.get_type_hints(wanted)
    made: Any = object.__new__(wanted)
    for f in fields(wanted):
        if f.name in plain:
            object.__setattr__(made, f.name, _value(f"{name}.{f.name}", hints[f.name], plain[f.name]))
    return made


def _value(name: str, hint: Any, plain: Any) -> Any:
    value = plain
    if isinstance(plain, Mapping):
        word = next(iter(plain)) if len(plain) == 1 else ""
        inner = [kind for kind in _members(hint) if is_dataclass(kind) and kind not in _MISSING.values()]
        value = _MISSING[word](plain[word]) if word in _MISSING else _built(name, typing.cast("type", inner[0]), plain)
    elif isinstance(plain, list):
        value = tuple(plain)
    if not _fits(hint, value):
        raise ValueError(f"{name} cannot be {plain!r}")
    return value
