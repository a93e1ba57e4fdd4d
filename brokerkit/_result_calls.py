"""Every call of a result backend: checked before I/O, repeated by the one retry layer, with errors translated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar, cast, final

from brokerkit._retry import Caller, fail
from brokerkit.abc import ResultBackend, SupportsParts, SupportsRequester, SupportsWait
from brokerkit.errors import AlreadyFinal, Closed, InvalidName, NotRequester, ResultTooLarge
from brokerkit.models import Record

__all__ = ["ResultCalls"]

T = TypeVar("T")


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
        facts = self.backend.capabilities
        if facts.max_value is not None and len(record.value) > facts.max_value:
            raise ResultTooLarge(
                f"{doing}: the record has {len(record.value)} bytes; {facts.product} takes {facts.max_value}"
            )
        tries = 0

        def once(timeout: float) -> bool:
            nonlocal tries
            tries += 1
            (outcome,) = self.backend.put([record], ttl=ttl, timeout=timeout)
            if isinstance(outcome, AlreadyFinal):
                # on a repeat, what keeps it out may be itself: stored by the first try, whose answer was lost
                return tries > 1 and self._is_there(record, timeout)
            if outcome is not None:
                raise outcome
            return True

        return self._call(doing, once)

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

    def _is_there(self, record: Record, timeout: float) -> bool:
        (there,) = self.backend.get([record.key], timeout=timeout)
        return there is not None and there.value == record.value

    def _call(self, doing: str, function: Callable[[float], T], timeout: float | None = None) -> T:
        self.check_open()
        return self.caller.call(doing, function, timeout=timeout)


def _named(keys: Sequence[str]) -> str:
    return f"result {keys[0]!r}" if len(keys) == 1 else f"{len(keys)} results"
