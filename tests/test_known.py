"""What a process knows of records that were there, while they are deleted."""

from __future__ import annotations

import pytest

from brokerkit._clock import SYSTEM_CLOCK
from brokerkit._known import Known


@pytest.fixture
def known():
    return Known(SYSTEM_CLOCK)


def test_what_was_read_before_a_delete_and_arrives_after_it_does_not_hide_that_it_was_forgotten(known):
    known.note("k", None)
    with known.forgetting(["k", "stranger"]):
        assert known.reason("k") == "forgotten"
        known.note("k", None)
        assert known.reason("k") == "forgotten"
        assert known.reason("stranger") is None
    known.note("k", None)
    assert known.reason("k") == "unknown"


def test_two_who_delete_one_record_at_once_do_not_disturb_each_other(known):
    known.note("k", None)
    with known.forgetting(["k"]):
        with known.forgetting(["k"]):
            pass
        known.note("k", None)
        assert known.reason("k") == "forgotten"


def test_a_delete_that_fails_leaves_nothing_behind(known):
    known.note("k", None)
    with pytest.raises(LookupError), known.forgetting(["k"]):
        raise LookupError
    known.note("k", None)
    assert known.reason("k") == "unknown"


def test_what_a_read_says_that_began_before_a_delete_is_out_of_date(known):
    before = known.moment()
    known.forget("k")
    after = known.moment()
    assert known.was_forgotten_since("k", before)
    assert not known.was_forgotten_since("k", after)
    assert not known.was_forgotten_since("other", before)
