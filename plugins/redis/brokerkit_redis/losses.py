"""What a receiver has to tell of queues and messages that are gone: each once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from brokerkit.errors import InconsistencyError, QueueNotFound

__all__ = ["Losses", "settings_gone"]


def settings_gone(name: str) -> InconsistencyError:
    """Return the error for a queue of which something is left, and not its settings."""
    return InconsistencyError(
        f"queue {name!r}: its settings are gone from the server, though nobody deleted it, and some of its messages are "
        "left; declare it anew to go on with these"
    )


@final
class Losses:
    """Collects what is to be told, and raises it. Not thread-safe: it belongs to whoever has the receiver's turn."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._reported: set[str] = set()
        self._to_report: list[str] = []
        self._halves: set[str] = set()

    @property
    def any(self) -> bool:
        """Whether something is to be told."""
        return bool(self._texts or self._to_report)

    def tell(self) -> None:
        """Raise what there is to tell.

        Raises:
            QueueNotFound: queues are gone.
            InconsistencyError: something is gone that nobody removed.
        """
        if self._texts:
            texts, self._texts = self._texts, []
            raise InconsistencyError("; ".join(texts))
        if self._to_report:
            names, self._to_report = self._to_report, []
            halves = [name for name in names if name in self._halves]
            if halves:
                self._to_report = [name for name in names if name not in halves]
                raise settings_gone(halves[0])
            raise QueueNotFound(*names)

    def note(self, text: str) -> None:
        """Tell this."""
        self._texts.append(text)

    def note_absent(self, name: str, kind: int) -> None:
        """Note of a missing queue whether something of it is left (2) or not (1)."""
        (self._halves.add if kind != 1 else self._halves.discard)(name)

    def note_missing(self, missing: Sequence[str], of: int, *, partly: bool = False) -> None:
        """Tell once of each queue that is missing, so that the others go on; and always when none is left.

        Args:
            missing: the queues.
            of: how many there are.
            partly: not all of them were looked at.
        """
        new = [name for name in missing if name not in self._reported]
        self._reported = {*missing, *(self._reported if partly else ())}
        if new or len(missing) == of:
            self._to_report = new or list(missing)

    def note_gone(self, name: str, found: bytes) -> None:
        """Tell what repairs found: a line each, see repair.lua."""
        for line in found.decode().split("\n"):
            if line.startswith("B "):
                self.note(
                    f"queue {name!r}: its binding to topic {line[2:]!r} was gone, and is there anew; what was published in "
                    "between is missing"
                )
                continue
            count, back, had_floor, ids = line.split(" ")
            parts = [] if had_floor == "1" else ["the key with its messages was gone"]
            if count != "0":
                named = ids.replace(",", ", ") + (", …" if int(count) > ids.count(",") + 1 else "")
                parts.append(f"{count} messages are gone, though nobody settled them: {named}")
            if back != "0":
                parts.append(f"{back} messages were put back whose place was gone; their attempts count anew")
            self.note(f"queue {name!r}: {'; '.join(parts) or 'a key of its bookkeeping was gone, and is there anew'}")

    def note_ids(self, name: str, ids: Sequence[str]) -> None:
        """Tell of messages whose body is gone."""
        self.note(f"queue {name!r}: {len(ids)} messages are gone, though nobody settled them: {', '.join(ids)}")
