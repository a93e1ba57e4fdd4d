"""Hand-made histories: inversions, and what only a search for a linearization shows."""

from __future__ import annotations

from typing import Any

import pytest
from brokerkit_conformance.history import Kind, Phase, Promises, Tape, Verb

LEASE = Promises(lease=2.0)
FIFO = Promises(lease=100.0, order="queue")
GROUPS = Promises(lease=100.0, order="group")


# ---------------------------------------------------------------------------------------------------------- inversions


def in_order(tape: Tape, order: str, *, actors: str = "aaaa", **fields: Any) -> None:
    for number, name in enumerate(sorted(order)):
        tape.send(name, float(number), **{key: value[number] for key, value in fields.items()})
    for number, name in enumerate(order):
        tape.ack(tape.receive(actors[number], name, 10.0 + number, attempt=1), 10.2 + number)


@pytest.mark.parametrize("promises", [FIFO, Promises(lease=100.0, order="queue", prefetch=True)])
def test_a_message_after_a_younger_one(tape: Tape, promises, judge, clean) -> None:
    in_order(tape, "abdc")
    (finding,) = judge(tape, promises).findings
    assert (finding.kind, finding.message) == (Kind.INVERSION, "c")
    assert [event.message for event in finding.events if event.verb is Verb.SEND] == ["c", "c", "d", "d"]
    assert clean(judge(tape, LEASE)), "no order was promised"


def test_order_is_seen_over_many_consumers_too(tape: Tape, judge, kinds, clean) -> None:
    in_order(tape, "abdc", actors="abab")
    assert kinds(judge(tape, FIFO)) == [Kind.INVERSION]
    assert clean(judge(tape, Promises(lease=100.0, order="queue", prefetch=True))), "who knows when it was claimed"


def test_order_within_one_batch(tape: Tape, judge, kinds) -> None:
    tape.send("x", 0)
    tape.send("y", 1)
    one = tape.receive("a", "y", 10, took=0.1)
    two = tape.receive("a", "x", 10.01, took=0.1)
    tape.ack(one, 11)
    tape.ack(two, 12)
    assert kinds(judge(tape, FIFO)) == [Kind.INVERSION]


def test_sends_at_the_same_time_have_no_order(tape: Tape, judge, clean) -> None:
    tape.send("x", 0, took=3)
    tape.send("y", 1, actor="p2")
    for name, at in [("y", 10), ("x", 11)]:
        tape.ack(tape.receive("a", name, at), at + 0.5)
    assert clean(judge(tape, FIFO))


@pytest.mark.parametrize(
    ("fields", "order", "promises", "inverted"),
    [
        ({"group": ["g", "h", "g", "h"]}, "badc", GROUPS, False),
        ({"group": ["g", "h", "g", "h"]}, "cbad", GROUPS, True),
        ({"group": [None] * 4}, "dcba", GROUPS, False),
        ({"priority": [1, 1, 5, 5]}, "cdab", FIFO, False),
        ({"priority": [1, 1, 5, 5]}, "dcab", FIFO, True),
        ({"delay": [3.0, 0.0, 0.0, 0.0]}, "bcda", FIFO, False),
    ],
)
def test_what_stays_in_order_with_what(fields, order, promises, inverted, judge) -> None:
    in_order(tape := Tape(), order, **fields)
    found = {finding.kind for finding in judge(tape, promises).findings}
    assert (Kind.INVERSION in found) is inverted


def test_a_redelivery_is_no_inversion(tape: Tape, judge, clean) -> None:
    tape.send("x", 0)
    tape.send("y", 1)
    tape.do(Verb.RELEASE, tape.receive("a", "x", 10, attempt=1), 11)
    tape.ack(tape.receive("a", "y", 12, attempt=1), 13)
    tape.ack(tape.receive("a", "x", 14, attempt=2), 15)
    assert clean(judge(tape, FIFO))


def test_who_died_may_have_had_it_first(tape: Tape, judge, clean) -> None:
    tape.send("x", 0)
    tape.send("y", 1)
    tape.ack(tape.receive("a", "y", 12, attempt=1), 13)
    tape.ack(tape.receive("a", "x", 14, attempt=2), 15)
    assert clean(judge(tape, FIFO))


# ------------------------------------------------------------------------------------------------------- linearization


def test_a_cycle_that_no_pair_shows(tape: Tape, judge, kinds, clean) -> None:
    """x before y by the sends, and the reader got y while x, sent twice for good reasons, was there all the time."""
    tape.send("x", 0, Phase.UNKNOWN)
    tape.send("x", 1)
    tape.send("y", 2)
    for name, at in [("y", 10), ("x", 11), ("x", 12)]:
        tape.ack(tape.receive("a", name, at, attempt=1), at + 0.5)
    assert kinds(judge(tape, FIFO)) == [Kind.NOT_LINEARIZABLE]
    assert clean(judge(tape, LEASE))


def test_racing_takers_have_an_order(tape: Tape, judge, clean) -> None:
    for name, at in zip("abc", [0.0, 0.01, 0.02], strict=True):
        tape.send(name, at, actor=f"p{name}", took=5)
    for number, name in enumerate("cab"):
        tape.ack(tape.receive(f"c{number}", name, 1.0 + number / 100, took=3, attempt=1), 6.0)
    checked = judge(tape, FIFO)
    assert clean(checked)
    assert checked.counts["searched"] == 1


def test_large_histories_are_not_searched(tape: Tape, judge) -> None:
    for number in range(14):
        tape.send(f"m{number:02}", float(number))
        tape.ack(tape.receive("a", f"m{number:02}", 100.0 + number), 100.5 + number)
    assert judge(tape, FIFO).counts.get("searched", 0) == 0
