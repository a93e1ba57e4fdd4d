"""docs/incumbent.md, from what the trials showed."""

from __future__ import annotations

import platform
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Final

from brokerkit_conformance.catalogue import catalogue
from brokerkit_conformance.incumbent.defects import DEFECTS, REMARKS, Defect
from brokerkit_conformance.model import Outcome

__all__ = ["Shown", "missed", "render"]

_COLUMNS: Final = {
    "KombuRedis": "redis",
    "KombuMemory": "memory",
    "KombuSQLite": "sqlalchemy (SQLite)",
}
_WIDTH: Final = 120
_SHORT: Final = 150


@dataclass(frozen=True, slots=True)
class Shown:
    """What one trial showed.

    Attributes:
        harness: the name of its class.
        server: the product and version behind it.
        verdict: of the whole.
        outcomes: of each law that was asked, by id.
        reasons: of those that are no PASS.
    """

    harness: str
    server: str
    verdict: str
    outcomes: Mapping[str, Outcome]
    reasons: Mapping[str, str]


def missed(trials: Sequence[Shown]) -> list[Defect]:
    """Return the known defects that the suite did not show."""
    found = {(trial.harness, law) for trial in trials for law, o in trial.outcomes.items() if o is Outcome.FAIL}
    return [defect for defect in DEFECTS if (defect.harness, defect.law) not in found]


def render(trials: Sequence[Shown]) -> str:
    """Return the page."""
    parts = [_HEAD, *_versions(trials), *_matrix(trials), *_well(trials), *_defects(trials), *_others(trials), _FAIR]
    return "\n".join(parts)


def _versions(trials: Sequence[Shown]) -> Iterator[str]:
    names = ("kombu", "celery", "redis", "hiredis", "sqlalchemy")
    yield "## What was tried\n"
    yield from _table(
        ("transport", "server", "verdict"),
        ((_COLUMNS[trial.harness], trial.server, trial.verdict) for trial in trials),
    )
    libraries = ", ".join(f"{name} {version(name)}" for name in names)
    suite = version("brokerkit-conformance")
    yield f"\n{_wrapped(f'{libraries}; Python {platform.python_version()}; suite {suite}.')}\n"


def _matrix(trials: Sequence[Shown]) -> Iterator[str]:
    yield "## Areas and outcomes\n"
    yield _wrapped(
        "✓ laws that were shown to hold, or powers that are not claimed and refused loudly; ✗ laws that were shown not to "
        "hold; ? asked, and not shown. The result backend (RES) is Celery's."
    )
    yield ""
    rows = [(f"{area} {title}", *(_cell(trial, area) for trial in trials)) for area, title in catalogue().areas.items()]
    yield from _table(("area", *(_COLUMNS[trial.harness] for trial in trials)), [row for row in rows if any(row[1:])])
    yield ""


def _cell(trial: Shown, area: str) -> str:
    outcomes = [outcome for law, outcome in trial.outcomes.items() if law.startswith(f"{area}-")]
    good, failed = sum(o.good for o in outcomes), sum(o is Outcome.FAIL for o in outcomes)
    counts = {"✓": good, "✗": failed, "?": len(outcomes) - good - failed}
    return " ".join(f"{number} {sign}" for sign, number in counts.items() if number)


def _well(trials: Sequence[Shown]) -> Iterator[str]:
    yield "## What it does well\n"
    for trial in trials:
        passed = [law for law, outcome in trial.outcomes.items() if outcome is Outcome.PASS]
        by_area = Counter(law.partition("-")[0] for law in passed)
        failed = {law.partition("-")[0] for law, outcome in trial.outcomes.items() if outcome is Outcome.FAIL}
        whole = [area for area in by_area if area not in failed]
        text = f"**{_COLUMNS[trial.harness]}**: {len(passed)} laws of {len(trial.outcomes)} pass"
        text += f", and nothing fails in {', '.join(whole)}." if whole else "."
        yield _wrapped(f"{text} {_PRAISE.get(trial.harness, '')}".strip()) + "\n"


def _defects(trials: Sequence[Shown]) -> Iterator[str]:
    by_name = {trial.harness: trial for trial in trials}
    yield "## Six known defects, and the case that shows each\n"
    rows = []
    for defect in DEFECTS:
        trial = by_name.get(defect.harness)
        outcome = trial.outcomes.get(defect.law) if trial else None
        told = _short(trial.reasons.get(defect.law, "")) if trial else ""
        rows.append((defect.name, defect.law, _COLUMNS[defect.harness], str(outcome or "not asked"), told))
    yield from _table(("defect", "law", "transport", "outcome", "what the case said"), rows)
    for defect in DEFECTS:
        yield f"\n### {defect.name}: {defect.title} ({defect.law})\n\n{_wrapped(defect.text)}"
    yield ""


