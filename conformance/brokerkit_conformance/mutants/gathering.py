"""Defects in waiting for many results by one thread."""

from __future__ import annotations

from typing import Any, Final

from brokerkit._reading import ResultReader
from brokerkit._tickets import Waiter
from brokerkit._waiting import Waiting
from brokerkit.memory import MemoryResultBackend
from brokerkit.models import Record
from brokerkit_conformance.mutants.planting import Patch, mutant

_WATCHED: Final = 1000


@mutant("RES-30", source="LAWS 1.9, dogpile")
def a_thousand_are_watched(patch: Patch) -> None:
    """A store wakes waiters for the first thousand of their ids."""

    def make(wait: Any) -> Any:
        return lambda self, seen, *, timeout: wait(self, dict(list(seen.items())[:_WATCHED]), timeout=timeout)

    patch.wrap(MemoryResultBackend, "wait", make)


@mutant("RES-30", source="PEERS: Celery's ResultSet")
def ids_are_read_one_by_one(patch: Patch) -> None:
    """Waiting for many ids reads each of them by a call of its own."""

    def make(answers: Any) -> Any:
        return lambda self, keys, patience: {key: answers(self, [key], patience)[key] for key in keys}

    patch.wrap(Waiting, "_answers", make)


@mutant("RES-30", source="LAWS 2")
def one_of_those_that_end_together(patch: Patch) -> None:
    """Of results that end at the same time, the first is handed out."""

    def make(fetch: Any) -> Any:
        return lambda self: fetch(self)[:1]

    patch.wrap(Waiter, "fetch", make)


@mutant("RES-30", source="LAWS 2")
def the_lost_stay_open(patch: Patch) -> None:
    """Of many results, one that is lost is handed out as if nothing had ever been known of it."""
    patch.value(ResultReader, "ended", lambda self, key, record: self._result(f"{key}?", record))


@mutant("RES-30", source="PEERS: Celery's join raises for the first")
def a_failure_hides_the_others(patch: Patch) -> None:
    """Waiting for many ends with the first that failed."""

    def make(ended: Any) -> Any:
        def mutated(self: Any, key: str, record: Any) -> Any:
            result = ended(self, key, record)
            if result.error is not None:
                raise result.error
            return result

        return mutated

    patch.wrap(ResultReader, "ended", make)


@mutant("RES-24", source="PEERS: Celery's chord counts twice")
def who_comes_second_has_stored_as_well(patch: Patch) -> None:
    """Whoever stores a final record is told to have stored it, though another one is there and is kept."""

    def make(put: Any) -> Any:
        def mutated(self: Any, record: Record, ttl: float | None) -> Any:
            outcome = put(self, record, ttl)
            return None if record.final else outcome

        return mutated

    patch.wrap(MemoryResultBackend, "_put_one", make)


@mutant("RES-24", source="LAWS 2")
def a_part_that_is_not_there_counts(patch: Patch) -> None:
    """Of records that are read together, one that is not there looks like its neighbour."""

    def make(get: Any) -> Any:
        def mutated(self: Any, keys: Any, *, timeout: float) -> Any:
            found = get(self, keys, timeout=timeout)
            there = next((record for record in found if record is not None), None)
            return [there if record is None else record for record in found]

        return mutated

    patch.wrap(MemoryResultBackend, "get", make)
