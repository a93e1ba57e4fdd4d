"""One channel of a connection: questions with answers, and what comes unasked."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Final, final

from amqp import exceptions

from brokerkit.abc import Clock
from brokerkit.errors import Closed, OperationTimeout, Throttled
from brokerkit_rabbitmq import answers, methods
from brokerkit_rabbitmq.errors import fresh
from brokerkit_rabbitmq.frames import Method

if TYPE_CHECKING:
    from brokerkit_rabbitmq.link import Link

__all__ = ["Channel"]

_NOTHING: Final[Collection[int]] = ()


@final
class Channel:
    """One channel. Thread-safe. Opened by `Link.open_channel`.

    Attributes:
        number: within its link.
        broken: why nothing can be done with it any more: the server's reason, as py-amqp's exception with `reply_code`,
            `reply_text` and `method_sig`, or ours. None while it is open, even if the link is broken.
    """

    def __init__(self, link: Link, number: int, on_method: Callable[[Method], None], clock: Clock) -> None:
        self.number = number
        self.broken: Exception | None = None
        self._link = link
        self._on_method = on_method
        self._clock = clock
        self._calls = threading.Lock()
        self._awaited: Collection[int] = _NOTHING
        self._answered: list[Method] = []
        self._closing = False

    def call(self, request: bytes, *wanted: int, deadline: float) -> Method:
        """Send a question, and return its answer. One at a time: others wait for their turn.

        Args:
            request: the frame.
            wanted: the methods that are answers.
            deadline: by the clock.

        Raises:
            OperationTimeout: no answer came in time; the channel is broken then, as it might come later.
            Throttled: likewise, while the server takes nothing that is published.
            AMQPError: the server closed the channel, or the connection, in place of an answer.
            Exception: the link is broken.
        """
        left = deadline - self._clock.monotonic()
        if not self._calls.acquire(timeout=max(left, 0.0)):
            raise OperationTimeout("other calls on the same channel took all the time")
        try:
            return self._ask(request, wanted, deadline)
        finally:
            self._calls.release()

    def send(self, *frames: bytes) -> None:
        """Send frames that have no answer.

        Raises:
            AMQPError: the server has closed the channel, or the connection.
            Exception: the link is broken.
        """
        with self._link.lock:
            self.check()
            self._link.write(*frames)

    def check(self) -> None:
        """Raise a copy of `broken`, if it is."""
        if self.broken is not None:
            raise fresh(self.broken)

    def leave(self) -> None:
        """Close it without waiting: from now on nothing that it brings is taken. Idempotent; see `close`."""
        with self._link.lock:
            if self.broken is None and self._link.broken is None:
                self._say_goodbye(Closed("this channel was closed"))

    def close(self, *, deadline: float) -> None:
        """Close it; idempotent. What it delivered and was not settled is ready again when this returns in time."""
        self.leave()
        if self._closing:
            with contextlib.suppress(Exception):  # with the link, it is closed as well
                self._link.wait(lambda: not self._closing, deadline)

    def take(self, method: Method) -> None:
        """Take what the server sent; by the link, under its lock."""
        if method.id == answers.CHANNEL_CLOSE:
            self._take_close(method)
        elif method.id == answers.CHANNEL_CLOSE_OK:
            self._closing = False
            self._link.forget(self.number)
        elif self.broken is not None:
            return  # what comes behind our goodbye means nothing any more
        elif method.id in self._awaited:
            self._awaited = _NOTHING
            self._answered.append(method)
        else:
            self._on_method(method)

    def _ask(self, request: bytes, wanted: Collection[int], deadline: float) -> Method:
        link = self._link
        try:
            with link.lock:
                self.check()
                self._awaited = wanted
                link.write(request)
            link.wait(self._is_answered, deadline)
        finally:
            with link.lock:
                answered, self._answered = self._answered, []
                self._awaited = _NOTHING
                if not answered and self.broken is None and link.broken is None:
                    self._say_goodbye(self._lateness())  # else its answer could be taken for the next one's
        if not answered:
            self.check()
        return answered[0]

    def _is_answered(self) -> bool:
        return bool(self._answered) or self.broken is not None

    def _lateness(self) -> Exception:
        if self._link.blocked is not None:
            return Throttled(f"the server takes nothing that is published: {self._link.blocked}")
        return OperationTimeout(f"{self._link.name} did not answer in time")

    def _say_goodbye(self, reason: Exception) -> None:
        """Close without waiting. Its number is free when the server has answered."""
        self.broken = reason
        self._closing = True
        self._link.reply(methods.channel_close(self.number))
        self._link.wake()

    def _take_close(self, method: Method) -> None:
        code, text, cause = answers.read_closing(method.args)
        if self.broken is None:
            self.broken = exceptions.error_for_code(code, text, cause, exceptions.ChannelError)
        if not self._closing:
            self._link.forget(self.number)
        self._link.reply(methods.channel_close_ok(self.number))
