"""Hand-made histories: duplicates with and without an excuse, each in its window, and two owners at once."""

from __future__ import annotations

import pytest
from brokerkit_conformance.history import Excuse, FaultKind, Kind, Phase, Promises, Tape, Verb

LEASE = Promises(lease=2.0)
KEPT = Promises(lease=2.0, kept_alive=True)
CONNECTION = Promises(lease=600.0, scope="connection", kept_alive=True)


# ---------------------------------------------------------------------------------------------------------- duplicates


def test_a_duplicate_without_an_excuse(tape: Tape, judge, kinds, twice) -> None:
    twice(tape, 2)
    assert kinds(judge(tape)) == [Kind.DUPLICATE, Kind.DOUBLE_OWNER]
    assert kinds(judge(tape, KEPT)) == [Kind.DUPLICATE, Kind.DOUBLE_OWNER]


def test_a_copy_left_without_an_excuse(tape: Tape, judge, kinds) -> None:
    tape.send("m", 0)
    assert kinds(judge(tape, found=["m", "m"])) == [Kind.DUPLICATE]


def test_a_release_excuses_one_delivery_and_no_more(tape: Tape, judge, kinds, clean, twice) -> None:
    tape.do(Verb.RELEASE, twice(tape, 3), 2)
    checked = judge(tape, KEPT)
    assert clean(checked)
    assert checked.counts["excused by release"] == 1
    tape.receive("c", "m", 3.2)
    assert kinds(judge(tape, KEPT)) == [Kind.DUPLICATE, Kind.DOUBLE_OWNER]


def test_a_release_after_the_delivery_excuses_nothing(tape: Tape, judge, kinds, twice) -> None:
    tape.do(Verb.RELEASE, twice(tape, 2), 3)
    assert Kind.DUPLICATE in kinds(judge(tape, KEPT))


def test_a_delayed_release_excuses_after_its_delay(tape: Tape, judge, kinds, clean, twice) -> None:
    tape.do(Verb.RELEASE, twice(tape, 7), 2, delay=5.0)
    assert clean(judge(tape, KEPT))
    tape = Tape()
    tape.do(Verb.RELEASE, twice(tape, 6), 2, delay=5.0)
    assert kinds(judge(tape, KEPT)) == [Kind.DUPLICATE]


def test_a_release_that_failed_excuses_nothing(tape: Tape, judge, kinds, twice) -> None:
    tape.do(Verb.RELEASE, twice(tape, 3), 2, Phase.FAIL)
    assert kinds(judge(tape, KEPT)) == [Kind.DUPLICATE]


def test_a_handler_that_raised_is_a_release(tape: Tape, judge, clean, twice) -> None:
    tape.do(Verb.HANDLER, twice(tape, 3), 2, Phase.FAIL)
    assert clean(judge(tape, KEPT))


def test_a_handler_that_came_to_its_end_is_none(tape: Tape, judge, kinds, twice) -> None:
    tape.do(Verb.HANDLER, twice(tape, 3), 2, Phase.OK)
    assert kinds(judge(tape, KEPT)) == [Kind.DUPLICATE, Kind.DOUBLE_OWNER]


def test_a_lease_excuses_after_its_end(tape: Tape, judge, kinds, clean, twice) -> None:
    twice(tape, 3)  # claimed at 1 at the earliest, for 2 s
    assert clean(judge(tape))
    tape = Tape()
    twice(tape, 2.8)
    assert kinds(judge(tape)) == [Kind.DUPLICATE, Kind.DOUBLE_OWNER]
    assert clean(judge(tape, Promises(lease=2.0, early=0.2)))


def test_a_lease_of_its_own_length(tape: Tape, judge, kinds, clean, twice) -> None:
    twice(tape, 3, lease=10.0)
    assert Kind.DUPLICATE in kinds(judge(tape))
    tape = Tape()
    twice(tape, 11, lease=10.0)
    assert clean(judge(tape))


def test_a_deadline_is_a_promise_to_hold(tape: Tape, judge, kinds, twice) -> None:
    twice(tape, 3, deadline=5.0)
    assert Kind.DUPLICATE in kinds(judge(tape))