def _others(trials: Sequence[Shown]) -> Iterator[str]:
    yield "## Everything else that failed\n"
    known = {(defect.harness, defect.law) for defect in DEFECTS}
    rows = []
    for law in catalogue():
        where = [t for t in trials if t.outcomes.get(law.id) is Outcome.FAIL and (t.harness, law.id) not in known]
        if where:
            columns = ", ".join(_COLUMNS[trial.harness] for trial in where)
            said = _short(where[0].reasons[law.id])
            rows.append((law.id, columns, said, REMARKS.get(law.id, "")))
    yield from _table(("law", "on", "what the case said", "what it means"), rows)
    yield ""


def _short(reason: str) -> str:
    """The last line of a reason, fit for a cell."""
    line = next((line for line in reversed(reason.splitlines()) if line.strip()), "").replace("|", "\\|").strip()
    return line if len(line) <= _SHORT else f"{line[: _SHORT - 1]}…"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]] | Iterator[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, _WIDTH, break_long_words=False, break_on_hyphens=False)


_PRAISE: Final = {
    "KombuRedis": "Messages travel byte for byte with their headers, an ack holds through every kind of redelivery, prefetch "
    "is kept, a crash while working brings the message back, and copies for bound queues that are away "
    "are kept. Celery's results keep their values, their time to live and their isolation.",
    "KombuMemory": "Good for tests of one process: bodies, headers, order and competing consumers are right.",
    "KombuSQLite": "What is published is committed, and comes back byte for byte.",
}

_HEAD: Final = """\
# kombu and Celery on trial

<!-- written by `python -m brokerkit_conformance.incumbent --docs docs/incumbent.md`; changes belong into its page.py -->

The conformance suite was written beside brokerkit's own engines. To see whether it finds anything in a system that it was
not written for, it is run here against the one that everybody uses: kombu's own transports and Celery's own redis result
backend, behind a thin bridge that maps each call of the contract onto kombu's own way to do it. kombu serves millions of
tasks every day, and most of what it is asked here it does right. What was known of it beforehand from reading its source
is in the third section: each of the six defects has to show as the failure of a named case, or this page cannot be made.

One command repeats it all, on a private Redis that it starts itself (redis-server has to be installed, and the packages
celery and redis):

```console
$ python -m brokerkit_conformance.incumbent --docs docs/incumbent.md
```

One transport by itself, with a whole report:
`brokerkit-conformance run brokerkit_conformance.incumbent:KombuRedis --report out/`
"""

_FAIR: Final = """\
## How it was kept fair

* The bridge adds nothing: an ack is `Message.ack`, a release is `Message.requeue`, a receive is `drain_events` with a
  prefetch of what was asked for, a close is `Connection.release`. Late acks are not stopped on the way, as kombu does not.
* What kombu does not promise is declared absent (delays, time to live, bounded queues, counting), so that those laws ask
  only whether it is refused loudly. The core of brokerkit refuses, so REFUSED_OK says nothing of kombu.
* Where kombu leaves a choice, the better one was taken: sends go to the default exchange, which needs no bindings; topics
  are topic exchanges, which keep copies for queues that are away; ended leases are looked for at each call
  (`unacked_restore_throttle=1`), where by default it is about every 100 s; leases are two seconds, not an hour.
* Fanout exchanges, which are Redis' publish and subscribe, were tried too (`KombuRedisFanout`) and left out of the table:
  there a queue hears only while somebody consumes it, the topics of the contract keep copies, and so every law on them
  fails for one and the same reason.
* A `BRPOP` that is on its way is always seen through before a receive ends, as a worker would that never stops draining.
* Level scale, which asks for ten thousand messages at once, was left out: nothing is said here about speed.
* Each case has Redis databases of its own, since kombu's sweeper applies its own timeout to all of a database.
* For SQL the bridge declares that a dead consumer's messages come back, since that is what an ack is for and what kombu
  emulates at an orderly end. Had it declared that they never do, VIS-08 would not have been asked.
* kombu keeps no count of deliveries that the contract could carry: its `redelivered` is a yes or no, and the suite asks
  such engines to say nothing.
"""
