"""Defects in result stores."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from brokerkit import _failures, _reading, _records
from brokerkit._known import Known
from brokerkit.errors import InvalidOption, MalformedResult
from brokerkit.memory import MemoryResultBackend
from brokerkit.options import ResultOptions
from brokerkit.results import State
from brokerkit.serialization import Codec
from brokerkit_conformance.mutants.planting import Patch, mutant


def _stored_as(patch: Patch, change: Any) -> None:
    """Change each record on its way into the store; None drops it."""

    def make(store: Any) -> Any:
        def mutated(self: Any, record: Any, ttl: float | None) -> None:
            changed = change(self, record)
            if changed is not None:
                store(self, changed, ttl)

        return mutated

    patch.wrap(MemoryResultBackend, "_store", make)


def _lives(patch: Patch, change: Any) -> None:
    """Change each record's time to live."""

    def make(store: Any) -> Any:
        return lambda self, record, ttl: store(self, record, change(ttl))

    patch.wrap(MemoryResultBackend, "_store", make)


@mutant("RES-01", source="PEERS")
def big_numbers_become_floats(patch: Patch) -> None:
    """Numbers beyond 64 bits lose digits."""

    def make(encode: Any) -> Any:
        def mutated(self: Any, payload: Any) -> Any:
            return encode(self, float(payload) if type(payload) is int and abs(payload) >= 2**63 else payload)

        return mutated

    patch.wrap(Codec, "encode", make)


@mutant("RES-01", source="LAWS 2")
def meta_forgotten(patch: Patch) -> None:
    """What was given with a state is not stored."""

    def make(encode: Any) -> Any:
        return lambda header, body=b"": encode(replace(header, meta=None), body)

    patch.wrap(__import__("brokerkit.results", fromlist=["x"]), "encode_record", make)


@mutant("RES-02", source="PEERS: Celery's PENDING")
def never_stored_is_pending(patch: Patch) -> None:
    """An id that was never stored reads as PENDING."""

    def make(result: Any) -> Any:
        def mutated(self: Any, key: str, record: Any) -> Any:
            found = result(self, key, record)
            return replace(found, state=State.PENDING) if found.state is State.UNKNOWN and not found.problem else found

        return mutated

    patch.wrap(_reading.ResultReader, "_result", make)


@mutant("RES-03", source="LAWS 1.9, dogpile")
def falsy_values_are_missing(patch: Patch) -> None:
    """A result that is false reads as if there were none."""

    def make(result: Any) -> Any:
        def mutated(self: Any, key: str, record: Any) -> Any:
            found = result(self, key, record)
            missing = found.state is State.SUCCESS and not found.value
            return replace(found, state=State.UNKNOWN) if missing else found

        return mutated

    patch.wrap(_reading.ResultReader, "_result", make)


@mutant("RES-04", source="PEERS D1")
def all_that_is_gone_has_expired(patch: Patch) -> None:
    """Whatever is not there reads as expired."""
    patch.value(Known, "reason", lambda *_: "expired")


@mutant("RES-04", source="LAWS 2")
def expiry_leaves_no_trace(patch: Patch) -> None:
    """An expired record reads as if it had never been, against the declaration."""
    patch.value(MemoryResultBackend, "_is_forgotten", lambda self, stored: self._is_expired(stored))


@mutant("RES-05", "RES-06", "RES-07", source="LAWS 1.9, dogpile")
def evicted_after_five_seconds(patch: Patch) -> None:
    """Every record goes after three seconds (the original: five), whatever was asked."""
    _lives(patch, lambda _: 3.0)


@mutant("RES-05", "RES-07", "RES-26", source="LAWS 2")
def expiry_ignored(patch: Patch) -> None:
    """Records stay for ever."""
    _lives(patch, lambda _: None)


@mutant("RES-06", source="PEERS: memcached's 30 days")
def forty_days_are_a_date(patch: Patch) -> None:
    """A life above 30 days is taken for a moment long ago."""
    _lives(patch, lambda ttl: 0.0 if ttl is not None and ttl > 30 * 86_400 else ttl)


