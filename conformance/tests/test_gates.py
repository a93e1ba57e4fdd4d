"""From declared capabilities to what each law expects."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
from brokerkit_conformance.casebook import casebook
from brokerkit_conformance.catalogue import LEVELS, catalogue, read
from brokerkit_conformance.gates import Subject, expectations, expected
from brokerkit_conformance.model import How

from brokerkit.capabilities import Absent
from brokerkit.memory import MemoryTransport
from brokerkit.memory.results import CAPABILITIES as RESULTS

MEMORY = MemoryTransport.capabilities
NONE = Absent("not built")
# claims that last as long as their connection, whatever time passes
UNTIMED = {
    "lease": replace(MEMORY.lease, scope="connection", extend=False),
    "redelivery": replace(MEMORY.redelivery, lease_end=None),
}
# the same, but a plugin ends them by a clock of its own
TIMED = {"lease": replace(MEMORY.lease, scope="connection")}


def how(law_id, transport=MEMORY, results=RESULTS):
    return expected(catalogue()[law_id], Subject(transport, results)).how


def test_the_catalogue_has_all_laws_with_known_levels_and_duties():
    laws = list(catalogue())
    assert len(laws) == 292
    assert {law.level for law in laws} == set(LEVELS)
    assert {law.area for law in laws} == set(catalogue().areas)
    assert [law.id for law in laws if law.duty == "INFO"] == ["ORD-08"]
    assert sum(law.duty == "SHOULD" for law in laws) == 9


def test_the_digest_is_over_the_content_and_not_the_layout():
    text = '{"areas": {}, "cases": []}'
    assert read(text).digest == read(text.replace(" ", "\n")).digest
    assert read(text).digest != read('{"areas": {"X": "x"}, "cases": []}').digest


def test_every_law_of_this_suite_has_its_case_and_no_other_has_one():
    book = casebook()
    assert not book.broken
    assert {law.id for law in catalogue() if law.since} == {i for i, case in book.cases.items() if case.test}


def test_every_power_that_a_case_of_this_suite_asks_for_has_a_refusal():
    gated = [law for law in catalogue() if law.since and law.gate.startswith("C:")]
    lean = replace(
        MEMORY,
        **dict.fromkeys(
            ("delay", "release_delay", "priority", "message_ttl", "queue_expires", "max_length", "dedup", "fanout"),
            NONE,
        ),
        attempts="flag",
        order="none",
        depth=(),
        max_batch=1,
        **UNTIMED,
    )
    lean_gated = [expected(law, Subject(lean, RESULTS)) for law in gated]
    refused = {each.id: each.power for each in lean_gated if each.how is How.REFUSAL}
    assert [i for i, power in refused.items() if casebook().refusal(i, power) is None] == []
    assert {"PUB-17", "FAN-01", "VIS-03", "RED-01", "VIS-01", "DLQ-05"} <= set(refused)


@pytest.mark.parametrize(
    ("law_id", "change", "expected_how"),
    [
        ("PUB-01", {}, How.CASE),
        ("PUB-17", {}, How.CASE),
        ("PUB-17", {"message_ttl": NONE}, How.REFUSAL),
        ("PUB-20", {}, How.REFUSAL),
        ("FAN-05", {"fanout": replace(MEMORY.fanout, patterns=False)}, How.REFUSAL),
        ("FAN-10", {"fanout": NONE}, How.REFUSAL),
        ("VIS-03", {"lease": replace(MEMORY.lease, extend=False)}, How.REFUSAL),
        ("VIS-01", UNTIMED, How.REFUSAL),
        ("VIS-01", TIMED, How.CASE),
        ("VIS-03", UNTIMED, How.REFUSAL),
        ("VIS-03", TIMED, How.CASE),
        ("PRE-05", UNTIMED, How.CASE),
        ("PRE-05", {"lease": replace(MEMORY.lease, extend=False)}, How.REFUSAL),
        ("VIS-12", UNTIMED, How.CASE),
        ("FAN-08", {"max_length": NONE}, How.REFUSAL),
        ("BIG-02", {}, How.CASE),
        ("BIG-02", {"max_message": None}, How.IMPOSSIBLE),
        ("RED-01", {"attempts": "flag"}, How.REFUSAL),
        ("RED-07", {"attempts": "flag"}, How.CASE),
        ("RED-07", {}, How.IMPOSSIBLE),
        ("VIS-08", {}, How.IMPOSSIBLE),
        ("VIS-08", {"shared": "host"}, How.CASE),
        ("PUB-14", {}, How.REFUSAL),
        ("PUB-14", {"shared": "network"}, How.CASE),
        ("CLK-06", {}, How.NOT_YET),
    ],
)
def test_gates(law_id, change, expected_how):
    assert how(law_id, replace(MEMORY, **change)) is expected_how


def test_a_harness_without_a_broker_or_without_results_is_asked_for_neither():
    assert how("PUB-01", None) is How.IMPOSSIBLE
    assert how("RES-01", results=None) is How.IMPOSSIBLE
    assert how("URL-01", None) is How.CASE
    assert how("RES-16") is How.IMPOSSIBLE


def test_every_law_has_an_expectation_with_a_reason_where_it_does_not_run():
    for each in expectations(catalogue(), Subject(MEMORY, RESULTS)):
        assert each.how is How.CASE or each.reason, each


def test_a_law_that_hangs_on_a_new_question_has_grace():
    class Older:
        def __getattr__(self, name):
            if name == "priority":
                raise AttributeError("no answer", name=name)
            return getattr(MEMORY, name)

    law = replace(catalogue()["PRI-01"], since="0.1")
    grace = frozenset({"transport.priority"})
    assert expected(law, Subject(Older(), RESULTS, grace)).how is How.GRACE
    with pytest.raises(AttributeError):
        expected(law, Subject(Older(), RESULTS))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"waivable": "no"}, "PUB-01: waivable is 'no'"),
        ({"gate": "H"}, "a proof of the harness cannot be waived"),
        ({"level": "some"}, "its level is 'some'"),
        ({"duty": "MAY"}, "its duty is 'MAY'"),
        ({"area": "ACK"}, "its area is 'ACK'"),
        ({"why": ""}, "lacks or does not know why"),
        ({"waivable": None}, "neither true nor false"),
    ],
)
def test_a_law_that_is_written_wrong_is_told(change, said):
    law = asdict(catalogue()["PUB-01"])
    areas = dict(catalogue().areas)
    assert len(read(json.dumps({"areas": areas, "cases": [law | {"waivable": True}]}))) == 1
    with pytest.raises(ValueError, match=said):
        read(json.dumps({"areas": areas, "cases": [law | {"waivable": True} | change]}))
