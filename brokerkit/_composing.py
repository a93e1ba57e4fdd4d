"""Composing: payloads and keywords become messages and queues, checked against the engine's capabilities before any I/O."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, TypedDict, final

from brokerkit import _dead_letters
from brokerkit.abc import Clock
from brokerkit.capabilities import Capabilities, Delay, require
from brokerkit.errors import InvalidMessage, InvalidName, InvalidOption, MessageTooLarge, nearest
from brokerkit.models import Message, Queue, check_name, new_id
from brokerkit.serialization import Codec

__all__ = ["Composer", "Sending", "Settings"]

_MAX_PRIORITY: Final = 9
_RESERVED: Final = ("bk-", "content-")


class Sending(TypedDict, total=False):
    """The sending options of a message, as keywords; see `Message`."""

    headers: Mapping[str, str] | None
    priority: int
    delay: float
    ttl: float | None
    ordering_key: str | None
    dedup_key: str | None


class Settings(TypedDict, total=False):
    """The settings of a queue, as keywords; see `Queue`."""

    max_attempts: int | None
    expires: float | None
    message_ttl: float | None
    max_length: int | None
    max_priority: int


@final
class Composer:
    """Makes messages and queue settings that the engine can take. Immutable, hence thread-safe."""

    def __init__(self, codec: Codec, capabilities: Capabilities, clock: Clock) -> None:
        self._codec = codec
        self._capabilities = capabilities
        self._clock = clock

    def message(self, payload: Any, sending: Mapping[str, Any]) -> Message:
        """Return one message, or refuse."""
        if sending:
            return self.messages([payload], sending)[0]
        body, headers = self._codec.encode(payload)
        return self._sized(Message(id=new_id(self._clock.time()), body=body, headers=headers))

    def messages(
        self, payloads: Iterable[Any], sending: Mapping[str, Any], *, topic: str | None = None, routing_key: str = ""
    ) -> list[Message]:
        """Return messages that share their sending options, or refuse all."""
        options = self._sending(sending)
        own = dict(options.pop("headers", None) or {})
        if topic is not None:
            own |= {"bk-topic": topic, "bk-routing-key": _text("routing_key", routing_key)}
        now, encode, size = self._clock.time(), self._codec.encode, self._sized
        made = []
        for payload in payloads:
            body, headers = encode(payload)
            made.append(
                size(Message(id=new_id(now), body=body, headers={**own, **headers} if own else headers, **options))
            )
        return made

    def queue(self, queue: str | Queue, settings: Mapping[str, Any], *, default_attempts: int | None) -> Queue:
        """Return a queue's settings, or refuse."""
        if isinstance(queue, Queue):
            if settings:
                raise InvalidOption(f"declare({queue.name!r}): give the settings in the Queue or as keywords, not both")
            made = queue
        else:
            unknown = next((name for name in settings if name not in Settings.__annotations__), None)
            if unknown is not None:
                raise InvalidOption(f"a queue has no setting {unknown!r}{nearest(unknown, Settings.__annotations__)}")
            check_name(queue, what="queue", max_bytes=self._capabilities.max_name)
            made = Queue(name=queue, **({"max_attempts": default_attempts} | dict(settings)))
        self._check_queue(made)
        return replace(made, max_attempts=None) if _dead_letters.is_dead_queue(made.name) else made

    def _check_queue(self, queue: Queue) -> None:
        dead = _dead_letters.dead_queue(queue.name)
        check_name(dead, what="dead queue's", max_bytes=self._capabilities.max_name)
        if _dead_letters.is_dead_queue(queue.name) and _dead_letters.is_dead_queue(queue.name.removesuffix(".dead")):
            raise InvalidName(
                f"queue {queue.name!r} would hold the dead letters of dead letters, which there are none of"
            )
        for name, low, power in (
            ("max_attempts", 1, None),
            ("expires", 0, "queue_expires"),
            ("message_ttl", 0, "message_ttl"),
            ("max_length", 1, "max_length"),
        ):
            value = getattr(queue, name)
            if value is None:
                continue
            if not _is_number(value) or value < low or value == 0:
                raise InvalidOption(
                    f"{name}={value!r} of queue {queue.name!r}: it must be {'at least 1' if low else 'above 0'}"
                )
            if power is not None:
                require(self._capabilities, power, asked=f"{name}={value:g} of queue {queue.name!r}")
        if type(queue.max_priority) is not int or not 0 <= queue.max_priority <= _MAX_PRIORITY:
            raise InvalidOption(
                f"max_priority={queue.max_priority!r} of queue {queue.name!r}: it must be 0 to {_MAX_PRIORITY}"
            )

    def _sized(self, message: Message) -> Message:
        limit = self._capabilities.max_message
        if limit is not None:
            size = len(message.body)
            if message.headers:
                size += sum(len(name.encode()) + len(value.encode()) for name, value in message.headers.items())
            if size > limit:
                raise MessageTooLarge(
                    f"the message has {size} bytes of body and headers; {self._capabilities.product} takes {limit}"
                )
        return message

    def _sending(self, given: Mapping[str, Any]) -> dict[str, Any]:
        options = {name: value for name, value in given.items() if value is not None}
        for name, value in options.items():
            if name == "headers":
                _check_headers(value)
            elif name == "priority":
                self._check_priority(value)
            elif name == "delay":
                self._check_delay(value)
            elif name == "ttl":
                if not _is_number(value) or value <= 0:
                    raise InvalidMessage(f"ttl={value!r}: it must be a number of seconds above 0")
                require(self._capabilities, "message_ttl", asked=f"ttl={value:g}")
            elif name == "ordering_key":
                self._check_ordering_key(value)
            elif name == "dedup_key":
                require(self._capabilities, "dedup", asked=f"dedup_key={_text(name, value)!r}")
            else:
                raise InvalidOption(f"a message has no option {name!r}{nearest(name, Sending.__annotations__)}")
        return options

    def _check_priority(self, value: Any) -> None:
        if type(value) is not int or not 0 <= value <= _MAX_PRIORITY:
            raise InvalidMessage(
                f"priority={value!r}: it must be a whole number from 0 to {_MAX_PRIORITY}, higher is sooner"
            )
        if value:
            require(self._capabilities, "priority", asked=f"priority={value}")

    def _check_delay(self, value: Any) -> None:
        if not _is_number(value) or value < 0:
            raise InvalidMessage(f"delay={value!r}: it must be a number of seconds, at least 0")
        if value:
            delay: Delay = require(self._capabilities, "delay", asked=f"delay={value:g}")
            if value > delay.max:
                raise InvalidMessage(f"delay={value:g}: {self._capabilities.product} delays by at most {delay.max:g} s")

    def _check_ordering_key(self, value: Any) -> None:
        _text("ordering_key", value)
        if self._capabilities.order == "none":
            require_order = f"ordering_key={value!r}: {self._capabilities.product} keeps no order"
            raise InvalidMessage(require_order)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidMessage(f"{name}={value!r}: it must be a text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidMessage(f"{name}={value!r} has a lone surrogate; use valid unicode") from None
    return value


def _check_headers(headers: Any) -> None:
    if not isinstance(headers, Mapping):
        raise InvalidMessage(f"headers={headers!r}: it must be a mapping of text to text")
    for name, value in headers.items():
        if not isinstance(name, str) or not name:
            raise InvalidMessage(f"header name {name!r}: it must be a non-empty text")
        if name.lower().startswith(_RESERVED):
            raise InvalidMessage(f"header {name!r}: names that begin with 'bk-' or 'content-' are brokerkit's own")
        _text("header name", name)
        _text(f"header {name!r}", value)
