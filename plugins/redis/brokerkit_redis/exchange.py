"""Binding and publishing: the topics of one transport."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final, final

from brokerkit.abc import Clock
from brokerkit.errors import InconsistencyError, OperationTimeout, OutcomeUnknown
from brokerkit.models import Message, Outcome
from brokerkit_redis.client import Call, Client
from brokerkit_redis.layout import pack, queue_key, queue_keys, topic_key
from brokerkit_redis.options import RedisTransportOptions
from brokerkit_redis.replicas import Writer
from brokerkit_redis.scripts import BOUND, PUBLISH, TOPIC
from brokerkit_redis.topics import Binding, Bindings, Target, scope_of

__all__ = ["Exchange"]

_MOST_KNOWN: Final = 1000
_ANY_VERSION: Final = b"*"
_STALE: Final = 1  # of publish.lua
_MISSING: Final = 2
_PAIR: Final = 2


@final
class Exchange:
    """Binds queues to topics, and copies what is published to the queues that hear it. Thread-safe.

    The bindings of a topic are read once; each publish names the version that it knows, and learns of a newer one.
    """

    def __init__(
        self, client: Client, writer: Writer, options: RedisTransportOptions, database: int, clock: Clock
    ) -> None:
        self._client = client
        self._writer = writer
        self._clock = clock
        self._prefix = options.key_prefix
        self._database = database
        self._scope = scope_of(options, database)
        self._known: OrderedDict[str, Bindings] = OrderedDict()
        self._lock = threading.Lock()

    def bind(self, name: str, topic: str, pattern: str, *, timeout: float) -> int:
        """Bind a queue; returns 0, or how it is absent: see `absent` in queue.lua."""
        end = self._clock.monotonic() + timeout
        bindings = self._fetch(topic, end)
        while True:
            bindings.check_agreement(self._scope)
            binding = self._binding(name, pattern)
            answer = self._note_bound(name, topic, binding, "add", end)
            if isinstance(answer, int):
                return answer
            binding = binding._replace(vanishes=bool(answer[0]))
            done, *found = self._topic(topic, bindings.version, "add", [binding.field, binding.value], end)
            if done:
                if answer[1] and found[0]:  # it was bound before, and nobody has unbound it
                    self._tell_missed(name, topic, end)
                return 0
            bindings = self._learn(topic, found[0])
            try:
                bindings.check_agreement(self._scope)
            except InconsistencyError:
                self._note_bound(name, topic, binding, "remove", end)
                raise

    def unbind(self, name: str, topic: str, pattern: str, *, timeout: float) -> None:
        """Undo one `bind`."""
        end = self._clock.monotonic() + timeout
        binding = self._binding(name, pattern)
        self._topic(topic, _ANY_VERSION, "remove", [binding.field], end)
        self._note_bound(name, topic, binding, "remove", end)

    def publish(self, topic: str, messages: Sequence[Message], *, timeout: float) -> Sequence[Outcome]:
        """Copy messages to all queues that hear them."""
        end = self._clock.monotonic() + timeout
        packed = [part for message in messages for part in pack(message)]
        keys = [message.routing_key for message in messages]
        while True:
            bindings = self._known.get(topic) or Bindings(topic)
            bindings.check_agreement(self._scope)
            targets = bindings.targets(self._scope, keys)
            code, *found = self._copy(bindings, (len(messages), *packed), targets, end)
            if code == _STALE:
                self._learn(topic, found[0])
            elif code == _MISSING:
                if lost := self._drop_orphans(bindings, [targets[number - 1] for number in found], end):
                    return [lost] * len(messages)
            else:
                return [None] * len(messages)

    def mend(self, name: str, *, timeout: float) -> None:
        """Put bindings of a queue back that are gone from their topics; its next consumer is told."""
        end = self._clock.monotonic() + timeout
        key = queue_key(self._prefix, name) + b"m"
        (flat,) = self._client.run([("HGETALL", key)], timeout=self._left(end), slot_key=key)
        for topic, field, value in _bound(flat):
            _, changed = self._topic(topic, _ANY_VERSION, "add", [field, value], end)
            if changed:
                self._tell_missed(name, topic, end)

    def forget(self, fields: Sequence[bytes], *, timeout: float) -> None:
        """Remove the bindings of a queue that was deleted, from what was stored of it."""
        end = self._clock.monotonic() + timeout
        for topic, field, _ in _bound(fields):
            self._topic(topic, _ANY_VERSION, "remove", [field], end)

    # -- parts -----------------------------------------------------------------------------------------------------

    def _copy(self, bindings: Bindings, messages: tuple[Any, ...], targets: Sequence[Target], end: float) -> Any:
        key = topic_key(self._prefix, bindings.topic)
        if not self._client.cluster:
            flat = [part for target in targets for part in self._flat(target)]
            call = PUBLISH.call((key,), (self._elsewhere(0), bindings.version, *messages, *flat))
            return self._write(bindings.topic, call, key, end)
        done, *found = self._topic(bindings.topic, bindings.version, "", [], end)
        if not done and self._learn(bindings.topic, found[0]).version != bindings.version:
            return [_STALE, found[0]]
        return self._copy_in_steps(bindings.topic, messages, targets, end)

    def _copy_in_steps(self, topic: str, messages: tuple[Any, ...], targets: Sequence[Target], end: float) -> Any:
        """Copy in a cluster: one step for each queue, as they are at several nodes; see ADR 0017.

        Raises:
            OutcomeUnknown: some queues have their copies, and one could not be reached. A repeat reaches those that lack
                them, and is recognised by the others.
        """
        keys = {target.queue: self._keys(target.queue) for target in targets}
        there = self._client.run_keys(
            {own[0]: ("HEXISTS", own[0], "u") for own in keys.values()}, timeout=self._left(end)
        )
        missing = [number for number, found in enumerate(there, 1) if not found]
        for number, target in enumerate(targets if not missing else (), 1):
            own = keys[target.queue]
            call = PUBLISH.call(own, ("", _ANY_VERSION, *messages, *self._flat(target)))
            try:
                answer = self._write(topic, call, own[0], end)
            except Exception as error:
                if number == 1:
                    raise
                raise OutcomeUnknown(f"{number - 1} of {len(targets)} queues have their copies: {error}") from error
            if answer[0] == _MISSING:
                missing.append(number)
        return [_MISSING, *missing] if missing else [0]

    def _write(self, topic: str, call: Call, slot_key: bytes, end: float) -> Any:
        return self._writer.run(call, timeout=self._left(end), slot_key=slot_key, what=f"topic {topic!r}")

    def _flat(self, target: Target) -> tuple[Any, ...]:
        key = queue_key(self._prefix, target.queue)
        # always named: a script that has looked at the topics stands in their database
        database = "" if self._client.cluster else target.database
        return (database, key, len(target.numbers), *target.numbers)

    def _drop_orphans(self, bindings: Bindings, gone: Sequence[Target], end: float) -> InconsistencyError | None:
        """Remove bindings whose queue is gone; return what to tell, if it was to stay."""
        where = {(target.database, target.queue) for target in gone}
        orphans = [each for each in bindings.all if (each.database, each.queue) in where]
        fields = [each.field for each in orphans]
        self._topic(bindings.topic, _ANY_VERSION, "remove", fields, end)
        names = sorted({each.queue for each in orphans if not each.vanishes})
        if not names:
            return None
        outcome = "others may have their copies" if self._client.cluster else "nothing was stored"
        return InconsistencyError(
            f"topic {bindings.topic!r}: bound queues are gone from the server, though nobody deleted them: "
            f"{', '.join(map(repr, names))}; {outcome}. Declare and bind them anew; a next publish reaches those "
            "that are bound then"
        )

    def _fetch(self, topic: str, end: float) -> Bindings:
        _, flat = self._topic(topic, b"", "", [], end)
        return self._learn(topic, flat)

    def _learn(self, topic: str, flat: Sequence[bytes]) -> Bindings:
        bindings = Bindings.read(topic, flat)
        with self._lock:
            self._known[topic] = bindings
            self._known.move_to_end(topic)
            if len(self._known) > _MOST_KNOWN:
                self._known.popitem(last=False)
        return bindings

    def _topic(self, topic: str, version: bytes, verb: str, fields: Sequence[bytes], end: float) -> Any:
        key = topic_key(self._prefix, topic)
        args = (self._elsewhere(0), version, *((verb, *fields) if verb else ()))
        return self._client.run([TOPIC.call((key,), args)], timeout=self._left(end), slot_key=key)[0]

    def _note_bound(self, name: str, topic: str, binding: Binding, verb: str, end: float) -> Any:
        keys = self._keys(name)
        field = b"B" + topic.encode() + b"\0" + binding.field
        call = BOUND.call(self._keys(name), (verb, field, binding.value))
        return self._client.run([call], timeout=self._left(end), slot_key=keys[0])[0]

    def _tell_missed(self, name: str, topic: str, end: float) -> None:
        keys = self._keys(name)
        self._client.run([BOUND.call(keys, ("missed", topic))], timeout=self._left(end), slot_key=keys[0])

    def _keys(self, name: str) -> tuple[bytes, ...]:
        return queue_keys(self._prefix, name, cluster=self._client.cluster)

    def _binding(self, name: str, pattern: str) -> Binding:
        scope = self._scope
        return Binding(self._database, name, scope.kind, scope.name, pattern, scope.patterns, vanishes=False)

    def _elsewhere(self, database: int) -> int | str:
        """Return a database to select, or nothing if a connection stands in it."""
        return "" if database == self._database else database

    def _left(self, end: float) -> float:
        left = end - self._clock.monotonic()
        if left <= 0:
            raise OperationTimeout("others change the bindings of this topic all the time; call again")
        return left


def _bound(flat: Sequence[bytes]) -> list[tuple[str, bytes, bytes]]:
    """Return topic, field and value of a queue's own bindings."""
    pairs = zip(flat[::_PAIR], flat[1::_PAIR], strict=True)
    found = []
    for name, value in pairs:
        topic, zero, field = name[1:].partition(b"\0")
        if name.startswith(b"B") and zero:
            found.append((topic.decode(), field, value))
    return found
