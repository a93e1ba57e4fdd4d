"""What is sent: calls, and scripts by their hash."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha1
from typing import Any, Final, TypeAlias, final

__all__ = ["Argument", "Call", "Script", "again_with", "in_full"]

Argument: TypeAlias = str | bytes | int | float
Call: TypeAlias = tuple[Argument, ...]
"""A command's name and its arguments. Texts go as UTF-8; answers come as bytes."""

_HASH_AT: Final = 1
_WAITS: Final = ("WAIT", "WAITAOF")


class _Hash(bytes):
    """The hash of a script, which knows its text."""

    text: str


@final
class Script:
    """A script that the server runs. It is sent by its hash, and in full only where the server does not have it.

    Attributes:
        name: for people.
        text: in Lua.
        sha: its hash, as the server calls it.
    """

    __slots__ = ("name", "sha", "text")

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        sha = _Hash(sha1(text.encode(), usedforsecurity=False).hexdigest().encode())
        sha.text = text
        self.sha: bytes = sha

    def call(self, keys: Sequence[str | bytes], args: Iterable[Any]) -> Call:
        """Return the call of this script; the arguments are each an `Argument`."""
        return ("EVALSHA", self.sha, len(keys), *keys, *args)

    def __repr__(self) -> str:
        return f"Script({self.name!r})"


def in_full(call: Call) -> Call | None:
    """Return the same call with the script's text for its hash; None if it calls none of ours."""
    sha = call[_HASH_AT] if len(call) > _HASH_AT else None
    return ("EVAL", sha.text, *call[_HASH_AT + 1 :]) if isinstance(sha, _Hash) else None


def again_with(places: Sequence[int], calls: Sequence[Call]) -> list[int]:
    """Return the places of what has to be sent again when the calls at `places` are: those, and each WAIT behind one.

    Its answer was about the writes before it, and these come only now.
    """
    waits = [place for place in range(places[0], len(calls)) if calls[place][0] in _WAITS] if places else []
    return sorted({*places, *waits})
