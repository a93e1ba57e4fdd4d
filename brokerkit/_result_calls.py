"""Every call of a result backend: checked before I/O, repeated by the one retry layer, with errors translated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar, cast, final

from brokerkit._retry import Caller, fail
from brokerkit.abc import ResultBackend, SupportsParts, SupportsRequester, SupportsWait
from brokerkit.errors import (
    AlreadyFinal,
    BrokerkitError,
    Closed,
    ConnectionLost,
    InvalidName,
    NotConnected,
    NotRequester,
    OperationTimeout,
    OutcomeUnknown,
    ResultTooLarge,
)
from brokerkit.models import Outcome, Record

__all__ = ["ResultCalls"]

T = TypeVar("T")

_LEAST: Final = 0.001  # seconds: a call has to have some


@final
class ResultCalls:
    """One backend, as the store calls it. Thread-safe.

    Attributes:
        backend: the driver.
        caller: the retry layer, with its clock.
        closed: whether `close` was called.
    """

    def __init__(self, backend: ResultBackend, caller: Caller) -> None:
        self.backend = backend
        self._requester = backend if isinstance(backend, SupportsRequester) else None  # once: it is asked for each key
        self.caller = caller
        self.closed = False

    def check_key(self, key: object) -> str:
        """Return a valid key.

        Raises:
            InvalidName: it is no text, empty, longer than the engine takes, or has a lone surrogate; or it does not say
                whose it is, where only the requester reads.
        """
        checked = self._checked(key)
        if self._requester is not None:
            self._requester.check_id(checked)
        return checked

    def own_key(self, key: object) -> str:
        """Return the key under which this process can read: the same, unless only the requester reads.

        Raises:
            InvalidName: as `check_key`, but it need not say whose it is.
            NotRequester: it says that it is another's.
        """
        checked = self._checked(key)
        return checked if self._requester is None else self._checked(self._requester.own_id(checked))

    def problem_of_reading(self, key: str) -> NotRequester | None:
        """Return why this process cannot read a record, or None: it can."""
        if self._requester is not None:
            try:
                self._requester.check_reader(key)
            except NotRequester as error:
                return error
        return None

    def _checked(self, key: object) -> str:
        if not isinstance(key, str) or not key:
            raise InvalidName(f"result id {key!r} must be a non-empty text")
        try:
            size = len(key.encode())
        except UnicodeEncodeError:
            raise InvalidName(f"result id {key!r} has a lone surrogate; use valid unicode") from None
        facts = self.backend.capabilities
        if size > facts.max_key:
            raise InvalidName(f"result id {key[:40]!r}… has {size} bytes; {facts.product} takes {facts.max_key}")
        return key

    def put(self, record: Record, *, ttl: float | None, doing: str) -> bool:
        """Store one record, and tell whether it was; False if it was kept out.

        Raises:
            ResultTooLarge: it exceeds the engine's limit. Nothing was stored.
        """
        self._check_size(record, doing)
        tries = 0

        def once(timeout: float) -> bool:
            nonlocal tries
            tries += 1
            (outcome,) = self._put([record], ttl, timeout, again=tries > 1)
            if outcome is not None and not isinstance(outcome, AlreadyFinal):
                raise outcome
            return outcome is None

        return self._call(doing, once)

    def put_many(self, records: Sequence[Record], *, ttl: float | None, doing: str) -> list[BrokerkitError | None]:
        """Store records of distinct keys, and return for each None or why it was not: `AlreadyFinal` if it was kept out.

        All of it takes the time of one call. What is worth it is repeated.

        Raises:
            ResultTooLarge: one exceeds the engine's limit. Nothing was stored.
        """
        self.check_open()
        for record in records:
            self._check_size(record, f"{doing}, {record.key!r} among them")
        pauses, size = self.caller.pauses(), self.backend.capabilities.max_batch
        outcomes: dict[str, BrokerkitError | None] = {}
        left, again = records, False
        maybe: set[str] = set()  # what an earlier try may have stored
        while left:
            for start in range(0, len(left), size):
                some = left[start : start + size]
                found = self._outcomes(some, ttl, max(pauses.left(), _LEAST), doing=doing, again=again)
                outcomes.update(zip((record.key for record in some), found, strict=True))
            maybe |= {key for key, error in outcomes.items() if isinstance(error, OutcomeUnknown)}
            left = [record for record in left if (error := outcomes[record.key]) is not None and error.retryable]
            again = True
            if not left or not pauses.pause():
                break
            self.caller.tell_retry(doing, outcomes[left[0].key] or OutcomeUnknown(doing))
        return [_honest(outcomes[record.key], doing, maybe=record.key in maybe) for record in records]

    def read(self, keys: Sequence[str], timeout: float | None = None) -> Sequence[Record | None]:
        """Return the records of distinct keys."""
        return self._call(f"read {_named(keys)}", lambda left: self.backend.get(keys, timeout=left), timeout)

    def look(self, keys: Sequence[str], timeout: float) -> Mapping[str, Record | None]:
        """Return the records of distinct keys; where each server has a part of them, without those whose server is away.

        Raises:
            BrokerkitError: there is nothing to return.
        """
        if isinstance(self.backend, SupportsParts) and len(keys) > 1:
            self.check_open()
            parts = self._parts(self.backend, keys, timeout)
            if parts:
                return parts
        return dict(zip(keys, self.read(keys, timeout), strict=True))

    def _parts(self, backend: SupportsParts, keys: Sequence[str], timeout: float) -> Mapping[str, Record | None]:
        doing = f"read {_named(keys)}"
        try:
            found = backend.get_parts(keys, timeout=timeout)
        except Exception:  # noqa: BLE001 - what it is shows when it is read again, with repeats
            return {}
        failed = [each for each in found if isinstance(each, Exception)]
        if any(not self.caller.translate(error, doing).retryable for error in failed):
            return {}
        pairs = zip(keys, found, strict=True)
        return {key: each for key, each in pairs if not isinstance(each, Exception)}

    def delete(self, keys: Sequence[str]) -> None:
        """Delete the records of distinct keys."""
        self._call(f"forget {_named(keys)}", lambda left: self.backend.delete(keys, timeout=left))

    def watch(self, seen: Mapping[str, Record | None], timeout: float) -> Sequence[str]:
        """Block until a record differs from what was seen, without repeats. Only where the backend can."""
        self.check_open()
        try:
            return cast("SupportsWait", self.backend).wait(seen, timeout=timeout)
        except Exception as error:  # noqa: BLE001 - the table decides what it is
            fail(self.caller.translate(error, f"wait for {_named(list(seen))}"))

    def close(self, timeout: float) -> None:
        """Let go of all connections; idempotent. Every other call raises `Closed` from now on."""
        if self.closed:
            return
        self.closed = True
        try:
            self.backend.close(timeout=timeout)
        except Exception as error:  # noqa: BLE001 - the table decides what it is
            fail(self.caller.translate(error, "close"))

    def check_open(self) -> None:
        """Raise `Closed` after `close`."""
        if self.closed:
            raise Closed("the result store is closed")

    def _check_size(self, record: Record, doing: str) -> None:
        facts = self.backend.capabilities
        if facts.max_value is not None and len(record.value) > facts.max_value:
            raise ResultTooLarge(
                f"{doing}: the record has {len(record.value)} bytes; {facts.product} takes {facts.max_value}"
            )

    def _outcomes(
        self, records: Sequence[Record], ttl: float | None, timeout: float, *, doing: str, again: bool
    ) -> list[BrokerkitError | None]:
        """Store records once, and return for each None or an error of ours."""
        try:
            found = self._put(records, ttl, timeout, again=again)
        except Exception as error:  # noqa: BLE001 - the table decides what it is
            translated = self.caller.translate(error, doing)
            cut = isinstance(translated, ConnectionLost | OperationTimeout) and not isinstance(translated, NotConnected)
            return [_honest(translated, doing, maybe=cut)] * len(records)
        return [None if outcome is None else self.caller.translate(outcome, doing) for outcome in found]

    def _put(self, records: Sequence[Record], ttl: float | None, timeout: float, *, again: bool) -> Sequence[Outcome]:
        """Store records once. On a repeat, what keeps one out may be itself: stored by a try whose answer was lost."""
        end = self.caller.clock.monotonic() + timeout
        outcomes = self.backend.put(records, ttl=ttl, timeout=timeout)
        if not again:
            return outcomes
        keys = [record.key for record, each in zip(records, outcomes, strict=True) if isinstance(each, AlreadyFinal)]
        left = max(end - self.caller.clock.monotonic(), _LEAST)
        there = dict(zip(keys, self.backend.get(keys, timeout=left), strict=True)) if keys else {}
        return [
            None if (found := there.get(record.key)) is not None and found.value == record.value else outcome
            for record, outcome in zip(records, outcomes, strict=True)
        ]

    def _call(self, doing: str, function: Callable[[float], T], timeout: float | None = None) -> T:
        self.check_open()
        return self.caller.call(doing, function, timeout=timeout)


def _honest(error: BrokerkitError | None, doing: str, *, maybe: bool) -> BrokerkitError | None:
    """Return an error that does not say that nothing was stored where it `maybe` was."""
    if error is None or not maybe or isinstance(error, AlreadyFinal | OutcomeUnknown):
        return error
    unknown = OutcomeUnknown(f"{doing}: the answer never came, so that it may have been stored ({error})")
    unknown.__cause__ = error
    return unknown


def _named(keys: Sequence[str]) -> str:
    return f"result {keys[0]!r}" if len(keys) == 1 else f"{len(keys)} results"
