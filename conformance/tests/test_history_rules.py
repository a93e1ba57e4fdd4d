"""Hand-made histories: loss, messages out of nowhere, messages back from the dead, and runs that show nothing."""

from __future__ import annotations

import pytest
from brokerkit_conformance.history import FaultKind, Kind, Phase, Promises, Standing, Tape, Verb

LEASE = Promises(lease=2.0)
KEPT = Promises(lease=2.0, kept_alive=True)


# ---------------------------------------------------------------------------------------------------------------- lost


def test_nothing_at_all_is_clean(tape: Tape, judge, clean) -> None:
    assert clean(judge(tape))


def test_what_is_sent_received_and_acked_is_clean(tape: Tape, judge, clean) -> None:
    tape.send("m", 0)
    tape.ack(tape.receive("a", "m", 1), 2)
    checked = judge(tape)
    assert clean(checked)
    assert {k: v for k, v in checked.counts.items() if v} == {
        "accepted": 1,
        "delivered": 1,
        "settled": 1,
        "searched": 1,
    }


def test_a_message_that_is_nowhere_is_lost(tape: Tape, judge, kinds) -> None:
    tape.send("m", 0)
    checked = judge(tape)
    assert kinds(checked) == [Kind.LOST]
    assert checked.standing is Standing.BROKEN


def test_a_message_that_was_held_and_never_came_back_is_lost(tape: Tape, judge, kinds) -> None:
    tape.send("m", 0)
    tape.receive("a", "m", 1)
    assert kinds(judge(tape)) == [Kind.LOST]


def test_what_is_left_or_dead_is_not_lost(tape: Tape, judge, clean) -> None:
    tape.send("left", 0)
    tape.send("dead", 1)
    assert clean(judge(tape, found=["left"], dead=["dead"]))


@pytest.mark.parametrize("end", [Phase.FAIL, Phase.UNKNOWN, None])
def test_only_a_confirmed_send_can_be_lost(tape: Tape, end, judge, clean) -> None:
    tape.send("m", 0, end)
    assert clean(judge(tape))


@pytest.mark.parametrize("end", [Phase.UNKNOWN, None])
def test_an_ack_with_an_unknown_outcome_may_have_settled(tape: Tape, end, judge, clean) -> None:
    tape.send("m", 0)
    tape.ack(tape.receive("a", "m", 1), 2, end)
    assert clean(judge(tape))


def test_an_ack_that_failed_has_not_settled(tape: Tape, judge, kinds) -> None:
    tape.send("m", 0)
    tape.ack(tape.receive("a", "m", 1), 2, Phase.FAIL)
    assert kinds(judge(tape)) == [Kind.LOST]


def test_a_message_may_expire_and_not_before(tape: Tape, judge, kinds, clean) -> None:
    tape.send("m", 0, ttl=900.0)
    checked = judge(tape)
    assert clean(checked)
    assert checked.counts["expired"] == 1
    assert kinds(judge(tape, ends=100.0)) == [Kind.LOST]


def test_a_dead_lettered_message_must_be_among_the_dead_letters(tape: Tape, judge, clean) -> None:
    tape.send("m", 0)
    tape.do(Verb.DEAD_LETTER, tape.receive("a", "m", 1), 2)
    assert clean(judge(tape, dead=["m"]))
    (finding,) = judge(tape).findings
    assert finding.kind is Kind.LOST
    assert "not among the dead letters" in finding.text


def test_a_publish_owes_each_bound_queue_a_copy(tape: Tape, judge, clean) -> None:
    tape.call("p", Verb.PUBLISH, 0, message="m", queues=("q", "r"))
    tape.ack(tape.receive("a", "m", 1), 2)
    (finding,) = judge(tape).findings
    assert (finding.kind, finding.queue) == (Kind.LOST, "r")
    tape.ack(tape.receive("a", "m", 3, queue="r"), 4)
    assert clean(judge(tape))


# ---------------------------------------------------------------------------------------------------------- unexpected


def test_what_nobody_sent_is_unexpected(tape: Tape, judge, kinds) -> None:
    tape.ack(tape.receive("a", "m", 1), 2)
    assert kinds(judge(tape)) == [Kind.UNEXPECTED]
    assert kinds(judge(Tape(), found=["x"])) == kinds(judge(Tape(), dead=["x"])) == [Kind.UNEXPECTED]


def test_what_was_sent_elsewhere_is_unexpected_here(tape: Tape, judge, kinds) -> None:
    tape.send("m", 0, queue="other")
    tape.ack(tape.receive("a", "m", 1), 2)
    assert sorted(kinds(judge(tape))) == [Kind.LOST, Kind.UNEXPECTED]


def test_what_was_refused_must_not_come(tape: Tape, judge, clean) -> None:
    tape.send("m", 0, Phase.FAIL)
    assert clean(judge(tape))
    tape.ack(tape.receive("a", "m", 1), 2)
    assert "refused" in judge(tape).findings[0].text


def test_nothing_comes_before_it_is_sent(tape: Tape, judge, kinds) -> None:
    tape.ack(tape.receive("a", "m", 1), 2)
    tape.send("m", 5)
    assert kinds(judge(tape)) == [Kind.UNEXPECTED]


def test_a_message_may_come_while_its_send_is_under_way(tape: Tape, judge, clean) -> None:
    tape.send("m", 0, took=10)
    tape.ack(tape.receive("a", "m", 1), 2)
    assert clean(judge(tape))


