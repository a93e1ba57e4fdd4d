"""Who hears a topic: the bindings as Redis has them, the scope of either side, and their disagreements."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, Self

from brokerkit.errors import InconsistencyError
from brokerkit.models import topic_matches
from brokerkit.options import FanoutOptions

__all__ = ["Binding", "Bindings", "Scope", "Target", "scope_of"]

_PREFIX_OF_KIND: Final = {"vhost": "true", "named": "a text", "global": "false"}
_PAIR: Final = 2


@dataclass(frozen=True, slots=True)
class Scope:
    """Where one side's topics live.

    Attributes:
        database: the side's virtual host.
        kind: how `fanout_prefix` is set: true, a text, or false.
        name: of the space: the database, the text, or nothing.
        patterns: `fanout_patterns`.
    """

    database: int
    kind: Literal["vhost", "named", "global"]
    name: str
    patterns: bool


def scope_of(options: FanoutOptions, database: int) -> Scope:
    """Return the scope that a transport's options ask for."""
    prefix, patterns = options.fanout_prefix, options.fanout_patterns
    if isinstance(prefix, str):
        return Scope(database, "named", prefix, patterns)
    return Scope(database, "vhost", str(database), patterns) if prefix else Scope(database, "global", "", patterns)


class Binding(NamedTuple):
    """One binding of a queue to a topic."""

    database: int
    queue: str
    kind: str
    name: str
    pattern: str
    patterns: bool
    vanishes: bool

    @classmethod
    def read(cls, field: bytes, value: bytes) -> Self:
        """Read what `field` and `value` wrote."""
        database, queue, kind, name, pattern = json.loads(field)
        return cls(database, queue, kind, name, pattern, value.startswith(b"1"), value.endswith(b"x"))

    @property
    def field(self) -> bytes:
        """The field of it in the topic's hash."""
        return json.dumps(self[:5], ensure_ascii=False, separators=(",", ":")).encode()

    @property
    def value(self) -> bytes:
        """The field's value: whether patterns are matched, and whether the queue expires."""
        return b"%d%s" % (self.patterns, b"x" if self.vanishes else b"")


class Target(NamedTuple):
    """A queue that gets copies, and the numbers of the messages, from 1; none for all."""

    database: int
    queue: str
    numbers: tuple[int, ...]


class Bindings:
    """The bindings of one topic, in a version. Immutable, hence thread-safe."""

    def __init__(self, topic: str, version: bytes = b"", found: Iterable[Binding] = ()) -> None:
        self.topic = topic
        self.version = version
        self.all = tuple(found)

    @classmethod
    def read(cls, topic: str, flat: Sequence[bytes]) -> Bindings:
        """Read the topic's hash as Redis returns it: fields and values in turn."""
        pairs = dict(zip(flat[::_PAIR], flat[1::_PAIR], strict=True))
        version = pairs.pop(b"", b"")
        return cls(topic, version, (Binding.read(field, value) for field, value in pairs.items()))

    def check_agreement(self, mine: Scope) -> None:
        """Refuse a use of the topic that others use with another fanout_prefix or fanout_patterns; see ADR 0004.

        Raises:
            InconsistencyError: naming a queue of the other side, and what each side has.
        """
        for other in self.all:
            if other.database == mine.database and other.kind != mine.kind:
                raise InconsistencyError(
                    f"topic {self.topic!r}: queue {other.queue!r} is bound with fanout_prefix set to "
                    f"{_PREFIX_OF_KIND[other.kind]}, this side has {_PREFIX_OF_KIND[mine.kind]}; they would not hear each "
                    "other"
                )
            if (other.kind, other.name) == (mine.kind, mine.name) and other.patterns != mine.patterns:
                raise InconsistencyError(
                    f"topic {self.topic!r}: queue {other.queue!r} of database {other.database} is bound with "
                    f"fanout_patterns={other.patterns}, this side has {mine.patterns}"
                )

    def targets(self, mine: Scope, routing_keys: Sequence[str]) -> list[Target]:
        """Return the queues that get copies of messages with these routing keys: one, however many patterns match."""
        heard: dict[tuple[int, str], set[int]] = {}
        for each in self.all:
            if (each.kind, each.name) == (mine.kind, mine.name):
                numbers = heard.setdefault((each.database, each.queue), set())
                numbers.update(
                    number
                    for number, key in enumerate(routing_keys, 1)
                    if not each.patterns or topic_matches(each.pattern, key)
                )
        everything = len(routing_keys)
        return [
            Target(database, queue, () if len(numbers) == everything else tuple(sorted(numbers)))
            for (database, queue), numbers in heard.items()
            if numbers
        ]
