"""Whether a plugin answers every question, and how its answers are written down."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest
from brokerkit_conformance.declaring import decode, encode, grace_of, unanswered

from brokerkit.capabilities import Absent, Impossible
from brokerkit.memory import MemoryTransport
from brokerkit.memory.results import CAPABILITIES as RESULTS

TRANSPORT = MemoryTransport.capabilities


@pytest.mark.parametrize(
    "declared",
    [
        TRANSPORT,
        replace(TRANSPORT, priority=Absent("later"), fanout=Impossible("never"), max_message=None),
        replace(TRANSPORT, redelivery=replace(TRANSPORT.redelivery, kill=None)),
    ],
)
def test_a_declaration_comes_back_as_it_was_written(declared):
    assert unanswered("transport", declared) == {}
    assert decode("transport", json.loads(json.dumps(encode(declared)))) == declared


def test_so_does_one_of_a_result_backend_and_none():
    assert decode("results", json.loads(json.dumps(encode(RESULTS)))) == RESULTS
    assert decode("results", encode(None)) is None


class Some:
    """A declaration with holes."""

    def __init__(self, whole, *left_out):
        for each in fields(whole):
            if each.name not in left_out:
                setattr(self, each.name, getattr(whole, each.name))


def test_what_is_left_open_is_named():
    holes = unanswered("transport", Some(TRANSPORT, "order"))
    assert holes == {"transport.order": "it is not answered"}
    assert unanswered("results", None) == {"results": "it declares no capabilities at all"}
    assert len(unanswered("transport", object())) == len(fields(TRANSPORT))


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"max_batch": True}, "max_batch"),
        ({"max_batch": 1.5}, "max_batch"),
        ({"priority": None}, "priority"),
        ({"dedup": False}, "dedup"),
        ({"depth": ("ready", "lost")}, "depth"),
        ({"depth": ["ready"]}, "depth"),
        ({"lease": replace(TRANSPORT.lease, min="short")}, "lease.min"),
        ({"one_claim": 1}, "one_claim"),
    ],
)
def test_what_cannot_be_meant_is_no_answer(change, name):
    assert list(unanswered("transport", replace(TRANSPORT, **change))) == [f"transport.{name}"]


def test_a_new_question_has_grace_in_the_suite_that_brings_it_and_no_longer():
    holes = {"transport.order": "it is not answered", "transport.lease": "it is not answered"}
    new = {"transport.order": "1.4"}
    assert grace_of(holes, new_since=new, suite="1.4.2") == {"transport.order"}
    assert grace_of(holes, new_since=new, suite="1.5.0") == frozenset()
    assert grace_of(holes) == frozenset()


def test_written_answers_that_cannot_be_meant_are_refused():
    written = encode(TRANSPORT)
    with pytest.raises(ValueError, match=r"transport\.order cannot be 'perfect'"):
        decode("transport", written | {"order": "perfect"})
