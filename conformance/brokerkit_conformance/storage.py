"""What a server stores, by role: which keys or rows there are, and evicting exactly those of one role."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import TypeAlias, final
from urllib.parse import quote

from brokerkit.capabilities import Missing, is_missing
from brokerkit_conformance.harness import Admin
from brokerkit_conformance.model import HarnessError, Inconclusive

__all__ = ["Role", "Storage", "StorageMap", "key", "reasons"]


class Role(StrEnum):
    """What a key or a row is there for."""

    TOPOLOGY = "topology"  # that a queue exists, and its settings
    BODY = "queue body"  # messages, in whatever state
    HELD = "in-flight payload"  # messages that somebody holds
    IN_FLIGHT = "in-flight index"  # by which ended leases are found
    SCHEDULE = "schedule"  # by which ripe delays are found
    PRIORITY = "priority bucket"  # by which ready messages are found in their order
    MUTEX = "sweeper mutex"
    DEDUPE = "dedupe"  # by which a repeated send is recognised
    BINDING = "fan-out registration"
    RESULT = "result"
    BOOKKEEPING = "bookkeeping"


StorageMap: TypeAlias = Mapping[Role, str | Missing]
"""Of each role, a regular expression on whole keys as `Admin.keys` gives them; `{name}` stands for a queue, topic or result
as `key` writes it. Or why the engine keeps nothing of its own for that role."""


def key(*parts: object) -> str:
    """Return a key of parts, none of which can be mistaken for two: what is odd in them is percent-encoded."""
    return "/".join(quote(str(part), safe="") for part in parts)


@final
class Storage:
    """A server's storage, through an admin, by the roles of a storage map.

    Raises:
        HarnessError: the map leaves a role out.
    """

    def __init__(self, admin: Admin, roles: StorageMap) -> None:
        if unanswered := [str(role) for role in Role if role not in roles]:
            raise HarnessError(f"the storage map says nothing on {', '.join(unanswered)}")
        self.admin = admin
        self._patterns = {role: pattern for role, pattern in roles.items() if isinstance(pattern, str)}

    def everything(self) -> set[str]:
        """Return every key of the server."""
        return set(self.admin.keys())

    def find(self, role: Role, name: str | None = None, *, only: str = "") -> set[str]:
        """Return the keys of a role: those that belong to a queue, topic or result, or all; whose text has `only` in it."""
        pattern = self._patterns.get(role)
        if pattern is None:
            return set()
        wanted = re.compile(_filled(pattern, name))
        return {each for each in self.everything() if wanted.fullmatch(each) and only in each}

    def evict(self, role: Role, name: str | None = None, *, only: str = "") -> set[str]:
        """Remove the keys of a role behind the plugin's back, and return them.

        Raises:
            Inconclusive: there was nothing to remove, or it is still there: the eviction did not happen.
        """
        there = self.find(role, name, only=only)
        if not there:
            raise Inconclusive(f"nothing could be evicted: no key of role {role!s} belongs to {name!r}")
        self.admin.remove(there)
        if left := there & self.everything():
            raise Inconclusive(f"the eviction had no effect: {len(left)} of {len(there)} keys are there, {min(left)!r}")
        return there

    def unmapped(self, keys: Collection[str]) -> list[str]:
        """Return the keys that have no role."""
        patterns = [re.compile(_filled(pattern, None)) for pattern in self._patterns.values()]
        return sorted(each for each in keys if not any(pattern.fullmatch(each) for pattern in patterns))

    def keeps(self, role: Role) -> bool:
        """Tell whether the engine keeps anything for a role."""
        return role in self._patterns

    def has(self, role: Role) -> bool:
        """Tell whether the engine keeps keys of a role."""
        return role in self._patterns

    def nameless(self, role: Role) -> bool:
        """Tell whether the keys of a role belong to no queue, topic or result in particular."""
        return "{name}" not in self._patterns.get(role, "")


def reasons(roles: StorageMap | None) -> dict[str, str]:
    """Return the roles that an engine has no keys for, and why not."""
    return {str(role): value.reason for role, value in (roles or {}).items() if is_missing(value)}  # type: ignore[union-attr]


def _filled(pattern: str, name: str | None) -> str:
    return pattern.replace("{name}", "[^/]*" if name is None else re.escape(key(name)))
