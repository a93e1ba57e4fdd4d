"""HAR-08: the suite in use is one whose cases can fail."""

from __future__ import annotations

from typing import Final

from brokerkit_conformance.bench import Bench, check
from brokerkit_conformance.casebook import case
from brokerkit_conformance.catalogue import catalogue
from brokerkit_conformance.model import Outcome
from brokerkit_conformance.mutants import score
from brokerkit_conformance.mutants.planting import all_mutants

_SAMPLE: Final = ("second-settlement-taken", "twice-is-an-error", "reservation-clears")


@case("HAR-08", crowd=True)
def cases_can_fail(bench: Bench) -> None:
    """Each MUST case of this suite has a planted defect that it is to notice; a sample of these is noticed, here and now.

    All of them take minutes: `brokerkit-conformance mutants` tries them when the suite is built.
    """
    unguarded = score.unguarded()
    check(not unguarded, f"no mutant shows that these cases can fail: {', '.join(unguarded[:5])}")
    mutants = [each for each in all_mutants() if each.name in _SAMPLE]
    check(len(mutants) == len(_SAMPLE), f"only {[each.name for each in mutants]} of {_SAMPLE} are in this suite")
    for each in mutants:
        records = score.try_mutant(each, sound=True)
        failed = [f"{record.id}: {record.reason}" for record in records if record.outcome is not Outcome.PASS]
        check(
            records and not failed, f"without {each.name} its cases fail as well, so that they show nothing: {failed}"
        )
    tried = score.run(names=_SAMPLE, jobs=1)
    survived = [f"{name} ({law}: {outcome})" for name, law, outcome, _ in tried.survived]
    check(sorted(tried.killed) == sorted(_SAMPLE), f"nobody noticed {', '.join(survived)}")
    bench.measured["catalogue"] = catalogue().digest
    bench.measured["mutants, laws that they guard"] = [
        len(all_mutants()),
        len({law for each in all_mutants() for law in each.kills}),
    ]
