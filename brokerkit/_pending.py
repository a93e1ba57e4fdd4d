"""The handle to one result that may still come."""

from __future__ import annotations

from typing import Any, final

from brokerkit._reading import ResultReader
from brokerkit._records import Result, State
from brokerkit.errors import InvalidOption, MalformedResult

__all__ = ["PendingResult"]


@final
class PendingResult:
    """A handle to one result, of `ResultStore.reserve` or `pending`. Thread-safe.

    Attributes:
        id: the result's.
    """

    def __init__(self, reader: ResultReader, key: str, *, known: bool) -> None:
        self.id = key
        self._reader = reader
        self._known = known

    def result(self, timeout: float | None = None, *, propagate: bool = True) -> Any:
        """Wait for the result and return it.

        Args:
            timeout: seconds, from 0; `options.timeout` of the store by default; `math.inf` for as long as it takes.
            propagate: False to return the exception of a failed or revoked result instead of raising it.

        Raises:
            Exception: the failure: of its own class if the store allows that, else a `RemoteFailure`.
            ResultTimeout: there was no final result in time; it may still come.
            ResultLost: there was a record, and it is gone: the result will never come.
            MalformedResult: something else wrote under this id.
            DecodeError: the value cannot be decoded.
        """
        result = self._wait(timeout)
        if result.error is None:
            return result.value
        if propagate:
            raise result.error
        return result.error

    def exception(self, timeout: float | None = None) -> Exception | None:
        """Wait for the result and return its exception, or None if it succeeded. Raises as `result` does without one."""
        result = self._wait(timeout)
        if isinstance(result.problem, MalformedResult):
            raise result.problem
        return result.error

    def done(self) -> bool:
        """Look once, and tell whether waiting is over: the result is final, unreadable or lost."""
        result = self._look()
        return result.state.final or result.problem is not None or (result.state is State.UNKNOWN and self._known)

    @property
    def state(self) -> State:
        """The state now; UNKNOWN if there is no record. Looks once.

        Raises:
            MalformedResult: something else wrote under this id.
        """
        result = self._look()
        if isinstance(result.problem, MalformedResult):
            raise result.problem
        return result.state

    @property
    def traceback(self) -> str | None:
        """The remote traceback as text, or None if it has not failed. Looks once."""
        return self._look().traceback

    def asked_of(self, reader: ResultReader) -> tuple[str, bool]:
        """Return the id, and whether a record was there; called by brokerkit where many are waited for.

        Raises:
            InvalidOption: it is another store's.
        """
        if reader is not self._reader:
            raise InvalidOption(f"{self!r} belongs to another result store; wait for it there, or by its id")
        return self.id, self._known

    def __repr__(self) -> str:
        return f"PendingResult({self.id!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a PendingResult belongs to its store and is not pickled; send its id")

    def _look(self) -> Result:
        (result,) = self._reader.read([self.id])
        self._known = self._known or result.state is not State.UNKNOWN or result.lost is not None
        return result

    def _wait(self, timeout: float | None) -> Result:
        try:
            return self._reader.wait(self.id, known=self._known, timeout=timeout)
        finally:
            self._known = self._known or self._reader.is_known(self.id)
