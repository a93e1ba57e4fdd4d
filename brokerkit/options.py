"""Options: frozen dataclasses, filled alike from a URL's query, from keywords and from a `transport_options` dict.

A plugin writes one subclass of `Options` with a `setting(...)` per field; parsing, types, ranges, the refusal of unknown
names and the documentation all come from it.
"""

from __future__ import annotations

import contextlib
import json
import types
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Literal, Self, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from brokerkit.errors import InvalidOption, nearest
from brokerkit.url import MASK, URL, is_secret_name

__all__ = [
    "BrokerOptions",
    "FanoutOptions",
    "Options",
    "ResultOptions",
    "RetryPolicy",
    "Source",
    "describe",
    "gather",
    "resolve",
    "setting",
]

O = TypeVar("O", bound="Options")  # noqa: E741 - O for Options
Source = Mapping[str, Any]

_TRUE = {"true", "yes", "on", "1"}
_FALSE = {"false", "no", "off", "0"}


def setting(
    default: Any,
    doc: str,
    *,
    min: float | None = None,  # noqa: A002 - reads well where it is used
    max: float | None = None,  # noqa: A002
    above: float | None = None,
) -> Any:
    """Declare one option.

    Args:
        default: used when it is not given; must be immutable.
        doc: a sentence: what it does, and what goes wrong if it is too small or too large.
        min: the smallest value allowed.
        max: the largest value allowed.
        above: the value must be larger than this.
    """
    return field(default=default, metadata={"doc": doc, "min": min, "max": max, "above": above})


@dataclass(frozen=True, kw_only=True)
class Options:
    """Base of all option sets. Fields may be bool, int, float, str, Literal, tuple[str, ...], Mapping, or unions of them."""

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The options' names, in order of declaration."""
        return tuple(f.name for f in fields(cls))

    @classmethod
    def take(cls, given: dict[str, Any]) -> Self:
        """Build the set from its own names in `given`, and take those out of it.

        Raises:
            InvalidOption: a value has the wrong type or is out of range.
        """
        hints = get_type_hints(cls)
        values = {
            f.name: _checked(f.name, _converted(f.name, given.pop(f.name), hints[f.name]), f.metadata)
            for f in fields(cls)
            if f.name in given
        }
        return cls(**values)

    def __repr__(self) -> str:
        shown = (
            f"{f.name}={MASK if is_secret_name(f.name) and getattr(self, f.name) is not None else repr(getattr(self, f.name))}"
            for f in fields(self)
        )
        return f"{type(self).__name__}({', '.join(shown)})"


@dataclass(frozen=True, kw_only=True, repr=False)
class RetryPolicy(Options):
    """How a failed call is repeated. The names are kombu's; a deadline bounds all attempts together."""

    max_retries: int | None = setting(None, "Repeats of one call; None leaves it to `timeout` alone.", min=0)
    interval_start: float = setting(0.02, "Seconds before the first repeat; 0 hammers a server that starts.", min=0)
    interval_step: float = setting(0.1, "Seconds added for each further repeat.", min=0)
    interval_max: float = setting(1.0, "Seconds between repeats, at most; large values notice recovery late.", min=0)


