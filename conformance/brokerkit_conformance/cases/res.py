"""RES: result stores. What was stored is what is read; what is gone is told from what never was."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from brokerkit.errors import (
    ConfigurationError,
    EncodeError,
    InvalidOption,
    ResultLost,
    ResultTimeout,
    Unsupported,
)
from brokerkit.results import State
from brokerkit_conformance.bench import Bench, check
from brokerkit_conformance.casebook import case
from brokerkit_conformance.cases._refused import refused
from brokerkit_conformance.storage import Role

_ttl = 8.0  # of cases about time to live, in seconds; real stores get a shorter one


def ttl_of(bench: Bench) -> float:
    """Return a short time to live."""
    return _ttl if bench.time.clock is not None else 2.0


VALUES: tuple[Any, ...] = (
    *(True, 1, -1, 2**31, -(2**63), 2**64 + 1, 10**40, 0.1, -1e300, 5e-324),
    *("text", "naïve ünïcödé 🐇", " ", "\\u0000", "null", "1"),
    *([1, [2, [3, []]]], {"a": {"b": {"c": None}}}, {"": 0, "ключ": [{}]}, [None] * 50),
    *(datetime(2024, 2, 29, 12, 30, 1, 250_000, tzinfo=UTC), Decimal("1.10"), UUID(int=7)),
)


@case("RES-01")
def every_value(bench: Bench) -> None:
    """Every state and every kind of JSON value comes back equal; NaN is refused, and nothing is stored for it."""
    store = bench.results
    for i, value in enumerate(VALUES):
        check(store.set_result(bench.key(f"v{i}"), value), f"{value!r} was not stored")
    for i, value in enumerate(VALUES):
        found = store.get(bench.key(f"v{i}"))
        check(found.state is State.SUCCESS and found.value == value, f"{value!r} came as {found.value!r}")
        check(type(found.value) is type(value), f"{value!r} came as a {type(found.value).__name__}")
    for state in (State.PENDING, State.STARTED, State.RETRY, State.REVOKED):
        key = bench.key(f"state-{state}")
        check(store.set_state(key, state, meta={"n": [1, "é"]}), f"{state} was not stored")
        found = store.get(key)
        check(found.state is state and found.meta == {"n": [1, "é"]}, f"{state} came as {found}")
    for bad in (math.nan, math.inf, [math.nan]):
        refused(lambda bad=bad: store.set_result(bench.key("nan"), bad), EncodeError, f"the value {bad}")  # type: ignore[misc]
    check(store.get(bench.key("nan")).state is State.UNKNOWN, "a value that was refused was stored")


@case("RES-02")
def never_stored(bench: Bench) -> None:
    """An id that was never stored is UNKNOWN: no exception, no stored None."""
    found = bench.results.get(bench.key())
    check(found.state is State.UNKNOWN, f"its state is {found.state}")
    check(found.value is None and found.lost is None and found.error is None, f"it has something: {found}")
    pending = bench.results.pending(bench.key())
    check(not pending.done() and pending.state is State.UNKNOWN, "it is said to be done")


@case("RES-03")
def falsy_is_not_missing(bench: Bench) -> None:
    """None, False, 0, and everything empty are results like others."""
    store = bench.results
    falsy: tuple[Any, ...] = (None, False, 0, 0.0, "", [], {}, b"")
    for i, value in enumerate(falsy):
        store.set_result(bench.key(f"{i}"), value)
        found = store.get(bench.key(f"{i}"))
        check(found.state is State.SUCCESS, f"{value!r} reads as {found.state}")
        check(found.value == value and type(found.value) is type(value), f"{value!r} came as {found.value!r}")
        check(store.pending(bench.key(f"{i}")).done(), f"{value!r} does not count as done")
        check(store.pending(bench.key(f"{i}")).result(timeout=0) == value, f"waiting for {value!r}")


@case("RES-04")
def why_it_is_absent(bench: Bench) -> None:
    """Never, expired and forgotten are told apart as far as declared; a wrong reason is never given."""
    absence = bench.results_capabilities.absence
    mortal = bench.store(expires=ttl_of(bench)) if bench.results_capabilities.expires is True else bench.store()
    keys = {what: bench.key(what) for what in ("never", "forgotten", "expired", "evicted")}
    for what in ("forgotten", "expired", "evicted"):
        mortal.set_result(keys[what], what)
    mortal.forget(keys["forgotten"])
    storage = bench.storage(bench.results_urls[0])
    if storage.keeps(Role.RESULT):
        storage.evict(Role.RESULT, keys["evicted"])
    stranger = bench.store()
    seen: dict[str, set[str | None]] = {what: set() for what in keys}
    for store in (mortal, stranger):
        seen["never"].add(store.get(keys["never"]).lost)
        seen["forgotten"].add(store.get(keys["forgotten"]).lost)
        if storage.keeps(Role.RESULT):
            seen["evicted"].add(store.get(keys["evicted"]).lost)
    check(mortal.get(keys["forgotten"]).lost == "forgotten", "who forgot it does not know that it did")
    if bench.results_capabilities.expires is True:
        bench.let_pass(ttl_of(bench) + bench.results_capabilities.ttl_late + bench.slack / 4)
        bench.wait_until(
            lambda: stranger.get(keys["expired"]).state is State.UNKNOWN, within=bench.slack, what="expired"
        )
        seen["expired"] = {stranger.get(keys["expired"]).lost, mortal.get(keys["expired"]).lost}
        check(absence.expired == "unknown" or seen["expired"] == {"expired"}, f"expired reads as {seen['expired']}")
    check(seen["never"] == {None}, f"an id that never was reads as {seen['never']}")
    check(
        absence.forgotten == "unknown" or seen["forgotten"] == {"forgotten"}, f"forgotten reads as {seen['forgotten']}"
    )
    for what, allowed in {"forgotten": "forgotten", "expired": "expired", "evicted": "evicted"}.items():
        wrong = seen[what] - {allowed, "unknown", None}
        check(not wrong, f"{what} reads as {wrong}")


@case("RES-05")
def time_to_live(bench: Bench) -> None:
    """A record is there until its time to live ends, and gone after it and the declared lag."""
    if bench.results_capabilities.expires is not True:
        refused(lambda: bench.store(expires=5), Unsupported, "expires=5")
        return
    ttl = ttl_of(bench)
    store, other = bench.store(expires=ttl), bench.store()
    store.set_result(bench.key("done"), 1)
    store.reserve(bench.key("waiting"))
    other.set_result(bench.key("stays"), 2)
    began = bench.time.now()
    for _ in range(3):
        bench.let_pass(ttl / 4)
        if bench.time.now() - began < ttl * 0.95:  # a busy machine may have slept for too long
            states = [other.get(bench.key(key)).state for key in ("done", "waiting")]
            check(states == [State.SUCCESS, State.PENDING], f"gone before its time: {states}")
    bound = ttl / 4 + bench.results_capabilities.ttl_late + bench.slack
    keys = [bench.key("done"), bench.key("waiting")]
    bench.wait_until(
        lambda: all(found.state is State.UNKNOWN for found in other.get_many(keys)), within=bound, what="they are gone"
    )
    bench.measured["late"] = bench.time.now() - began - ttl
    check(store.set_result(bench.key("done"), 3), "an expired final record still keeps others out")
    check(other.get(bench.key("done")).value == 3, "the new record is not there")  # noqa: PLR2004
    check(other.get(bench.key("stays")).value == 2, "a record with a longer life is gone")  # noqa: PLR2004


@case("RES-06")
def odd_times_to_live(bench: Bench) -> None:
    """None is for ever, 40 days are 40 days; 0 and less are refused; nothing expires at once by accident."""
    lives: list[float | None] = [None]
    if bench.results_capabilities.expires is True:
        lives += [40 * 86_400.0, 30 * 86_400.0 + 1, 400 * 86_400.0]
    for i, expires in enumerate(lives):
        store = bench.store(expires=expires)
        store.set_result(bench.key(f"{i}"), i)
        check(store.get(bench.key(f"{i}")).value == i, f"with expires={expires} it is gone at once")
    bench.let_pass(ttl_of(bench) * 2)
    for i, expires in enumerate(lives):
        found = bench.results.get(bench.key(f"{i}"))
        check(found.state is State.SUCCESS, f"with expires={expires} it is gone after {ttl_of(bench) * 2:g} s")
    for bad in (0, -1, math.nan):
        refused(lambda bad=bad: bench.store(expires=bad), InvalidOption, f"expires={bad}")  # type: ignore[misc]


@case("RES-07")
def what_prolongs(bench: Bench) -> None:
    """Reading does not prolong a record's life; a new state does."""
    if bench.results_capabilities.expires is not True:
        refused(lambda: bench.store(expires=5), Unsupported, "expires=5")
        return
    ttl = ttl_of(bench)
    store = bench.store(expires=ttl)
    read, renewed = bench.key("read"), bench.key("renewed")
    store.set_state(read, State.STARTED)
    store.set_state(renewed, State.STARTED)
    bench.let_pass(ttl * 0.6)
    store.get_many([read, renewed])
    store.set_state(renewed, State.RETRY)
    second = bench.time.now()
    bench.let_pass(ttl * 0.4 + bench.results_capabilities.ttl_late + min(bench.slack, ttl * 0.3))
    check(store.get(read).state is State.UNKNOWN, "reading has prolonged its life")
    if bench.time.now() - second < ttl * 0.95:
        check(store.get(renewed).state is State.RETRY, "a new state did not prolong its life")


