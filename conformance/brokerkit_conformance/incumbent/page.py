"""docs/incumbent.md, from what the trials showed."""

from __future__ import annotations

import platform
import textwrap
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Final

from brokerkit_conformance.incumbent.defects import DEFECTS, Defect
from brokerkit_conformance.incumbent.shown import Shown
from brokerkit_conformance.incumbent.tables import COLUMNS, areas, failures, not_shown, short, table
from brokerkit_conformance.model import Outcome

__all__ = ["missed", "render"]

_WIDTH: Final = 120


def missed(trials: Sequence[Shown]) -> list[Defect]:
    """Return the known defects that the suite did not show."""
    found = {(trial.harness, law) for trial in trials for law, o in trial.outcomes.items() if o is Outcome.FAIL}
    return [defect for defect in DEFECTS if (defect.harness, defect.law) not in found]


def render(trials: Sequence[Shown]) -> str:
    """Return the page."""
    parts = [_HEAD, *_versions(trials), *_defects(trials), *_well(trials), *_areas(trials), *_failures(trials)]
    return "\n".join([*parts, *_not_shown(trials), _FAIR])


def _versions(trials: Sequence[Shown]) -> Iterator[str]:
    libraries = ", ".join(f"{name} {version(name)}" for name in ("kombu", "celery", "redis", "hiredis", "sqlalchemy"))
    servers = ", ".join(trial.server for trial in trials if trial.server != "none")
    suite = version("brokerkit-conformance")
    yield f"{_wrapped(f'Made with {libraries}; {servers}; Python {platform.python_version()}; suite {suite}.')}\n"


def _defects(trials: Sequence[Shown]) -> Iterator[str]:
    by_name = {trial.harness: trial for trial in trials}
    yield "## Six known defects, and the case that shows each\n"
    rows = []
    for defect in DEFECTS:
        trial = by_name.get(defect.harness)
        outcome = trial.outcomes.get(defect.law) if trial else None
        told = short(trial.reasons.get(defect.law, "")) if trial else ""
        rows.append((defect.name, defect.law, COLUMNS[defect.harness], str(outcome or "not asked"), told))
    yield from table(("defect", "law", "transport", "outcome", "what the case said"), rows)
    for defect in DEFECTS:
        yield f"\n### {defect.name}: {defect.title} ({defect.law})\n\n{_wrapped(defect.text)}\n"
        command = f"brokerkit-conformance run brokerkit_conformance.incumbent:{defect.harness} --case {defect.law}"
        yield f"```console\n$ {command}\n```"
    yield ""


def _well(trials: Sequence[Shown]) -> Iterator[str]:
    yield "## What it does well\n"
    for trial in trials:
        passed = [law for law, outcome in trial.outcomes.items() if outcome is Outcome.PASS]
        tried = sum(outcome in (Outcome.PASS, Outcome.FAIL) for outcome in trial.outcomes.values())
        failed = {law.partition("-")[0] for law, outcome in trial.outcomes.items() if outcome is Outcome.FAIL}
        whole = list(dict.fromkeys(area for law in passed if (area := law.partition("-")[0]) not in failed))
        text = f"**{COLUMNS[trial.harness]}**: {len(passed)} laws pass"
        text += f", and nothing fails in {', '.join(whole)}." if whole else "."
        yield _wrapped(f"{text} {_PRAISE[trial.harness]}".strip()) + "\n" if tried else ""


def _areas(trials: Sequence[Shown]) -> Iterator[str]:
    yield "## Areas and outcomes\n"
    yield f"{_wrapped(_COLUMNS_MEAN)}\n\n{_KINDS}"
    for trial in trials:
        yield f"### {COLUMNS[trial.harness]}\n"
        yield from areas(trial)
        yield ""


def _failures(trials: Sequence[Shown]) -> Iterator[str]:
    yield "## Everything else that failed\n"
    yield from failures(trials)
    yield ""