def test_an_unknown_send_that_shows_up_is_recovered(tape: Tape, judge, clean) -> None:
    tape.send("m", 0, Phase.UNKNOWN)
    tape.ack(tape.receive("a", "m", 1), 2)
    checked = judge(tape)
    assert clean(checked)
    assert checked.recovered == ("m",)
    assert checked.counts["recovered"] == checked.counts["unknown"] == 1


# --------------------------------------------------------------------------------------------------------- resurrected


def test_what_was_acked_must_not_come_again(tape: Tape, judge, kinds) -> None:
    tape.send("m", 0)
    tape.ack(tape.receive("a", "m", 1), 1.5)
    tape.ack(tape.receive("b", "m", 3), 4)
    checked = judge(tape)
    assert kinds(checked) == [Kind.RESURRECTED]
    assert [e.actor for e in checked.findings[0].events] == ["p", "p", "a", "a", "a", "a", "b", "b", "b", "b"]


def test_what_was_acked_must_not_be_left(tape: Tape, judge, kinds) -> None:
    tape.send("m", 0)
    tape.ack(tape.receive("a", "m", 1), 1.5)
    assert kinds(judge(tape, found=["m"])) == [Kind.RESURRECTED]


def test_a_lease_that_ended_does_not_excuse_what_came_after_an_ack(tape: Tape, judge, kinds) -> None:
    tape.send("m", 0)
    tape.ack(tape.receive("a", "m", 1), 10)  # late, and accepted
    tape.ack(tape.receive("b", "m", 11), 12)
    assert kinds(judge(tape)) == [Kind.RESURRECTED]


def test_a_late_ack_must_not_be_accepted_while_another_owner_has_it(tape: Tape, judge, kinds, clean) -> None:
    tape.send("m", 0)
    late = tape.receive("a", "m", 1)
    tape.ack(tape.receive("b", "m", 4), 5)
    assert clean(judge(tape))
    tape.ack(late, 4.5)
    assert kinds(judge(tape)) == [Kind.NOT_LINEARIZABLE]


def test_a_late_ack_may_be_accepted_before_another_owner_has_it(tape: Tape, judge, clean) -> None:
    tape.send("m", 0)
    tape.ack(tape.receive("a", "m", 1), 10)
    assert clean(judge(tape))


@pytest.mark.parametrize("end", [Phase.UNKNOWN, None])
def test_an_unknown_ack_excuses_another_delivery(tape: Tape, end, judge, clean) -> None:
    tape.send("m", 0)
    tape.ack(tape.receive("a", "m", 1), 1.5, end)
    tape.ack(tape.receive("b", "m", 2), 2.5)
    checked = judge(tape, KEPT)
    assert clean(checked)
    assert checked.counts["excused by unknown settlement"] == 1


def test_a_second_copy_may_come_after_the_first_was_acked(tape: Tape, judge, kinds, clean) -> None:
    tape.send("m", 0, Phase.UNKNOWN)
    tape.send("m", 1)
    tape.ack(tape.receive("a", "m", 2), 3)
    held = tape.receive("b", "m", 4)
    tape.do(Verb.RELEASE, held, 5)
    tape.ack(tape.receive("b", "m", 6), 7)
    checked = judge(tape, KEPT)
    assert clean(checked)
    assert checked.counts["excused by publisher retry"] == 1
    tape.ack(tape.receive("c", "m", 8), 9)
    assert kinds(judge(tape, KEPT)) == [Kind.RESURRECTED]


def test_a_retry_that_the_core_made_is_a_second_copy(tape: Tape, judge, clean) -> None:
    tape.send("m", 0, took=2)
    tape.note("p", Verb.SEND, 1, message="m", queue="q")
    tape.ack(tape.receive("a", "m", 3), 3.5)
    tape.ack(tape.receive("b", "m", 4), 4.5)
    assert clean(judge(tape, KEPT))


def test_a_send_that_was_refused_before_is_no_copy(tape: Tape, judge, kinds) -> None:
    tape.send("m", 0, Phase.FAIL)
    tape.send("m", 1)
    tape.ack(tape.receive("a", "m", 2), 2.5)
    tape.ack(tape.receive("b", "m", 3), 3.5)
    assert kinds(judge(tape)) == [Kind.RESURRECTED]


# ------------------------------------------------------------------------------------------------------------- validity


def test_an_incomplete_drain_shows_nothing(tape: Tape, judge, kinds) -> None:
    tape.send("m", 0)
    checked = judge(tape, complete=False)
    assert checked.standing is Standing.INCONCLUSIVE
    assert kinds(checked) == [Kind.LOST]
    assert checked.reasons == ("the final drain is not complete",)


def test_a_fault_without_proof_shows_nothing(tape: Tape, judge) -> None:
    tape.fault(FaultKind.KILL, "a", 1, proved=False)
    checked = judge(tape)
    assert checked.standing is Standing.INCONCLUSIVE
    assert "did not prove its effect" in checked.reasons[0]


def test_a_finding_reads_as_a_timeline(tape: Tape, judge, twice) -> None:
    twice(tape, 5)
    tape.fault(FaultKind.FREEZE, "a", 2, 2.2)
    text = str(judge(tape, KEPT).findings[0])
    assert text.splitlines()[0] == "duplicate: m in q: it was handed over once more, and nothing excuses it"
    assert "fault freeze of a" in text
    assert [line.split()[0] for line in text.splitlines()[1:]] == sorted(
        (line.split()[0] for line in text.splitlines()[1:]), key=float
    )
