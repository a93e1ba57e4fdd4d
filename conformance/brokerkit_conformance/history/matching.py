"""Matching what came once too often with excuses, each of which is good for one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from brokerkit_conformance.history.accounts import Account, Handed
from brokerkit_conformance.history.events import History, Verb
from brokerkit_conformance.history.excuses import Reason, Setting, copies, ending
from brokerkit_conformance.history.findings import Kind

__all__ = ["Breach", "Matching"]

Breach: TypeAlias = tuple[Kind, str, Sequence[Handed]]
"""What, in words, and the deliveries that show it."""


class Matching:
    """The excuses of one message in one queue, used up in the order of time.

    An excuse holds from its moment on, so any that holds now is as good later: taking one at once is never wrong.

    Attributes:
        excused: how many were excused, by kind of excuse.
    """

    def __init__(self, account: Account, setting: Setting, *, history: History) -> None:
        self.excused: Counter[str] = Counter()
        self._account = account
        self._setting = setting
        self._drain = history.drain
        self._copies = copies(account)
        self._spare = list(self._copies)
        self._endings: dict[str, Reason] = {}
        self._before: list[Handed] = []

    def breaches(self) -> Iterator[Breach]:
        """Yield each delivery but the first, each copy left and each dead letter that nothing excuses."""
        for one in self._account.handed:
            if self._before and (breach := self._match(one)) is not None:
                yield breach
            self._before.append(one)
            if (reason := ending(one, self._account, self._setting)) is not None:
                self._endings[_name(one)] = reason
        for number in range(self._account.found):
            if (self._before or number) and (breach := self._match(None)) is not None:
                yield breach
        yield from self._dead_letters()

    def _match(self, one: Handed | None) -> Breach | None:
        """Use up an excuse for a delivery, or for a copy that was left (None)."""
        at = self._drain.ended if one is None else one.at
        settled = self._settled_before(one)
        # what was settled is gone, whatever happened to its lease before: only another copy can come
        gone = len(settled) > sum(copy.since <= at for copy in self._copies)
        usable = [name for name, reason in self._endings.items() if reason.since <= at and not gone]
        if usable:
            best = min(usable, key=lambda name: (self._endings[name].since, name))
            self._excuse(self._endings.pop(best))
            return None
        if self._spare and self._spare[0].since <= at:
            self._excuse(self._spare.pop(0))
            return None
        what = "it was left in the queue" if one is None else "it was handed over"
        involved = [*(settled if gone else self._before)[-1:], *([] if one is None else [one])]
        if gone:
            return Kind.RESURRECTED, f"{what} after its settlement was confirmed", involved
        return Kind.DUPLICATE, f"{what} once more, and nothing excuses it", involved

    def _settled_before(self, one: Handed | None) -> list[Handed]:
        """Return the deliveries that were certainly settled before this one was claimed."""
        if one is None:
            claimed = self._drain.began
        elif self._setting.promises.prefetch:
            claimed = self._claimed_with_prefetch(one)
        else:
            claimed = one.receive.invoke.mono
        acts = ((old, old.settled()) for old in self._before)
        return [old for old, act in acts if act is not None and act.end is not None and act.end.mono < claimed]

    def _claimed_with_prefetch(self, one: Handed) -> float:
        """A claim of long ago needs a lease that had ended by then: without one, it was made just now."""
        excused = any(reason.since <= one.at for reason in self._endings.values())
        return self._account.possible_since() if excused else one.receive.invoke.mono

    def _dead_letters(self) -> Iterator[Breach]:
        """A dead letter is the end of one delivery, or of one copy that expired."""
        asked = sum(
            any(act.invoke.verb is Verb.DEAD_LETTER and not act.failed for act in one.acts) for one in self._before
        )
        expired = 0 if self._before else 1
        for _ in range(self._account.dead - asked - expired):
            if self._endings:
                self._endings.pop(min(self._endings))
            elif self._spare:
                self._excuse(self._spare.pop(0))
            else:
                yield Kind.DUPLICATE, "it is also among the dead letters, and nothing excuses it", self._before[-1:]

    def _excuse(self, reason: Reason) -> None:
        self.excused[f"excused by {reason.excuse}"] += 1


def _name(one: Handed) -> str:
    return str(one.event.delivery)
