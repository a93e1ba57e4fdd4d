"""RES, fifth part: one thread that waits for many results."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Final

from brokerkit.errors import RemoteFailure, ResultTimeout
from brokerkit.results import Result, ResultStore, State
from brokerkit.testing import Faults
from brokerkit_conformance.bench import HANG, Bench, check
from brokerkit_conformance.casebook import case
from brokerkit_conformance.cases._refused import refused

_MANY: Final = 2000
_FOREVER: Final = 600.0


@case("RES-30")
def many_by_one_thread(bench: Bench) -> None:
    """Of two thousand ids, the last and every twentieth end while one thread waits: each is handed out once, as it ended."""
    store, other = bench.results, bench.store()
    ids = [bench.key(f"{i}") for i in range(_MANY)]
    ending = ids[::20]
    for key in ending:
        store.reserve(key)
    check(store.wait_any([], timeout=_FOREVER) == ([], []), "no ids are waited for")
    check(store.wait_any(ids, timeout=0) == ([], ids), "something has ended before it was stored")
    calls = Faults(store.backend).calls
    with bench.time.running(), store.as_completed([*ids, *ids[:20]], timeout=_FOREVER) as completed:
        other.set_result(ids[-1], ids[-1])
        check(next(completed).key == ids[-1], "what ended was not handed out")
        writer = bench.thread(lambda: _end(store, other, ending))
        got = {result.key: result for result in islice(completed, len(ending))}
        writer.join(HANG)
    check(sorted(got) == sorted(ending), f"{len(got)} of {len(ending)} were handed out")
    _check_outcomes([got[key] for key in ending])
    bench.measured["reads"] = calls["get"]
    check(calls["get"] < _MANY, f"{calls['get']} reads for {_MANY} ids")
    _check_all(bench, ids, [*ending, ids[-1]])


def _end(store: ResultStore, other: ResultStore, keys: Sequence[str]) -> None:
    """End results, the last one first: a third each succeeds and fails elsewhere, and is forgotten here."""
    for i, key in reversed(list(enumerate(keys))):
        if i % 3 == 0:
            other.set_result(key, key)
        elif i % 3 == 1:
            other.set_exception(key, ValueError(key))
        else:
            store.forget(key)


def _check_outcomes(results: Sequence[Result]) -> None:
    for i, result in enumerate(results):
        if i % 3 == 0:
            check(result.value == result.key, f"{result.key} came with another's value")
        elif i % 3 == 1:
            check(isinstance(result.error, RemoteFailure) and result.key in str(result.error), f"it came as {result}")
        else:
            check(result.state is State.UNKNOWN and result.lost == "forgotten", f"what was forgotten came as {result}")


def _check_all(bench: Bench, ids: Sequence[str], ended: Sequence[str]) -> None:
    """Wait for all: those that ended are told from the others, and time that is up ends it."""
    store, rest = bench.results, [key for key in ids if key not in set(ended)]
    done, waiting = store.wait_all(ids, timeout=0)
    check([result.key for result in done] == [key for key in ids if key in set(ended)], "an outcome is missing")
    check(waiting == rest, f"{len(waiting)} of {len(rest)} are waited for")
    before = bench.time.now()
    with bench.time.running():
        late = store.as_completed([ended[0], *rest[:3]], timeout=0.3)
        check(next(late).key == ended[0], "what has ended does not come first")
        refused(lambda: next(late), ResultTimeout, "waiting for what never comes")
    bench.measured["time-out of 0.3 s after"] = bench.time.now() - before
    check(bench.time.now() - before < HANG, "it did not end in time")
