"""RES, third part: sizes, failures, ids, many at once, and what others write."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from brokerkit.errors import (
    BrokerkitError,
    ConfigurationError,
    EncodeError,
    InvalidName,
    MalformedResult,
    NotRequester,
    RemoteFailure,
    ResultTooLarge,
    Unsupported,
)
from brokerkit.models import Record
from brokerkit.results import State
from brokerkit_conformance.bench import HANG, Bench, check
from brokerkit_conformance.casebook import case, refusal
from brokerkit_conformance.cases._refused import refused
from brokerkit_conformance.cases.res import ttl_of


@case("RES-17")
def sizes(bench: Bench) -> None:
    """Values of every size up to the limit come back exactly; beyond it they are refused, with the limit."""
    store, limit = bench.results, bench.results_capabilities.max_value
    for size in (0, 1, 255, 4096, 4097, 65_535, 65_536, 1_000_000):
        if limit is not None and size + 1000 > limit:
            break
        value = bytes(i * 7 % 256 for i in range(256)) * (size // 256 + 1)
        check(store.set_result(bench.key(f"{size}"), value[:size]), f"{size} bytes were not stored")
        check(store.get(bench.key(f"{size}")).value == value[:size], f"{size} bytes came back as others")
    if limit is None or limit > 16 * 2**20:  # more would test this machine's memory
        bench.measured["limit not reached"] = str(limit)
        return
    error = refused(lambda: store.set_result(bench.key("big"), b"x" * (limit + 1)), ResultTooLarge, "limit + 1")
    check(str(limit) in str(error), f"the error does not name the limit: {error}")
    check(store.get(bench.key("big")).state is State.UNKNOWN, "what was refused was stored")
    store.set_result(bench.key("near"), b"x" * (limit - 1000))
    check(len(store.get(bench.key("near")).value) == limit - 1000, "a value just below the limit is not whole")


@case("RES-18")
def odd_values(bench: Bench) -> None:
    """Bytes, NUL, combining characters, lone surrogates, 10,000 keys, a megabyte of text: exact, or refused."""
    values: tuple[Any, ...] = (
        bytes(range(256)),
        b"\xff\xfe\x00",
        "nul\x00in\x01text",
        "e\u0301 \u00e9 \u202e \U0010ffff",
        "\ud800 alone",
        {f"key {i}": i for i in range(10_000)},
        "é" * 500_000,
        "'; DROP TABLE results; --",
    )
    for i, value in enumerate(values):
        try:
            bench.results.set_result(bench.key(f"{i}"), value)
        except (EncodeError, ConfigurationError, ResultTooLarge):
            bench.measured[f"refused value {i}"] = True
            check(bench.results.get(bench.key(f"{i}")).state is State.UNKNOWN, "what was refused was stored")
            continue
        check(bench.store().get(bench.key(f"{i}")).value == value, f"value {i}, {str(value)[:20]!a}, came as another")


class _Unpicklable(Exception):
    def __init__(self, reason: str, *, code: int) -> None:
        super().__init__(reason)
        self.code = code
        self.lock = threading.Lock()


class _Hostile(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even this")


def _raise_chained() -> None:
    nothing: dict[str, int] = {}
    try:
        nothing["the cause"] += 1
    except KeyError as cause:
        raise _Unpicklable("cannot be pickled", code=7) from cause


@case("RES-19")
def failures(bench: Bench) -> None:
    """Any exception can be stored, and is read as a summary; only classes that the reader allows are rebuilt."""
    store = bench.results
    try:
        _raise_chained()
    except _Unpicklable as error:
        store.set_exception(bench.key("chained"), error)
    found = store.get(bench.key("chained"))
    check(found.state is State.FAILURE and isinstance(found.error, RemoteFailure), f"it came as {found.error!r}")
    check("_Unpicklable" in str(found.error) and "cannot be pickled" in str(found.error), f"it says {found.error}")
    check("the cause" in str(found.error and found.error.__cause__), "its cause is gone")
    check("raise _Unpicklable" in (found.traceback or ""), "its traceback is gone")
    store.set_exception(bench.key("hostile"), _Hostile())
    check("_Hostile" in str(store.get(bench.key("hostile")).error), "an exception that cannot be shown is lost")
    huge = ValueError("x" * 2_000_000)
    store.set_exception(bench.key("huge"), huge)
    check(store.get(bench.key("huge")).state is State.FAILURE, "an exception with a huge text is not stored")
    store.set_exception(bench.key("plain"), ValueError("no", 3))
    refused_as = bench.store(exceptions=[ValueError]).get(bench.key("plain")).error
    check(type(refused_as) is ValueError and refused_as.args == ("no", 3), f"an allowed class came as {refused_as!r}")
    check(isinstance(store.get(bench.key("plain")).error, RemoteFailure), "a class that nobody allowed was rebuilt")
    pending = store.pending(bench.key("plain"))
    refused(lambda: pending.result(timeout=0), RemoteFailure, "waiting for a failure")
    check(isinstance(pending.result(timeout=0, propagate=False), RemoteFailure), "propagate=False raised")


IDS = (
    "a",
    "A",
    "a ",
    " a",
    "a b",
    "a\tb",
    "a/b",
    "../a",
    "a*",
    "a%",
    "a_",
    "a:b",
    "a\x00b",
    "a'b",
    "é",
    "e\u0301",
    "🐇",
    "a1",
)


@case("RES-20")
def odd_ids(bench: Bench) -> None:
    """Ids that look alike are different, or refused; a kilobyte of id works, or is refused with the limit."""
    base = bench.key("")
    ids = [base + odd for odd in IDS] + [base, base + "x" * 900, base + "x" * 901]
    taken = []
    for i, key in enumerate(ids):
        try:
            bench.results.set_result(key, i)
            taken.append((i, key))
        except (InvalidName, ResultTooLarge):
            bench.measured[f"refused id {key[len(base) :][:10]!r}"] = True
    check(taken and len(taken) > len(ids) / 2, f"only {len(taken)} of {len(ids)} ids were taken")
    wrong = [key for i, key in taken if bench.store().get(key).value != i]
    check(not wrong, f"ids share a slot: {wrong}")
    for i, key in taken:
        bench.results.forget(key)
        rest = [later for j, later in taken if j > i]
        gone = [k for k, found in zip(rest, bench.results.get_many(rest), strict=True) if found.state is State.UNKNOWN]
        check(not gone, f"forgetting {key!r} took {gone} along")
    limit = bench.results_capabilities.max_key
    error = refused(lambda: bench.results.set_result("k" * (limit + 1), 1), InvalidName, "an id beyond the limit")
    check(str(limit) in str(error), f"the error does not name the limit: {error}")
    for bad in ("", "\ud800"):
        refused(lambda bad=bad: bench.results.set_result(bad, 1), InvalidName, f"the id {bad!a}")  # type: ignore[misc]


@case("RES-21")
def many_at_once(bench: Bench) -> None:
    """Thousands of records, stored in batches and read in one call: in order, with holes where nothing is."""
    backend, count = bench.results.backend, 2500
    donor, size = bench.results, min(500, bench.results_capabilities.max_batch)
    donor.set_result(bench.key("donor"), "value")
    (template,) = backend.get([bench.key("donor")], timeout=10.0)
    check(template is not None, "what the core stored is not there by the contract")
    value = template.value if template is not None else b""
    keys = [bench.key(f"{i}") for i in range(count)]
    for start in range(0, count, size):
        batch = [Record(key=key, value=value, final=True) for key in keys[start : start + size]]
        outcomes = backend.put(batch, ttl=600.0, timeout=20.0)
        check(list(outcomes) == [None] * len(batch), "a batch has an outcome that is no success")
    asked = [key for i, key in enumerate(keys) for key in ([key, bench.key(f"hole{i}")] if i % 10 == 0 else [key])]
    found = bench.results.get_many(asked)
    check([result.key for result in found] == asked, "the order has changed")
    missing = [r.key for r in found if ("hole" in r.key) != (r.state is State.UNKNOWN)]
    check(not missing, f"{len(missing)} of {len(asked)} are wrongly there or missing")
    check(all(r.value == "value" for r in found if r.state is State.SUCCESS), "a value came as another")
    check(bench.results.get_many([]) == [], "no ids give something")
    twice = bench.results.get_many([keys[0], keys[0]])
    check([r.key for r in twice] == [keys[0]] * 2, "an id that was asked twice came once")
    second = backend.put([Record(key=key, value=value) for key in (keys[0], bench.key("new"))], ttl=600.0, timeout=10.0)
    check(second[0] is not None and second[1] is None, f"one final, one new: the outcomes are {second}")


@case("RES-22")
def reading_consumes_nothing(bench: Bench) -> None:
    """A result can be read as often as one likes, by anybody."""
    bench.results.set_result(bench.key(), [1, 2])
    for store in (bench.results, bench.store(), bench.results):
        check(store.get(bench.key()).value == [1, 2], "a second reader finds nothing")
        check(store.pending(bench.key()).result(timeout=0) == [1, 2], "a second waiter finds nothing")
        store.get(bench.key()).value.append(3)


@refusal("RES-22")
def another_reader_is_told(bench: Bench) -> None:
    """Who did not ask for a result may store it, and is told that it cannot read it: at once, and whatever it tries.

    Who did reads it as often as it likes.
    """
    key, ours = bench.key(), bench.results
    stranger = bench.store(url=bench.second_url(bench.results_urls, "result store"))
    ours.reserve(key)
    tried: dict[str, Callable[[], object]] = {
        "get": lambda: stranger.get(key),
        "pending": lambda: stranger.pending(key),
        "reserve": lambda: stranger.reserve(key),
        "forget": lambda: stranger.forget(key),
        "wait_any": lambda: stranger.wait_any([key], timeout=600.0),
    }
    for what, attempt in tried.items():
        error = refused(attempt, NotRequester, f"{what} by another than the requester")
        check(key in str(error), f"{what}: the error does not name the result: {error}")
    (found,) = stranger.get_many([key])
    check(isinstance(found.problem, NotRequester), f"among many it reads as {found}")
    refused(lambda: stranger.set_result(bench.name("nobody's"), 1), InvalidName, "an id that does not say whose it is")
    check(ours.get(key).state is State.PENDING, "a stranger changed it")
    ours.set_result(key, [1, 2])
    for store in (ours, bench.store(), ours):
        check(store.get(key).value == [1, 2], "who asked for it finds nothing the second time")
        check(store.pending(key).result(timeout=0) == [1, 2], "who asked for it finds nothing the second time")


@case("RES-25")
def two_applications(bench: Bench) -> None:
    """Two applications on one server, same ids: neither reads, keeps out or forgets the other's."""
    other = bench.store(url=bench.second_url(bench.results_urls, "result store"))
    key, theirs = bench.key("same"), bench.key("same", other)
    bench.results.reserve(key)
    check(other.get(theirs).state is State.UNKNOWN, "one application reads the other's record")
    check(bench.results.set_result(key, "mine"), "it was not stored")
    check(other.set_result(theirs, "theirs"), "one application's final record keeps out the other's")
    check((bench.results.get(key).value, other.get(theirs).value) == ("mine", "theirs"), "they share a slot")
    other.forget(theirs)
    check(bench.results.get(key).value == "mine", "one application forgot the other's record")
    check(other.get(theirs).state is State.UNKNOWN, "forgetting did nothing")


