"""`python -m brokerkit_conformance.incumbent`: tries kombu and Celery, and writes the page about it.

Exit codes: 0, every known defect was shown; 1, one was not; 2, something could not be tried.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Final

from brokerkit_conformance.incumbent.page import missed, render
from brokerkit_conformance.incumbent.trying import try_one
from brokerkit_conformance.model import HarnessError

__all__ = ["main"]

_NAMES: Final = ("KombuRedis", "KombuMemory", "KombuSQLite")


def main(arguments: Sequence[str] | None = None) -> int:
    """Try everything, and say which of the known defects were shown."""
    parser = argparse.ArgumentParser(prog="python -m brokerkit_conformance.incumbent", description=__doc__)
    parser.add_argument("--docs", type=Path, help="the page to write")
    parser.add_argument("--jobs", type=int, default=4, help="cases at once")
    given = parser.parse_args(arguments)
    try:
        with ProcessPoolExecutor(len(_NAMES), mp_context=get_context("spawn")) as pool:  # they mostly wait
            trials = list(pool.map(partial(try_one, jobs=given.jobs), _NAMES))
    except HarnessError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    for trial in trials:
        failed = sum(str(outcome) == "FAIL" for outcome in trial.outcomes.values())
        sys.stdout.write(f"{trial.harness}: {trial.verdict}, {failed} of {len(trial.outcomes)} laws fail\n")
    unseen = missed(trials)
    for defect in unseen:
        sys.stdout.write(f"not shown: {defect.name}, {defect.title} ({defect.law} on {defect.harness})\n")
    if given.docs is not None and not unseen:
        given.docs.write_text(render(trials), encoding="utf-8")
        sys.stdout.write(f"written: {given.docs}\n")
    return 1 if unseen else 0


if __name__ == "__main__":
    sys.exit(main())
