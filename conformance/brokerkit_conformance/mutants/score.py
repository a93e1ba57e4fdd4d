"""Runs the cases that name a mutant, with the mutant planted, and counts who is noticed."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any, Final

from rich.console import Console
from rich.markup import escape

from brokerkit_conformance.casebook import casebook
from brokerkit_conformance.catalogue import catalogue
from brokerkit_conformance.gates import expected
from brokerkit_conformance.model import Evidence, Outcome
from brokerkit_conformance.mortal import end_with
from brokerkit_conformance.mutants.alone import StoreAlone
from brokerkit_conformance.mutants.planting import Mutant, all_mutants
from brokerkit_conformance.runner import run_case, subject_of

__all__ = ["Score", "run", "show", "try_mutant", "unguarded"]

_CAP: Final = 8.0
"""Real seconds for one case: on moved time a sound one needs less than one."""


@dataclass(slots=True)
class Score:
    """What became of the mutants.

    Attributes:
        killed: names of those that every case they name has noticed.
        survived: (mutant, law, outcome, reason) of each case that did not notice.
        unguarded: MUST laws with a case that no mutant names.
        seconds: real time.
    """

    killed: list[str] = field(default_factory=list)
    survived: list[tuple[str, str, str, str]] = field(default_factory=list)
    unguarded: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def perfect(self) -> bool:
        """Whether nothing escaped, and every MUST case has shown that it can fail."""
        return bool(self.killed) and not self.survived and not self.unguarded

    def plain(self) -> dict[str, Any]:
        """Return it as plain data."""
        survivors = sorted({name for name, *_ in self.survived})
        return {
            "killed": self.killed,
            "survived": [dict(zip(("mutant", "law", "outcome", "reason"), row, strict=True)) for row in self.survived],
            "survivors": survivors,
            "unguarded": self.unguarded,
            "percent": round(100 * len(self.killed) / max(len(self.killed) + len(survivors), 1), 1),
            "seconds": round(self.seconds, 1),
        }


def run(
    only: str = "",
    *,
    names: Sequence[str] | None = None,
    jobs: int = 4,
    progress: Callable[[str], object] | None = None,
) -> Score:
    """Try all mutants whose name contains `only`, in processes of their own: a planted defect is one of a whole process.

    Args:
        only: a part of the names.
        names: whole names instead.
        jobs: processes at once.
        progress: is told of each in a line.
    """
    score, began = Score(), time.monotonic()
    names = [each.name for each in all_mutants() if only in each.name] if names is None else names
    own = (os.getpid(),)
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=end_with, initargs=own) as pool:
        for each, missed in zip(names, pool.map(_missed_by, names), strict=True):
            score.survived += [(each, r.id, str(r.outcome), r.reason) for r in missed]
            if not missed:
                score.killed.append(each)
            if progress is not None:
                progress(_line(each, missed))
    if set(names) == {each.name for each in all_mutants()}:
        score.unguarded = unguarded()
    score.seconds = time.monotonic() - began
    return score


def _missed_by(name: str) -> list[Evidence]:
    """Try one mutant; return the records of the cases that did not notice."""
    logging.getLogger("brokerkit").setLevel(logging.CRITICAL)  # planted defects are loud
    (each,) = (each for each in all_mutants() if each.name == name)
    return [record for record in try_mutant(each) if record.outcome is not Outcome.FAIL]


def try_mutant(each: Mutant, *, sound: bool = False) -> list[Evidence]:
    """Run every case that a mutant names, with the mutant planted; or without, if `sound`, as the control."""
    records = []
    harness = each.harness()
    harness.start()
    try:
        with contextlib.nullcontext() if sound else each.planted():
            subject = subject_of(harness)
            for law_id in each.kills:
                law = catalogue()[law_id]
                expectation = expected(law, subject)
                if expectation.how.runs:
                    hurried = (
                        bool(harness.clock()) and not sound
                    )  # what is sound gets the time of a run, on any machine
                    records.append(run_case(harness, subject, law, expectation, cap=_CAP if hurried else None))
                else:
                    reason = f"not expected of this engine: {expectation.reason}"
                    records.append(Evidence(id=law_id, version=law.version, outcome=Outcome.NOT_RUN, reason=reason))
    finally:
        harness.stop()
    return records


def unguarded() -> list[str]:
    """Return the MUST laws that have a case in this suite, and no mutant that shows that it can fail.

    One that has a case of results beside its own needs a mutant of a store alone, too.
    """
    named = {law_id for each in all_mutants() for law_id in each.kills}
    of_stores = {law_id for each in all_mutants() if _is_of_a_store(each) for law_id in each.kills}
    musts = {law_id: own for law_id, own in casebook().cases.items() if catalogue()[law_id].duty == "MUST"}
    missing = [law_id for law_id in musts if law_id not in named]
    return missing + [
        f"{law_id} of results"
        for law_id, own in musts.items()
        if own.test and own.of_results and law_id not in of_stores
    ]


def _is_of_a_store(each: Mutant) -> bool:
    return isinstance(each.harness, type) and issubclass(each.harness, StoreAlone)


def show(score: Score, console: Console) -> None:
    """Print the score, survivors first."""
    plain = score.plain()
    for name, law, outcome, reason in score.survived:
        console.print(f"[red]survived[/] {name}: {law} gave {outcome} {escape(reason[:200])}", highlight=False)
    for law in score.unguarded:
        console.print(f"[red]unguarded[/] {law} is a MUST, and no mutant shows that its case can fail")
    colour = "green" if score.perfect else "red"
    total = len(score.killed) + len(plain["survivors"])
    console.print(f"[bold {colour}]{len(score.killed)} of {total} mutants killed[/] in {score.seconds:.0f} s")


def _line(name: str, missed: Sequence[Evidence]) -> str:
    if missed:
        return f"[red]survived[/] {name} ({', '.join(record.id for record in missed)})"
    return f"[green]killed[/]   {name}"
