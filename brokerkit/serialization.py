"""Payloads to bytes and back, on kombu's registries of serializers and compressions.

A payload that is `bytes` travels untouched. Every other one goes through the serializer of the `Codec`, and says so in
the message's headers:

    content-type         of kombu's registry: "application/json"; without it the body is plain bytes
    content-encoding     of the text, where it is not UTF-8
    content-compression  of kombu's registry: "application/x-gzip"

kombu is imported when it is first needed, which a plain JSON payload is not: `json` of this module gives the same text
as kombu's (spaces between tokens aside) and asks kombu only about values that JSON does not know, such as datetimes.
"""

from __future__ import annotations

import codecs
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import Any, Final, final

from brokerkit._compressing import compress, content_type_of_compression, decompress
from brokerkit._text import error_text, shorten
from brokerkit.errors import DecodeError, EncodeError, InvalidOption, nearest

__all__ = ["DEFAULT_MAX_DECODED", "Codec"]

DEFAULT_MAX_DECODED: Final = 256 * 1024 * 1024

# The serializers that kombu brings itself, so that their names cost no import: name → content type.
_TYPES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "json": "application/json",
        "msgpack": "application/x-msgpack",
        "yaml": "application/x-yaml",
        "pickle": "application/x-python-serialize",
    }
)
_NEEDS: Final[Mapping[str, str]] = MappingProxyType({"msgpack": "msgpack", "yaml": "yaml"})  # name → module, and extra
_HARMLESS: Final = frozenset({"json", "msgpack", "yaml"})  # reading them runs no code of the sender
_RAW: Final = frozenset({"application/data", "application/octet-stream"})
_JSON: Final = "application/json"
_UTF8: Final = frozenset({"utf-8", "utf8", "us-ascii", "ascii"})

_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})
_JSON_HEADERS: Final[Mapping[str, str]] = MappingProxyType({"content-type": _JSON})


@final
@dataclass(frozen=True)
class Codec:
    """Encodes payloads in one way, and decodes those in `accept`. Immutable, hence thread-safe.

    JSON is strict: NaN and infinities are refused, since other readers choke on them. As everywhere with JSON, tuples come
    back as lists and the keys of dicts as text; and a dict with just the keys `__type__` and `__value__` is kombu's own
    mark for a typed value.

    Attributes:
        serializer: json, msgpack, yaml, or any name of kombu's registry.
        compression: gzip, bzip2, lzma, zstd, or any name of kombu's registry; None for not at all.
        accept: names or content types that are decoded. `serializer` is added by itself if it is json, msgpack or yaml;
            pickle and the serializers of others may run code when they are read, and are accepted only if listed.
        max_decoded: bytes that a compressed body may unfold to; protects against zip bombs.

    Raises:
        InvalidOption: a name is unknown (with the nearest known one), or the package behind it is not installed.
    """

    serializer: str = "json"
    compression: str | None = None
    accept: tuple[str, ...] = ("json",)
    max_decoded: int = DEFAULT_MAX_DECODED
    _accepted: frozenset[str] = field(init=False, repr=False, compare=False)
    _plain_json: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        own = _content_type(self.serializer, option="serializer")
        accepted = {_content_type(name, option="accept") for name in self.accept}
        if self.serializer in _HARMLESS:
            accepted.add(own)
        elif own not in accepted:
            raise InvalidOption(
                f"serializer {self.serializer!r} may run code when it is read, so it must also stand in 'accept': "
                f"accept={','.join((*self.accept, self.serializer))!r}, if you trust all who can write there"
            )
        if self.compression is not None:
            content_type_of_compression(self.compression)
        object.__setattr__(self, "_accepted", frozenset(accepted))
        object.__setattr__(self, "_plain_json", self.serializer == "json" and self.compression is None)

    def encode(self, payload: Any) -> tuple[bytes, Mapping[str, str]]:
        """Return a payload as bytes, and the headers that tell how to read them. The mapping is read-only.

        Raises:
            EncodeError: the serializer does not take this payload; the cause says why.
        """
        if isinstance(payload, bytes):
            return payload, _NO_HEADERS
        try:
            if self._plain_json:
                return _to_json(payload).encode("ascii"), _JSON_HEADERS
            return self._encode(payload)
        except Exception as error:  # noqa: BLE001 - a serializer may raise anything
            cause = _original(error)
            raise EncodeError(
                f"a payload of type {type(payload).__name__} cannot be encoded as {self.serializer}: {error_text(cause)}"
            ) from cause

    def decode(self, body: bytes, headers: Mapping[str, str]) -> Any:
        """Return the payload of a body. Without a content type it is the bytes themselves.

        Raises:
            DecodeError: the content type is unknown or not in `accept`, or the bytes are not what the headers say; the
                cause says why. Nothing was executed.
        """
        content_type = headers.get("content-type")
        compression = headers.get("content-compression")
        if compression is not None:
            body = decompress(body, compression, limit=self.max_decoded, trusted=self.compression)
        if content_type is None:
            return body
        if content_type not in self._accepted:
            content_type = content_type.partition(";")[0].strip().lower()
            if content_type in _RAW:
                return body
            self._check_accepted(content_type)
        try:
            if content_type == _JSON:
                _check_utf8(headers)
                return _from_json(body)
            return _decode(body, content_type, headers)
        except DecodeError:
            raise
        except Exception as error:  # noqa: BLE001 - a serializer may raise anything
            cause = _original(error)
            raise DecodeError(f"the body is no valid {content_type}: {error_text(cause)}") from cause

    def _encode(self, payload: Any) -> tuple[bytes, Mapping[str, str]]:
        headers: dict[str, str] = {}
        if self.serializer == "json":
            body, headers["content-type"] = _to_json(payload).encode("ascii"), _JSON
        else:
            from kombu import serialization  # noqa: PLC0415 - imported when first needed

            headers["content-type"], encoding, encoded = serialization.dumps(payload, serializer=self.serializer)
            body = encoded.encode(encoding) if isinstance(encoded, str) else bytes(encoded)
            if encoding not in ("utf-8", "binary"):
                headers["content-encoding"] = encoding
        if self.compression is not None:
            body, headers["content-compression"] = compress(body, self.compression)
        return body, MappingProxyType(headers)

    def _check_accepted(self, content_type: str) -> None:
        if content_type not in self._accepted:
            accepted = ", ".join(sorted(self._accepted)) or "nothing"
            raise DecodeError(f"content type {shorten(content_type)!r} is not in 'accept' ({accepted})")


