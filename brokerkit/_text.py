"""Short, safe texts of things that others wrote: exceptions whose `str` fails, headers a megabyte long."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

__all__ = ["cut", "error_text", "message_of", "nearest", "shorten"]

_SHORT: Final = 80
_ERROR: Final = 400


def shorten(text: str, limit: int = _SHORT) -> str:
    """Return at most `limit` characters of a text, and mark what was left off."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def cut(text: str, limit: int) -> str:
    """Return at most about `limit` characters: the beginning and the end, with a note of what was left out between."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"


def error_text(error: BaseException, limit: int = _ERROR) -> str:
    """Return "Type: message" of any exception, even if its `str` fails. Never raises."""
    name = type(error).__name__
    message = message_of(error)
    return shorten(f"{name}: {message}" if message else name, limit)


def message_of(error: BaseException) -> str:
    """Return an exception's message, or a note that it has none that can be had."""
    try:
        return str(error)
    except Exception as failure:  # noqa: BLE001 - a stranger's __str__ may raise anything
        return f"<its message cannot be had: {type(failure).__name__}>"


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the sentence part `; did you mean 'x'?`, or an empty text where nothing is near."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {found[0]!r}?" if found else ""
