"""Exceptions as plain data, and back: nothing is pickled, nothing is imported by name, no code of a sender runs.

What is captured is a tree of links, each a JSON object:

    type, message   the qualified name of the class, and the text
    args            if they are JSON-able and small
    notes           those of `add_note`
    cause, context  the link that it was raised from, or while it was handled; at most one of them
    members, left_out, group   of an exception group: its exceptions, how many were too many, and its own text
    traceback       of the first link only: the text of the whole

Strangers' exceptions may override anything, so that what Python itself keeps is read and set by Python's own slots.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from brokerkit._text import cut, message_of, shorten
from brokerkit.errors import InvalidOption, RemoteFailure
from brokerkit.serialization import Codec

__all__ = ["MAX_TRACEBACK", "SMALLER", "Allowed", "Limits", "allow", "capture", "rebuild"]

Allowed = Mapping[str, type[Exception]]
"""Qualified name → the class that a failure of this name is rebuilt as."""

MAX_TRACEBACK: Final = 64 * 1024  # characters; the beginning and the end of a longer one are kept
_MAX_LINKS: Final = 32
_MAX_FORMATTED: Final = 100  # exceptions; Python's own text of many more takes seconds
_MAX_NAME: Final = 500
_SHOWN: Final = 10  # members of a large group in such a text

_json: Final = Codec()


class Limits(NamedTuple):
    """How much of a failure is kept: characters of the traceback, of each text and of all arguments, and how many links."""

    traceback: int = MAX_TRACEBACK
    text: int = 16 * 1024
    args: int = 16 * 1024
    links: int = _MAX_LINKS


SMALLER: Final = (Limits(), Limits(4096, 2048, 2048, 8), Limits(0, 500, 0, 1))
"""What to keep, and what instead where a store takes no records of this size."""


def allow(classes: Iterable[Any]) -> Allowed:
    """Return the table of exception classes that may be rebuilt.

    Raises:
        InvalidOption: one of them is no class of exceptions.
    """
    table: dict[str, type[Exception]] = {}
    for cls in classes:
        if not (isinstance(cls, type) and issubclass(cls, Exception)):
            raise InvalidOption(f"option 'exceptions' has {cls!r}; it must be classes derived from Exception")
        table[_type_name(cls)] = cls
    return table


def capture(error: BaseException, limits: Limits = SMALLER[0]) -> dict[str, Any]:
    """Return what is worth keeping of an exception, as JSON-able data. Never raises, whatever the exception does."""
    first = _Capture(limits).link(error)
    first["traceback"] = _traceback_text(error, limits) if limits.traceback else None
    return first


def rebuild(failure: Any, allowed: Allowed) -> Exception:
    """Return the exception of captured data.

    A link is of its own class if that is allowed, and takes its arguments and keeps them; else it is a RemoteFailure. A
    group of an allowed class needs all its members.

    Raises:
        ValueError: the data was not made by `capture`.
    """
    error = _Rebuilding(allowed).exception(failure)
    if failure.get("traceback"):
        BaseException.add_note(error, f"Remote traceback:\n{failure['traceback']}")
    return error


# -- what Python keeps of an exception ---------------------------------------------------------------------------------


def _slot(name: str) -> Any:
    return vars(BaseException)[name]


_CAUSE: Final = _slot("__cause__")
_CONTEXT: Final = _slot("__context__")
_HIDES_CONTEXT: Final = _slot("__suppress_context__")
_TRACEBACK: Final = _slot("__traceback__")
_MEMBERS: Final = vars(BaseExceptionGroup)["exceptions"]
_GROUP_TEXT: Final = vars(BaseExceptionGroup)["message"]


def _origin(error: BaseException) -> tuple[str, BaseException | None]:
    """Return why an exception was raised: its cause, or its context unless that is hidden."""
    if (cause := _CAUSE.__get__(error)) is not None:
        return "cause", cause
    return "context", None if _HIDES_CONTEXT.__get__(error) else _CONTEXT.__get__(error)


def _members(error: BaseException) -> Sequence[BaseException]:
    return _MEMBERS.__get__(error) if isinstance(error, BaseExceptionGroup) else ()


def _type_name(cls: type[BaseException]) -> str:
    name, module = vars(type)["__qualname__"].__get__(cls), vars(type)["__module__"].__get__(cls)
    return shorten(name if module == "builtins" or not isinstance(module, str) else f"{module}.{name}", _MAX_NAME)


def _message(error: BaseException, limit: int) -> str:
    try:
        return cut(str.__str__(message_of(error)), limit)  # a stranger's text may be of a class of its own
    except Exception as failure:  # noqa: BLE001 - and what its `__str__` raises, too
        return f"<its message cannot be had: {_type_name(type(failure))}>"


# -- there -------------------------------------------------------------------------------------------------------------


@dataclass
class _Capture:
    """One exception with all that belongs to it, each once, up to `limits.links`."""

    limits: Limits
    seen: set[int] = field(default_factory=set)

    def link(self, error: BaseException) -> dict[str, Any]:
        self.seen.add(id(error))
        kept: dict[str, Any] = {"type": _type_name(type(error)), "message": _message(error, self.limits.text)}
        with contextlib.suppress(Exception):  # not JSON-able, or a stranger's `args` or `__json__` raises
            packed, headers = _json.encode(list(error.args))
            if len(packed) <= self.limits.args:
                kept["args"] = _json.decode(packed, headers)  # plain from now on, whatever it was
        if notes := list(_notes(error, self.limits.text)):
            kept["notes"] = notes
        word, origin = _origin(error)
        if origin is not None and self._takes(origin):
            kept[word] = self.link(origin)
        if isinstance(error, BaseExceptionGroup):
            members = _members(error)
            kept["members"] = [self.link(member) for member in members if self._takes(member)]
            kept["left_out"] = len(members) - len(kept["members"])
            kept["group"] = cut(str.__str__(_GROUP_TEXT.__get__(error)), self.limits.text)
        return kept

    def _takes(self, error: BaseException) -> bool:
        return id(error) not in self.seen and len(self.seen) < self.limits.links


def _notes(error: BaseException, limit: int) -> Iterator[str]:
    """Yield an exception's notes, as long as they are texts, up to so many characters in all."""
    with contextlib.suppress(Exception):  # `__notes__` may be anything
        for note in list(getattr(error, "__notes__", ())):
            text = cut(str.__str__(note), limit)
            if len(text) > limit:
                return
            limit -= len(text)
            yield text


