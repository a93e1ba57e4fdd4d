"""Defects in fanout."""

from __future__ import annotations

import fnmatch
from dataclasses import replace
from typing import Any

from brokerkit.capabilities import Fanout
from brokerkit.memory import MemoryServer, MemoryTransport
from brokerkit.models import topic_matches
from brokerkit_conformance.mutants.planting import Patch, mutant


def _hears(patch: Patch, hears: Any) -> None:
    """Decide anew which bindings hear a publish: hears(binding, mine, routing_key)."""

    def mutated(self: Any, mine: Any, routing_key: str) -> Any:
        return list(dict.fromkeys(b.queue for b in self.bindings if hears(b, mine, routing_key)))

    patch.value(MemoryServer, "_bound", mutated)


def _scope(b: Any, mine: Any) -> bool:
    return bool((b.kind, b.scope) == (mine.kind, mine.scope))


def _match(b: Any, key: str) -> bool:
    return bool(not b.patterns or topic_matches(b.pattern, key))


@mutant("FAN-01", "FAN-03", "FAN-04", source="LAWS 1.9, go-cloud")
def every_topic_leaks(patch: Patch) -> None:
    """Every topic is heard by every bound queue."""
    _hears(patch, lambda b, mine, key: _scope(b, mine) and _match(b, key))


@mutant("FAN-02", source="PEERS L7, kombu's fanout without prefix")
def virtual_hosts_hear_each_other(patch: Patch) -> None:
    """Topics do not care for virtual hosts."""
    _hears(patch, lambda b, mine, key: (b.topic, b.kind) == (mine.topic, mine.kind) and _match(b, key))


@mutant("FAN-02", source="ARCHITECTURE 5")
def disagreement_is_silence(patch: Patch) -> None:
    """A publisher with another fanout_prefix than the subscribers is not told."""
    patch.value(MemoryServer, "check_agreement", lambda *_: None)


@mutant("FAN-03", source="LAWS 1.9, watermill")
def prefix_topic_leaks(patch: Patch) -> None:
    """A topic is heard by subscribers of longer topics that begin with its name."""
    _hears(patch, lambda b, mine, key: _scope(b, mine) and b.topic.startswith(mine.topic) and _match(b, key))


@mutant("FAN-03", source="PEERS")
def prefix_and_topic_joined(patch: Patch) -> None:
    """Prefix and topic are joined into one text, so that app + 2x and app2 + x are the same."""
    _hears(
        patch,
        lambda b, mine, key: b.kind == mine.kind and b.scope + b.topic == mine.scope + mine.topic and _match(b, key),
    )


@mutant("FAN-04", source="PEERS, Redis PSUBSCRIBE")
def topics_are_globs(patch: Patch) -> None:
    """Characters of globs in a topic match others."""

    def hears(b: Any, mine: Any, key: str) -> bool:
        return _scope(b, mine) and fnmatch.fnmatchcase(mine.topic, b.topic) and _match(b, key)

    _hears(patch, hears)


@mutant("FAN-05", source="LAWS 2")
def hash_needs_a_word(patch: Patch) -> None:
    """The pattern # matches one word or more, not none."""

    def hears(b: Any, mine: Any, key: str) -> bool:
        return _scope(b, mine) and b.topic == mine.topic and _match(b, key) and (b.pattern != "#" or bool(key))

    _hears(patch, hears)


@mutant("FAN-05", source="LAWS 2")
def star_matches_many(patch: Patch) -> None:
    """The pattern * matches several words."""

    def hears(b: Any, mine: Any, key: str) -> bool:
        return _scope(b, mine) and b.topic == mine.topic and topic_matches(b.pattern.replace("*", "#"), key)

    _hears(patch, hears)


@mutant("FAN-06", source="LAWS 2")
def a_copy_for_each_pattern(patch: Patch) -> None:
    """A queue gets a copy for each of its patterns that match, against the declaration."""

    def mutated(self: Any, mine: Any, routing_key: str) -> Any:
        return [b.queue for b in self.bindings if b.topic == mine.topic and _scope(b, mine) and _match(b, routing_key)]

    patch.value(MemoryServer, "_bound", mutated)