@case("RES-08")
def waiting_ends(bench: Bench) -> None:
    """A wait for what never comes ends in its time; for what is known to be gone, at once and with the reason."""
    store = bench.results
    for timeout in (0.0, ttl_of(bench) / 8):
        began = bench.time.now()
        with bench.time.running():
            refused(lambda t=timeout: store.pending(bench.key("never")).result(timeout=t), ResultTimeout, "waiting")  # type: ignore[misc]
        took = bench.time.now() - began
        check(timeout * 0.98 <= took <= timeout + bench.slack, f"a wait of {timeout:g} s took {took:g} s")
    gone = store.reserve(bench.key("gone"))
    store.forget(bench.key("gone"))
    with bench.time.running():
        lost = refused(lambda: gone.result(timeout=5 * ttl_of(bench)), ResultLost, "waiting for what was forgotten")
    check(lost.reason == "forgotten", f"its reason is {lost.reason!r}")
    if bench.results_capabilities.expires is True:
        short = bench.store(expires=ttl_of(bench) / 2).reserve(bench.key("short"))
        began = bench.time.now()
        with bench.time.running():
            lost = refused(lambda: short.result(timeout=20 * ttl_of(bench)), ResultLost, "waiting for what expires")
        took = bench.time.now() - began
        bound = ttl_of(bench) / 2 + bench.results_capabilities.ttl_late + 2 + bench.slack
        check(took <= bound, f"that it expired was told after {took:g} s")
        check(lost.reason in ("expired", "unknown"), f"its reason is {lost.reason!r}")
    refused(lambda: store.pending(bench.key("x")).result(timeout=-1), ConfigurationError, "a timeout of -1")


