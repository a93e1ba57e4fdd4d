"""Random histories of a simulated, correct queue have no findings; each planted defect is found by its name."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Any

from brokerkit_conformance.history import (
    Checked,
    Drain,
    Event,
    FaultKind,
    FaultRecord,
    Found,
    History,
    Kind,
    Phase,
    Promises,
    Standing,
    Verb,
    check,
    join,
)
from brokerkit_conformance.history.log import Parsed
from hypothesis import assume, given, settings
from hypothesis import strategies as st

LEASE = 6.0
PROMISES = Promises(lease=LEASE, order="queue")
ACTORS = 3

steps = st.lists(
    st.tuples(
        st.sampled_from(
            ["send", "send", "take", "take", "take", "ack", "ack", "release", "extend", "dead", "kill", "wait"]
        ),
        st.integers(0, 5),
        st.sampled_from(["ok", "ok", "ok", "lost reply", "lost request", "refused"]),
    ),
    max_size=40,
)


@dataclass
class Copy:
    """One stored copy of a message."""

    message: str
    rank: int
    attempts: int = 0


@dataclass
class Held:
    """One delivery."""

    copy: Copy
    actor: int
    generation: int
    name: str
    ends: float
    receipt_good: bool = True
    given_up: bool = False


@dataclass
class Queue:
    """A correct FIFO queue with leases, and the logs of those who use it. One step at a time, 1 s each."""

    now: float = 0.0
    ready: list[Copy] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    dead: list[str] = field(default_factory=list)
    lines: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    faults: list[FaultRecord] = field(default_factory=list)
    generations: list[int] = field(default_factory=lambda: [0] * ACTORS)
    sent: int = 0
    ops: int = 0
    doubtful: str | None = None

    def step(self, verb: str, number: int, outcome: str) -> None:
        self.now += 1.0
        self._end_leases()
        getattr(self, f"_{verb}")(number, outcome)

    def _end_leases(self) -> None:
        for held in self.held:
            if held.receipt_good and held.ends <= self.now:
                self._give_back(held)

    def _give_back(self, held: Held) -> None:
        held.receipt_good = False
        self.ready.append(held.copy)
        self.ready.sort(key=lambda copy: copy.rank)

    def _log(self, actor: str, verb: Verb, outcome: str, **fields: Any) -> None:
        self.ops += 1
        learnt = ("message", "queue", "delivery", "attempt") if verb is Verb.RECEIVE else ()
        asked = {name: value for name, value in fields.items() if name not in learnt}
        self.lines.append((self.now, {"actor": actor, "verb": verb, "phase": Phase.INVOKE, "op": self.ops, **asked}))
        phase = {"ok": Phase.OK, "refused": Phase.FAIL}.get(outcome, Phase.UNKNOWN)
        self.lines.append((self.now + 0.2, {"actor": actor, "verb": verb, "phase": phase, "op": self.ops, **fields}))

    def _send(self, number: int, outcome: str) -> None:
        # an odd number repeats a send whose outcome is not known
        message = self.doubtful if self.doubtful and number % 2 else f"m{self.sent:02}"
        self.sent += message != self.doubtful
        self.ops += 1
        self._log("p", Verb.SEND, outcome, message=message, queue="q")
        if outcome in ("ok", "lost reply"):
            self.ready.append(Copy(message, rank=self.ops))
        self.doubtful = message if outcome.startswith("lost") else None

    def _take(self, number: int, outcome: str) -> None:
        if not self.ready:
            return
        copy = self.ready.pop(0)
        copy.attempts += 1
        actor = number % ACTORS
        name = f"d{self.ops}"
        held = Held(copy, actor, self.generations[actor], name, self.now + 0.1 + LEASE)
        self.held.append(held)
        self._log(
            self._name(held), Verb.RECEIVE, "ok", message=copy.message, queue="q", delivery=name, attempt=copy.attempts
        )

    def _name(self, held: Held) -> str:
        return f"c{held.actor}.{held.generation}"

    def _settle(self, verb: Verb, number: int, outcome: str) -> Held | None:
        """Log a call on a delivery of a living actor, and return it if the call took effect."""
        alive = [one for one in self.held if self.generations[one.actor] == one.generation and not one.given_up]
        if not alive:
            return None
        held = alive[number % len(alive)]
        outcome = "refused" if not held.receipt_good else outcome
        self._log(self._name(held), verb, outcome, message=held.copy.message, queue="q", delivery=held.name)
        held.given_up = verb is not Verb.EXTEND
        return held if outcome in ("ok", "lost reply") else None

    def _ack(self, number: int, outcome: str) -> None:
        if held := self._settle(Verb.ACK, number, outcome):
            held.receipt_good = False

    def _dead(self, number: int, outcome: str) -> None:
        if held := self._settle(Verb.DEAD_LETTER, number, outcome):
            held.receipt_good = False
            self.dead.append(held.copy.message)

    def _release(self, number: int, outcome: str) -> None:
        if held := self._settle(Verb.RELEASE, number, outcome):
            self._give_back(held)

    def _extend(self, number: int, outcome: str) -> None:
        if held := self._settle(Verb.EXTEND, number, outcome):
            held.ends = self.now + 0.1 + LEASE

    def _kill(self, number: int, outcome: str) -> None:
        actor = number % ACTORS
        name = f"c{actor}.{self.generations[actor]}"
        self.faults.append(FaultRecord(kind=FaultKind.KILL, target=name, began=self.now, proved=True))
        self.generations[actor] += 1

    def _wait(self, number: int, outcome: str) -> None:
        self.now += number


@dataclass
class Run:
    """What a simulation left, open to changes."""

    lines: list[tuple[float, dict[str, Any]]]
    faults: list[FaultRecord]
    drain: Drain

    def logs(self) -> list[Parsed]:
        by_actor: dict[str, list[Event]] = {}
        for at, fields in sorted(self.lines, key=lambda line: line[0]):
            lines = by_actor.setdefault(fields["actor"], [])
            lines.append(Event(seq=len(lines), pid=1, mono=at, wall=at, **fields))
        return [Parsed(actor, tuple(lines), torn=False, damage=()) for actor, lines in by_actor.items()]

    def history(self) -> History:
        return join(self.logs(), self.faults, self.drain)

    def check(self) -> Checked:
        return check(self.history(), PROMISES)

    def of(self, message: str, *verbs: Verb) -> list[tuple[float, dict[str, Any]]]:
        ops = {(f["actor"], f["op"]) for _, f in self.lines if f.get("message") == message and f["verb"] in verbs}
        return [line for line in self.lines if (line[1]["actor"], line[1]["op"]) in ops]

    def hand_over(self, message: str, at: float) -> None:
        """Let a stranger get a message at once."""
        asked = {"actor": "stranger", "verb": Verb.RECEIVE, "op": len(self.lines)}
        self.lines.append((at, {**asked, "phase": Phase.INVOKE}))
        got = {"phase": Phase.OK, "message": message, "queue": "q", "delivery": f"extra {at}"}
        self.lines.append((at + 0.001, {**asked, **got}))

    def simple(self) -> list[str]:
        """The messages that were sent once, handed over once and acked, without a doubt, in order."""
        found = []
        for message in sorted({str(f["message"]) for _, f in self.lines if f.get("message")}):
            lines = [f for _, f in self.of(message, *Verb)]
            phases = [(f["verb"], f["phase"]) for f in lines]
            once = all(phases.count((verb, Phase.OK)) == 1 for verb in (Verb.SEND, Verb.RECEIVE, Verb.ACK))
            if once and len(phases) == 6:
                found.append(message)
        return found


def simulate(plan) -> Run:
    queue = Queue()
    for step in plan:
        queue.step(*step)
    queue.now += 10 * LEASE
    queue._end_leases()
    left = tuple(Found(copy.message, "q") for copy in queue.ready)
    dead = tuple(Found(message, "q") for message in queue.dead)
    return Run(
        queue.lines, queue.faults, Drain(complete=True, began=queue.now, ended=queue.now + 1, found=left, dead=dead)
    )


def runs(*, least: int = 0):
    """Runs with at least so many messages that were sent, handed over and acked once."""
    if not least:
        return steps.map(simulate)
    simple = [("send", 0, "ok")] * least
    acked = [step for _ in range(least) for step in (("take", 0, "ok"), ("ack", 0, "ok"))]
    # all are sent before the first is taken, so that any two of them are in line together
    return st.tuples(steps, st.just(simple + acked)).map(lambda parts: simulate([*parts[1], *parts[0]]))


def kinds(checked: Checked) -> set[Kind]:
    return {finding.kind for finding in checked.findings}


@settings(max_examples=300, deadline=None)
@given(runs())
def test_a_correct_queue_has_no_findings(run: Run) -> None:
    checked = run.check()
    assert checked.findings == (), "\n".join(map(str, checked.findings))
    assert checked.standing is Standing.CLEAN


@settings(max_examples=100, deadline=None)
@given(runs(least=2), st.randoms(use_true_random=False))
def test_the_order_of_the_logs_makes_no_difference(run: Run, chance: random.Random) -> None:
    run.hand_over(run.simple()[0], run.drain.began - 1)
    logs, faults = run.logs(), list(run.faults)
    first = check(join(logs, faults, run.drain), PROMISES)
    chance.shuffle(logs)
    chance.shuffle(faults)
    assert check(join(logs, faults, run.drain), PROMISES) == first
    assert kinds(first) == {Kind.RESURRECTED}


@settings(max_examples=50, deadline=None)
@given(runs(least=1), st.data())
def test_a_dropped_message_is_lost(run: Run, data: st.DataObject) -> None:
    message = data.draw(st.sampled_from(run.simple()))
    gone = run.of(message, Verb.RECEIVE, Verb.ACK)
    run.lines = [line for line in run.lines if line not in gone]
    (finding,) = run.check().findings
    assert (finding.kind, finding.message) == (Kind.LOST, message)


@settings(max_examples=50, deadline=None)
@given(runs(least=1), st.data())
def test_a_message_that_comes_after_its_ack_is_resurrected(run: Run, data: st.DataObject) -> None:
    message = data.draw(st.sampled_from(run.simple()))
    acked = max(at for at, _ in run.of(message, Verb.ACK))
    run.hand_over(message, acked + data.draw(st.floats(0.01, 50)))
    (finding,) = run.check().findings
    assert (finding.kind, finding.message) == (Kind.RESURRECTED, message)


@settings(max_examples=50, deadline=None)
@given(runs(least=1), st.data())
def test_an_acked_message_that_is_left_is_resurrected(run: Run, data: st.DataObject) -> None:
    message = data.draw(st.sampled_from(run.simple()))
    run.drain = replace(run.drain, found=(*run.drain.found, Found(message, "q")))
    (finding,) = run.check().findings
    assert (finding.kind, finding.message) == (Kind.RESURRECTED, message)


@settings(max_examples=50, deadline=None)
@given(runs(least=1), st.data())
def test_a_message_in_two_hands_is_a_duplicate_with_two_owners(run: Run, data: st.DataObject) -> None:
    message = data.draw(st.sampled_from(run.simple()))
    handed = max(at for at, _ in run.of(message, Verb.RECEIVE))
    acked = min(at for at, _ in run.of(message, Verb.ACK))
    assume(not any(fault.began <= acked for fault in run.faults))
    end = min(acked, handed + LEASE - 0.5)
    run.hand_over(message, handed + (end - handed) * data.draw(st.floats(0.1, 0.9)))
    checked = run.check()
    assert {(finding.kind, finding.message) for finding in checked.findings} == {
        (Kind.DUPLICATE, message),
        (Kind.DOUBLE_OWNER, message),
    }


@settings(max_examples=50, deadline=None)
@given(runs(), st.floats(0, 50))
def test_a_message_out_of_nowhere_is_unexpected(run: Run, at: float) -> None:
    run.hand_over("ghost", at)
    (finding,) = run.check().findings
    assert (finding.kind, finding.message) == (Kind.UNEXPECTED, "ghost")


@settings(max_examples=50, deadline=None)
@given(runs(least=3), st.integers(0, 2), st.integers(0, 2))
def test_two_messages_in_each_others_place_are_an_inversion(run: Run, i: int, j: int) -> None:
    assume(i < j)
    names = run.simple()
    one, two = names[i], names[j]
    other = {one: two, two: one}
    run.lines = [
        (
            at,
            fields
            if fields["verb"] is Verb.SEND
            else {**fields, "message": other.get(fields["message"], fields["message"])},
        )
        if "message" in fields
        else (at, fields)
        for at, fields in run.lines
    ]
    checked = run.check()
    assert kinds(checked) == {Kind.INVERSION}
    assert one in {finding.message for finding in checked.findings}


@settings(max_examples=50, deadline=None)
@given(runs(least=1), st.sampled_from(["drain", "fault", "line"]))
def test_a_run_that_cannot_be_judged_is_inconclusive(run: Run, what: str) -> None:
    logs = run.logs()
    if what == "drain":
        run.drain = replace(run.drain, complete=False)
    elif what == "fault":
        run.faults.append(FaultRecord(kind=FaultKind.OTHER, target="*", began=0.0, proved=False))
    else:
        logs[0] = replace(logs[0], events=logs[0].events[1:])
    assert check(join(logs, run.faults, run.drain), PROMISES).standing is Standing.INCONCLUSIVE