def test_an_extension_prolongs(tape: Tape, judge, kinds, clean, twice) -> None:
    tape.do(Verb.EXTEND, twice(tape, 4), 2.5)
    assert kinds(judge(tape)) == [Kind.DUPLICATE, Kind.DOUBLE_OWNER]
    tape = Tape()
    tape.do(Verb.EXTEND, twice(tape, 4.5), 2.5)
    assert clean(judge(tape))


@pytest.mark.parametrize("end", [Phase.FAIL, Phase.UNKNOWN])
def test_an_extension_that_may_not_be_done_prolongs_nothing(tape: Tape, end, judge, clean, twice) -> None:
    tape.do(Verb.EXTEND, twice(tape, 4), 2.5, end)
    assert clean(judge(tape))


def test_a_lease_that_is_kept_alive_ends_by_faults_alone(tape: Tape, judge, kinds, twice) -> None:
    twice(tape, 500)
    assert kinds(judge(tape, KEPT)) == [Kind.DUPLICATE, Kind.DOUBLE_OWNER]


def test_being_told_of_a_lost_lease_excuses_nothing(tape: Tape, judge, kinds, twice) -> None:
    tape.note("a", Verb.LEASE_LOST, 5, delivery=twice(tape, 6))
    assert kinds(judge(tape, KEPT)) == [Kind.DUPLICATE], "but nobody else thinks that it is his"


@pytest.mark.parametrize(
    "case",
    [
        (FaultKind.KILL, (2, None), 3, KEPT, True),
        (FaultKind.KILL, (3, None), 2, KEPT, False),
        (FaultKind.KILL, (0.2, 0.5), 3, KEPT, False),
        (FaultKind.FREEZE, (2, 6), 5, KEPT, True),
        (FaultKind.FREEZE, (2, 6), 2.5, KEPT, False),  # the lease lasts to 3
        (FaultKind.FREEZE, (2, 2.5), 5, KEPT, False),  # woken before the lease ended
        (FaultKind.DISCONNECT, (2, 2), 4, KEPT, True),
        (FaultKind.DISCONNECT, (2, 2), 2.5, KEPT, False),
        (FaultKind.DISCONNECT, (2, 2), 2.5, CONNECTION, True),
        (FaultKind.DISCONNECT, (4, 4), 2.5, CONNECTION, False),
        (FaultKind.STALL, (2, 9), 4, KEPT, True),
        (FaultKind.STALL, (2, 2.5), 4, KEPT, False),
        (FaultKind.BROKER_STALL, (2, 9), 4, KEPT, True),
        (FaultKind.BROKER_END, (2, 2.1), 2.5, KEPT, True),
        (FaultKind.TERM, (2, None), 2.5, KEPT, True),
        (FaultKind.TERM, (3, None), 2, KEPT, False),
        (FaultKind.OTHER, (2, 9), 5, KEPT, False),
        (FaultKind.OTHER, (2, 9), 5, LEASE, True),  # not the fault, but the lease
    ],
)
@pytest.mark.parametrize("target", ["a", "*"])
def test_faults_of_the_owner_excuse_in_their_window(tape: Tape, case, target, judge, twice) -> None:
    fault, window, second, promises, excused = case
    twice(tape, second)
    tape.fault(fault, target, *window)
    assert (judge(tape, promises).findings == ()) is excused, judge(tape, promises).findings


@pytest.mark.parametrize("fault", list(FaultKind))
def test_faults_of_others_excuse_nothing(tape: Tape, fault, judge, kinds, twice) -> None:
    twice(tape, 5)
    tape.fault(fault, "b", 2, 9)
    assert Kind.DUPLICATE in kinds(judge(tape, KEPT))


def test_what_is_not_declared_excuses_nothing(tape: Tape, judge, kinds, twice) -> None:
    twice(tape, 5)
    tape.fault(FaultKind.KILL, "a", 2)
    promises = Promises(lease=2.0, kept_alive=True, excuses=frozenset(Excuse) - {Excuse.KILL})
    assert kinds(judge(tape, promises)) == [Kind.DUPLICATE]


def test_a_fault_excuses_what_the_owner_had_when_it_came(tape: Tape, judge, kinds) -> None:
    tape.send("m", 0)
    tape.receive("a", "m", 5)
    tape.ack(tape.receive("b", "m", 6), 7)
    tape.fault(FaultKind.FREEZE, "a", 1, 3)
    assert Kind.DUPLICATE in kinds(judge(tape, KEPT))


