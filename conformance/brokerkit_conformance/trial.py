"""One trial of one harness: which laws are asked, the evidence so far, and the verdict that it gives."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from brokerkit_conformance import report
from brokerkit_conformance.catalogue import LEVELS, Law, catalogue
from brokerkit_conformance.gates import Subject, expectations
from brokerkit_conformance.harness import Harness
from brokerkit_conformance.model import Evidence, Expectation, How
from brokerkit_conformance.runner import run_case, run_cases, subject_of
from brokerkit_conformance.verdict import Judgement, judge

__all__ = ["Trial"]


class Trial:
    """Collects evidence for a harness. Thread-safe.

    Attributes:
        harness: the harness under test.
        subject: what its plugin declares.
        laws: the laws asked for.
        expectations: of all laws of the catalogue.
        evidence: what was recorded.
    """

    def __init__(self, harness: Harness, *, levels: Sequence[str] = (), areas: Sequence[str] = ()) -> None:
        self.harness = harness
        self._levels = list(levels) or list(LEVELS)
        self._areas = list(areas)
        self.evidence: list[Evidence] = []
        self.why_not_run = ""
        self._lock = threading.Lock()
        harness.start()
        self.subject: Subject = subject_of(harness)
        self.expectations: list[Expectation] = expectations(catalogue(), self.subject)
        self.laws: list[Law] = [
            law for law in catalogue() if law.level in self._levels and (not self._areas or law.area in self._areas)
        ]

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
        self.record(
            run_cases(
                self.harness,
                self.subject,
                self.runnable if laws is None else laws,
                self.expectations,
                jobs=jobs,
                done=done,
            )
        )

    def run_without_recording(
        self, laws: Sequence[Law], *, done: Callable[[Evidence], None], stopped: Callable[[], bool]
    ) -> None:
        """Run cases for somebody who records them one by one, until `stopped`."""
        run_cases(self.harness, self.subject, laws, self.expectations, done=done, stopped=stopped)

    def run_one(self, law: Law) -> Evidence:
        """Run one case without recording it."""
        expectation = next(e for e in self.expectations if e.id == law.id)
        return run_case(self.harness, self.subject, law, expectation)

    def record(self, records: Iterable[Evidence]) -> None:
        """Take down evidence."""
        with self._lock:
            self.evidence += records

    def judge(self) -> Judgement:
        """Weigh what was recorded."""
        with self._lock:
            return judge(self.laws, self.expectations, list(self.evidence), why_not_run=self.why_not_run)

    def report(self) -> dict[str, Any]:
        """Return the report of what was recorded."""
        return report.build(
            harness=self.harness,
            subject=self.subject,
            laws=self.laws,
            expectations=self.expectations,
            evidence=self.evidence,
            judgement=self.judge(),
            catalogue=catalogue(),
            scope={"levels": self._levels, "areas": self._areas},
        )

    def close(self) -> None:
        """Stop the harness."""
        self.harness.stop()