@dataclass(frozen=True, kw_only=True, repr=False)
class BrokerOptions(Options):
    """Options of every broker, whatever the engine."""

    visibility_timeout: float = setting(
        30.0,
        "Seconds that a delivery stays claimed. The core prolongs it while a handler runs, so it bounds only how late a "
        "dead worker is noticed; below about 2 s a paused process loses its leases.",
        above=0,
    )
    prefetch: int = setting(
        100,
        "Unsettled deliveries that a consumer may hold. Small values cost round trips, large ones let one consumer hoard.",
        min=1,
        max=10_000,
    )
    max_attempts: int | None = setting(
        5, "Failed deliveries before a message is dead-lettered, for queues this broker did not declare.", min=1
    )
    retry_delay: float = setting(
        1.0, "Seconds before the second attempt of a failed message; doubled for each further one.", min=0
    )
    max_retry_delay: float = setting(300.0, "The longest of these pauses, in seconds.", min=0)
    timeout: float = setting(30.0, "Deadline of one call with all its repeats, in seconds.", above=0)
    retry_policy: RetryPolicy = setting(RetryPolicy(), "How a failed call is repeated within `timeout`.")
    serializer: str = setting("json", "Encodes payloads: json, msgpack, yaml, or any name of kombu's registry.")
    compression: str | None = setting(None, "Compresses encoded payloads: gzip, bzip2, zstd…; None for not at all.")
    accept: tuple[str, ...] = setting(
        ("json",), "Serializers that are decoded; all others are dead-lettered. pickle runs code: never add it lightly."
    )
    strict: bool = setting(False, "Refuse a server that may evict our state, instead of warning.")


@dataclass(frozen=True, kw_only=True, repr=False)
class FanoutOptions(Options):
    """Options of every transport that has topics."""

    fanout_prefix: bool | str = setting(
        True,
        "Where topics live: true, within the virtual host; a text, in a space of that name shared by all virtual hosts; "
        "false, global to the server.",
    )
    fanout_patterns: bool = setting(
        True, "Match routing keys with the patterns of bindings; false delivers every publish to every bound queue."
    )

    def __post_init__(self) -> None:
        if self.fanout_prefix == "":
            raise InvalidOption("option 'fanout_prefix' is empty; use false for topics that are global to the server")


@dataclass(frozen=True, kw_only=True, repr=False)
class ResultOptions(Options):
    """Options of every result store, whatever the engine."""

    expires: float | None = setting(86_400.0, "Seconds that a record is kept; None for ever.", above=0)
    timeout: float = setting(30.0, "Deadline of one call with all its repeats, in seconds.", above=0)
    retry_policy: RetryPolicy = setting(RetryPolicy(), "How a failed call is repeated within `timeout`.")
    serializer: str = setting("json", "Encodes results: json, msgpack, yaml, or any name of kombu's registry.")
    compression: str | None = setting(None, "Compresses encoded results; None for not at all.")
    accept: tuple[str, ...] = setting(("json",), "Serializers that are decoded when a result is read.")
    strict: bool = setting(False, "Refuse a server that may evict our state, instead of warning.")


def gather(url: URL, keywords: Source, transport_options: Source | None) -> dict[str, Any]:
    """Join the three sources of options into one dict.

    Raises:
        InvalidOption: one option is given twice with different values.
    """
    sources = {"the URL": dict(url.query), "a keyword": keywords, "transport_options": transport_options or {}}
    joined: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for source, values in sources.items():
        for name, value in values.items():
            if name in joined and str(joined[name]).lower() != str(value).lower():
                raise InvalidOption(f"option {name!r} is given twice, by {origin[name]} and by {source}; give it once")
            joined[name] = value
            origin[name] = source
    return joined


def resolve(given: Source, *kinds: type[Options], scheme: str) -> tuple[Options, ...]:
    """Divide options over several sets and refuse what belongs to none.

    Raises:
        InvalidOption: a name is unknown (with the nearest known one), or a value is wrong.
    """
    rest = dict(given)
    built = tuple(kind.take(rest) for kind in kinds)
    if rest:
        name = next(iter(rest))
        known = [known for kind in kinds for known in kind.names()]
        raise InvalidOption(
            f"{scheme}:// has no option {name!r}{nearest(name, known)} (known: {', '.join(sorted(known))})"
        )
    return built


def describe(kind: type[Options]) -> Iterable[tuple[str, str, str, str]]:
    """Yield (name, type, default, doc) of each option; for tables."""
    hints = get_type_hints(kind)
    for f in fields(kind):
        default = (
            "" if f.default is MISSING else ("default policy" if isinstance(f.default, Options) else repr(f.default))
        )
        yield f.name, _type_text(hints[f.name]), default, f.metadata["doc"]