@mutant("FAN-07", source="LAWS 2")
def busy_subscribers_are_passed_over(patch: Patch) -> None:
    """A subscriber that is working on something gets no copy meanwhile."""

    def make(copy_to: Any) -> Any:
        def mutated(self: Any, queue: Any, message: Any) -> None:
            if not any(stored.state == "leased" for stored in queue.messages.values()):
                copy_to(self, queue, message)

        return mutated

    patch.wrap(MemoryServer, "_copy_to", make)


@mutant("FAN-08", source="PEERS")
def gaps_are_silent(patch: Patch) -> None:
    """A bounded subscriber queue drops the oldest copies, and tells nobody."""

    def make(copy_to: Any) -> Any:
        def mutated(self: Any, queue: Any, message: Any) -> None:
            copy_to(self, queue, message)
            queue.dropped = 0

        return mutated

    patch.wrap(MemoryServer, "_copy_to", make)


@mutant("FAN-08", source="RabbitMQ's x-overflow")
def claims_to_refuse(patch: Patch) -> None:
    """A full subscriber queue is said to refuse a publish; it drops copies, and the publisher is told nothing."""
    powers = MemoryTransport.capabilities
    assert isinstance(powers.fanout, Fanout)  # noqa: S101 - for the type checker
    patch.value(MemoryTransport, "capabilities", replace(powers, fanout=replace(powers.fanout, overflow="refuse")))


@mutant("FAN-08", source="LAWS 2")
def the_newest_are_dropped(patch: Patch) -> None:
    """A full subscriber queue drops what is new."""

    def make(copy_to: Any) -> Any:
        def mutated(self: Any, queue: Any, message: Any) -> None:
            if self._is_full(queue):
                queue.dropped += 1
            else:
                copy_to(self, queue, message)

        return mutated

    patch.wrap(MemoryServer, "_copy_to", make)


def _remembering(patch: Patch) -> Any:
    """Keep all that was published, by topic."""
    history: dict[str, list[Any]] = {}

    def make(publish: Any) -> Any:
        def mutated(self: Any, vhost: str, mine: Any, messages: Any) -> Any:
            history.setdefault(mine.topic, []).extend(messages)
            return publish(self, vhost, mine, messages)

        return mutated

    patch.wrap(MemoryServer, "publish", make)
    return history


@mutant("FAN-09", "FAN-14", source="LAWS 1.9, go-cloud")
def late_subscriber_gets_the_backlog(patch: Patch) -> None:
    """Whoever binds gets all that was ever published."""
    history = _remembering(patch)

    def make(bind: Any) -> Any:
        def mutated(self: Any, binding: Any) -> None:
            bind(self, binding)
            for message in history.get(binding.topic, []):
                self._copy_to(self.queue(binding.queue), message)

        return mutated

    patch.wrap(MemoryServer, "bind", make)


@mutant("FAN-10", source="PEERS, Redis PUBLISH")
def nobody_there_nothing_kept(patch: Patch) -> None:
    """A bound queue gets no copies while nobody receives from it or ever did."""

    def make(copy_to: Any) -> Any:
        def mutated(self: Any, queue: Any, message: Any) -> None:
            if self.clock.monotonic() - queue.used_at < 1.0 and not queue.messages:
                copy_to(self, queue, message)

        return mutated

    patch.wrap(MemoryServer, "_copy_to", make)


@mutant("FAN-11", source="LAWS 2, Dapr sleeps 5 s")
def bind_takes_its_time(patch: Patch) -> None:
    """A binding misses the first message that is published after it."""
    fresh: set[Any] = set()

    def bind(inner: Any) -> Any:
        def mutated(self: Any, binding: Any) -> None:
            inner(self, binding)
            fresh.add(binding)

        return mutated

    def bound(inner: Any) -> Any:
        def mutated(self: Any, mine: Any, routing_key: str) -> Any:
            missing = {b.queue for b in fresh if b.topic == mine.topic}
            fresh.difference_update({b for b in fresh if b.topic == mine.topic})
            return [address for address in inner(self, mine, routing_key) if address not in missing]

        return mutated

    patch.wrap(MemoryServer, "bind", bind)
    patch.wrap(MemoryServer, "_bound", bound)


