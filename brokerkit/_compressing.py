"""Compression by the names of kombu's registry, unpacked within a bound.

kombu unpacks without a limit, so a body of 1 MB may become 1 GB. The formats of Python's own library are unpacked here,
step by step up to the limit. Those that others registered cannot be bounded: they are unpacked only for a codec that was
told to use them itself.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from brokerkit._text import error_text, shorten
from brokerkit.errors import DecodeError, InvalidOption, nearest

__all__ = ["compress", "content_type_of_compression", "decompress"]

_LZMA_MEMORY: Final = 128 * 1024 * 1024  # an attacker chooses the dictionary's size; xz -9 needs 65 MiB
_AUTO_HEADER: Final = 47  # zlib's or gzip's header, whichever is there: kombu calls zlib's format "gzip"

_PACKAGES: Final[Mapping[str, str]] = MappingProxyType(
    {"brotli": "brotli", "zstd": "backports.zstd", "zstandard": "backports.zstd"}
)


# content type → the module that unpacks it, which small builds of Python lack, and how to get an unpacker from it
_UNPACKERS: Final[Mapping[str, tuple[str, Callable[[Any], Any]]]] = MappingProxyType(
    {
        "application/x-gzip": ("zlib", lambda zlib: zlib.decompressobj(_AUTO_HEADER)),
        "application/x-bz2": ("bz2", lambda bz2: bz2.BZ2Decompressor()),
        "application/x-lzma": ("lzma", lambda lzma: lzma.LZMADecompressor(memlimit=_LZMA_MEMORY)),
        "application/zstd": (
            "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd",
            lambda zstd: zstd.ZstdDecompressor(),
        ),
    }
)


def content_type_of_compression(name: str) -> str:
    """Return the content type of a compression's name or alias.

    Raises:
        InvalidOption: kombu's registry does not know it; with the nearest name, or the package to install.
    """
    from kombu import compression  # noqa: PLC0415 - imported when first needed

    try:
        _, content_type = compression.get_encoder(name)
    except KeyError:
        if name in _PACKAGES:
            raise InvalidOption(
                f"compression {name!r} needs the package {_PACKAGES[name]}, which is not installed"
            ) from None
        known = sorted({*compression._aliases, *compression.encoders()})  # noqa: SLF001 - kombu has no public list of names
        raise InvalidOption(
            f"compression {name!r} is not in kombu's registry{nearest(name, known)} (known: {', '.join(known)})"
        ) from None
    return str(content_type)


def compress(body: bytes, name: str) -> tuple[bytes, str]:
    """Return the compressed body and the content type of its compression."""
    from kombu import compression  # noqa: PLC0415 - imported when first needed

    packed, content_type = compression.compress(body, name)
    return bytes(packed), str(content_type)


def decompress(body: bytes, name: str, *, limit: int, trusted: str | None) -> bytes:
    """Return the unpacked body.

    Args:
        body: what was received.
        name: from its header: a content type or an alias.
        limit: bytes of the unpacked body, at most.
        trusted: the name of one compression that may be used although it cannot be bounded.

    Raises:
        DecodeError: the compression is unknown, the body is not of its format, or it is over the limit.
    """
    try:
        content_type = content_type_of_compression(name)
    except InvalidOption:
        raise DecodeError(f"content compression {shorten(name)!r} is unknown") from None
    if content_type not in _UNPACKERS and (trusted is None or content_type_of_compression(trusted) != content_type):
        raise DecodeError(
            f"content compression {shorten(name)!r} cannot be unpacked within a bound; it is, if it is also 'compression'"
        )
    try:
        unpack = _bounded if content_type in _UNPACKERS else _trusted
        return unpack(body, content_type, limit)
    except DecodeError:
        raise
    except Exception as error:
        raise DecodeError(f"the body is no valid {content_type}: {error_text(error)}") from error


def _bounded(body: bytes, content_type: str, limit: int) -> bytes:
    module, build = _UNPACKERS[content_type]
    unpacker = build(importlib.import_module(module))
    unpacked: bytes = unpacker.decompress(body, limit + 1)
    if len(unpacked) > limit:
        raise DecodeError(f"the body unpacks to more than max_decoded={limit} bytes")
    if not unpacker.eof:
        raise DecodeError("the compressed body ends too early")
    if unpacker.unused_data:
        raise DecodeError(f"{len(unpacker.unused_data)} bytes follow the end of the compressed body")
    return unpacked


def _trusted(body: bytes, content_type: str, limit: int) -> bytes:
    from kombu import compression  # noqa: PLC0415 - imported when first needed

    unpacked = bytes(compression.decompress(body, content_type))
    if len(unpacked) > limit:
        raise DecodeError(f"the body unpacks to more than max_decoded={limit} bytes")
    return unpacked
