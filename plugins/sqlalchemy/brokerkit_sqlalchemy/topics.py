"""Who hears a topic: the scope of a publisher or subscriber, their disagreements, and the queues that hear."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from brokerkit.errors import InconsistencyError
from brokerkit.models import topic_matches
from brokerkit_sqlalchemy.bindings import Bound
from brokerkit_sqlalchemy.client import Cursor
from brokerkit_sqlalchemy.options import SQLAlchemyTransportOptions
from brokerkit_sqlalchemy.statements import Statements

__all__ = ["Scope", "Subscriber", "check_agreement", "drop_orphans", "hearing", "scope_of"]

_PREFIX_OF_KIND = {"vhost": "true", "named": "a text", "global": "false"}


@dataclass(frozen=True, slots=True)
class Scope:
    """Where one side's topics live.

    Attributes:
        vhost: the side's virtual host.
        kind: how `fanout_prefix` is set: true, a text, or false.
        name: of the space: the virtual host, the text, or nothing.
        patterns: `fanout_patterns`.
    """

    vhost: str
    kind: Literal["vhost", "named", "global"]
    name: str
    patterns: bool

    def binding(self, topic: str, pattern: str) -> Bound:
        """Return a binding in this scope."""
        return Bound(self.kind, self.name, topic, int(self.patterns), pattern)


@dataclass(slots=True, eq=False)
class Subscriber:
    """A queue that is bound to a topic."""

    id: int
    name: str
    message_ttl: float | None
    max_length: int | None
    use_patterns: bool
    patterns: list[str] = field(default_factory=list)

    def hears(self, routing_key: str) -> bool:
        """Tell whether it gets a copy; one, however many of its patterns match."""
        return not self.use_patterns or any(topic_matches(pattern, routing_key) for pattern in self.patterns)


def scope_of(options: SQLAlchemyTransportOptions) -> Scope:
    """Return the scope that a transport's options ask for."""
    prefix, vhost, patterns = options.fanout_prefix, options.virtual_host, options.fanout_patterns
    if isinstance(prefix, str):
        return Scope(vhost, "named", prefix, patterns)
    return Scope(vhost, "vhost", vhost, patterns) if prefix else Scope(vhost, "global", "", patterns)


def check_agreement(cursor: Cursor, sql: Statements, mine: Scope, topic: str, now: float) -> None:
    """Refuse a use of a topic that others use with another fanout_prefix or fanout_patterns.

    Within one virtual host all must be of one kind; two different texts are isolation, not disagreement. Within one
    scope all must match patterns, or nobody.

    Raises:
        InconsistencyError: naming a queue of the other side, and what each side has.
    """
    other_kinds = (topic, mine.vhost, *(kind for kind in _PREFIX_OF_KIND if kind != mine.kind), now)
    not_my_patterns = (topic, mine.kind, mine.name, not mine.patterns, now)
    other = cursor.execute(sql.disagreeing, (*other_kinds, *not_my_patterns)).fetchone()
    if other is None:
        return
    name, vhost, other_kind, other_scope, other_patterns = other
    if (other_kind, other_scope) != (mine.kind, mine.name):
        raise InconsistencyError(
            f"topic {topic!r}: queue {name!r} is bound with fanout_prefix set to {_PREFIX_OF_KIND[other_kind]}, this side "
            f"has {_PREFIX_OF_KIND[mine.kind]}; they would not hear each other"
        )
    raise InconsistencyError(
        f"topic {topic!r}: queue {name!r} of virtual host {vhost!r} is bound with fanout_patterns={bool(other_patterns)}, "
        f"this side has {mine.patterns}"
    )


def drop_orphans(cursor: Cursor, sql: Statements, mine: Scope, topic: str) -> InconsistencyError | None:
    """Remove bindings whose queue is gone although nobody deleted it; return what to tell the publisher."""
    orphans = cursor.execute(sql.drop_orphans, (mine.kind, mine.name, topic)).rowcount
    if not orphans:
        return None
    return InconsistencyError(
        f"topic {topic!r}: {orphans} bound queues are gone from the database, though nobody deleted them; nothing was "
        "stored. Declare and bind them anew; a next publish reaches those that are bound then"
    )


def hearing(cursor: Cursor, sql: Statements, mine: Scope, topic: str, now: float) -> list[Subscriber]:
    """Return the queues that are bound to a topic in this scope, with all their patterns."""
    found: dict[int, Subscriber] = {}
    for queue_id, name, message_ttl, max_length, pattern in cursor.execute(
        sql.hearing, (mine.kind, mine.name, topic, now)
    ):
        known = found.setdefault(queue_id, Subscriber(queue_id, name, message_ttl, max_length, mine.patterns))
        known.patterns.append(pattern)
    return [*found.values()]
