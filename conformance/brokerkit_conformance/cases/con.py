"""CON: many producers and consumers at once, judged by the history of what each of them did."""

from __future__ import annotations

from typing import Final

from brokerkit_conformance.bench import Bench, check
from brokerkit_conformance.casebook import case
from brokerkit_conformance.history import Excuse
from brokerkit_conformance.load import Load

_UNFAIR: Final = 3.0
"""How many times as much as its equal one consumer may get: no engine declares more, and a queue that is worked off in
turns stays far below."""


@case("CON-01", crowd=True)
def nothing_lost_nothing_twice(bench: Bench) -> None:
    """Two producers and two consumers, and no faults: each message is settled by one consumer, and nothing else comes."""
    with Load(bench, seed=1) as load:
        load.consumers(2, unawaited=0.3)
        load.producers(2, count=100, burst=20, pause=0.02)
        load.until_settled()
        counts = load.judge(excuses=()).counts
    check(
        counts["delivered"] == counts["accepted"], f"{counts['delivered']} deliveries of {counts['accepted']} messages"
    )


@case("CON-02", crowd=True)
def releases_are_the_only_excuse(bench: Bench) -> None:
    """The same, and consumers give back some of what they get: each release makes one more delivery, and nothing else does."""
    with Load(bench, seed=2) as load:
        load.consumers(2, releases=0.2)
        load.producers(2, count=100, burst=20, pause=0.02)
        load.until_settled()
        counts = load.judge(excuses={Excuse.RELEASE}).counts
        released = load.count("released")
    extra = counts["delivered"] - counts["accepted"]
    bench.measured["released"] = released
    check(released > 0, "no consumer released anything")
    check(extra == released, f"{extra} deliveries more than messages, and {released} releases")


@case("CON-06", crowd=True)
def joining_and_leaving(bench: Bench) -> None:
    """Consumers join and leave while messages flow: nothing is lost, and no message has two owners."""
    with Load(bench, seed=6) as load:
        load.consumers(2, prefetch=12, pause=0.002)
        load.producers(1, count=240, burst=30, pause=0.1)
        for number in range(1, 4):
            load.until(50 * number)
            load.consumers(1, prefetch=12, pause=0.002)
            load.living()[0].leave()
        load.until_settled()
        load.judge(excuses={Excuse.CLOSE}, ordered=False)


@case("CON-08", crowd=True)
def fair_to_equals(bench: Bench) -> None:
    """Three equal consumers work off one queue: none gets much more than another."""
    with Load(bench, seed=8) as load:
        load.producers(1, count=150)
        load.until(150, "accepted")
        consumers = load.consumers(3, prefetch=1, pause=0.01, held=True)
        for consumer in consumers:
            consumer.say("go")
        load.until_settled()
        shares = sorted(len(consumer.told("settled")) for consumer in consumers)
        load.judge(excuses=())
    bench.measured["most"], bench.measured["least"] = shares[-1], shares[0]
    check(shares[-1] <= _UNFAIR * shares[0], f"three equal consumers got {shares} of 150 messages")
