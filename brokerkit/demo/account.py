"""The account: what became of every order, every copy and every result, and whether all is well."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, final

from brokerkit.demo.logbook import DONE, LATE, LOST, STARTED, Entry

__all__ = ["Account", "Fates", "fates_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fates:
    """What the logs say of the orders.

    Attributes:
        handled: orders that a worker finished.
        twice: orders that were finished more than once, by the reason: "killed", "frozen", "slow" (a lease was lost on a
            machine with too much to do), "unexplained".
        redelivered: orders that were started on a second or later delivery.
        late_acks: deliveries whose ack was refused.
    """

    handled: frozenset[int]
    twice: Mapping[str, int]
    redelivered: frozenset[int]
    late_acks: int


@final
@dataclass(slots=True, kw_only=True)
class Account:
    """The end of a run, in numbers.

    Attributes:
        sent: orders that the broker accepted.
        poison: orders that no worker can handle; they must be dead-lettered.
        fates: see `Fates`.
        dead: orders in the dead queue.
        left: messages that are still in the queue.
        published: messages published to the topic, over both virtual hosts.
        copies: copies that the subscribers should have.
        heard: copies that they got.
        leaked: copies from the other virtual host.
        isolated_by: what makes the second virtual host.
        awaited: results that came as they should.
        wrong_results: results that did not come, or are not what the worker computed.
        evicted: results whose record was taken away.
        reported_lost: of these, how many were reported as lost.
        report_seconds: how long the slowest of these reports took.
        seconds: how long it all took.
        troubles: what else went wrong.
    """

    sent: int = 0
    poison: frozenset[int] = frozenset()
    fates: Fates
    dead: frozenset[int] = frozenset()
    left: int = 0
    published: int = 0
    copies: int = 0
    heard: int = 0
    leaked: int = 0
    isolated_by: str = ""
    awaited: int = 0
    wrong_results: int = 0
    evicted: int = 0
    reported_lost: int = 0
    report_seconds: float = 0.0
    seconds: float = 0.0
    troubles: list[str] = field(default_factory=list)

    @property
    def lost(self) -> int:
        """Orders that were accepted, and neither handled nor dead-lettered."""
        return self.sent - len(self.fates.handled | self.dead)

    @property
    def problems(self) -> list[str]:
        """Why the run failed; empty if all is well."""
        wrong = {
            f"{self.lost} orders were lost": self.lost,
            f"{len(self.dead - self.poison)} sound orders were dead-lettered": self.dead - self.poison,
            f"{len(self.poison - self.dead)} spoilt orders were not dead-lettered": self.poison - self.dead,
            f"{len(self.poison & self.fates.handled)} spoilt orders were handled": self.poison & self.fates.handled,
            f"{self.fates.twice.get('unexplained', 0)} orders were handled twice for no reason": self.fates.twice.get(
                "unexplained", 0
            ),
            f"{self.left} messages are left in the queue": self.left,
            "no late ack was refused, though a worker was frozen": not self.fates.late_acks,
            f"{self.copies - self.heard} copies of the topic did not arrive": self.copies - self.heard,
            f"{self.leaked} copies leaked into the other virtual host": self.leaked,
            f"{self.wrong_results} results are missing or wrong": self.wrong_results,
            f"{self.evicted - self.reported_lost} evicted results were not reported lost": self.evicted
            - self.reported_lost,
        }
        return [text for text, found in wrong.items() if found] + self.troubles

    def document(self) -> dict[str, Any]:
        """Return it for JSON; the keys stay as they are."""
        problems = self.problems
        return {
            "ok": not problems,
            "problems": problems,
            "seconds": round(self.seconds, 2),
            "sent": self.sent,
            "handled": len(self.fates.handled),
            "redelivered": len(self.fates.redelivered),
            "handled_twice": dict(self.fates.twice),
            "late_acks_refused": self.fates.late_acks,
            "dead_lettered": len(self.dead),
            "lost": self.lost,
            "fanout": {
                "published": self.published,
                "copies": self.copies,
                "heard": self.heard,
                "leaked": self.leaked,
                "isolated_by": self.isolated_by,
            },
            "results": {
                "awaited": self.awaited,
                "wrong": self.wrong_results,
                "evicted": self.evicted,
                "reported_lost": self.reported_lost,
                "slowest_report_seconds": round(self.report_seconds, 3),
            },
        }


def fates_of(entries: Iterable[Entry], *, killed: int | None, frozen: int | None, poison: frozenset[int]) -> Fates:
    """Read what became of the orders out of the workers' logs.

    Args:
        entries: of all workers.
        killed: the worker that was killed.
        frozen: the worker that was frozen.
        poison: orders whose repeats are no redelivery that somebody caused.
    """
    finished: Counter[int] = Counter()
    started_by: defaultdict[int, set[int]] = defaultdict(set)
    ids: defaultdict[int, set[str]] = defaultdict(set)
    redelivered: set[int] = set()
    late: set[tuple[int, str]] = set()
    unlucky: set[str] = set()
    for entry in entries:
        if entry.step == STARTED:
            started_by[entry.order].add(entry.worker)
            ids[entry.order].add(entry.message_id)
            if entry.attempt > 1 and entry.order not in poison:
                redelivered.add(entry.order)
        elif entry.step == DONE:
            finished[entry.order] += 1
        elif entry.step in (LATE, LOST):
            unlucky.add(entry.message_id)
            if entry.step == LATE:
                late.add((entry.worker, entry.message_id))
    twice: Counter[str] = Counter({"killed": 0, "frozen": 0, "slow": 0, "unexplained": 0})
    for order, times in finished.items():
        if times > 1:
            twice[_reason(started_by[order], killed, frozen, slow=bool(ids[order] & unlucky))] += 1
    return Fates(handled=frozenset(finished), twice=twice, redelivered=frozenset(redelivered), late_acks=len(late))


def _reason(workers: set[int], killed: int | None, frozen: int | None, *, slow: bool) -> str:
    if killed in workers:
        return "killed"
    if frozen in workers:
        return "frozen"
    return "slow" if slow else "unexplained"
