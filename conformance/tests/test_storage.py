"""Storage by role: what is found, what an eviction proves, and what a map must answer."""

from __future__ import annotations

from collections.abc import Collection

import pytest
from brokerkit_conformance import Admin, Role, key
from brokerkit_conformance.model import HarnessError, Inconclusive
from brokerkit_conformance.storage import Storage, reasons

from brokerkit.capabilities import Absent

ROLES = {role: Absent("none here") for role in Role} | {
    Role.BODY: "body/{name}/.*",
    Role.TOPOLOGY: "queue/{name}",
    Role.IN_FLIGHT: "index/leases",
}


class Dict(Admin):
    def __init__(self, *keys: str, stubborn: bool = False) -> None:
        self.there, self.stubborn = set(keys), stubborn

    def keys(self) -> Collection[str]:
        return list(self.there)

    def remove(self, keys: Collection[str]) -> None:
        if not self.stubborn:
            self.there -= set(keys)


def test_keys_cannot_be_mistaken_for_two():
    assert key("a/b", "c") != key("a", "b/c")
    assert key("queue", "a%2F*") == "queue/a%252F%2A"


def test_an_eviction_takes_its_role_and_its_name_alone():
    admin = Dict("queue/a", "queue/ab", "body/a/1", "body/ab/1", "body/a.b/1")
    assert Storage(admin, ROLES).evict(Role.BODY, "a") == {"body/a/1"}
    assert Storage(admin, ROLES).evict(Role.BODY, "a.b") == {"body/a.b/1"}
    assert Storage(admin, ROLES).evict(Role.TOPOLOGY) == {"queue/a", "queue/ab"}
    assert admin.there == {"body/ab/1"}


def test_an_eviction_of_nothing_or_without_effect_shows_nothing():
    with pytest.raises(Inconclusive, match="nothing could be evicted"):
        Storage(Dict("queue/a"), ROLES).evict(Role.BODY, "a")
    with pytest.raises(Inconclusive, match="had no effect: 1 of 1"):
        Storage(Dict("queue/a", stubborn=True), ROLES).evict(Role.TOPOLOGY, "a")


def test_what_has_no_role_is_named():
    storage = Storage(Dict(), ROLES)
    assert storage.unmapped({"queue/a", "body/a/1", "body/a", "secret"}) == ["body/a", "secret"]
    assert storage.nameless(Role.IN_FLIGHT)
    assert not storage.nameless(Role.BODY)
    assert storage.find(Role.SCHEDULE) == set()


def test_a_map_must_answer_every_role():
    with pytest.raises(HarnessError, match="says nothing on topology, dedupe"):
        Storage(Dict(), {role: what for role, what in ROLES.items() if role not in (Role.TOPOLOGY, Role.DEDUPE)})
    assert reasons(ROLES)["schedule"] == "none here"
    assert reasons(None) == {}
