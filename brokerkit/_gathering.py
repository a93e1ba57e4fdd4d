"""Waiting for many results by one thread: as they end, until any has ended, or until all have."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import NamedTuple, Self, final

from brokerkit._pending import PendingResult
from brokerkit._reading import ResultReader
from brokerkit._records import Result
from brokerkit._tickets import Answer, Waiter
from brokerkit._waiting import Waiting
from brokerkit.errors import BrokerkitError, InvalidOption, ResultLost, ResultTimeout

__all__ = ["Completed", "Gathering", "Waited", "asked_for"]


class Waited(NamedTuple):
    """What `ResultStore.wait_any` and `wait_all` return: each id once, in the order of its first mention.

    Attributes:
        done: the results for which waiting is over: final, unreadable or lost.
        waiting: the ids of the others.
    """

    done: list[Result]
    waiting: list[str]


@final
class Completed(Iterator[Result]):
    """Results in the order in which they end; made by `ResultStore.as_completed`. For one thread at a time.

    It is over after the last result, an error or a time-out, and by `close`, which leaving it as a context calls, too.
    One that is dropped waits for nothing any more. A forked child may go on with it, for what was not handed out before.
    """

    def __init__(self, gathering: Gathering) -> None:
        self._gathering = gathering

    def __next__(self) -> Result:
        gathering = self._gathering
        if gathering.ready or gathering.wait():
            return gathering.take()
        if not gathering.left:
            raise StopIteration
        late = gathering.late()
        gathering.close()
        raise late

    def close(self) -> None:
        """Stop waiting; idempotent."""
        self._gathering.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self._gathering.abandon()

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("results as they end belong to their store and are not pickled; send the ids")


@final
class Gathering:
    """One thread's waiting for many results, each of which is handed out once. Not thread-safe.

    Args:
        reader: of the store.
        asked: ids, and whether there was a record, so that its absence means a loss.
        timeout: seconds from now, from 0; None for that of the store's calls.
        propagate: raise failures and losses instead of handing them out.

    Attributes:
        left: of `asked`, those that were not handed out yet.
        ready: what has ended and was not handed out yet.
    """

    def __init__(
        self, reader: ResultReader, asked: Mapping[str, bool], *, timeout: float | None, propagate: bool
    ) -> None:
        self._seconds = reader.patience(timeout)
        reader.calls.check_open()
        self._reader = reader
        self._deadline = reader.calls.caller.clock.monotonic() + self._seconds
        self._propagate = propagate
        self._count = len(asked)
        self._turn: tuple[Waiting, Waiter] | None = None
        self.left = dict(asked)
        self.ready: deque[tuple[str, Answer]] = deque()

    def wait(self) -> bool:
        """Wait until any result has ended, and tell whether one has: not if none is left, or the time is up.

        Raises:
            BrokerkitError: the store cannot be read, or was closed.
        """
        if not self.left:
            return False
        try:
            waiting, waiter = self._joined()
            self.ready.extend(waiting.next(waiter, self._deadline))
        except BaseException:
            self.close()
            raise
        return bool(self.ready)

    def take(self) -> Result:
        """Hand out the first of what is ready.

        Raises:
            BrokerkitError: it cannot be read, as the store failed or was closed.
            Exception: it failed, was revoked, lost or cannot be decoded, if that was asked for.
        """
        key, answer = self.ready.popleft()
        del self.left[key]
        error: Exception | None
        if isinstance(answer, BrokerkitError):
            error = answer
        else:
            result = self._reader.ended(key, answer)
            error = _trouble_of(result) if self._propagate else None
            if error is None:
                return result
        self.close()
        raise error

    def collect(self, *, whole: bool) -> Waited:
        """Wait until any has ended, or until the whole has, or the time is up; then stop waiting."""
        asked, found = list(self.left), dict[str, Result]()
        try:
            while self.wait():
                while self.ready:
                    result = self.take()
                    found[result.key] = result
                if not whole:
                    break
        finally:
            self.close()
        return Waited([found[key] for key in asked if key in found], [key for key in asked if key not in found])

    def late(self) -> ResultTimeout:
        """Return the error that says what did not end in time."""
        return ResultTimeout(
            f"{len(self.left)} of {self._count} results were not final after {self._seconds:g} s, "
            f"{next(iter(self.left))!r} among them"
        )

    def close(self) -> None:
        """Stop waiting; idempotent."""
        turn = self._end()
        if turn is not None and turn[0] is self._reader.waiting:  # in a forked child, the inherited lock may be held
            turn[0].leave(turn[1])

    def abandon(self) -> None:
        """Stop waiting soon; for finalizers, which must not take a lock."""
        turn = self._end()
        if turn is not None:
            turn[0].abandon(turn[1])

    def _end(self) -> tuple[Waiting, Waiter] | None:
        self.left.clear()
        self.ready.clear()
        turn, self._turn = self._turn, None
        return turn

    def _joined(self) -> tuple[Waiting, Waiter]:
        """Register with those who wait, and in a forked child once more."""
        waiting = self._reader.waiting
        if self._turn is None or self._turn[0] is not waiting:
            if self._turn is not None:
                before = self._turn[1].tickets
                self.left = {key: known or (key in before and before[key].known) for key, known in self.left.items()}
            self._reader.calls.check_open()
            self._turn = waiting, waiting.join(self.left)
        return self._turn


def asked_for(reader: ResultReader, ids: Iterable[str | PendingResult]) -> dict[str, bool]:
    """Return distinct keys of ids and handles, and whether there was a record of each.

    Raises:
        InvalidName: one of them is no id.
        InvalidOption: a handle is another store's, or there is one id where many were to be.
        NotRequester: only the process that asked for one of them can read it.
    """
    if isinstance(ids, str | PendingResult):
        raise InvalidOption(f"{ids!r} is one result; give a list, or wait for it by `PendingResult.result`")
    asked: dict[str, bool] = {}
    for each in ids:
        key, known = each.asked_of(reader) if isinstance(each, PendingResult) else (reader.calls.check_key(each), False)
        if (problem := reader.calls.problem_of_reading(key)) is not None:
            raise problem
        asked[key] = asked.get(key, False) or known or reader.is_known(key)
    return asked


def _trouble_of(result: Result) -> Exception | None:
    """Return what `PendingResult.result` would raise."""
    if result.lost is not None:
        return ResultLost(result.key, result.lost)
    return result.problem or result.error
