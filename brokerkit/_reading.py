"""Reading and awaiting results: from records to `Result`s, and from their absence to its reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import final

from brokerkit._failures import Allowed
from brokerkit._known import Known
from brokerkit._records import Result, State, decode_record, read_header
from brokerkit._result_calls import ResultCalls
from brokerkit._waiting import TimeIsUp, Waiting
from brokerkit.abc import SupportsWait
from brokerkit.errors import Closed, InvalidOption, MalformedResult, ResultLost, ResultTimeout
from brokerkit.models import Record
from brokerkit.serialization import Codec

__all__ = ["ResultReader"]


@final
class ResultReader:
    """The reading half of a store. Thread-safe.

    Attributes:
        calls: the backend.
        known: what was there.
        waiting: who waits.
    """

    calls: ResultCalls
    known: Known
    waiting: Waiting

    def __init__(self, calls: ResultCalls, codec: Codec, allowed: Allowed) -> None:
        self._codec = codec
        self._allowed = allowed
        self.start(calls)

    def start(self, calls: ResultCalls) -> None:
        """Begin with a backend, anew in a forked child."""
        clock = calls.caller.clock
        self.calls = calls
        self.known = Known(clock)
        self.waiting = Waiting(
            clock=clock,
            read=self._look,
            ended=self._observe,
            watch=calls.watch if isinstance(calls.backend, SupportsWait) else None,
            patience=calls.caller.timeout,
        )

    def read(self, keys: Sequence[str]) -> list[Result]:
        """Return what is known about distinct keys now. What cannot be read says so in its `problem`."""
        if not keys:
            return []
        refused = {key: error for key in keys if (error := self.calls.problem_of_reading(key)) is not None}
        asked = [key for key in keys if key not in refused]
        since = self.known.moment()
        read = dict(zip(asked, self.calls.read(asked), strict=True)) if asked else {}
        found = self._without_forgotten(read, since)
        return [
            Result(key=key, state=State.UNKNOWN, problem=refused[key])
            if key in refused
            else self._result(key, found[key])
            for key in keys
        ]

    def wait(self, key: str, *, known: bool, timeout: float | None) -> Result:
        """Return a result that is final or unreadable.

        Args:
            key: of the record.
            known: whether there was a record, so that its absence means a loss.
            timeout: seconds, from 0; None for that of the store's calls.

        Raises:
            ResultLost: the record is gone.
            ResultTimeout: it did not become final in time.
        """
        seconds = self.patience(timeout)
        self.calls.check_open()
        try:
            record = self.waiting.wait(key, known=known or self.is_known(key), timeout=seconds)
        except TimeIsUp:
            raise ResultTimeout(f"{key!r} had no final result after {seconds:g} s") from None
        if record is None or record.expired:
            raise ResultLost(key, "expired" if record else self.known.reason(key) or "unknown")
        return self._result(key, record)

    def patience(self, timeout: float | None) -> float:
        """Return how many seconds to wait: what was asked for, or the timeout of the store's calls.

        Raises:
            InvalidOption: it is negative, or not a number.
        """
        seconds = self.calls.caller.timeout if timeout is None else timeout
        if not seconds >= 0:  # refuses NaN as well
            raise InvalidOption(f"timeout {seconds!r} must be at least 0 seconds")
        return seconds

    def ended(self, key: str, record: Record | None) -> Result:
        """Return the result of a wait that is over; None, or a record past its time, is one that is lost."""
        result = self._result(key, record)
        lost = record is None or record.expired
        return replace(result, lost="unknown") if lost and result.lost is None else result

    def is_known(self, key: str) -> bool:
        """Tell whether this process stored, saw or forgot a record of this key."""
        return self.known.reason(key) is not None

    def stored(self, record: Record, ends_at: float | None) -> None:
        """Note a record that this process has just stored, and wake its waiters."""
        self.known.note(record.key, ends_at)
        self.waiting.stored(record)

    def kept_out(self, key: str) -> None:
        """Note that another record is there."""
        if self.known.reason(key) in (None, "forgotten"):
            self.known.note(key, None)

    def forget(self, keys: Sequence[str]) -> None:
        """Delete records, and end the waiting for them."""
        with self.known.forgetting(keys):  # before: a server may wake its waiters before it answers us
            self.calls.delete(keys)
            for key in keys:
                self.known.forget(key)
                self.waiting.gone(key)

    def close(self, timeout: float) -> None:
        """End all waiting, and let go of the connections; idempotent."""
        self.waiting.fail(Closed("the result store was closed"))
        self.calls.close(timeout)

    def _look(self, keys: Sequence[str], timeout: float) -> Mapping[str, Record | None]:
        since = self.known.moment()
        return self._without_forgotten(self.calls.look(keys, timeout), since)

    def _without_forgotten(self, found: Mapping[str, Record | None], since: int) -> Mapping[str, Record | None]:
        if since == self.known.moment():
            return found
        return {k: None if self.known.was_forgotten_since(k, since) else record for k, record in found.items()}

    def _observe(self, record: Record) -> bool:
        """Note a record that was read, and tell whether it is worth waking its waiters: final, or unreadable."""
        try:
            header, _ = read_header(record.key, record.value)
        except MalformedResult:
            return True
        self.known.note(record.key, header.ends_at)
        return header.state.final

    def _result(self, key: str, record: Record | None) -> Result:
        if record is None or record.expired:
            return Result(key=key, state=State.UNKNOWN, lost="expired" if record else self.known.reason(key))
        result = decode_record(key, record.value, self._codec, self._allowed)
        if isinstance(result.problem, MalformedResult):
            self._observe(record)
        else:
            self.known.note(key, result._ends_at)  # noqa: SLF001 - ours, and no user's
        return result
