"""One AMQP connection, shared by threads without a thread of its own: whoever waits for something reads for all."""

from __future__ import annotations

import contextlib
import itertools
import math
import select
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final, final

from amqp import exceptions

from brokerkit.abc import Clock
from brokerkit.errors import Closed
from brokerkit_rabbitmq import answers, methods
from brokerkit_rabbitmq.channel import Channel
from brokerkit_rabbitmq.errors import Malformed, Silence, fresh
from brokerkit_rabbitmq.frames import HEARTBEAT, Method
from brokerkit_rabbitmq.stream import Stream

__all__ = ["Link"]

_MISSED: Final = 2
"""Heartbeats that may be missed before the server counts as gone."""
_LONGEST: Final = 3600.0
"""Seconds of one poll: its argument has an end."""


@final
class Link:
    """One AMQP connection. Thread-safe: everything is done under `lock`, which nobody holds while waiting.

    Reading: the first thread that waits leads, which is, it polls the socket; the others follow, and are woken when what
    they wait for is there, or when one of them has to lead. Writing never blocks: what the socket does not take at once
    waits in memory, and whoever leads, or the tender, sends it on. So two full buffers cannot hold each other up.

    Args:
        stream: the connected socket, behind the handshake.
        facts: what the server said of itself.
        frame_max: that was agreed on.
        channel_max: likewise.
        heartbeat: likewise, in seconds.
        clock: for deadlines and heartbeats.

    Attributes:
        lock: held for moments only. It may be taken by others, to judge and write in one step, but not around `wait`.
        broken: why it is dead; each call raises a copy. None while it lives.
        blocked: the server's reason for taking nothing that is published, or None.
        server: what the server said of itself: product, version…
        name: "host:port" of the server.
        frame_max: the size of the largest frame.
        heartbeat: seconds between signs of life.
    """

    def __init__(
        self,
        stream: Stream,
        *,
        facts: Mapping[str, Any],
        frame_max: int,
        channel_max: int,
        heartbeat: int,
        clock: Clock,
    ) -> None:
        self.lock = threading.RLock()
        self.broken: Exception | None = None
        self.blocked: str | None = None
        self.server = facts
        self.name = stream.server
        self.frame_max = frame_max
        self.heartbeat = heartbeat
        self._clock = clock
        self._stream = stream
        self._channels: dict[int, Channel] = {}
        self._channel_max = channel_max
        self._numbers = itertools.cycle(range(1, channel_max + 1))
        self._leader: Callable[[], bool] | None = None
        self._followers: list[_Follower] = []
        self._dispatching = False
        self._closing = False
        self._heard = self._said = clock.monotonic()
        self._received = self._sent = 0
        self._poke, self._poked = socket.socketpair()
        self._poke.setblocking(False)
        self._poked.setblocking(False)
        self._poll = select.poll()
        self._poll.register(self._poked, select.POLLIN)

    @property
    def unsent(self) -> int:
        """Bytes that were written, and that the socket has not taken."""
        return self._stream.unsent

    def open_channel(self, on_method: Callable[[Method], None], *, deadline: float) -> Channel:
        """Open a channel.

        Args:
            on_method: gets the methods that no `Channel.call` waits for, in whichever thread reads, under `lock`. It must
                not block.
            deadline: by the clock.
        """
        with self.lock:
            number = next((n for n in itertools.islice(self._numbers, self._channel_max) if n not in self._channels), 0)
            if not number:
                raise exceptions.ResourceError(f"all {self._channel_max} channels of this connection are in use")
            channel = self._channels[number] = Channel(self, number, on_method, self._clock)
        channel.call(methods.channel_open(number), answers.CHANNEL_OPEN_OK, deadline=deadline)
        return channel

    def wait(self, ready: Callable[[], bool], deadline: float) -> bool:
        """Wait, reading, until something is so; False if it is not in time. The caller must not hold `lock`.

        Args:
            ready: asked under `lock`, by any thread; must be quick and change nothing.
            deadline: by the clock; what has arrived is read even if it has passed.

        Raises:
            Exception: a copy of `broken`.
        """
        with self.lock:
            try:
                while not ready():
                    self._raise_if_broken()
                    left = deadline - self._clock.monotonic()
                    if left <= 0:
                        self.drain()
                        return ready()
                    if self._leader is None:
                        self._lead(ready, left)
                    else:
                        self._follow(ready, left)
            finally:
                self._pass_on()
        return True

    def drain(self) -> None:
        """Read all that has arrived, without waiting. Before a lease is judged: the connection's end may be among it.

        Raises:
            Exception: a copy of `broken`.
        """
        with self.lock:
            self._read(everything=True)
            self._raise_if_broken()

    def write(self, *frames: bytes) -> None:
        """Send frames, behind all that were written before. Never blocks.

        Raises:
            Exception: a copy of `broken`. What was written shortly before may not have arrived either.
        """
        with self.lock:
            self.check()
            self._write(*frames)
            self._raise_if_broken()

    def check(self) -> None:
        """Raise a copy of `broken`, if nothing can be written any more."""
        self._raise_if_broken()
        if self._closing:
            raise Closed("this connection is being closed")

    def wake(self) -> None:
        """Let those who wait look again, after something was changed that they look at."""
        with self.lock:
            for follower in self._followers:
                if _is_so(follower.ready):
                    follower.condition.notify()
            if self._leader is not None and (self.broken or _is_so(self._leader)):
                self._poke_leader()

    def tend(self, now: float) -> None:
        """Read, send on, and keep the heartbeats of both sides; from time to time, by the tender."""
        with self.lock:
            if self.broken is None:
                self._stream.flush()
                self._read(everything=True)
                self._beat(now)

    def close(self, *, deadline: float) -> None:
        """Say goodbye and close; idempotent. Waits for the server until the deadline, but not if it takes nothing."""
        with self.lock:
            if self.broken is None and not self._closing:
                self._write(methods.connection_close())
                self._closing = True
        if self.blocked is None:
            with contextlib.suppress(Exception):  # it is closed in any case
                self.wait(lambda: self.broken is not None, deadline)
        with self.lock:
            self._break(Closed("this connection was closed"))

    def reply(self, frame: bytes) -> None:
        """Write what the server has to hear, whatever state the link is in; by the channel, under `lock`."""
        if self.broken is None:
            self._write(frame)

    def forget(self, number: int) -> None:
        """Free a channel's number; by the channel, under `lock`."""
        self._channels.pop(number, None)

    def _raise_if_broken(self) -> None:
        if self.broken is not None:
            raise fresh(self.broken)

    def _lead(self, ready: Callable[[], bool], left: float) -> None:
        """Poll the socket without the lock, then read."""
        self._poll.register(self._stream, self._stream.awaited)
        self._leader = ready
        self.lock.release()
        try:
            events = self._poll.poll(math.ceil(min(left, _LONGEST) * 1000))
        finally:
            self.lock.acquire()
            self._leader = None
        if self.broken is not None:
            self._let_go()
            return
        if any(number == self._poked.fileno() for number, _ in events):
            self._poked.recv(4096)
        if events:
            self._stream.flush()
            self._read(everything=False)

    def _follow(self, ready: Callable[[], bool], left: float) -> None:
        follower = _Follower(ready, self.lock)
        self._followers.append(follower)
        try:
            self._clock.wait(follower.condition, left)
        finally:
            self._followers.remove(follower)

    def _pass_on(self) -> None:
        """Let a follower lead, if nobody does."""
        if self._leader is None and self._followers:
            self._followers[0].condition.notify()

    def _poke_leader(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it has been poked often enough
            self._poke.send(b"\0")

    def _write(self, *frames: bytes) -> None:
        self._stream.send(frames)
        if self._stream.write_failure is not None:
            self._read(everything=True)  # the server may have said why
        elif self._stream.unsent and self._leader is not None:
            self._poke_leader()  # it does not poll for room yet

    def _read(self, *, everything: bool) -> None:
        if self._dispatching or self.broken is not None:
            return
        came = self._stream.read(everything=everything)
        self._dispatching = True
        try:
            for method in came:
                self._dispatch(method)
        except Exception as error:  # noqa: BLE001 - whatever it is, what was read is lost
            self._break(error)
        finally:
            self._dispatching = False
        if self._stream.received != self._received:
            self._notice(self._clock.monotonic())
        if self._stream.failure is not None:
            self._break(self._stream.failure)
        elif came:
            self.wake()

    def _notice(self, now: float) -> None:
        """Remember when something went or came."""
        stream = self._stream
        if stream.received != self._received:
            self._received, self._heard = stream.received, now
        if stream.sent != self._sent:
            self._sent, self._said = stream.sent, now

    def _beat(self, now: float) -> None:
        """Send a heartbeat if it is time, and give up a server that has sent none."""
        if self.broken is not None:
            return
        self._notice(now)
        if now - self._heard > _MISSED * self.heartbeat:
            self._break(Silence(f"nothing came from {self.name} for {now - self._heard:.1f} s"))
        elif now - self._said >= self.heartbeat / 2 and not self._stream.unsent:
            self._write(HEARTBEAT)

    def _dispatch(self, method: Method) -> None:
        channel = self._channels.get(method.channel)
        if channel is not None:
            channel.take(method)
        elif method.channel == 0:
            self._take_own(method)  # any other is about a channel that was closed

    def _take_own(self, method: Method) -> None:
        if method.id == answers.CONNECTION_CLOSE:
            code, text, cause = answers.read_closing(method.args)
            self.reply(methods.connection_close_ok())
            self._break(exceptions.error_for_code(code, text, cause, exceptions.ConnectionError))
        elif method.id == answers.CONNECTION_CLOSE_OK:
            self._break(Closed("this connection was closed"))
        elif method.id == answers.CONNECTION_BLOCKED:
            self.blocked = answers.read_reason(method.args)
        elif method.id == answers.CONNECTION_UNBLOCKED:
            self.blocked = None
        else:
            raise Malformed(f"method {method.id >> 16}.{method.id & 0xFFFF} on channel 0, where none is in order")

    def _break(self, error: Exception) -> None:
        if self.broken is None:
            self.broken = error
            self._stream.abort()
            if self._leader is None:
                self._let_go()
        self.wake()

    def _let_go(self) -> None:
        """Close the sockets, when nobody polls them."""
        self._stream.close()
        self._poke.close()
        self._poked.close()


class _Follower:
    """A thread that waits while another one reads."""

    __slots__ = ("condition", "ready")

    def __init__(self, ready: Callable[[], bool], lock: threading.RLock) -> None:
        self.ready = ready
        self.condition = threading.Condition(lock)


def _is_so(ready: Callable[[], bool]) -> bool:
    """Tell whether a waiting thread has something to see; its own error is for itself to see."""
    try:
        return ready()
    except Exception:  # noqa: BLE001 - any
        return True
