"""POI, what nobody of this version wrote: messages of a later brokerkit, records that cannot be read, foreign dead letters."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from brokerkit import Broker
from brokerkit_conformance.bench import HANG, Bench, check
from brokerkit_conformance.casebook import case

_LATER: Final = ("2", "0", "", "1.1", "one", "9" * 5000, "²", "💥")
_FORGED: Final[tuple[dict[str, str], ...]] = (
    {"bk-dead-at": "yesterday", "bk-attempts": "many", "bk-origin-queue": ""},
    {"bk-dead-at": "1e999", "bk-attempts": "9" * 5000, "bk-origin-queue": "nowhere"},
    {"bk-dead-at": "", "bk-attempts": "-1", "bk-dead-reason": "", "bk-dead-detail": ""},
    {},
)


@case("POI-04")
def from_a_later_version(bench: Bench) -> None:
    """Messages of a later version are set aside as they are, and say of which; those between them are handled."""
    queue = bench.queue()
    bench.remember(f"{queue}.dead")
    admin = bench.storage().admin
    good = []
    for version in _LATER:
        admin.put_raw(queue, b'{"later": true}', {"bk-version": version, "content-type": "application/json"})
        good.append(bench.broker.send(queue, b"good"))
    handled, events = _run(bench, queue, len(good))
    check(Counter(handled) == Counter([b"good"] * len(good)), f"these reached a handler: {set(handled)}")
    _told(events, queue, len(_LATER))
    letters = bench.dead_letters(queue)
    versions = Counter(letter.headers["bk-version"] for letter in letters)
    check(versions == Counter(_LATER), f"of {len(_LATER)} were set aside {versions}")
    check(all(letter.body == b'{"later": true}' for letter in letters), "a message that was set aside has changed")
    said = all(letter.headers["bk-version"][:9] in letter.detail for letter in letters)
    check(said, f"they do not say their version: {[letter.detail for letter in letters]}")
    with bench.time.running():
        check(bench.broker.redrive(queue) == len(_LATER), "they cannot be redriven, for consumers that can read them")
    bench.silent(queue, why="they still cannot be read")
    check(len(bench.dead_letters(queue)) == len(_LATER), "after a redrive not all are set aside again")


@case("POI-10")
def unreadable_on_the_server(bench: Bench) -> None:
    """Records that cannot be read are skipped and told, in a queue as in its dead queue; foreign dead letters are shown."""
    queue = bench.queue()
    dead = f"{queue}.dead"
    bench.broker.declare(dead, max_attempts=None)
    bench.remember(dead)
    admin = bench.storage().admin
    damaged = admin.put_damaged(queue)
    good = bench.broker.send(queue, b"good")
    handled, events = _run(bench, queue, 1)
    check(handled == [b"good"], f"beside {good} these reached a handler: {handled[:3]}")
    _told(events, queue, damaged)
    for headers in _FORGED:
        admin.put_raw(dead, b"forged", headers)
    count = damaged + admin.put_damaged(dead) + len(_FORGED)
    letters = bench.broker.dead_letters(queue, limit=count + 1)
    check(len(letters) == count, f"{len(letters)} of {count} dead letters are shown")
    check(sum(letter.body == b"forged" for letter in letters) == len(_FORGED), "not all foreign dead letters are shown")
    check(all(isinstance(letter.dead_at, float) for letter in letters), "a dead letter's time is no number")
    with bench.time.running():
        check(bench.broker.redrive(queue) == count, "not all dead letters can be redriven")
    handled, events = _run(bench, queue, len(_FORGED))
    check(
        handled == [b"forged"] * len(_FORGED), f"of {len(_FORGED)} redriven ones that can be read came {len(handled)}"
    )
    _told(events, queue, count - len(_FORGED))
    bench.measured["unreadable records"] = damaged


def _run(bench: Bench, queue: str, count: int) -> tuple[list[bytes], list[Any]]:
    """Let `Consumer.run` work until so many were handled, and nothing is left; return their bodies, and all events."""
    handled: list[bytes] = []
    events: list[Any] = []
    lease = min(20 * bench.lease, bench.capabilities.lease.max)  # setting many aside may take its time
    broker: Broker = bench.connect(on_event=events.append, visibility_timeout=lease)
    consumer = bench.consumer(queue, broker=broker)
    last = bench.broker.send(queue, b"last")
    ids: list[str] = []

    def handle(delivery: Any) -> None:
        ids.append(delivery.id)
        if delivery.id != last:
            handled.append(delivery.body)

    running = bench.thread(lambda: consumer.run(handle))
    with bench.time.running():
        bench.wait_until(
            lambda: (last in ids and len(handled) >= count) or not running.is_alive(),
            within=max(5 * bench.lease, HANG),
            what=f"{count} of a queue with unreadable ones among them are handled",
        )
        consumer.stop()
    bench.join()
    return handled, events


def _told(events: list[Any], queue: str, count: int) -> None:
    """Fail unless so many were set aside, each told by an event with its id and what is wrong, and nothing else was."""
    told = Counter(event.name for event in events)
    check(told == {"dead_lettered": count}, f"{count} unreadable messages gave the events {dict(told)}")
    check(
        all(event.queue == queue and event.message_id and event.reason for event in events),
        "an event does not say what",
    )
    check(len({event.message_id for event in events}) == count, "not each has its own event")
