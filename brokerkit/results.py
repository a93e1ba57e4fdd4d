"""Result stores: `results(url)` gives a `ResultStore`, and that gives a `PendingResult` for each id.

A record exists from `reserve` on, so that its loss can be told from waiting. A final record is never replaced: the
backend compares and sets in the server.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, cast, final

from brokerkit import _forks, registry
from brokerkit._clock import SYSTEM_CLOCK
from brokerkit._events import Listener
from brokerkit._failures import SMALLER, allow, capture
from brokerkit._gathering import Completed, Gathering, Waited, asked_for
from brokerkit._pending import PendingResult
from brokerkit._reading import ResultReader
from brokerkit._records import Header, Result, State, encode_record
from brokerkit._result_calls import ResultCalls
from brokerkit._retry import Caller, fail
from brokerkit._risk import check_eviction
from brokerkit._secrets import masker, secrets_in
from brokerkit.abc import Clock, ResultBackend
from brokerkit.capabilities import ResultCapabilities, require
from brokerkit.errors import (
    AlreadyFinal,
    InvalidOption,
    MalformedResult,
    NotRequester,
    ResultTooLarge,
    SendFailed,
    nearest,
)
from brokerkit.models import Record, new_id
from brokerkit.options import ResultOptions, gather, resolve
from brokerkit.serialization import Codec
from brokerkit.url import URL

__all__ = ["Completed", "PendingResult", "Result", "ResultStore", "State", "Waited", "results"]


def results(
    url: str | URL,
    *,
    transport_options: Mapping[str, Any] | None = None,
    clock: Clock | None = None,
    on_event: Listener | None = None,
    exceptions: Iterable[type[Exception]] = (),
    **options: Any,
) -> ResultStore:
    """Return a result store. Connects lazily: there is no I/O here.

    Args:
        url: picks the engine; its query may hold options.
        transport_options: options as a mapping; the same as keywords.
        clock: for tests.
        on_event: is told of repeats; called in the thread that repeats.
        exceptions: classes that remote failures are rebuilt as, by calling them with the original's arguments. Failures
            of all other classes, and of those that do not keep their arguments, become a `RemoteFailure`.
        options: those of `ResultOptions`, and of the engine.

    Raises:
        ConfigurationError: the URL, an option or a combination of them makes no sense here.

    Warns:
        EvictionRisk: the engine may drop records; with the option `strict` it is refused instead.
    """
    parsed = URL.parse(url)
    driver: type[ResultBackend] = registry.find(parsed, "result_backend").load()
    given = gather(parsed, options, transport_options)
    own, portable = resolve(given, driver.options_type, ResultOptions, scheme=parsed.full_scheme)
    shared = cast("ResultOptions", portable)
    time = clock or SYSTEM_CLOCK
    caller = Caller(
        errors=driver.errors,
        policy=shared.retry_policy,
        timeout=shared.timeout,
        clock=time,
        mask=masker([*parsed.secrets, *secrets_in("", given)]),
        listener=on_event,
    )
    connect = functools.partial(driver.from_url, parsed, own, clock=time)
    store = ResultStore(parsed, shared, connect=connect, caller=caller, exceptions=exceptions)
    if "expires" in given and shared.expires is not None:
        require(store.capabilities, "expires", asked=f"expires={shared.expires:g}")
    evictable = ("records",) if store.capabilities.evictable else ()
    check_eviction(store.capabilities.product, evictable, store.backend, caller, strict=shared.strict)
    return store


@final
class ResultStore(AbstractContextManager["ResultStore"]):
    """Results by id. Thread-safe and fork-safe: a forked child goes on with a connection of its own. Made by `results`.

    Each call that does I/O takes `options.timeout` seconds at most, repeats included, and raises a `TransportError` then.

    Attributes:
        url: of the engine.
        options: the portable ones.
    """

    def __init__(
        self,
        url: URL,
        options: ResultOptions,
        *,
        connect: Callable[[], ResultBackend],
        caller: Caller,
        exceptions: Iterable[type[Exception]],
    ) -> None:
        self.url = url
        self.options = options
        self._connect = connect
        self._caller = caller
        self._codec = Codec(options.serializer, options.compression, options.accept)
        self._reader = ResultReader(ResultCalls(connect(), caller), self._codec, allow(exceptions))
        self._ttl = options.expires if self.capabilities.expires is True else None
        _forks.watch(self)

    def after_fork(self) -> None:
        """Begin anew in a forked child; called by brokerkit. The parent's connection is neither used nor closed."""
        inherited = self._calls
        _forks.abandon(inherited.backend)
        self._reader.start(ResultCalls(self._connect(), self._caller))
        if inherited.closed:
            self.close()

    @property
    def backend(self) -> ResultBackend:
        """The driver."""
        return self._calls.backend

    @property
    def _calls(self) -> ResultCalls:
        return self._reader.calls

    @property
    def capabilities(self) -> ResultCapabilities:
        """What the engine promises."""
        return self.backend.capabilities

    # -- writing -----------------------------------------------------------------------------------------------------

    def reserve(self, id: str | None = None) -> PendingResult:  # noqa: A002 - the word of the API
        """Store a PENDING record, so that from now on a loss can be told from waiting. One that is there is kept.

        Args:
            id: a new unique one by default. Where only the requester reads, the handle's id says whose it is as well, and
                whoever stores the result needs that one: see `own_id`.
        """
        key = self.own_id(new_id(self._caller.clock.time()) if id is None else id)
        self._put(Header(State.PENDING, self._now(), self._ttl), key, if_absent=True)
        return PendingResult(self._reader, key, known=True)

    def own_id(self, id: str) -> str:  # noqa: A002
        """Return the id under which this store can read a result that it calls `id`. Without I/O.

        It is the same but where only the requester reads a result: there it names the requester's reply queue, too.

        Raises:
            NotRequester: it names another one.
        """
        return self._calls.own_key(id)

    def set_state(self, id: str, state: State | str, meta: Any = None) -> bool:  # noqa: A002
        """Store how far a result is, and start its time to live anew. REVOKED is final.

        Args:
            id: the result's.
            state: PENDING, STARTED, RETRY or REVOKED.
            meta: JSON-able; readers find it in `Result.meta`.

        Returns:
            Whether it was stored; False if a final record is there, which is kept.

        Raises:
            InvalidOption: `state` is not one of these.
            EncodeError: `meta` is not JSON-able.
        """
        known = [s for s in State if s not in (State.UNKNOWN, State.SUCCESS, State.FAILURE)]
        if state not in known:
            raise InvalidOption(
                f"state {state!r} cannot be set{nearest(str(state), known)} (known: {', '.join(known)}; "
                "SUCCESS and FAILURE by set_result and set_exception)"
            )
        return self._put(Header(State(state), self._now(), self._ttl, meta=meta), self._calls.check_key(id))

    def set_result(self, id: str, value: Any) -> bool:  # noqa: A002
        """Store a result for good.

        Returns:
            Whether it was stored; False if a final record is there, which is kept, be it the same or another.

        Raises:
            EncodeError: the serializer does not take the value.
            ResultTooLarge: it exceeds the engine's limit. Nothing was stored.
        """
        key = self._calls.check_key(id)
        body, headers = self._codec.encode(value)
        return self._put(Header(State.SUCCESS, self._now(), self._ttl, headers), key, body)

    def set_results(self, values: Mapping[str, Any]) -> dict[str, bool]:
        """Store many results for good, in as few round trips as the engine allows. All are checked before the first is sent.

        Args:
            values: the results by id.

        Returns:
            For each id whether it was stored; False if a final record is there, which is kept.

        Raises:
            EncodeError: the serializer does not take a value. Nothing was stored.
            ResultTooLarge: a result exceeds the engine's limit. Nothing was stored.
            SendFailed: some were not stored for another reason, or may not have been. `outcomes` has each id and None
                (stored), an `AlreadyFinal` (kept out) or the error. Of a single result the error itself is raised.
        """
        records, common = [], Header(State.SUCCESS, self._now(), self._ttl)
        beginnings: dict[tuple[tuple[str, str], ...], bytes] = {}  # most have the same
        for key, value in values.items():
            body, headers = self._codec.encode(value)
            kind = tuple(headers.items())
            if kind not in beginnings:
                beginnings[kind] = encode_record(common._replace(headers=headers))
            records.append(Record(key=self._calls.check_key(key), value=beginnings[kind] + body, final=True))
        errors = self._calls.put_many(records, ttl=self._ttl, doing=f"store {len(records)} results")
        for record, error in zip(records, errors, strict=True):
            if error is None:
                self._reader.stored(record, common.ends_at)
            elif isinstance(error, AlreadyFinal):
                self._reader.kept_out(record.key)
        failed = [error for error in errors if error is not None and not isinstance(error, AlreadyFinal)]
        if len(errors) == 1 and failed:
            fail(failed[0])
        if failed:
            raise SendFailed([(record.key, error) for record, error in zip(records, errors, strict=True)])
        return {record.key: error is None for record, error in zip(records, errors, strict=True)}

    def set_exception(self, id: str, error: BaseException) -> bool:  # noqa: A002
        """Store a failure for good: the exception's type, text, notes, traceback, and arguments if JSON-able.

        The exceptions that it was raised from or that it groups are kept likewise, up to 32 in all. What an engine
        cannot take in this length is stored in a shorter one.

        Returns:
            Whether it was stored; False if a final record is there, which is kept.
        """
        key = self._calls.check_key(id)
        for limits in SMALLER:
            failure = capture(error, limits)
            header = Header(State.FAILURE, self._now(), self._ttl, error=failure)
            try:
                return self._put(header, key)
            except ResultTooLarge:  # better a failure with less to read than none
                continue
        return self._put(header._replace(error={"type": failure["type"], "message": ""}), key)

    def forget(self, *ids: str) -> None:
        """Delete records, final or not; nothing happens where there is none. Who waits for one gets `ResultLost`."""
        keys = list(dict.fromkeys(self._calls.check_key(id) for id in ids))  # noqa: A001
        if keys:
            self._reader.forget(keys)

    # -- reading -----------------------------------------------------------------------------------------------------

    def get(self, id: str) -> Result:  # noqa: A002
        """Return what is known about an id now. One that was never stored has state UNKNOWN. Reading changes nothing.

        Raises:
            MalformedResult: something else wrote under this id.
            NotRequester: only the process that asked for it can read it.
        """
        (result,) = self.get_many([id])
        if result.problem is not None and isinstance(result.problem, MalformedResult | NotRequester):
            raise result.problem
        return result

    def get_many(self, ids: Iterable[str]) -> list[Result]:
        """Return what is known about many ids now, in their order. What cannot be read says so in its `problem`."""
        asked = [self._calls.check_key(id) for id in ids]  # noqa: A001
        keys = list(dict.fromkeys(asked))
        found = dict(zip(keys, self._reader.read(keys), strict=True))
        return [found[key] for key in asked]

    def pending(self, id: str) -> PendingResult:  # noqa: A002
        """Return a handle to wait with, without I/O. Prefer `reserve` where the work is given out.

        Raises:
            NotRequester: only the process that asked for it can read it.
        """
        key = self._calls.check_key(id)
        if (problem := self._calls.problem_of_reading(key)) is not None:
            raise problem
        return PendingResult(self._reader, key, known=self._reader.is_known(key))

    # -- waiting for many ----------------------------------------------------------------------------------------------

    def wait_any(
        self, ids: Iterable[str | PendingResult], timeout: float | None = None, *, propagate: bool = False
    ) -> Waited:
        """Wait until at least one result has ended: is final, unreadable or lost.

        One look covers all ids, however many; nothing is missed between two calls. Without ids it returns at once.

        Args:
            ids: ids and handles of this store; each counts once.
            timeout: seconds, from 0; `options.timeout` by default; `math.inf` for as long as it takes. Looks at least once.
            propagate: True to raise the first failure or loss that is found, as `PendingResult.result` does.

        Returns:
            What has ended, and the ids that have not: all of them if the time is up.

        Raises:
            InvalidName, InvalidOption: something is no id, or no timeout, or a handle of another store.
            NotRequester: only the process that asked for one of them can read it.
            TransportError: the store cannot be read.
            Closed: the store was closed, maybe meanwhile.
        """
        return self._gather(ids, timeout, propagate=propagate).collect(whole=False)

    def wait_all(
        self, ids: Iterable[str | PendingResult], timeout: float | None = None, *, propagate: bool = False
    ) -> Waited:
        """Wait until all results have ended, or the time is up. Else as `wait_any`; what is left is in `Waited.waiting`."""
        return self._gather(ids, timeout, propagate=propagate).collect(whole=True)

    def as_completed(
        self, ids: Iterable[str | PendingResult], timeout: float | None = None, *, propagate: bool = False
    ) -> Completed:
        """Return an iterator over results as they end, each once; those that have ended come first.

        A result that failed, was revoked, lost or cannot be read is handed out as well, and says so. Arguments and errors
        are as for `wait_any`, but the time runs from this call, and the iterator raises when it is up.

        Raises:
            ResultTimeout: from the iterator, once all that ended in time was handed out.
        """
        return Completed(self._gather(ids, timeout, propagate=propagate))

    def close(self, timeout: float | None = None) -> None:
        """Let go of all connections; idempotent. Whoever waits gets `Closed`."""
        self._reader.close(self.options.timeout if timeout is None else timeout)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"ResultStore({str(self.url)!r}{', closed' if self._calls.closed else ''})"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a ResultStore holds connections and is not pickled; send its URL and connect there")

    # -- how ---------------------------------------------------------------------------------------------------------

    def _gather(self, ids: Iterable[str | PendingResult], timeout: float | None, *, propagate: bool) -> Gathering:
        return Gathering(self._reader, asked_for(self._reader, ids), timeout=timeout, propagate=propagate)

    def _put(self, header: Header, key: str, body: bytes = b"", *, if_absent: bool = False) -> bool:
        value = encode_record(header, body)
        record = Record(key=key, value=value, final=header.state.final, if_absent=if_absent)
        stored = self._calls.put(record, ttl=self._ttl, doing=f"store {header.state} of {key!r}")
        if stored:
            self._reader.stored(record, header.ends_at)
        else:
            self._reader.kept_out(key)
        return stored

    def _now(self) -> float:
        return self._caller.clock.time()
