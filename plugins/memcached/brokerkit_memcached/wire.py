"""One open connection: commands go out in one write, and their answers come back in order.

pymemcache's client stops reading a batch's answers at the first that is an error, bounds each read but not a call, and
dials only one address of a name. So this speaks the text protocol itself, and raises pymemcache's errors.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
from collections.abc import Sequence
from typing import Final, NamedTuple, final

from pymemcache.exceptions import MemcacheError, MemcacheUnexpectedCloseError, MemcacheUnknownError

from brokerkit.abc import Clock
from brokerkit_memcached.errors import Late, Silence, TimeUp, answer_of

__all__ = ["Item", "Wire"]

_ROOM: Final = 256 * 1024
_LONGEST_LINE: Final = 8192
_TICKS: Final = 2.0  # seconds by which the server's clock may be behind itself: it ticks once a second, at times late
_SLACK: Final = 0.05
"""Seconds by which a time-out may be too long: it saves a system call for each read."""


class Item(NamedTuple):
    """An item that was read."""

    flags: int
    value: bytes
    cas: bytes


@final
class Wire:
    """One open connection. Not thread-safe. Whoever gets an error from it must close it.

    Attributes:
        server: "host:port" or the socket's path.
        generation: of the pool, when it was opened.
        used: when it was last used, by the clock.
        asked: when the server was last asked for its time, by the clock.
        item_size_max: bytes of one item that the server takes, as it says.
        evicts: whether it drops items when its memory is full.

    Args:
        opened: the socket.
        server: for texts.
        clock: for deadlines.
        longest: seconds that the server may be silent.
    """

    def __init__(self, opened: socket.socket, server: str, *, clock: Clock, longest: float) -> None:
        self._socket = opened
        self._clock = clock
        self._longest = longest
        self._limit = -1.0
        self._deadline = 0.0
        self._buffer = bytearray()
        self._at = 0
        self._earliest = self._latest = 0.0
        self._poll = select.poll()
        self._poll.register(opened, select.POLLIN)
        self.server = server
        self.generation = 0
        self.used = self.asked = clock.monotonic()
        self.item_size_max = 0
        self.evicts = True

    # -- time --------------------------------------------------------------------------------------------------------

    def not_before(self) -> float:
        """Return a moment that the server's clock has reached, in seconds since the epoch."""
        return self._earliest + self._clock.monotonic()

    def not_after(self) -> float:
        """Return a moment that the server's clock has not yet passed, in seconds since the epoch."""
        return self._latest + self._clock.monotonic()

    def ask_time(self, deadline: float) -> None:
        """Ask the server for its clock, which runs on evenly whatever happens to anybody's time of day."""
        before = self._clock.monotonic()
        told = self.stats(b"stats", deadline).get(b"time", b"")
        after = self._clock.monotonic()
        if not told.isdigit():
            raise self._nonsense(b"STAT time " + told)
        seconds = int(told)
        self._earliest, self._latest = seconds - after, seconds + _TICKS - before
        self.asked = after

    # -- calls -------------------------------------------------------------------------------------------------------

    def send(self, content: bytes, deadline: float) -> None:
        """Send commands, whose answers are then read one by one."""
        now = self._clock.monotonic()
        if deadline <= now:
            raise Late(f"{self.server}: the time of the call was over before anything was sent")
        self._deadline = deadline
        self.used = now
        self._allow(now)
        try:
            self._socket.sendall(content)
        except TimeoutError:
            raise self._silence("took nothing") from None
        except OSError as error:
            raise MemcacheUnexpectedCloseError(f"the connection to {self.server} broke: {error}") from error

    def answer(self, *known: bytes) -> bytes | MemcacheError:
        """Return the next answer of one line; an error of the server is returned, too.

        Raises:
            MemcacheUnknownError: it is neither an error nor one of those that are known.
        """
        line = self.line()
        if line in known:
            return line
        error = answer_of(line)
        if error is None:
            raise self._nonsense(line)
        return error

    def items(self, content: bytes, deadline: float) -> dict[bytes, Item]:
        """Send one `get` or `gets`, and return the items that there are, by key."""
        self.send(content, deadline)
        if not self._buffer:
            self._fill()
            if (whole := _items_of(bytes(self._buffer))) is not None:
                self._buffer.clear()
                return whole
        found: dict[bytes, Item] = {}
        while (line := self.line()) != b"END":
            parts = line.split(b" ")
            if parts[0] != b"VALUE" or len(parts) not in (4, 5) or not (parts[2] + parts[3]).isdigit():
                raise answer_of(line) or self._nonsense(line)
            value = self._exactly(int(parts[3]))
            found[parts[1]] = Item(int(parts[2]), value, parts[4] if len(parts) == 5 else b"")  # noqa: PLR2004
        return found

    def stats(self, command: bytes, deadline: float) -> dict[bytes, bytes]:
        """Return what the server says about itself."""
        self.send(command + b"\r\n", deadline)
        told: dict[bytes, bytes] = {}
        while (line := self.line()) != b"END":
            word, _, rest = line.partition(b" ")
            if word != b"STAT":
                raise answer_of(line) or self._nonsense(line)
            name, _, value = rest.partition(b" ")
            told[name] = value
        return told

    def lines(self, content: bytes, count: int, known: Sequence[bytes], deadline: float) -> list[bytes | MemcacheError]:
        """Send commands that are answered by a line each, and return the answers."""
        self.send(content, deadline)
        return [self.answer(*known) for _ in range(count)]

    # -- the connection ----------------------------------------------------------------------------------------------

    def is_quiet(self) -> bool:
        """Tell whether nothing has come while nothing was asked: neither the connection's end nor a stray answer."""
        if len(self._buffer) > self._at:
            return False
        if not self._poll.poll(0):
            return True
        if not isinstance(self._socket, ssl.SSLSocket):
            return False
        self._socket.settimeout(0)  # under TLS there may be something to read that is none of ours, such as a new key
        self._limit = 0.0
        with contextlib.suppress(OSError):
            try:
                self._socket.recv(1)
            except ssl.SSLWantReadError:
                return True
        return False

    def close(self) -> None:
        """Close the connection; idempotent."""
        with contextlib.suppress(OSError):
            self._socket.close()

    def line(self) -> bytes:
        """Return the next line, without its end."""
        while (end := self._buffer.find(b"\r\n", self._at)) < 0:
            if len(self._buffer) - self._at > _LONGEST_LINE:
                raise self._nonsense(bytes(self._buffer[self._at : self._at + 64]))
            self._fill()
        line = bytes(self._buffer[self._at : end])
        self._skip(end + 2)
        return line

    def _exactly(self, size: int) -> bytes:
        """Return a value of so many bytes, whose end follows."""
        while len(self._buffer) - self._at < size + 2:
            self._fill()
        end = self._at + size
        with memoryview(self._buffer) as whole:
            value = bytes(whole[self._at : end])
        if self._buffer[end : end + 2] != b"\r\n":
            raise self._nonsense(bytes(self._buffer[end : end + 2]))
        self._skip(end + 2)
        return value

    def _skip(self, to: int) -> None:
        if to == len(self._buffer):
            self._buffer.clear()
            self._at = 0
        else:
            self._at = to

    def _fill(self) -> None:
        if self._at > _ROOM:
            del self._buffer[: self._at]
            self._at = 0
        self._allow(self._clock.monotonic())
        try:
            more = self._socket.recv(_ROOM)
        except TimeoutError:
            raise self._silence("did not answer") from None
        except OSError as error:
            raise MemcacheUnexpectedCloseError(f"the connection to {self.server} broke: {error}") from error
        if not more:
            raise MemcacheUnexpectedCloseError(f"{self.server} closed the connection")
        self._buffer += more

    def _allow(self, now: float) -> None:
        """Set the socket's time-out to what is left, and never above the longest silence."""
        left = self._deadline - now
        if left <= 0:
            raise TimeUp(f"{self.server}: the time of the call is over", 0.0)
        wanted = min(left, self._longest)
        if not wanted <= self._limit <= wanted + _SLACK:
            self._socket.settimeout(wanted)
            self._limit = wanted

    def _silence(self, did: str) -> MemcacheError:
        kind = Silence if self._limit >= self._longest else TimeUp
        return kind(f"{self.server} {did} for {self._limit:.3g} s", self._limit)

    def _nonsense(self, line: bytes) -> MemcacheError:
        return MemcacheUnknownError(f"{self.server} said {line[:64]!r}")


def _items_of(content: bytes) -> dict[bytes, Item] | None:
    """Return the items of an answer that came in one piece, as most do; None if it is not whole, or not as it should be."""
    found: dict[bytes, Item] = {}
    at = 0
    while not content.startswith(b"END\r\n", at):
        start = content.find(b"\r\n", at) + 2
        parts = content[at : start - 2].split(b" ")
        if start == 1 or parts[0] != b"VALUE" or len(parts) not in (4, 5) or not (parts[2] + parts[3]).isdigit():
            return None
        at = start + int(parts[3])
        if not content.startswith(b"\r\n", at):
            return None
        found[parts[1]] = Item(int(parts[2]), content[start:at], parts[4] if len(parts) == 5 else b"")  # noqa: PLR2004
        at += 2
    return found if at + 5 == len(content) else None
