"""Whether plain data has the shape that a JSON Schema asks for: the few keywords that report.schema.json uses."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Final

__all__ = ["misfits", "report_schema"]

_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
_WORDS: Final = frozenset(
    (
        "$schema",
        "$defs",
        "$ref",
        "title",
        "description",
        "type",
        "required",
        "properties",
        "additionalProperties",
        "items",
        "enum",
        "const",
        "pattern",
        "minimum",
    )
)


@cache
def report_schema() -> dict[str, Any]:
    """Return the schema of report.json that this suite writes and reads."""
    text = files("brokerkit_conformance").joinpath("report.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def misfits(
    value: Any, schema: Mapping[str, Any], *, root: Mapping[str, Any] | None = None, at: str = ""
) -> Iterator[str]:
    """Yield where data does not fit a schema.

    Raises:
        ValueError: the schema uses a keyword that is not understood here.
    """
    root = schema if root is None else root
    if strange := schema.keys() - _WORDS:
        raise ValueError(f"the schema uses {', '.join(sorted(strange))}")
    if "$ref" in schema:
        yield from misfits(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root=root, at=at)
        return
    if (problem := _own(value, schema)) is not None:
        yield f"{at or 'the report'} {problem}"
    elif isinstance(value, dict):
        yield from _of_object(value, schema, root, at)
    elif isinstance(value, list) and "items" in schema:
        for n, inner in enumerate(value):
            yield from misfits(inner, schema["items"], root=root, at=f"{at}[{n}]")


def _own(value: Any, schema: Mapping[str, Any]) -> str | None:
    """Return what is wrong with the value by itself, if anything is."""
    if "const" in schema and value != schema["const"]:
        return f"is {value!r}, not {schema['const']!r}"
    if "enum" in schema and value not in schema["enum"]:
        return f"cannot be {value!r}"
    if "type" in schema and not _is(value, schema["type"]):
        return f"is {type(value).__name__}, not {schema['type']}"
    if "pattern" in schema and isinstance(value, str) and not re.search(schema["pattern"], value):
        return f"cannot be {value!r}"
    if "minimum" in schema and isinstance(value, int | float) and value < schema["minimum"]:
        return f"is below {schema['minimum']}"
    return None


def _is(value: Any, kinds: str | list[str]) -> bool:
    names = [kinds] if isinstance(kinds, str) else kinds
    return any(isinstance(value, _TYPES[name]) and (name == "boolean" or not isinstance(value, bool)) for name in names)


def _of_object(value: Mapping[str, Any], schema: Mapping[str, Any], root: Mapping[str, Any], at: str) -> Iterator[str]:
    inside = f"{at}." if at else ""
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{inside}{name} is missing"
    others = schema.get("additionalProperties", True)
    for name, inner in value.items():
        if name in schema.get("properties", {}):
            yield from misfits(inner, schema["properties"][name], root=root, at=f"{inside}{name}")
        elif others is False:
            yield f"{inside}{name} is unknown"
        elif isinstance(others, dict):
            yield from misfits(inner, others, root=root, at=f"{inside}{name}")