def _not_shown(trials: Sequence[Shown]) -> Iterator[str]:
    yield "## What could not be shown, and why\n"
    yield from not_shown(trials)
    yield ""


def _wrapped(text: str) -> str:
    return textwrap.fill(text, _WIDTH, break_long_words=False, break_on_hyphens=False)


_COLUMNS_MEAN: Final = (
    "Each number is a count of laws. *Refused*: kombu does not claim the power, and using it was refused loudly; it is the core "
    "of brokerkit that refuses, so this says nothing of kombu. *More than claimed*: it works, though no document promises it. "
    "Failures are told apart by whose they are:"
)
_KINDS: Final = """\
* *kombu*: kombu or Celery loses, repeats or misreports something, or is silent about it;
* *contract*: brokerkit asks for what kombu promises nobody, such as an error for a queue that does not exist;
* *bridge*: the mapping or the case does not fit, and nothing is said about kombu;
* *unread*: nobody has read yet why it fails, so nothing is claimed.
"""

_PRAISE: Final = {
    "KombuRedis": "Messages travel byte for byte with their headers, an ack holds through every kind of redelivery, prefetch "
    "is kept, a crash while working brings the message back, and copies for bound queues that are away are kept. Celery's "
    "results keep their values, their time to live and their isolation.",
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
comes first: each of the six defects has to show as the failure of a named case, or this page cannot be made.

One command makes it again, in six minutes at most, on a private Redis that it starts itself. It needs redis-server and
the packages celery, redis and hiredis, which a development set-up of this repository has:

```console
$ python -m brokerkit_conformance.incumbent --docs docs/incumbent.md
```

One transport by itself, with a whole report:
`brokerkit-conformance run brokerkit_conformance.incumbent:KombuRedis --report out/`
"""

_FAIR: Final = """\
## How it was kept fair

* The bridge adds nothing: an ack is `Message.ack`, a release is `Message.requeue`, a receive is `drain_events` with a
  prefetch of what was asked for, a close is `Connection.release`. Late acks are not stopped on the way, as kombu does not,
  and no end of a claim is computed, as kombu tells none.
* What kombu does not promise is declared absent (delays, time to live, bounded queues, counting, prolonging a claim), so
  that those laws ask only whether it is refused loudly.
* Where kombu leaves a choice, the better one was taken: sends go to the default exchange, which needs no bindings; topics
  are topic exchanges, which keep copies for queues that are away (a fanout exchange, Redis' publish and subscribe, keeps
  none); ended leases are looked for at each call (`unacked_restore_throttle=1`), where by default it is about every 100 s;
  leases are two seconds, not an hour; reads of a socket end after five seconds, where by default they never do, or after
  Celery's 120.
* A `BRPOP` that is on its way is always seen through before a receive ends, as a worker would that never stops draining.
* Foreign bytes with no word on what they are are pushed as they are; those with headers come as a message of kombu's.
* Level scale, which asks for ten thousand messages at once, was left out: nothing is said here about speed. A case that
  did not end within the suite's 30 s was asked once more with less beside it, if there was time; if it did not end then
  either, that is counted as not shown, as a busy machine may be the reason.
* Each case has Redis databases of its own, since kombu's sweeper applies its own timeout to all of a database; and an SQLite
  file of its own, since each poll of kombu's takes the one lock that SQLite has for writers.
* Redis saves to disk when it ends in order, as it does when it comes out of the box; after a kill it is empty.
* After an error that kombu itself counts among its connection errors, a consumer gets a new connection, as in Celery's
  worker; a connection is tried once, and it is brokerkit that repeats.
* For SQL the bridge declares that a dead consumer's messages come back, since that is what an ack is for and what kombu
  emulates at an orderly end. Had it declared that they never do, VIS-08 would have said just that.
* kombu keeps no count of deliveries that the contract could carry: its `redelivered` is a yes or no, and the suite asks
  such engines to say nothing.
"""
