"""Options: frozen dataclasses, filled alike from a URL's query, from keywords and from a `transport_options` dict.

A plugin writes one subclass of `Options` with a `setting(...)` per field; parsing, types, ranges, the refusal of unknown
names and the documentation all come from it.
"""

from __future__ import annotations

import json
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Literal, Self, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from brokerkit._secrets import masked, secrets_in
from brokerkit._text import shorten
from brokerkit.errors import InvalidOption, nearest
from brokerkit.url import URL

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
    """Base of all option sets. Fields may be bool, int, float, str, Literal, tuple[str, ...], Mapping, or unions of them.

    Immutable, hence thread-safe. A secret never shows in its text, whether or not a subclass says `repr=False`, and a
    set that holds one is not pickled.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "__repr__" not in vars(cls):
            cls.__repr__ = Options.__repr__  # type: ignore[method-assign] # else `dataclass` writes one that tells all

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

    @property
    def secrets(self) -> tuple[str, ...]:
        """Every secret text in the values, for masking others' texts."""
        held = [(f.name, getattr(self, f.name)) for f in fields(self)]
        nested = (text for _, value in held if isinstance(value, Options) for text in value.secrets)
        return (*(text for name, value in held for text in secrets_in(name, value)), *nested)

    def __repr__(self) -> str:
        shown = (f"{f.name}={masked(f.name, getattr(self, f.name))!r}" for f in fields(self))
        return f"{type(self).__name__}({', '.join(shown)})"

    def __reduce_ex__(self, protocol: Any) -> Any:
        if self.secrets:
            raise TypeError(f"these {type(self).__name__} hold a secret and are not pickled")
        return super().__reduce_ex__(protocol)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


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
        InvalidOption: one option is given twice, with values that are not the same object to Python's `==`.
    """
    sources = {"the URL": dict(url.query), "a keyword": keywords, "transport_options": transport_options or {}}
    joined: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for source, values in sources.items():
        for name, value in values.items():
            if name in joined and joined[name] != value:
                raise InvalidOption(f"option {name!r} is given twice, by {origin[name]} and by {source}; give it once")
            joined[name] = value
            origin[name] = source
    return joined


def resolve(given: Source, *kinds: type[Options], scheme: str) -> tuple[Options, ...]:
    """Divide options over several sets and refuse what belongs to none.

    Raises:
        InvalidOption: a name is unknown (with the nearest known one), or a value is wrong.
        TypeError: a plugin declares an option of the core's once more; one of the two would be ignored.
    """
    known = [name for kind in kinds for name in kind.names()]
    twice = {name for name in known if known.count(name) > 1}
    if twice:
        raise TypeError(f"{scheme}:// declares {sorted(twice)}, which the core has already; rename them in the plugin")
    rest = dict(given)
    built = tuple(kind.take(rest) for kind in kinds)
    if rest:
        name = str(next(iter(rest)))
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


def _converted(name: str, value: Any, hint: Any) -> Any:
    """Turn a text of a URL, or a value of Python, into the option's type."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return _converted_union(name, value, hint)
    if origin is Literal:
        return _converted_literal(name, value, get_args(hint))
    if hint in (int, float):
        return _converted_number(name, value, hint)
    if isinstance(hint, type) and issubclass(hint, Options):
        return _converted_options(name, value, hint)
    simple: dict[Any, Callable[[str, Any], Any]] = {
        bool: _converted_bool,
        str: _converted_text,
        tuple: _converted_names,
    }
    convert: Callable[[str, Any], Any] = simple.get(origin or hint, _converted_mapping)
    return convert(name, value)


def _converted_union(name: str, value: Any, hint: Any) -> Any:
    hints = [part for part in get_args(hint) if part is not types.NoneType]
    if len(hints) < len(get_args(hint)) and (value is None or (isinstance(value, str) and value.lower() == "none")):
        return None
    hints.sort(key=lambda part: part is str)  # last, as every text of a URL fits it
    for part in hints[:-1]:
        try:
            return _converted(name, value, part)
        except InvalidOption:
            continue
    if hints[-1] is str:
        return _expect(name, value, isinstance(value, str), _type_text(hint))
    return _converted(name, value, hints[-1])


def _converted_literal(name: str, value: Any, choices: tuple[Any, ...]) -> Any:
    found = [choice for choice in choices if type(choice) is type(value) and choice == value]
    if isinstance(value, str):
        found += [choice for choice in choices if str(choice).lower() == value.lower()]
    _expect(name, value, bool(found), f"one of {', '.join(map(str, choices))}")
    return found[0]


def _converted_names(name: str, value: Any) -> tuple[str, ...]:
    parts: list[Any] | None = None
    if isinstance(value, str):
        parts = value.split(",")
    elif isinstance(value, Iterable) and not isinstance(value, bytes | Mapping):
        parts = list(value)
    ok = parts is not None and all(isinstance(part, str) for part in parts)
    _expect(name, value, ok, "names apart by ','")
    return tuple(part.strip() for part in parts or () if part.strip())


def _converted_text(name: str, value: Any) -> Any:
    return _expect(name, value, isinstance(value, str), "a text")


def _converted_bool(name: str, value: Any) -> bool:
    text = str(value).lower() if isinstance(value, str | int) else ""
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
    read = value
    if isinstance(value, str):
        try:
            read = json.loads(value)
        except ValueError:
            read = None
    _expect(name, value, isinstance(read, Mapping), "a mapping, in a URL as JSON")
    return dict(read)


def _checked(name: str, value: Any, limits: Mapping[str, Any]) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        low, high, above = limits["min"], limits["max"], limits["above"]
        _expect(name, value, low is None or value >= low, f"at least {low}")
        _expect(name, value, high is None or value <= high, f"at most {high}")
        _expect(name, value, above is None or value > above, f"above {above}")
    return value


def _expect(name: str, value: Any, ok: bool, wanted: str) -> Any:  # noqa: FBT001 - the condition is the point
    if not ok:
        shown = shorten(repr(masked(name, value)))
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
