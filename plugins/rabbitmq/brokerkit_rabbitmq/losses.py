"""What a receiver has to tell of queues that are gone: each once."""

from __future__ import annotations

from collections.abc import Collection
from typing import final

from brokerkit.errors import QueueNotFound

__all__ = ["Losses"]


@final
class Losses:
    """Collects which queues are missing, and raises it. Not thread-safe: it belongs to who has the receiver's turn."""

    def __init__(self) -> None:
        self._reported: set[str] = set()
        self._to_report: list[str] = []

    @property
    def any(self) -> bool:
        """Whether something is to be told."""
        return bool(self._to_report)

    def tell(self) -> None:
        """Raise what there is to tell.

        Raises:
            QueueNotFound: queues are gone.
        """
        if self._to_report:
            names, self._to_report = self._to_report, []
            raise QueueNotFound(*names)

    def note(self, missing: Collection[str], of: int) -> None:
        """Tell once of each queue that is missing, so that the others go on; and always when none is left.

        Args:
            missing: the queues.
            of: how many there are.
        """
        new = [name for name in missing if name not in self._reported]
        self._reported = set(missing)
        if new or (missing and len(missing) == of):
            self._to_report = new or list(missing)