def _converted(name: str, value: Any, hint: Any) -> Any:  # noqa: PLR0911 - one line a kind
    """Turn a text of a URL, or a value of Python, into the option's type."""
    if get_origin(hint) in (Union, types.UnionType):
        return _converted_union(name, value, get_args(hint))
    if isinstance(hint, type) and issubclass(hint, Options):
        return _converted_options(name, value, hint)
    if get_origin(hint) is Literal:
        return _expect(name, value, value in get_args(hint), f"one of {', '.join(map(str, get_args(hint)))}")
    if get_origin(hint) is tuple:
        parts = value.split(",") if isinstance(value, str) else value
        _expect(
            name, value, isinstance(parts, Iterable) and all(isinstance(p, str) for p in parts), "names apart by ','"
        )
        return tuple(p.strip() for p in parts)
    if hint is bool:
        return _converted_bool(name, value)
    if hint in (int, float):
        return _converted_number(name, value, hint)
    if hint is str:
        return _expect(name, value, isinstance(value, str), "a text")
    return _converted_mapping(name, value)


def _converted_union(name: str, value: Any, hints: tuple[Any, ...]) -> Any:
    if value is None or (isinstance(value, str) and value.lower() == "none" and types.NoneType in hints):
        return _expect(name, None, types.NoneType in hints, "a value")
    *others, last = sorted(
        (h for h in hints if h is not types.NoneType), key=lambda h: h is str
    )  # a text fits everything
    for hint in others:
        with contextlib.suppress(InvalidOption):
            return _converted(name, value, hint)
    return _converted(name, value, last)


def _converted_bool(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = value.lower() if isinstance(value, str) else ""
    _expect(name, value, text in _TRUE | _FALSE, "true or false")
    return text in _TRUE


def _converted_number(name: str, value: Any, hint: type[int | float]) -> float:
    kind = "a whole number" if hint is int else "a number"
    _expect(name, value, isinstance(value, str | int | float) and not isinstance(value, bool), kind)
    try:
        number = hint(value)
    except (ValueError, OverflowError):
        number = None
    _expect(name, value, number is not None and number == number and abs(number) != float("inf"), kind)  # noqa: PLR0124 - NaN
    _expect(name, value, isinstance(value, str) or number == value, kind)
    return cast("float", number)


def _converted_options(name: str, value: Any, kind: type[O]) -> O:
    if isinstance(value, kind):
        return value
    given = dict(_converted_mapping(name, value))
    try:
        (built,) = resolve(given, kind, scheme=name)
    except InvalidOption as error:
        raise InvalidOption(f"option {name!r}: {error}") from None
    return cast("O", built)


def _converted_mapping(name: str, value: Any) -> Mapping[str, Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = None
    return cast("Mapping[str, Any]", _expect(name, value, isinstance(value, Mapping), "a mapping, in a URL as JSON"))


def _checked(name: str, value: Any, limits: Mapping[str, Any]) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        low, high, above = limits["min"], limits["max"], limits["above"]
        _expect(name, value, low is None or value >= low, f"at least {low}")
        _expect(name, value, high is None or value <= high, f"at most {high}")
        _expect(name, value, above is None or value > above, f"above {above}")
    return value


def _expect(name: str, value: Any, ok: bool, wanted: str) -> Any:  # noqa: FBT001 - the condition is the point
    if not ok:
        shown = MASK if is_secret_name(name) else repr(value)
        raise InvalidOption(f"option {name!r} is {shown}; it must be {wanted}")
    return value


def _type_text(hint: Any) -> str:
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_type_text(part) for part in get_args(hint))
    if get_origin(hint) is Literal:
        return " or ".join(repr(value) for value in get_args(hint))
    if get_origin(hint) is tuple:
        return "names"
    names = {bool: "bool", int: "int", float: "float", str: "str", types.NoneType: "None"}
    return names.get(hint, "mapping")