def _content_type(name: str, *, option: str) -> str:
    """Return the content type of a serializer's name; kombu is asked only about names that it does not bring itself."""
    if name in _TYPES:
        module = _NEEDS.get(name)
        if module is not None and importlib.util.find_spec(module) is None:
            raise InvalidOption(
                f"{option} {name!r} needs a package that is not installed; pip install 'brokerkit-messaging[{module}]'"
            )
        return _TYPES[name]
    from kombu.serialization import registry  # noqa: PLC0415 - imported when first needed

    known: Mapping[str, str] = registry.name_to_type
    if option == "accept" and (name in known.values() or name.startswith("text/")):
        return name
    if name not in known:
        raise InvalidOption(
            f"{option} {name!r} is no serializer of kombu's registry{nearest(name, known)} (known: {', '.join(sorted(known))})"
        )
    return known[name]


def _check_utf8(headers: Mapping[str, str]) -> None:
    encoding = headers.get("content-encoding")
    if encoding is not None and encoding.lower() not in _UTF8:
        raise DecodeError(f"content encoding {shorten(encoding)!r} is not utf-8")


def _decode(body: bytes, content_type: str, headers: Mapping[str, str]) -> Any:
    from kombu import serialization  # noqa: PLC0415 - imported when first needed

    if content_type.startswith("text/"):
        _check_utf8(headers)
        return body.decode()
    if content_type not in serialization.registry.type_to_name:
        raise DecodeError(f"content type {shorten(content_type)!r} is unknown to kombu's registry")
    if not body:  # kombu would hand it back as it is
        raise DecodeError(f"the body is no valid {content_type}: it is empty")
    encoding = headers.get("content-encoding", "utf-8").lower()
    if encoding != "binary":
        try:
            codecs.lookup(encoding)
        except LookupError:
            raise DecodeError(f"content encoding {shorten(encoding)!r} is unknown") from None
    return serialization.loads(body, content_type, encoding, accept={content_type})


def _original(error: Exception) -> Exception:
    """Return what a serializer raised; kombu wraps it."""
    inner = error.args[0] if error.args and type(error).__module__ == "kombu.exceptions" else None
    return inner if isinstance(inner, Exception) else error


@cache
def _kombu_json() -> tuple[Any, Any]:
    from kombu.utils import json as kombu_json  # noqa: PLC0415 - imported when first needed

    return kombu_json.JSONEncoder().default, kombu_json.loads


def _unknown_to_json(value: Any) -> Any:
    return _kombu_json()[0](value)


# One encoder and decoder for all: json.dumps with arguments builds a new one at each call. Measured on a dict of five
# values, CPython 3.11: 1.5 + 1.3 µs to encode and decode, against 3.1 + 3.3 µs through kombu's registry.
_to_json = json.JSONEncoder(default=_unknown_to_json, allow_nan=False, separators=(",", ":")).encode
_decoder: Final = json.JSONDecoder()


def _from_json(body: bytes) -> Any:
    # kombu's typed values are rare, and its hook costs a call for each dict. The second test: "_" may be written \u005f.
    if b"__type__" in body or b"\\u005" in body:
        return _kombu_json()[1](body)
    text = body.decode()
    try:
        value, end = _decoder.raw_decode(text)
    except json.JSONDecodeError:
        end = -1
    # what has white space around it, or is not JSON, is for `decode`, which takes half a microsecond longer
    return value if end == len(text) else _decoder.decode(text)