@mutant("FAN-12", source="LAWS 2")
def unbind_is_a_no_op(patch: Patch) -> None:
    """An unbinding changes nothing."""
    patch.value(MemoryTransport, "unbind", lambda *_, **__: None)


@mutant("FAN-12", source="LAWS 2")
def unbind_takes_all(patch: Patch) -> None:
    """An unbinding of one pattern undoes all bindings of the topic."""

    def mutated(self: Any, name: str, topic: str, pattern: str, *, timeout: float) -> None:  # noqa: ARG001
        with self.server.condition:
            for binding in [b for b in self.server.bindings if b.topic == topic]:
                del self.server.bindings[binding]

    patch.value(MemoryTransport, "unbind", mutated)


@mutant("FAN-14", source="LAWS 2")
def nobody_listens_is_an_error(patch: Patch) -> None:
    """A publish that nobody hears fails."""

    def make(publish: Any) -> Any:
        def mutated(self: Any, vhost: str, mine: Any, messages: Any) -> Any:
            if not self._bound(mine, messages[0].routing_key):
                raise LookupError("nobody listens")
            return publish(self, vhost, mine, messages)

        return mutated

    patch.wrap(MemoryServer, "publish", make)


@mutant("FAN-15", source="LAWS 2")
def a_failure_concerns_all(patch: Patch) -> None:
    """What one subscriber gives back is given to all."""

    def make(release: Any) -> Any:
        def mutated(self: Any, address: Any, receipt: Any, delay: float, *, counted: bool) -> Any:
            found = self.held(address, receipt)
            done = release(self, address, receipt, delay, counted=counted)
            if found is not None and counted and found[1].message.topic:
                for other in self.queues.values():
                    if other is not found[0]:
                        self._store(other, found[1].message)
            return done

        return mutated

    patch.wrap(MemoryServer, "release", make)


@mutant("FAN-18", source="LAWS 2")
def topics_reach_queues_of_their_name(patch: Patch) -> None:
    """A publish also comes to the queue that is named like the topic."""

    def make(bound: Any) -> Any:
        def mutated(self: Any, mine: Any, routing_key: str) -> Any:
            return [*bound(self, mine, routing_key), *(a for a in self.queues if a == (mine.scope, mine.topic))]

        return mutated

    patch.wrap(MemoryServer, "_bound", make)


@mutant("FAN-01", "PUB-20", "PUB-17", "EVI-09", "PRI-09", "DEL-13", source="LAWS 3.1")
def the_unsupported_is_ignored(patch: Patch) -> None:
    """Powers that are not claimed are not refused, but ignored: for an engine that claims none."""
    fanout = MemoryTransport.capabilities.fanout
    lean(patch)
    patch.value(__import__("brokerkit._composing", fromlist=["require"]), "require", lambda *_, **__: None)
    patch.value(__import__("brokerkit.broker", fromlist=["require"]), "require", lambda *_, **__: fanout)
    patch.value(MemoryTransport, "publish", lambda _, __, messages, **___: [None] * len(messages))
    patch.value(MemoryTransport, "bind", lambda *_, **__: None)


def lean(patch: Patch) -> None:
    """Let the memory transport claim none of the powers that an engine may lack."""
    from brokerkit.capabilities import Absent  # noqa: PLC0415 - only here

    none = Absent("planted")
    capabilities = MemoryTransport.capabilities
    powers = ("delay", "release_delay", "priority", "message_ttl", "queue_expires", "max_length", "dedup", "fanout")
    lacking: dict[str, Any] = dict.fromkeys(powers, none)
    patch.value(MemoryTransport, "capabilities", replace(capabilities, **lacking))
