"""One trial of one harness: which laws are asked, the evidence so far, and the verdict that it gives."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any

from brokerkit_conformance import report, waivers
from brokerkit_conformance.catalogue import LEVELS, Law, catalogue
from brokerkit_conformance.gates import Subject, expectations
from brokerkit_conformance.harness import Harness
from brokerkit_conformance.identity import modified_files
from brokerkit_conformance.model import Evidence, Expectation, How, NoServer, Outcome
from brokerkit_conformance.runner import run_case, run_cases
from brokerkit_conformance.subject import declared_subject, reach, subject_of
from brokerkit_conformance.verdict import Judgement, judge, weigh
from brokerkit_conformance.waivers import Waiver

__all__ = ["Trial"]


class Trial:
    """Collects evidence for a harness. Thread-safe.

    Attributes:
        harness: the harness under test.
        name: what to call it on the command line.
        subject: what its plugin declares.
        laws: the laws asked for.
        expectations: of all laws of the catalogue.
        evidence: what was recorded.
        waivers: those that are for this harness.
        why_not_run: why no case can run, such as a server that is not there; empty otherwise.
    """

    def __init__(
        self,
        harness: Harness,
        *,
        levels: Sequence[str] = (),
        areas: Sequence[str] = (),
        cases: Sequence[str] = (),
        waived: Sequence[Waiver] = (),
        name: str = "",
    ) -> None:
        """Start the harness, and ask the plugin what it declares.

        Raises:
            HarnessError: of a kind that says what is wrong with the harness or the declaration.
        """
        self.harness = harness
        own_name = f"{type(harness).__module__}:{type(harness).__qualname__}"
        self.name = name or own_name
        self.waivers = waivers.for_config(waived, self.name, own_name)
        self.scope = {"levels": list(levels) or list(LEVELS), "areas": list(areas), "cases": list(cases)}
        self.evidence: list[Evidence] = []
        self.why_not_run = ""
        self._lock = threading.Lock()
        self.subject: Subject = self._started()
        self.expectations: list[Expectation] = expectations(catalogue(), self.subject)
        if self.subject.nobody:  # not even the claims are known: all is expected
            self.expectations = [
                Expectation(e.id, How.CASE) if e.how is not How.NOT_YET else e for e in self.expectations
            ]
        self.laws: list[Law] = [law for law in catalogue() if report.in_scope(law, self.scope)]

    def _started(self) -> Subject:
        try:
            try:
                self.harness.start()
            except Exception as error:
                raise NoServer(f"the harness could not start its server: {type(error).__name__}: {error}") from error
            subject = subject_of(self.harness)
            reach(self.harness, subject)
        except NoServer as error:
            self.why_not_run = str(error)
            return declared_subject(self.harness)
        except BaseException:
            self.harness.stop()
            raise
        return subject

    @property
    def runnable(self) -> list[Law]:
        """The laws asked for that expect evidence."""
        how = {expectation.id: expectation.how for expectation in self.expectations}
        return [law for law in self.laws if how[law.id].runs]

    @property
    def impossible(self) -> list[Expectation]:
        """The laws asked for that cannot apply to this engine."""
        asked = {law.id for law in self.laws}
        return [e for e in self.expectations if e.how is How.IMPOSSIBLE and e.id in asked]

    def run(
        self, laws: Sequence[Law] | None = None, *, jobs: int = 8, done: Callable[[Evidence], None] | None = None
    ) -> None:
        """Run the cases of laws, all that are runnable by default, and record what they show."""
        asked = self.runnable if laws is None else laws
        if not self.why_not_run:
            self.record(run_cases(self.harness, self.subject, asked, self.expectations, jobs=jobs, done=done))

    def run_without_recording(
        self, laws: Sequence[Law], *, done: Callable[[Evidence], None], stopped: Callable[[], bool]
    ) -> None:
        """Run cases for somebody who records them one by one, until `stopped`."""
        if self.why_not_run:
            for law in laws:
                done(self.run_one(law))
        else:
            run_cases(self.harness, self.subject, laws, self.expectations, done=done, stopped=stopped)

    def run_one(self, law: Law) -> Evidence:
        """Run one case without recording it."""
        if self.why_not_run:
            return Evidence(id=law.id, version=law.version, outcome=Outcome.NOT_RUN, reason=self.why_not_run)
        expectation = next(e for e in self.expectations if e.id == law.id)
        return run_case(self.harness, self.subject, law, expectation)

    def record(self, records: Iterable[Evidence]) -> None:
        """Take down evidence."""
        with self._lock:
            self.evidence += records

    def weigh(self, record: Evidence) -> tuple[Outcome, str]:
        """Return what one record is worth by itself: a failure may be waived."""
        expectation = next(e for e in self.expectations if e.id == record.id)
        waiver = next((waiver for waiver in self.waivers if waiver.case == record.id), None)
        return weigh([record], expectation, waiver, self.why_not_run)

    def judge(self) -> Judgement:
        """Weigh what was recorded."""
        with self._lock:
            return judge(
                self.laws,
                self.expectations,
                list(self.evidence),
                why_not_run=self.why_not_run,
                waivers=self.waivers,
                flaws=self.flaws,
                whole=report.is_whole(self.scope),
            )

    @cached_property
    def flaws(self) -> list[str]:
        """What makes any run of this suite invalid: files that are not as they were installed."""
        return [f"the suite's file {name} was modified" for name in modified_files()]

    def report(self) -> dict[str, Any]:
        """Return the report of what was recorded, without any secret of the harness."""
        return report.build(self)

    def close(self) -> None:
        """Stop the harness."""
        self.harness.stop()
