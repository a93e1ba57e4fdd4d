"""AMQP 0-9-1 on the wire, pure: bytes that were received → methods, and methods → bytes. Nothing here does I/O.

What single methods say is in `methods` (ours) and `answers` (the server's); tables and properties have their own modules.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple, final

from brokerkit_rabbitmq.answers import BASIC_DELIVER, BASIC_GET_OK, BASIC_RETURN
from brokerkit_rabbitmq.errors import Malformed

__all__ = ["HEARTBEAT", "Assembler", "Method", "content"]

HEARTBEAT: Final = b"\x08\0\0\0\0\0\0\xce"
_END: Final = 0xCE
_END_BYTE: Final = b"\xce"
_METHOD, _HEADER, _BODY, _BEAT = 1, 2, 3, 8
_KINDS: Final = (_METHOD, _HEADER, _BODY, _BEAT)
_AROUND: Final = 8
"""Bytes of a frame around its payload."""
_FRAME: Final = struct.Struct(">BHI")
_ID: Final = struct.Struct(">I")
_SIZES: Final = struct.Struct(">HHQ")
_CONTENT_HEADER: Final = struct.Struct(">BHIHHQ")
_BASIC: Final = 60
_WITH_CONTENT: Final = frozenset((BASIC_DELIVER, BASIC_RETURN, BASIC_GET_OK))


class Method(NamedTuple):
    """One method, and the content that came with it.

    Attributes:
        channel: its number; 0 for the connection itself.
        id: class and method as one number.
        args: its arguments, encoded.
        properties: of its content, encoded, from their flags on.
        body: of its content.
    """

    channel: int
    id: int
    args: bytes
    properties: bytes = b""
    body: bytes = b""


@final
class Assembler:
    """Turns bytes, however they were cut, into methods with their contents. Not thread-safe.

    Holds at most one unfinished frame, and one unfinished content for each channel.

    Args:
        frame_max: the size of the largest frame that was agreed on.
    """

    __slots__ = ("_contents", "_largest", "_rest")

    def __init__(self, frame_max: int) -> None:
        self._largest = frame_max - _AROUND
        self._rest = b""
        self._contents: dict[int, _Content] = {}

    def feed(self, received: bytes) -> list[Method]:
        """Take what was received, and return the methods that are complete now, in order.

        Raises:
            Malformed: it is no AMQP. What comes behind cannot be understood any more.
        """
        stream = self._rest + received if self._rest else received
        size_of, id_of = _FRAME.unpack_from, _ID.unpack_from
        contents, largest, total = self._contents, self._largest, len(stream)
        done: list[Method] = []
        at = 0
        while total - at >= _AROUND:
            kind, channel, size = size_of(stream, at)
            if size > largest:
                raise Malformed(f"a frame of {size} bytes, where at most {largest} were agreed on")
            start = at + 7
            end = start + size
            if end >= total:
                break
            if stream[end] != _END:
                raise Malformed(f"a frame ends with {stream[end]:#04x} in place of {_END:#04x}")
            at = end + 1
            if kind == _METHOD and channel not in contents and size >= 4:  # noqa: PLR2004 - its id
                (method,) = id_of(stream, start)
                args = stream[start + 4 : end]
                if method in _WITH_CONTENT:
                    contents[channel] = _Content(method, args)
                else:
                    done.append(Method(channel, method, args))
            elif channel in contents:
                content = contents[channel]
                if content.add(kind, stream[start:end]):
                    del contents[channel]
                    done.append(Method(channel, content.method, content.args, content.properties, content.body))
            elif kind != _BEAT or channel or size:
                raise Malformed(
                    f"a frame of type {kind} with {size} bytes on channel {channel}, where none is in order"
                )
        self._rest = _begun(stream[at:])
        return done


def _begun(rest: bytes) -> bytes:
    """Refuse the beginning of a frame of no known type: its size might be waited for in vain."""
    if rest and rest[0] not in _KINDS:
        raise Malformed(f"a frame of type {rest[0]}, which AMQP does not know")
    return rest


class _Content:
    """A method whose content is still to come."""

    __slots__ = ("_chunks", "_left", "args", "body", "method", "properties")

    def __init__(self, method: int, args: bytes) -> None:
        self.method = method
        self.args = args
        self.properties = b""
        self.body = b""
        self._left = -1  # the header is to come
        self._chunks: list[bytes] = []

    def add(self, kind: int, payload: bytes) -> bool:
        """Take the next frame; tell whether that was the last one."""
        if kind == _BODY and 0 < len(payload) <= self._left:
            self._left -= len(payload)
            if self._left or self._chunks:
                self._chunks.append(payload)
                if not self._left:
                    self.body = b"".join(self._chunks)
            else:
                self.body = payload
        elif kind == _HEADER and self._left < 0 and len(payload) > _SIZES.size:
            what, _, self._left = _SIZES.unpack_from(payload)
            if what != _BASIC:
                raise Malformed(f"a content of class {what}, where {_BASIC} is the only one")
            self.properties = payload[_SIZES.size :]
        else:
            raise Malformed(
                f"a frame of type {kind} with {len(payload)} bytes, within a content that lacks {self._left}"
            )
        return not self._left


def content(channel: int, properties: bytes, body: bytes, frame_max: int) -> list[bytes]:
    """Return the frames of a content, to be sent behind `basic_publish`, in pieces to be joined.

    Args:
        channel: where the method went.
        properties: encoded, from their flags on.
        body: of any length.
        frame_max: that was agreed on.
    """
    size = len(body)
    head = _CONTENT_HEADER.pack(_HEADER, channel, len(properties) + _SIZES.size, _BASIC, 0, size)
    largest = frame_max - _AROUND
    if size <= largest:
        if not size:
            return [head, properties, _END_BYTE]
        return [head, properties, _END_BYTE + _FRAME.pack(_BODY, channel, size), body, _END_BYTE]
    pieces = [head, properties, _END_BYTE]
    for start in range(0, size, largest):
        piece = body[start : start + largest]
        pieces += (_FRAME.pack(_BODY, channel, len(piece)), piece, _END_BYTE)
    return pieces
