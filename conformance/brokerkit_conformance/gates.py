"""From a plugin's declared capabilities to what each law expects of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from brokerkit.capabilities import Capabilities, ResultCapabilities, is_missing
from brokerkit_conformance.catalogue import Law
from brokerkit_conformance.model import Expectation, How

__all__ = ["OF_RESULTS", "Subject", "expectations", "expected"]

OF_RESULTS: Final = frozenset(
    {"CLN-03", "CLN-07", "CON-10", "EVI-11", "EVI-13", "EVI-14", "EVI-16", "FLT-07", "FLT-10", "FLT-11", "FLT-13"}
)
"""Laws of transports that hold for result stores as well, and have a case of their own for them (`casebook.of_results`)."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is under test: the declared capabilities of a transport, of a result backend, or of both.

    Attributes:
        transport: of the transport.
        results: of the result backend.
        grace: new questions that the plugin may leave open for now.
        without: roles of storage that the engine keeps nothing for, and why not.
    """

    transport: Capabilities | None
    results: ResultCapabilities | None
    grace: frozenset[str] = frozenset()
    without: Mapping[str, str] = field(default_factory=dict)

    @property
    def nobody(self) -> bool:
        """Whether nothing is known of what is under test."""
        return self.transport is None and self.results is None


def expectations(laws: Iterable[Law], subject: Subject) -> list[Expectation]:
    """Return what is expected of each law."""
    return [expected(law, subject) for law in laws]


def expected(law: Law, subject: Subject) -> Expectation:
    """Return what is expected of one law, by its gate."""
    if law.since is None:
        return Expectation(law.id, How.NOT_YET, "not yet in this suite")
    try:
        return _by_gate(law, subject)
    except AttributeError as error:
        if not any(name.rpartition(".")[2] == error.name for name in subject.grace):
            raise
        return Expectation(law.id, How.GRACE, f"{error.name} is a new question, and the plugin does not answer it yet")


def _by_gate(law: Law, subject: Subject) -> Expectation:
    kind, _, powers = law.gate.partition(":")
    if kind == "H":
        known = subject.transport or subject.results
        return Expectation(law.id, How.CASE) if known is None else _with_needs(law, known)
    engine = subject.results if kind == "R" or "counter" in powers else subject.transport
    if kind == "S" or law.id in OF_RESULTS:
        engine = subject.transport or subject.results
    if engine is None:
        return Expectation(
            law.id, How.IMPOSSIBLE, f"the harness brings no {'result store' if kind == 'R' else 'broker'}"
        )
    if kind.startswith("!"):
        return _only_without(law, kind[1:], engine)
    for power in filter(None, powers.split("+")):
        if (reason := _absence(engine, power)) is not None:
            return Expectation(law.id, How.REFUSAL, reason, power)
    return _without_role(law, subject) or _with_needs(law, engine)


def _without_role(law: Law, subject: Subject) -> Expectation | None:
    for need in law.needs:
        kind, _, role = need.partition(":")
        if kind == "role" and role in subject.without:
            return Expectation(law.id, How.IMPOSSIBLE, f"no {role} of its own: {subject.without[role]}")
    return None


def _only_without(law: Law, power: str, engine: Any) -> Expectation:
    if _absence(engine, power) is None:
        return Expectation(law.id, How.IMPOSSIBLE, f"the engine claims {power}, whose own cases run")
    return Expectation(law.id, How.CASE)


def _with_needs(law: Law, engine: Capabilities | ResultCapabilities) -> Expectation:
    for need in law.needs:
        impossible = _NEEDS.get(need, _never)(engine)
        if impossible is not None:
            # PUB-14's twin shows that a second process indeed sees nothing of it
            how = How.REFUSAL if law.id == "PUB-14" else How.IMPOSSIBLE
            return Expectation(law.id, how, f"{engine.product} {impossible}")
    return Expectation(law.id, How.CASE)


def _never(_: Any) -> None:
    """Nothing keeps an engine from what needs no more than it is."""


def _absence(engine: Any, power: str) -> str | None:
    """Return why the engine does not have a power, or None if it claims it."""
    try:
        return _POWERS[power](engine)
    except KeyError:
        raise ValueError(f"the catalogue asks for a power {power!r} that no capability answers") from None


def _field(name: str) -> Callable[[Any], str | None]:
    def absence(engine: Any) -> str | None:
        value = getattr(engine, name)
        return f"no {name}: {value.reason}" if is_missing(value) else None

    return absence


def _lease(ok: Callable[[Any], bool], otherwise: str) -> Callable[[Any], str | None]:
    """Return what tells why there is no such lease: first of all it has to end by itself."""
    timed = _fact(_timed, "claims last as long as their connection, not for a time")
    return lambda engine: timed(engine) or (None if ok(engine.lease) else otherwise)


def _timed(engine: Any) -> bool:
    return engine.lease.scope == "message" or engine.redelivery.lease_end is not None


def _fact(ok: Callable[[Any], bool], otherwise: str) -> Callable[[Any], str | None]:
    return lambda engine: None if ok(engine) else otherwise


def _fanout(ok: Callable[[Any], bool], otherwise: str) -> Callable[[Any], str | None]:
    return lambda engine: _field("fanout")(engine) or (None if ok(engine.fanout) else otherwise)


# the catalogue's words for what a law needs besides its gate → why that is impossible for an engine, or None
_NEEDS: Final[Mapping[str, Callable[[Any], str | None]]] = {
    "limit": _fact(lambda c: c.max_message is not None, "declares no limit, and none can be reached"),
    "max_hold": _fact(lambda c: c.lease.max_hold is not None, "lets a delivery be held for any time"),
    "network": _fact(lambda c: not c.embedded, "is embedded: there is no connection to put a proxy in"),
    "processes": _fact(lambda c: c.shared != "process", "lives within one process"),
    "restart": _fact(lambda c: not c.embedded, "is embedded: there is no server to restart under its clients"),
    "server": _fact(lambda c: c.shared != "process", "has the process's own memory, and nothing prepared"),
}

# the catalogue's words for powers → the capability that answers them
_POWERS: Final[Mapping[str, Callable[[Any], str | None]]] = {
    "auto_ack": _fact(lambda _: True, ""),  # the core's own
    "batch": _fact(lambda _: True, ""),  # plugins slice batches to what the server takes
    "bounded": _field("max_length"),
    "counter": _fact(lambda _: True, ""),  # no store counts; final records, stored once, do
    "count": _fact(lambda c: c.attempts != "flag", "does not count deliveries"),
    "dedupe": _field("dedup"),
    "delay_cancel": _fact(lambda _: False, "the contract has no way to take a message back"),
    "dyn_prefetch": _fact(lambda _: False, "by the contract a receiver's prefetch is fixed"),
    "delay": _field("delay"),
    "dlq": _fact(lambda _: True, ""),  # the core's own
    "evictable": _fact(lambda _: True, ""),  # what no server drops by itself, a person at its own client can
    "durable": _fact(lambda c: c.durability.kill, "does not survive a kill"),
    "failover": _field("failover"),
    "fanout": _field("fanout"),
    "fanout.durable": _fanout(lambda f: f.durable, "fanout is not durable"),
    "fanout.pattern": _fanout(lambda f: f.patterns, "fanout has no patterns"),
    "lease": _lease(lambda _: True, ""),
    "lease.extend": _lease(lambda lease: lease.extend, "leases cannot be extended"),
    "lease.kept": _fact(lambda c: c.lease.extend or c.lease.scope == "connection", "leases cannot be extended"),
    "lease.per_message": _lease(lambda lease: lease.extend, "leases cannot be extended"),
    "nack_delay": _field("release_delay"),
    "offload": _fact(lambda _: True, ""),  # bodies are in their messages; what a plugin keeps elsewhere goes with them
    "order": _fact(lambda c: c.order != "none", "keeps no order"),
    "order=group": _fact(lambda c: c.order == "group", "keeps no order by key"),
    "order=queue": _fact(lambda c: c.order == "queue", "keeps no order of the queue"),
    "per_thread": lambda _: "the contract has one thread mode: every object is shared by all threads",
    "priority": _field("priority"),
    "readers": _fact(lambda c: c.readers == "any", "only the process that asked for a result reads it"),
    "redrive": _fact(lambda _: True, ""),  # the core's own
    "routing": _fact(lambda _: False, "by the contract a publish to nobody is fine"),
    "stats": _fact(lambda c: bool(c.depth), "cannot count"),
    "tls": _field("tls"),
    "ttl": _field("message_ttl"),
    "vanish": _field("queue_expires"),
}
