"""The whole suite on engines that do less than memory: what they do not declare is refused or impossible, never failed."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from brokerkit_conformance import lesser, verifying
from brokerkit_conformance.catalogue import catalogue
from brokerkit_conformance.reporting import views
from brokerkit_conformance.trial import Trial

from brokerkit.capabilities import Absent
from brokerkit.memory import MemoryTransport

HONEST = [
    lesser.BareHarness,
    lesser.PartialHarness,
    lesser.UnextendedHarness,
    lesser.AttachedHarness,
    lesser.TetheredHarness,
    lesser.UncountedHarness,
]
PROBED = {
    "PUB-17": "message_ttl",
    "PUB-20": None,  # memory has no dedup, declared or not
    "PUB-24": "depth",
    "ORD-01": 'order="queue"',
    "PRI-01": "priority",
    "PRI-09": "priority",
    "DEL-01": "delay",
    "DEL-07": "release_delay",
    "DEL-13": "delay",
    "VIS-03": "lease.extend",
    "VIS-22": "lease.extend",
    "RED-01": "attempts",
    "RED-07": "attempts",
    "DLQ-05": "max_length",
    "FAN-01": "fanout",
}


class Half(lesser.Modest):
    """All that memory can do, of which the parts are not declared that belong to a power or make a promise of it."""

    capabilities = replace(
        MemoryTransport.capabilities,
        queue_expires=Absent("not declared"),
        fanout=replace(MemoryTransport.capabilities.fanout, patterns=False, durable=False),
        lease=replace(MemoryTransport.capabilities.lease, scope="connection"),
        redelivery=replace(MemoryTransport.capabilities.redelivery, lease_end=None),
    )


class HalfHarness(lesser.LesserHarness):
    kind = Half


def tried(harness, **scope):
    """Run the suite, and return its report and what verifying it gives."""
    trial = Trial(harness, **scope)
    try:
        trial.run()
        report = trial.report()
    finally:
        trial.close()
    return report, verifying.verify(json.dumps(report), catalogue(), today=datetime.now(UTC).date())


@pytest.mark.parametrize("harness", HONEST, ids=lambda harness: harness.kind.__name__)
def test_an_engine_that_does_less_and_says_so_conforms(harness):
    report, verified = tried(harness())
    odd = {
        c["id"]: (c["outcome"], c["reason"])
        for c in report["cases"]
        if c["outcome"] not in ("PASS", "REFUSED_OK", None) and c["duty"] == "MUST"
    }
    assert odd == {}
    assert report["verdict"] == str(verified.verdict) == "CONFORMANT", verified.reasons
    assert report["totals"]["REFUSED_OK"] >= 9


def test_what_works_and_is_not_declared_is_told_at_the_top():
    report, verified = tried(lesser.ModestHarness(), cases=list(PROBED))
    reasons = {case["id"]: case["reason"] for case in report["cases"]}
    told = {case["id"]: case["outcome"] for case in report["cases"]}
    assert told == {i: "UNCLAIMED" if power else "REFUSED_OK" for i, power in PROBED.items()}
    for law_id, power in PROBED.items():
        assert reasons[law_id].startswith(f"{power} is not declared, and works" if power else "no dedup")
    assert report["verdict"] == str(verified.verdict) == "INCOMPLETE"
    groups = {group.name: group for group in views.not_shown(report)}
    assert groups["UNCLAIMED"].blocks


def test_half_a_power_is_probed_too(monkeypatch):
    monkeypatch.setitem(sys.modules, Half.__module__, sys.modules[__name__])  # where the entry point looks
    report, _ = tried(HalfHarness(), cases=["FAN-01", "FAN-05", "FAN-10", "FAN-16", "VIS-01"])
    told = {case["id"]: case["outcome"] for case in report["cases"]}
    assert told == {
        "FAN-01": "PASS",
        "FAN-05": "UNCLAIMED",
        "FAN-10": "UNCLAIMED",
        "FAN-16": "UNCLAIMED",
        "VIS-01": "UNCLAIMED",
    }