def test_closing_gives_back_what_was_held(tape: Tape, judge, kinds, clean, twice) -> None:
    twice(tape, 3)
    tape.call("a", Verb.CLOSE, 2)
    assert clean(judge(tape, KEPT))
    tape = Tape()
    twice(tape, 2)
    tape.call("a", Verb.CLOSE, 2.7)
    assert Kind.DUPLICATE in kinds(judge(tape, KEPT))


def test_a_consumer_that_was_closed_before_gives_nothing_back(tape: Tape, judge, kinds, twice) -> None:
    tape.call("a", Verb.CLOSE, 0.5)
    twice(tape, 2)
    assert Kind.DUPLICATE in kinds(judge(tape, KEPT))


def test_the_death_of_an_owner_who_had_settled_excuses_nothing(tape: Tape, judge, kinds, clean) -> None:
    tape.send("m", 0, Phase.UNKNOWN)
    tape.send("m", 1)
    tape.ack(tape.receive("a", "m", 2), 3)
    tape.fault(FaultKind.KILL, "a", 4)
    tape.receive("b", "m", 5)
    assert clean(judge(tape, KEPT)), "the second copy"
    tape.receive("c", "m", 6)
    assert kinds(judge(tape, KEPT)) == [Kind.DUPLICATE]


def test_each_end_excuses_one(tape: Tape, judge, kinds, clean) -> None:
    tape.send("m", 0)
    for number in range(4):
        tape.receive(f"c{number}", "m", 10.0 * number + 1)
    tape.ack(tape.receive("last", "m", 50), 50.5)
    checked = judge(tape)
    assert clean(checked)
    assert checked.counts["excused by lease end"] == 4
    tape.receive("more", "m", 50.2)
    assert kinds(judge(tape))[0] is Kind.DUPLICATE


def test_a_dead_letter_ends_one_delivery(tape: Tape, judge, twice) -> None:
    tape.do(Verb.RELEASE, twice(tape, 3), 2)
    (finding,) = judge(tape, KEPT, dead=["m"]).findings
    assert finding.kind is Kind.DUPLICATE
    assert "dead letters" in finding.text


def test_dead_letters_by_the_core_and_by_expiry(tape: Tape, judge, kinds, clean) -> None:
    tape.send("failed", 0)
    tape.do(Verb.HANDLER, tape.receive("a", "failed", 1), 2, Phase.FAIL)
    tape.send("expired", 3)
    assert clean(judge(tape, KEPT, dead=["failed", "expired"]))
    assert kinds(judge(tape, KEPT, dead=["failed", "expired", "expired"])) == [Kind.DUPLICATE]


# -------------------------------------------------------------------------------------------------------- double owner


def test_two_owners_at_once(tape: Tape, judge, twice) -> None:
    twice(tape, 2)
    finding = judge(tape).findings[1]
    assert finding.kind is Kind.DOUBLE_OWNER
    assert finding.text == "a still held it when b got it"


def test_a_late_heartbeat_may_be_declared(tape: Tape, judge, kinds, twice) -> None:
    twice(tape, 2.7)
    assert Kind.DOUBLE_OWNER in kinds(judge(tape))
    assert Kind.DOUBLE_OWNER not in kinds(judge(tape, Promises(lease=2.0, late_heartbeat=0.5)))


def test_who_learns_of_it_too_late_is_no_owner(tape: Tape, judge, kinds) -> None:
    tape.send("m", 0)
    tape.receive("a", "m", 1, lease=20.0)
    tape.receive("b", "m", 1.5, took=5.0)
    assert kinds(judge(tape, found=["m"])) == [Kind.DUPLICATE]


@pytest.mark.parametrize("verb", [Verb.ACK, Verb.RELEASE, Verb.DEAD_LETTER])
def test_who_lets_go_is_no_owner(tape: Tape, verb, judge, kinds, twice) -> None:
    tape.do(verb, twice(tape, 2), 1.5, Phase.UNKNOWN)
    assert Kind.DOUBLE_OWNER not in kinds(judge(tape, KEPT))


def test_two_copies_have_two_owners(tape: Tape, judge, clean) -> None:
    tape.send("m", 0, Phase.UNKNOWN)
    tape.send("m", 0.5)
    tape.ack(tape.receive("a", "m", 1), 5)
    tape.ack(tape.receive("b", "m", 2), 5)
    assert clean(judge(tape, KEPT))
