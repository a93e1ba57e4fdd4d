"""The laws of capabilities: nothing is promised by accident, what is absent is refused, everything is shown."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import pytest

from brokerkit.capabilities import (
    Absence,
    Absent,
    Capabilities,
    Delay,
    Durability,
    Fanout,
    Impossible,
    Lease,
    Priority,
    Redelivery,
    ResultCapabilities,
    is_missing,
    promises,
    require,
)
from brokerkit.errors import Unsupported

TRANSPORT = Capabilities(
    product="pigeon 1.0",
    shared="host",
    embedded=True,
    lease=Lease(
        scope="message", min=0.5, max=43_200.0, max_hold=None, extend=True, resolution=0.001, time_source="host"
    ),
    redelivery=Redelivery(release=0.05, close=0.05, lease_end=1.0, kill=None),
    attempts="exact",
    uncounted_release=False,
    settle="confirmed",
    idempotent_send=True,
    order="queue",
    delay=Delay(max=900.0, late=0.05, survives=True),
    release_delay=Absent("nobody has asked for it"),
    priority=Priority(levels=10),
    message_ttl=True,
    queue_expires=True,
    max_length=Impossible("a loft has no bound"),
    dedup=Impossible("pigeons forget"),
    fanout=Fanout(durable=True, patterns=True, copies="one", overflow="gap", vanish=None),
    depth=("ready", "in_flight"),
    durability=Durability(restart=True, kill=True, power_loss="option"),
    one_claim=True,
    max_message=None,
    max_batch=100,
    max_name=255,
    evictable=(),
    group_commit=False,
    failover=Absent("there is one loft"),
    tls=Impossible("a pigeon carries what everybody can read"),
)
RESULTS = ResultCapabilities(
    product="pigeon 1.0",
    shared="host",
    embedded=True,
    readers="any",
    wait="poll",
    expires=Absent("not built"),
    ttl_late=1.0,
    absence=Absence(expired="exact", forgotten="exact", evicted="unknown"),
    durability=Durability(restart=True, kill=True, power_loss="no"),
    max_value=1024,
    max_key=255,
    max_batch=100,
    evictable=False,
)


@pytest.mark.parametrize(
    "kind", [Capabilities, ResultCapabilities, Lease, Redelivery, Delay, Priority, Fanout, Durability, Absence]
)
def test_every_field_must_be_answered_since_none_has_a_default(kind: Any) -> None:
    for field in dataclasses.fields(kind):
        assert field.default is dataclasses.MISSING
        assert field.default_factory is dataclasses.MISSING
    with pytest.raises(TypeError):
        kind()


def test_an_absence_needs_a_reason() -> None:
    for kind in (Absent, Impossible):
        with pytest.raises(TypeError):
            kind()
        assert is_missing(kind("why"))
    assert not any(map(is_missing, (None, False, 0, (), TRANSPORT.delay)))


def test_capabilities_cannot_be_changed_and_are_values() -> None:
    for one in (TRANSPORT, RESULTS):
        with pytest.raises(dataclasses.FrozenInstanceError):
            one.product = "other"  # type: ignore[misc]
        assert copy.deepcopy(one) == pickle.loads(pickle.dumps(one)) == one
        assert hash(copy.deepcopy(one)) == hash(one)
    assert dataclasses.replace(TRANSPORT, max_batch=1) != TRANSPORT


def test_a_power_that_is_there_is_handed_out() -> None:
    assert require(TRANSPORT, "delay", asked="delay=5") == TRANSPORT.delay
    assert require(TRANSPORT, "message_ttl", asked="ttl=5") is True
    assert require(RESULTS, "max_value", asked="a result") == 1024


@pytest.mark.parametrize(
    ("capabilities", "name", "reason"),
    [
        (TRANSPORT, "dedup", "pigeons forget"),
        (TRANSPORT, "max_length", "a loft has no bound"),
        (TRANSPORT, "release_delay", "nobody has asked for it"),
        (RESULTS, "expires", "not built"),
    ],
)
def test_a_power_that_is_absent_is_refused_with_the_reason(capabilities: Any, name: str, reason: str) -> None:
    with pytest.raises(Unsupported) as caught:
        require(capabilities, name, asked="x=5")
    assert str(caught.value) == f"x=5: pigeon 1.0 has no {name} ({reason})"
    assert not caught.value.retryable


def test_a_power_that_does_not_exist_cannot_be_asked_for() -> None:
    with pytest.raises(AttributeError):
        require(TRANSPORT, "telepathy", asked="x")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("product", "pigeon 1.0"),
        ("embedded", "yes"),
        ("uncounted_release", "no"),
        ("lease.min", "0.5"),
        ("lease.max", "43200"),
        ("lease.max_hold", "no bound"),
        ("redelivery.lease_end", "1"),
        ("redelivery.kill", "not by this"),
        ("release_delay", "absent: nobody has asked for it"),
        ("dedup", "impossible: pigeons forget"),
        ("priority.levels", "10"),
        ("fanout.vanish", "never"),
        ("depth", "ready, in_flight"),
        ("max_message", "no bound"),
        ("evictable", "none"),
    ],
)
def test_each_promise_has_a_text(name: str, text: str) -> None:
    assert dict(promises(TRANSPORT))[name] == text


def test_every_field_shows_once_and_in_order() -> None:
    for one in (TRANSPORT, RESULTS):
        names = [name for name, _ in promises(one)]
        assert len(names) == len(set(names))
        assert list(dict.fromkeys(name.partition(".")[0] for name in names)) == [
            f.name for f in dataclasses.fields(one)
        ]


def test_every_field_is_documented() -> None:
    for kind in (Capabilities, ResultCapabilities, Lease, Redelivery, Delay, Priority, Fanout, Durability, Absence):
        assert [f.name for f in dataclasses.fields(kind) if f"\n        {f.name}: " not in (kind.__doc__ or "")] == []
