"""What counts as a secret, and how it is kept out of texts and exceptions.

A leaf: it imports nothing of brokerkit but the other leaf `_text`, so that URLs, options and errors can share it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any, Final, TypeAlias
from urllib.parse import quote, quote_plus, unquote

from brokerkit._text import message_of

__all__ = ["MASK", "Redacted", "cleanse", "is_secret_name", "masked", "masker", "secrets_in"]

MASK: Final = "***"

Mask: TypeAlias = Callable[[str], str]

_SECRET_NAME = re.compile(
    r"pass(?:w|phrase|code|$)|^pwd$|secret|token|credential|(?:api|access|private|account)[_-]?key|^key$|signature",
    re.IGNORECASE,
)
_USERINFO = re.compile(r"//[^/?#@:\s]*:([^/?#\s]+)@")
_DEPTH: Final = 8  # containers nested deeper than this are not looked into


class Redacted(Exception):
    """Stands for an exception that showed a secret and could not be cleaned; names its type and its masked text."""


def is_secret_name(name: str) -> bool:
    """Tell whether an option of this name is likely to hold a secret."""
    return _SECRET_NAME.search(name) is not None


def secrets_in(name: str, value: Any) -> Iterator[str]:
    """Yield every secret text within the value of the option `name`: nested mappings, JSON and URLs included."""
    if isinstance(value, Mapping):
        hidden = is_secret_name(name)
        for key, inner in value.items():
            yield from secrets_in(name if hidden else str(key), inner)
    elif isinstance(value, list | tuple | set | frozenset):
        for inner in value:
            yield from secrets_in(name, inner)
    elif is_secret_name(name):
        if value is not None and not isinstance(value, bool):
            yield value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    elif isinstance(value, str):
        yield from _secrets_in_text(value)


def masked(name: str, value: Any) -> Any:
    """Return the value of the option `name` with `***` for each secret in it, to be shown."""
    if value is None:
        return None
    if is_secret_name(name):
        return MASK
    if isinstance(value, Mapping):
        return {key: masked(str(key), inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        kind = next(kind for kind in (list, tuple, set, frozenset) if isinstance(value, kind))
        return kind(masked(name, inner) for inner in value)
    return _masked_text(value) if isinstance(value, str) else value


def _masked_text(text: str) -> str:
    parsed = _json(text)
    if isinstance(parsed, dict | list):
        return json.dumps(masked("", parsed), ensure_ascii=False)
    return masker(_secrets_in_text(text))(text)


def masker(secrets: Iterable[str]) -> Mask:
    """Return a function that replaces these secrets in a text by `***`, however they are quoted or escaped there."""
    texts = {text for secret in secrets if secret for text in _spellings(secret)}
    if not texts:
        return str
    pattern = re.compile("|".join(re.escape(text) for text in sorted(texts, key=len, reverse=True)))
    return lambda text: pattern.sub(MASK, text)


def cleanse(error: Exception, mask: Mask) -> Exception:
    """Take the secrets out of an exception and all that hangs on it, in place, and return it.

    Cleaned are args, notes and attributes of the whole graph of causes, contexts and groups. One that still shows a
    secret afterwards, because its text comes from elsewhere, is replaced by a `Redacted`. Local variables in the
    frames of its traceback stay as they are.
    """
    return error if mask is str else _Cleaning(mask).of(error)


class _Cleaning:
    def __init__(self, mask: Mask) -> None:
        self._mask = mask
        self._found: dict[int, BaseException] = {}
        self._instead: dict[int, Redacted] = {}

    def of(self, error: Exception) -> Exception:
        todo: list[BaseException] = [error]
        while todo:
            one = todo.pop()
            if id(one) not in self._found:
                self._found[id(one)] = one
                self._rewrite(one)
                todo.extend(_neighbours(one))
        self._instead = {key: self._stand_in(one) for key, one in self._found.items() if self._shows_secret(one)}
        for key, one in self._found.items() if self._instead else ():
            self._relink(one, self._instead.get(key, one))
            self._rewrite(one)
        return self._instead.get(id(error), error)

    def _rewrite(self, error: BaseException) -> None:
        error.args = self._clean(error.args)
        held = vars(error)
        for name, value in list(held.items()):
            held[name] = self._clean(value)
        for name in _slots(type(error)):
            try:
                value = getattr(error, name)
                cleaned = self._clean(value)
                if cleaned is not value:
                    setattr(error, name, cleaned)
            except (AttributeError, TypeError):
                continue  # unset or read-only; whether it shows is seen from the text

    def _clean(self, value: Any, depth: int = _DEPTH) -> Any:
        """Return `value` without secrets; the same object where there are none."""
        if isinstance(value, BaseException):
            return self._instead.get(id(value), value)
        if isinstance(value, str | bytes):
            return self._clean_text(value)
        if depth == 0 or not isinstance(value, list | tuple | set | frozenset | dict):
            return value
        held = [item for pair in value.items() for item in pair] if isinstance(value, dict) else list(value)
        items = [self._clean(item, depth - 1) for item in held]
        if all(a is b for a, b in zip(items, held, strict=True)):
            return value
        if isinstance(value, dict):
            return dict(zip(items[::2], items[1::2], strict=True))
        return type(value)(items) if type(value) in (list, tuple, set, frozenset) else tuple(items)

    def _clean_text(self, value: str | bytes) -> str | bytes:
        plain = value if isinstance(value, str) else value.decode(errors="surrogateescape")
        text = self._mask(plain)
        if text == plain:
            return value
        return text if isinstance(value, str) else text.encode(errors="surrogateescape")

    def _shows_secret(self, error: BaseException) -> bool:
        texts = (message_of(error), _repr(error))
        return any(self._mask(text) != text for text in texts)

    def _stand_in(self, error: BaseException) -> Redacted:
        kind = f"{type(error).__module__}.{type(error).__qualname__}"
        return Redacted(f"{kind}: {self._mask(message_of(error))}").with_traceback(error.__traceback__)

    def _relink(self, old: BaseException, new: BaseException) -> None:
        cause, context, suppressed = old.__cause__, old.__context__, old.__suppress_context__
        new.__cause__ = None if cause is None else self._instead.get(id(cause), cause)
        new.__context__ = None if context is None else self._instead.get(id(context), context)
        new.__suppress_context__ = suppressed


def _neighbours(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        yield from error.exceptions
    held = [error.__cause__, error.__context__, *error.args, *vars(error).values()]
    yield from (one for one in held if isinstance(one, BaseException))


def _slots(kind: type[BaseException]) -> Iterator[str]:
    for one in kind.__mro__:
        for name, slot in vars(one).items():
            if isinstance(slot, MemberDescriptorType | GetSetDescriptorType) and name != "args" and name[:2] != "__":
                yield name


def _repr(error: BaseException) -> str:
    try:
        return repr(error)
    except Exception:  # noqa: BLE001 - a stranger's __repr__ may raise anything
        return ""


def _secrets_in_text(text: str) -> Iterator[str]:
    parsed = _json(text)
    if isinstance(parsed, dict | list):
        yield from secrets_in("", parsed)
    elif text.lstrip()[:1] in ("{", "[") and is_secret_name(text):
        yield text  # meant as JSON, but it is none: which of its values are secret cannot be told
        yield from re.findall(r':\s*"([^"]+)', text)
    for found in _USERINFO.findall(text):
        yield found
        yield unquote(found)


def _json(text: str) -> Any:
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        return json.loads(text)
    except ValueError:
        return None


def _spellings(secret: str) -> set[str]:
    """The secret as it may stand in others' texts: plain, percent-encoded, in a repr, in JSON."""
    quoted = {
        quote(secret, safe="", errors="replace"),
        quote(secret, errors="replace"),
        quote_plus(secret, errors="replace"),
    }
    lower = {re.sub("%[0-9A-F]{2}", lambda m: m[0].lower(), text) for text in quoted}
    escaped = {
        repr(secret)[1:-1],
        ascii(secret)[1:-1],
        repr(secret.encode(errors="replace"))[2:-1],
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
    }
    return {secret} | quoted | lower | escaped