@case("RES-12")
def forgetting(bench: Bench) -> None:
    """To forget is idempotent, ends the waiting, and leaves nothing behind."""
    store = bench.results
    store.set_result(bench.key("done"), 1)
    for _ in range(2):
        store.forget(bench.key("done"), bench.key("never"))
    store.forget()
    check(store.get(bench.key("done")).state is State.UNKNOWN, "it is still there")
    check(bench.store().get(bench.key("done")).state is State.UNKNOWN, "others still see it")
    pending = store.reserve(bench.key("waiting"))
    told: list[str] = []

    def wait() -> None:
        told.append(refused(lambda: pending.result(timeout=600.0), ResultLost, "waiting while it is forgotten").reason)

    bench.thread(wait)
    bench.wait_until(lambda: not pending.done(), within=1, what="it is waiting")
    store.forget(bench.key("waiting"))
    bench.join()
    check(told == ["forgotten"], f"the waiter was told {told}")
    check(store.set_result(bench.key("done"), 2), "after it was forgotten it cannot be stored anew")


@case("RES-13")
def the_same_again(bench: Bench) -> None:
    """A result that is stored twice, by a task that ran twice, is no error: the first one stays."""
    for again in (bench.results, bench.store()):
        key = bench.key(f"twice-{again is bench.results}")
        check(bench.results.set_result(key, {"n": 1}) is True, "the first was not stored")
        check(again.set_result(key, {"n": 1}) is False, "the second says that it was stored")
        check(again.set_result(key, {"n": 2}) is False, "a different second says that it was stored")
        check(again.get(key).value == {"n": 1}, "the first result was replaced")
    check(bench.results.set_exception(key, ValueError("late")) is False, "a late failure says that it was stored")
    check(bench.results.get(key).value == {"n": 1}, "a late failure replaced the result")


@case("RES-14")
def final_is_final(bench: Bench) -> None:
    """A late STARTED, RETRY or REVOKED does not replace SUCCESS or FAILURE; neither does a new reservation."""
    other = bench.store()
    success, failure, revoked = bench.key("success"), bench.key("failure"), bench.key("revoked")
    bench.results.reserve(success)
    bench.results.set_state(success, State.STARTED)
    bench.results.set_result(success, 42)
    bench.results.set_exception(failure, ValueError("no"))
    bench.results.set_state(revoked, State.REVOKED)
    finals = {success: State.SUCCESS, failure: State.FAILURE, revoked: State.REVOKED}
    for key, final in finals.items():
        for store in (bench.results, other):
            for late in (State.PENDING, State.STARTED, State.RETRY, State.REVOKED):
                check(store.set_state(key, late) is False, f"a late {late} says that it replaced {final}")
            store.reserve(key)
            check(store.get(key).state is final, f"{final} was replaced by {store.get(key).state}")
    check(other.get(success).value == 42, "the value is gone")  # noqa: PLR2004
