"""What went by in one direction of one connection: counted for ever, remembered up to a bound."""

from __future__ import annotations

__all__ = ["Transcript"]


class Transcript:
    """The bytes of one direction. Not thread-safe: the proxy guards it.

    Attributes:
        total: how many bytes there were.
    """

    def __init__(self, keep: int) -> None:
        self.total = 0
        self._keep = keep
        self._bytes = bytearray()

    def append(self, chunk: bytes) -> None:
        """Take down what went by; beyond `keep` bytes the oldest are forgotten."""
        self.total += len(chunk)
        self._bytes += chunk
        if len(self._bytes) > 2 * self._keep:
            del self._bytes[: -self._keep]

    def end_of(self, needle: bytes, start: int = 0) -> int | None:
        """Return the offset just behind the first occurrence that begins at `start` or later, or None."""
        dropped = self.total - len(self._bytes)
        found = self._bytes.find(needle, max(0, start - dropped))
        return None if found < 0 else dropped + found + len(needle)

    def count(self, needle: bytes, start: int = 0) -> int:
        """Return how often `needle` occurs from `start` on."""
        return self._bytes.count(needle, max(0, start - (self.total - len(self._bytes))))
