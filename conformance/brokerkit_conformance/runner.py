"""Runs cases: each in a namespace and a thread of its own, many at once, none longer than the cap."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, Final

from brokerkit_conformance.bench import Bench, new_namespace
from brokerkit_conformance.casebook import CAP, Casebook, Test, casebook
from brokerkit_conformance.catalogue import Law
from brokerkit_conformance.gates import Subject
from brokerkit_conformance.harness import Harness
from brokerkit_conformance.model import (
    Broken,
    Evidence,
    Expectation,
    HarnessError,
    How,
    Inconclusive,
    NotRun,
    Outcome,
    Unclaimed,
)
from brokerkit_conformance.slices import rows_of
from brokerkit_conformance.subject import subject_of

__all__ = ["CAP", "examine", "run_case", "run_cases", "subject_of"]

_CROWDS: Final = 2
"""How many cases that start many processes run at a time."""

# these end a test in pytest without failing it; in a case they are errors
_FOREIGN_SKIPS: Final = frozenset({"Skipped", "XFailed", "Exit", "OutcomeException", "SkipTest"})


def run_cases(
    harness: Harness,
    subject: Subject,
    laws: Sequence[Law],
    expectations: Iterable[Expectation],
    *,
    jobs: int = 8,
    done: Callable[[Evidence], None] | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> list[Evidence]:
    """Run the cases of laws: the common ones, then those that start many processes, then those that need to be alone.

    Returns one record a law that was run.
    """
    how = {expectation.id: expectation for expectation in expectations}
    book = casebook()
    wanted = [law for law in laws if how[law.id].how.runs]
    records: dict[str, Evidence] = {}

    def run(law: Law) -> None:
        if stopped():
            return
        records[law.id] = record = run_case(harness, subject, law, how[law.id], book)
        if done is not None:
            done(record)

    for some, at_once in zip(_shifts(wanted, book), (jobs, min(jobs, _CROWDS), 1), strict=True):
        with ThreadPoolExecutor(at_once, thread_name_prefix="conformance") as pool:
            # list(): an error of the suite itself is raised here
            list(pool.map(run, some))
    return [records[law.id] for law in wanted if law.id in records]


def _shifts(laws: Sequence[Law], book: Casebook) -> tuple[list[Law], list[Law], list[Law]]:
    """Divide laws into those whose cases run with many others, with few, and alone."""
    shifts: tuple[list[Law], list[Law], list[Law]] = ([], [], [])
    for law in laws:
        own = book.cases.get(law.id)
        shifts[0 if own is None else 2 if own.alone else int(own.crowd)].append(law)
    return shifts


def run_case(
    harness: Harness,
    subject: Subject,
    law: Law,
    expectation: Expectation,
    book: Casebook | None = None,
    *,
    cap: float | None = None,
) -> Evidence:
    """Run one case, and return its record, whatever happens. Its own cap holds unless another is given."""
    book = book or casebook()
    tests = _tests(book, law, expectation, subject)
    if not tests:
        reason = book.broken.get(law.area) or f"this suite has no {expectation.how} of {law.id}"
        return Evidence(id=law.id, version=law.version, outcome=Outcome.NOT_RUN, reason=reason)
    own = book.cases.get(law.id)
    longest = cap if cap is not None else CAP if own is None else own.cap
    good = Outcome.REFUSED_OK if expectation.how is How.REFUSAL else Outcome.PASS
    began = time.monotonic()
    slices: list[dict[str, Any]] = []
    outcome, reason, measured = good, "", dict[str, object]()
    for test in tests:
        if outcome is good:
            outcome, reason, numbers = examine(
                test,
                lambda: Bench(harness, subject, new_namespace(law.id)),
                good,
                cap=longest,
                slices=slices,
            )
            measured |= numbers
    return Evidence(
        id=law.id,
        version=law.version,
        outcome=outcome,
        reason=reason,
        seconds=time.monotonic() - began,
        measured=measured,
        history=tuple(slices),
    )


def _tests(book: Casebook, law: Law, expectation: Expectation, subject: Subject) -> Sequence[Test]:
    if expectation.how is not How.REFUSAL:
        return book.tests(law.id, broker=subject.transport is not None, results=subject.results is not None)
    twin = book.refusal(law.id, expectation.power)
    return () if twin is None else (twin,)


def examine(
    test: Test,
    make_bench: Callable[[], Bench],
    good: Outcome = Outcome.PASS,
    *,
    cap: float = CAP,
    slices: list[dict[str, Any]] | None = None,
) -> tuple[Outcome, str, dict[str, object]]:
    """Run one test on a new bench in a thread of its own; returns its outcome, the reason, and what it measured.

    The slices of history that a broken law is told with are put into `slices`.
    """
    result: list[tuple[Outcome, str]] = []
    benches: list[Bench] = []
    strays: list[str] = []

    def run() -> None:
        try:
            benches.append(bench := make_bench())
            _run_on(bench, test)
        except BaseException as error:  # noqa: BLE001 - every way to end has its outcome
            if isinstance(error, Broken) and slices is not None:
                slices.extend(rows_of(error.findings))
            result.append(_outcome(error))
        else:
            result.append((good, ""))

    thread = threading.Thread(target=run, name="case", daemon=True)
    with _watchers.watching(strays):
        thread.start()
        thread.join(cap)
    if not result:
        return Outcome.FAIL, f"hangs: no end after {cap:g} s\n{_stack_of(thread)}", {}
    outcome, reason = result[0]
    if strays and outcome.good:
        outcome, reason = Outcome.FAIL, f"a thread died meanwhile: {strays[0]}"
    return outcome, reason, dict(benches[0].measured) if benches else {}


def _run_on(bench: Bench, test: Test) -> None:
    try:
        test(bench)
    except BaseException:
        with suppress(Exception):  # the first failure is the one to tell
            bench.finish()
        raise
    bench.finish()


def _outcome(error: BaseException) -> tuple[Outcome, str]:
    if type(error).__name__ in _FOREIGN_SKIPS:
        return Outcome.ERROR, f"tried to leave by {type(error).__name__}: no case can be skipped"
    if isinstance(error, NotRun):
        return Outcome.NOT_RUN, str(error)
    if isinstance(error, Inconclusive):
        return Outcome.INCONCLUSIVE, str(error)
    if isinstance(error, Unclaimed):
        return Outcome.UNCLAIMED, str(error)
    if isinstance(error, HarnessError) or not isinstance(error, Exception):
        return Outcome.ERROR, _text(error)
    return Outcome.FAIL, _text(error)


def _text(error: BaseException) -> str:
    if isinstance(error, AssertionError) and error.__cause__ is None:
        frame = traceback.extract_tb(error.__traceback__)
        place = next((f for f in reversed(frame) if "/cases/" in f.filename), None)
        return f"{error}" + (f" [{place.filename.rsplit('/', 1)[-1]}:{place.lineno}]" if place else "")
    return "".join(traceback.format_exception(error)[-6:]).strip()


def _stack_of(thread: threading.Thread) -> str:
    import sys  # noqa: PLC0415 - only for the rare case that hangs

    frame = sys._current_frames().get(thread.ident or 0)  # noqa: SLF001 - the documented way to see another thread
    return "".join(traceback.format_stack(frame)[-4:]) if frame else ""


class _Watchers:
    """Collects exceptions that end threads while cases run. Cases that run at once cannot be told apart: all are told."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watchers: list[list[str]] = []
        self._previous: Callable[[threading.ExceptHookArgs], object] = threading.excepthook

    @contextmanager
    def watching(self, strays: list[str]) -> Iterator[None]:
        """Take down in `strays` what ends any thread meanwhile."""
        with self._lock:
            if not self._watchers:
                self._previous, threading.excepthook = threading.excepthook, self._note
            self._watchers.append(strays)
        try:
            yield
        finally:
            with self._lock:
                self._watchers[:] = [watcher for watcher in self._watchers if watcher is not strays]
                if not self._watchers:
                    threading.excepthook = self._previous

    def _note(self, args: threading.ExceptHookArgs) -> None:
        name = args.thread.name if args.thread else "?"
        with self._lock:
            for watcher in self._watchers:
                watcher.append(f"{name}: {args.exc_type.__name__}: {args.exc_value}")


_watchers = _Watchers()
