"""One result's record as bytes: how far it is, and its value or failure.

    1 byte    version, 1
    4 bytes   length of the header, big-endian
    header    a JSON object in ASCII: state, at, ttl, headers (of the value), meta, error
    the rest  the value, as the store's codec encoded it

Whatever does not fit this is a `MalformedResult`. Reading runs no code of the writer.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from brokerkit._failures import Allowed, rebuild
from brokerkit.errors import BrokerkitError, MalformedResult, RemoteFailure, SerializationError
from brokerkit.serialization import Codec

__all__ = ["Header", "Result", "State", "decode_record", "encode_record", "read_header"]

_VERSION: Final = 1
_PREFIX: Final = struct.Struct(">BI")
_json: Final = Codec()
_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})
_NUMBERS: Final = (int, float)  # exactly, as JSON gives them: a bool is none


class State(StrEnum):
    """How far a result is. SUCCESS, FAILURE and REVOKED are final: they are never replaced."""

    UNKNOWN = "UNKNOWN"
    """No record is there: never stored, or gone."""
    PENDING = "PENDING"
    STARTED = "STARTED"
    RETRY = "RETRY"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    REVOKED = "REVOKED"

    @property
    def final(self) -> bool:
        """Whether a record of this state is never replaced."""
        return self in _FINAL


_FINAL: Final = frozenset({State.SUCCESS, State.FAILURE, State.REVOKED})
_STATES: Final = {state.value: state for state in State}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a store knows about one id at the time of reading. Immutable.

    Attributes:
        key: the id.
        state: UNKNOWN if there is no record.
        error: the exception, if the state is FAILURE or REVOKED: of its original class if the store allows that class, else
            a `RemoteFailure`.
        traceback: the remote traceback as text, if it failed.
        at: when the record was written, seconds since the epoch by the writer's clock; None if there is no record.
        meta: what was given with the state.
        lost: why there is no record, if it is known that there was one: "expired", "forgotten" or "unknown".
        problem: why the record cannot be read: a `MalformedResult`, or a `DecodeError` about its value.
    """

    key: str
    state: State
    error: Exception | None = None
    traceback: str | None = None
    at: float | None = None
    meta: Any = None
    lost: str | None = None
    problem: BrokerkitError | None = None
    _value: Any = field(default=None, repr=False)
    _ends_at: float | None = field(default=None, repr=False, compare=False)

    @property
    def value(self) -> Any:
        """The result, if the state is SUCCESS, else None.

        Raises:
            MalformedResult: something else wrote under this key.
            DecodeError: it cannot be decoded, or its content type is not accepted.
        """
        if self.problem is not None:
            raise self.problem
        return self._value


class Header(NamedTuple):
    """The first part of a record: all but the value.

    Attributes:
        state: how far it is.
        at: when it was written, seconds since the epoch.
        ttl: how long it was to be kept, in seconds; None for ever.
        headers: the codec's, of the value.
        meta: JSON-able.
        error: of `_failures.capture`, or None.
    """

    state: State
    at: float
    ttl: float | None = None
    headers: Mapping[str, str] = _NO_HEADERS
    meta: Any = None
    error: Any = None

    @property
    def ends_at(self) -> float | None:
        """When its time to live ends, seconds since the epoch by the writer's clock; None for never."""
        return None if self.ttl is None else self.at + self.ttl


def encode_record(header: Header, body: bytes = b"") -> bytes:
    """Return a record's bytes.

    Raises:
        EncodeError: `meta` is not JSON-able.
    """
    fields: dict[str, Any] = {"state": header.state.value, "at": header.at, "ttl": header.ttl}
    if header.headers:
        fields["headers"] = dict(header.headers)
    if header.meta is not None:
        fields["meta"] = header.meta
    if header.error is not None:
        fields["error"] = header.error
    packed, _ = _json.encode(fields)
    return _PREFIX.pack(_VERSION, len(packed)) + packed + body


def read_header(key: str, record: bytes) -> tuple[Header, bytes]:
    """Return a record's header and its encoded value.

    Raises:
        MalformedResult: brokerkit did not write this.
    """
    if len(record) < _PREFIX.size:
        raise _malformed(key, "it is too short")
    version, size = _PREFIX.unpack_from(record)
    if version != _VERSION:
        raise _malformed(key, f"its version is {version}, this brokerkit reads {_VERSION}")
    start, end = _PREFIX.size, _PREFIX.size + size
    if len(record) < end:
        raise _malformed(key, "it ends within its header")
    try:
        fields = _json.decode(record[start:end], {"content-type": "application/json"})
        return _checked(fields), record[end:]
    except (SerializationError, ValueError, KeyError, TypeError) as error:
        raise _malformed(key, "its header is not ours") from error


def decode_record(key: str, record: bytes, codec: Codec, allowed: Allowed) -> Result:
    """Return a record as a `Result`; one that cannot be read says so in `problem`. Never raises."""
    try:
        header, body = read_header(key, record)
        error = _error(key, header, allowed)
    except MalformedResult as problem:
        return Result(key=key, state=State.UNKNOWN, problem=problem)
    value, problem_of_value = None, None
    if header.state is State.SUCCESS:
        try:
            value = codec.decode(body, header.headers)
        except SerializationError as failure:
            problem_of_value = failure
    return Result(
        key=key,
        state=header.state,
        error=error,
        traceback=header.error.get("traceback") if header.error else None,
        at=header.at,
        meta=header.meta,
        problem=problem_of_value,
        _value=value,
        _ends_at=header.ends_at,
    )


def _malformed(key: str, why: str) -> MalformedResult:
    return MalformedResult(f"the record of {key!r} was written by something else: {why}")


def _checked(fields: Any) -> Header:
    """Build the header of decoded JSON; ValueError, KeyError or TypeError if it is not one."""
    state, at, ttl, headers = _STATES[fields["state"]], fields["at"], fields["ttl"], fields.get("headers", {})
    if state is State.UNKNOWN or not _is_number(at) or not (ttl is None or _is_number(ttl)):
        raise ValueError("state or times")
    if not isinstance(headers, dict):
        raise TypeError("headers")
    for text in headers.values():  # the names are texts in any JSON
        if not isinstance(text, str):
            raise TypeError("headers")
    error = fields.get("error")
    if (state is State.FAILURE) != (error is not None):
        raise ValueError("a failure and its error belong together")
    return Header(state, float(at), ttl, headers, fields.get("meta"), error)


def _is_number(value: object) -> bool:
    return type(value) in _NUMBERS and math.isfinite(value)  # type: ignore[arg-type]


def _error(key: str, header: Header, allowed: Allowed) -> Exception | None:
    if header.state is State.REVOKED:
        return RemoteFailure("Revoked", f"{key!r} was revoked")
    if header.error is None:
        return None
    try:
        return rebuild(header.error, allowed)
    except ValueError as error:
        raise _malformed(key, "its error is not ours") from error