def _traceback_text(error: BaseException, limits: Limits) -> str:
    try:
        text = "".join(traceback.format_exception(error) if _is_short(error) else _brief(error, limits))
        return cut(text, limits.traceback)
    except Exception as failure:  # noqa: BLE001 - notes and groups of strangers may raise anything
        return f"<the traceback cannot be had: {_type_name(type(failure))}>"


def _is_short(error: BaseException) -> bool:
    """Tell whether an exception and all that belongs to it are few enough for Python's own text."""
    seen, unseen = {id(error)}, [error]
    while unseen and len(seen) <= _MAX_FORMATTED:
        current = unseen.pop()
        for other in (_CAUSE.__get__(current), _CONTEXT.__get__(current), *_members(current)[: _MAX_FORMATTED + 1]):
            if other is not None and id(other) not in seen:
                seen.add(id(other))
                unseen.append(other)
    return len(seen) <= _MAX_FORMATTED


def _brief(error: BaseException, limits: Limits) -> Iterator[str]:
    """Yield the tracebacks of a long chain's last exceptions, the last one first, and some members of each group."""
    current: BaseException | None = error
    for _ in range(limits.links):
        if current is None:
            return
        yield "Traceback (most recent call last):\n"
        yield from traceback.format_tb(_TRACEBACK.__get__(current))
        yield f"{_line(current)}\n"
        yield from (f"  one of its exceptions: {_line(member)}\n" for member in _members(current)[:_SHOWN])
        word, current = _origin(current)
        if current is not None:
            yield f"\nIts {word}:\n\n"
    if current is not None:
        yield "… and more\n"


def _line(error: BaseException) -> str:
    return f"{_type_name(type(error))}: {_message(error, _MAX_NAME)}"


# -- and back ----------------------------------------------------------------------------------------------------------


@dataclass
class _Rebuilding:
    """One failure, whose links are checked while they are taken: at most so many, and nothing but what `capture` makes."""

    allowed: Allowed
    left: int = _MAX_LINKS

    def exception(self, link: Any) -> Exception:
        """Return the exception of one link, with all that belongs to it."""
        self.left -= 1
        if self.left < 0 or not _is_link(link):
            raise ValueError("malformed failure")
        members = [self.exception(member) for member in link.get("members", ())]
        error = _original(link, members, self.allowed)
        if error is None:
            error = RemoteFailure(link["type"], link["message"], link.get("traceback"))
            error.exceptions = tuple(members)
        for note in link.get("notes", ()):
            BaseException.add_note(error, note)
        for word, slot in (("cause", _CAUSE), ("context", _CONTEXT)):
            if link.get(word) is not None:
                slot.__set__(error, self.exception(link[word]))
        return error


def _is_link(failure: Any) -> bool:
    return (
        isinstance(failure, dict)
        and isinstance(failure.get("type"), str)
        and isinstance(failure.get("message"), str)
        and isinstance(failure.get("traceback"), str | None)
        and isinstance(failure.get("args"), list | None)
        and isinstance(failure.get("members", []), list)
        and isinstance(failure.get("left_out", 0), int)
        and isinstance(failure.get("group", ""), str)
        and isinstance(notes := failure.get("notes", []), list)
        and all(isinstance(note, str) for note in notes)
    )


def _original(link: Mapping[str, Any], members: list[Exception], allowed: Allowed) -> Exception | None:
    cls = allowed.get(link["type"])
    if cls is None:
        return None
    try:
        if issubclass(cls, BaseExceptionGroup):
            whole = members and not link.get("left_out")
            group: Exception | None = cls(link.get("group", ""), members) if whole else None
            return group
        if link.get("args") is None:
            return None
        error = cls(*link["args"])
        # a constructor that makes other arguments of them would make others of these again, and the text a wrong one
        kept = isinstance(error, cls) and list(error.args) == link["args"]
    except Exception:  # noqa: BLE001 - an __init__ with other parameters than its args
        return None
    return error if kept else None