@mutant("RES-06", source="LAWS 2")
def zero_life_accepted(patch: Patch) -> None:
    """A life of 0 seconds is taken, and expires at once."""

    def make(take: Any) -> Any:
        def mutated(given: dict[str, Any]) -> Any:
            try:
                take(dict(given))
            except InvalidOption:
                given.pop("expires")
            return take(given)

        return staticmethod(mutated)

    patch.wrap(ResultOptions, "take", make)


@mutant("RES-07", source="LAWS 2")
def reading_prolongs(patch: Patch) -> None:
    """Each read starts a record's life anew."""

    def make(read: Any) -> Any:
        def mutated(self: Any, key: str) -> Any:
            stored = self._find(key)
            if stored is not None and stored.expires_at is not None:
                stored.expires_at = max(stored.expires_at, self.server.clock.monotonic() + 6.0)
            return read(self, key)

        return mutated

    patch.wrap(MemoryResultBackend, "_read", make)


@mutant("RES-17", "RES-18", source="LAWS 1.9, dogpile")
def value_cut_at_4k(patch: Patch) -> None:
    """Records are cut at 4 KiB."""
    _stored_as(patch, lambda _, record: replace(record, value=record.value[:4096]))


@mutant("RES-17", source="PEERS")
def large_values_not_stored(patch: Patch) -> None:
    """What is above 64 KiB is not stored, and nobody is told."""
    _stored_as(patch, lambda _, record: record if len(record.value) < 2**16 else None)


@mutant("RES-18", source="PEERS")
def text_normalised(patch: Patch) -> None:
    """Text is cut at its first NUL."""

    def make(encode: Any) -> Any:
        def mutated(self: Any, payload: Any) -> Any:
            return encode(self, payload.partition("\x00")[0] if isinstance(payload, str) else payload)

        return mutated

    patch.wrap(Codec, "encode", make)


@mutant("RES-19", source="PEERS: Celery 5.2")
def any_class_is_rebuilt(patch: Patch) -> None:
    """A failure is rebuilt as whatever class its record names."""

    def mutated(link: Any, _: Any) -> Exception | None:
        kind = getattr(__import__("builtins"), link["type"], None)
        return kind(*link.get("args", ())) if kind is not None else None

    patch.value(_failures, "_original", mutated)


@mutant("RES-19", source="PEERS")
def causes_are_lost(patch: Patch) -> None:
    """Only the outermost exception is kept."""
    patch.value(_failures, "_origin", lambda _: ("cause", None))


@mutant("RES-20", source="LAWS 2")
def ids_are_tidied(patch: Patch) -> None:
    """Ids lose spaces and control characters, and upper case."""

    def make(address: Any) -> Any:
        return lambda self, key: address(self, "".join(key.split()).replace("\x00", "").lower())

    patch.wrap(MemoryResultBackend, "_address", make)


@mutant("RES-20", source="LAWS 2")
def ids_cut(patch: Patch) -> None:
    """Ids are cut at 250 characters, as memcached's keys."""
    patch.wrap(MemoryResultBackend, "_address", lambda address: lambda self, key: address(self, key[:250]))


@mutant("RES-21", source="LAWS 1.9, dogpile")
def full_at_1000(patch: Patch) -> None:
    """With a thousand records the store is full, and tells nobody."""
    _stored_as(patch, lambda self, record: record if len(self.server.records) < 1000 else None)  # noqa: PLR2004


@mutant("RES-26", source="LAWS 2")
def sweep_takes_the_living(patch: Patch) -> None:
    """Clearing away what expired takes everything that has a time to live."""

    def mutated(self: Any, _: int) -> None:
        if any(self._is_expired(stored) for stored in self.server.records.values()):
            self.server.records.clear()

    patch.value(MemoryResultBackend, "_sweep", mutated)


@mutant("RES-28", source="PEERS")
def foreign_bytes_are_a_result(patch: Patch) -> None:
    """Whatever lies under a key is taken for a result."""

    def make(decode: Any) -> Any:
        def mutated(key: str, record: bytes, codec: Any, allowed: Any) -> Any:
            found = decode(key, record, codec, allowed)
            if isinstance(found.problem, MalformedResult):
                return _records.Result(key=key, state=State.SUCCESS)
            return found

        return mutated

    patch.wrap(_reading, "decode_record", make)
