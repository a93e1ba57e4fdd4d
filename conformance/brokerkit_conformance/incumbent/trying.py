"""One trial of one of the harnesses, on what the laws say of a transport or a store."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from brokerkit_conformance.harness import load
from brokerkit_conformance.incumbent.page import Shown
from brokerkit_conformance.trial import Trial

__all__ = ["try_one"]

_ABOUT_US: Final = ("URL", "HAR")  # laws of the core and of the harness: they say nothing of kombu


def try_one(name: str, laws: Sequence[str] = (), *, jobs: int = 4) -> Shown:
    """Try one of the harnesses, on some laws or on everything.

    Raises:
        HarnessError: it cannot be tried here.
    """
    for logger in map(logging.getLogger, ("brokerkit", "kombu", "celery")):  # cases make things fail on purpose
        logger.addHandler(logging.NullHandler())
        logger.propagate = False
    harness = load(f"brokerkit_conformance.incumbent:{name}")
    trial = Trial(harness)
    try:
        # level scale asks for ten thousand messages within seconds: of speed nothing is said here
        of_it = [law for law in trial.runnable if law.area not in _ABOUT_US and law.level != "scale"]
        asked = [law for law in of_it if not laws or law.id in laws]
        trial.run(asked, jobs=jobs)
        judgement = trial.judge()
    finally:
        trial.close()
    ids = {law.id for law in asked}
    return Shown(
        harness=name,
        server=str(getattr(harness, "product", "")),
        verdict=str(judgement.verdict),
        outcomes={law: outcome for law, outcome in judgement.outcomes.items() if law in ids},
        reasons={law: reason for law, reason in judgement.reasons.items() if law in ids},
    )
