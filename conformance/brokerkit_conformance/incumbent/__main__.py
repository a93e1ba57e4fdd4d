"""`python -m brokerkit_conformance.incumbent`: tries kombu and Celery, and writes the page about it.

Exit codes: 0, every known defect was shown; 1, one was not; 2, something could not be tried.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from brokerkit_conformance.incumbent.defects import DEFECTS
from brokerkit_conformance.incumbent.page import missed, render
from brokerkit_conformance.incumbent.shown import Shown
from brokerkit_conformance.incumbent.tables import COLUMNS
from brokerkit_conformance.incumbent.trying import try_one
from brokerkit_conformance.model import HarnessError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Try everything, and say which of the known defects were shown."""
    parser = argparse.ArgumentParser(prog="python -m brokerkit_conformance.incumbent", description=__doc__)
    parser.add_argument("--docs", type=Path, help="the page to write")
    parser.add_argument("--jobs", type=int, default=5, help="cases at once, of each transport")
    parser.add_argument("--seconds", type=float, default=345.0, help="for all; what has not ended by then is not run")
    given = parser.parse_args(arguments)

    def trial(name: str) -> Shown:
        first = [defect.law for defect in DEFECTS if defect.harness == name]
        return try_one(name, first=first, jobs=given.jobs, seconds=given.seconds)

    try:
        with ThreadPoolExecutor(len(COLUMNS)) as pool:  # each is a process of its own, and mostly waits
            trials = list(pool.map(trial, COLUMNS))
    except HarnessError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    for each in trials:
        counts = Counter(each.outcomes.values())
        sys.stdout.write(f"{each.harness}: {', '.join(f'{n} {outcome}' for outcome, n in counts.most_common())}\n")
    unseen = missed(trials)
    for defect in unseen:
        sys.stdout.write(f"not shown: {defect.name}, {defect.title} ({defect.law} on {defect.harness})\n")
    if given.docs is not None and not unseen:
        given.docs.write_text(render(trials), encoding="utf-8")
        sys.stdout.write(f"written: {given.docs}\n")
    return 1 if unseen else 0


if __name__ == "__main__":
    sys.exit(main())
