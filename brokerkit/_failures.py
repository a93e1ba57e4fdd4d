"""Exceptions as plain data, and back: nothing is pickled, nothing is imported by name, no code of a sender runs."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterable, Mapping
from typing import Any, Final

from brokerkit._text import cut, message_of
from brokerkit.errors import InvalidOption, RemoteFailure
from brokerkit.serialization import Codec

__all__ = ["MAX_TRACEBACK", "Allowed", "allow", "capture", "rebuild"]

Allowed = Mapping[str, type[Exception]]
"""Qualified name → the class that a failure of this name is rebuilt as."""

MAX_TRACEBACK: Final = 64 * 1024  # characters; the beginning and the end of a longer one are kept
_MAX_MESSAGE: Final = 16 * 1024
_MAX_ARGS: Final = 16 * 1024
_MAX_CHAIN: Final = 16

_json: Final = Codec()


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


def capture(error: BaseException, *, max_traceback: int = MAX_TRACEBACK) -> dict[str, Any]:
    """Return what is worth keeping of an exception, as JSON-able data. Never raises, whatever the exception does.

    Its arguments are kept if they are JSON-able and small, its causes up to 16, its traceback up to `max_traceback`
    characters, cut in the middle.
    """
    first: dict[str, Any] = _capture_one(error)
    first["traceback"] = _traceback_text(error, max_traceback)
    seen, last, current = {id(error)}, first, _cause(error)
    while current is not None and id(current) not in seen and len(seen) < _MAX_CHAIN:
        seen.add(id(current))
        last["cause"] = _capture_one(current)
        last, current = last["cause"], _cause(current)
    return first


def rebuild(failure: Any, allowed: Allowed) -> Exception:
    """Return the exception of captured data: of its own class if that is allowed and takes its arguments, else a RemoteFailure.

    Raises:
        ValueError: the data was not made by `capture`.
    """
    found: Exception | None = None
    for link in reversed(_links(failure)):
        error = _original(link, allowed) or RemoteFailure(link["type"], link["message"], link.get("traceback"))
        error.__cause__ = found
        found = error
    if found is None:
        raise ValueError("no failure")
    if failure.get("traceback"):
        found.add_note(f"Remote traceback:\n{failure['traceback']}")
    return found


def _type_name(cls: type[BaseException]) -> str:
    name = cls.__qualname__
    return name if cls.__module__ == "builtins" else f"{cls.__module__}.{name}"


def _capture_one(error: BaseException) -> dict[str, Any]:
    kept: dict[str, Any] = {"type": _type_name(type(error)), "message": cut(message_of(error), _MAX_MESSAGE)}
    with contextlib.suppress(Exception):  # not JSON-able, or a stranger's `args` or `__json__` raises
        args = list(error.args)
        if len(_json.encode(args)[0]) <= _MAX_ARGS:
            kept["args"] = args
    return kept


def _cause(error: BaseException) -> BaseException | None:
    return error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _traceback_text(error: BaseException, limit: int) -> str:
    try:
        return cut("".join(traceback.format_exception(error)), limit)
    except Exception as failure:  # noqa: BLE001 - notes and groups of strangers may raise anything
        return f"<the traceback cannot be had: {type(failure).__name__}>"


def _links(failure: Any) -> list[Mapping[str, Any]]:
    """Return a failure and its causes, each checked."""
    links: list[Mapping[str, Any]] = []
    while failure is not None:
        if len(links) == _MAX_CHAIN or not _is_link(failure):
            raise ValueError("malformed failure")
        links.append(failure)
        failure = failure.get("cause")
    return links


def _is_link(failure: Any) -> bool:
    return (
        isinstance(failure, dict)
        and isinstance(failure.get("type"), str)
        and isinstance(failure.get("message"), str)
        and isinstance(failure.get("traceback"), str | None)
        and isinstance(failure.get("args"), list | None)
    )


def _original(link: Mapping[str, Any], allowed: Allowed) -> Exception | None:
    cls = allowed.get(link["type"])
    if cls is None or link.get("args") is None:
        return None
    try:
        error = cls(*link["args"])
    except Exception:  # noqa: BLE001 - an __init__ with other parameters than its args
        return None
    return error if isinstance(error, cls) else None