@case("RES-26")
def expired_do_not_pile_up(bench: Bench) -> None:
    """Clearing away what has expired touches nothing that lives, and blocks nobody."""
    if bench.results_capabilities.expires is not True:
        refused(lambda: bench.store(expires=5), Unsupported, "expires=5")
        return
    short, long = bench.store(expires=ttl_of(bench)), bench.store()
    for i in range(100):
        short.set_result(bench.key(f"short{i}"), i)
    for i in range(20):
        long.set_result(bench.key(f"long{i}"), i)
    bench.let_pass(ttl_of(bench) + bench.results_capabilities.ttl_late + bench.slack / 2)
    for i in range(150):  # stores clear away while they store
        began = time.monotonic()
        long.set_result(bench.key(f"new{i}"), i)
        check(time.monotonic() - began < HANG / 4, "clearing away blocks a writer")
    live = [*(bench.key(f"long{i}") for i in range(20)), *(bench.key(f"new{i}") for i in range(150))]
    check([r.value for r in long.get_many(live)] == [*range(20), *range(150)], "something that lives was cleared away")
    dead = long.get_many(bench.key(f"short{i}") for i in range(100))
    check(all(r.state is State.UNKNOWN for r in dead), "something that expired is there again")


@case("RES-28")
def somebody_else_wrote(bench: Bench) -> None:
    """Foreign bytes under our key are a MalformedResult, also for who waits; other ids are unaffected."""
    bench.results.set_result(bench.key("ours"), 1)
    garbage = (b"", b"\x00", b"not ours", b"\xff" * 5000, b"\x01\x00\x00\x00\x02{}", b"\x80\x04\x95")
    for i, value in enumerate(garbage):
        key = bench.key(f"theirs{i}")
        bench.backend().put([Record(key=key, value=value)], ttl=600.0, timeout=5.0)
        refused(lambda key=key: bench.results.get(key), MalformedResult, f"reading {value[:8]!r}")  # type: ignore[misc]
        with bench.time.running():
            refused(lambda key=key: bench.results.pending(key).result(timeout=5.0), MalformedResult, "waiting for it")  # type: ignore[misc]
        both = bench.results.get_many([key, bench.key("ours")])
        check(isinstance(both[0].problem, BrokerkitError) and both[1].value == 1, "it spoils its neighbour")
