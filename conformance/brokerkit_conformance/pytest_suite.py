"""The suite under pytest: one test a law, and one for the verdict.

    from brokerkit_conformance import suite
    TestConformance = suite(MyHarness)

The cases run in parallel in the background from the first test on; each test waits for its own record. What counts as
evidence is only what a test took, so that `-k`, `-x` and the like leave the verdict INCOMPLETE.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final

import pytest

from brokerkit_conformance.catalogue import catalogue
from brokerkit_conformance.harness import Harness, load
from brokerkit_conformance.model import Evidence, HarnessError, NotRun, Outcome
from brokerkit_conformance.runner import CAP
from brokerkit_conformance.trial import Trial
from brokerkit_conformance.waivers import Waiver, WaiverError, read

__all__ = ["Desk", "desks", "suite", "suite_of_option"]

_SLOWEST: Final = 10 * CAP
"""Real seconds to wait for one record: cases that run before it take their time too."""


class Desk:
    """Stands between pytest and a trial: hands out cases, takes in evidence.

    Attributes:
        trial: what is tried, once it was opened.
        selected: the laws that pytest is going to ask for.
        in_worker: whether this is a worker process of pytest-xdist.
    """

    def __init__(self, make: Callable[[pytest.Config], Harness], name: str, scope: Mapping[str, Sequence[str]]) -> None:
        self.name = name
        self.trial: Trial | None = None
        self.selected: list[str] = []
        self.in_worker = False
        self._make = make
        self._scope = scope
        self._ready: dict[str, threading.Event] = {}
        self._records: dict[str, Evidence] = {}
        self._started = threading.Lock()
        self._running: threading.Thread | None = None
        self._stopped = threading.Event()

    def open(self, config: pytest.Config) -> list[str]:
        """Start the harness, once, and return the ids of the laws that can run."""
        if self.trial is None:
            try:
                self.trial = Trial(
                    self._make(config), **self._scope, name=self._known_as(config), waived=_waived(config)
                )
            except (HarnessError, WaiverError) as error:
                raise pytest.UsageError(f"INVALID: {error}") from None
            self.in_worker = hasattr(config, "workerinput")
            desks.append(self)
        return [law.id for law in self.trial.runnable]

    def take(self, law_id: str) -> None:
        """Wait for a law's record, count it as evidence, and fail the test unless the law was shown to hold."""
        trial = self._opened()
        law = catalogue()[law_id]
        record = trial.run_one(law) if self.in_worker else self._wait_for(law_id)
        trial.record([record])
        outcome, reason = trial.weigh(record)
        if not outcome.good and outcome is not Outcome.WAIVED and law.duty == "MUST":
            pytest.fail(f"{outcome} {law.id} {law.title}\nmust: {law.must}\n{reason}", pytrace=False)

    def conclude(self) -> None:
        """Fail the test unless all evidence together makes a plugin conformant."""
        judgement = self._opened().judge()
        if self.in_worker:  # each worker has but a part; the controller weighs them together
            bad = [i for i, outcome in judgement.outcomes.items() if outcome.red and catalogue()[i].duty == "MUST"]
            if bad:
                pytest.fail(f"shown not to hold: {', '.join(bad)}", pytrace=False)
        elif not judgement.verdict.holds:
            listed = [f"{i} {outcome}" for i, outcome in judgement.outcomes.items() if not outcome.good]
            pytest.fail(f"{judgement.verdict}: {', '.join([*judgement.flaws, *listed])}", pytrace=False)

    def report(self) -> dict[str, Any]:
        """Return what this process has found, as plain data without secrets; the controller of pytest-xdist merges these."""
        return self._opened().report()

    def close(self) -> None:
        """Run nothing more, and stop the harness."""
        self._stopped.set()
        if self._running is not None:
            self._running.join()
        if self.trial is not None:
            self.trial.close()

    def _known_as(self, config: pytest.Config) -> str:
        return config.getoption("--brokerkit") or "" if self.name == "--brokerkit" else self.name

    def _opened(self) -> Trial:
        if self.trial is None:
            raise pytest.UsageError("the conformance suite was not opened; is its pytest plugin disabled?")
        return self.trial

    def _wait_for(self, law_id: str) -> Evidence:
        with self._started:
            if self._running is None:
                self._ready = {i: threading.Event() for i in self.selected}
                self._running = threading.Thread(target=self._run_all, name="conformance", daemon=True)
                self._running.start()
        if law_id not in self._ready or not self._ready[law_id].wait(_SLOWEST):
            raise NotRun(f"{law_id} was never run")
        return self._records[law_id]

    def _run_all(self) -> None:
        trial = self._opened()
        wanted = [law for law in trial.runnable if law.id in self._ready]
        trial.run_without_recording(wanted, done=self._done, stopped=self._stopped.is_set)

    def _done(self, record: Evidence) -> None:
        self._records[record.id] = record
        self._ready[record.id].set()


desks: Final[list[Desk]] = []
"""All that were opened in this pytest session, for the plugin."""


def suite(harness: Callable[[], Harness] | str, *, levels: Sequence[str] = (), areas: Sequence[str] = ()) -> type:
    """Return a test class for a harness; name it Test… in a test file.

    Args:
        harness: makes it, usually its class; or its name as on the command line, such as "path/harness.py:Class".
        levels: those to be shown; all by default.
        areas: only these; then the verdict is about them, and about no level.
    """
    make: Callable[[], Harness] = partial(load, harness) if isinstance(harness, str) else harness
    name = harness if isinstance(harness, str) else f"{harness.__module__}:{getattr(harness, '__qualname__', harness)}"
    return _test_class(Desk(lambda _: make(), name, {"levels": levels, "areas": areas}))


def suite_of_option() -> type:
    """Return a test class for the harness named by `--brokerkit`."""

    def make(config: pytest.Config) -> Harness:
        name = config.getoption("--brokerkit")
        if not name:
            raise pytest.UsageError("name the harness: --brokerkit=module:Class")
        return load(name)

    return _test_class(Desk(make, "--brokerkit", {}))


def _waived(config: pytest.Config) -> list[Waiver]:
    path = config.getoption("--brokerkit-waivers")
    return read(Path(path)) if path else []


def _test_class(desk: Desk) -> type:
    class TestConformance:
        brokerkit_desk: ClassVar[Desk] = desk

        def test_law(self, law_id: str) -> None:
            desk.take(law_id)

        def test_verdict(self) -> None:
            desk.conclude()

    return TestConformance
