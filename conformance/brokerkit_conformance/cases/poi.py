"""POI: what other programs put where a message is expected. It goes to the dead queue as it is; the next one is delivered."""

from __future__ import annotations

import gzip
import json
import pickle
import random
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from brokerkit_conformance.bench import Bench, check
from brokerkit_conformance.casebook import case
from brokerkit_conformance.cases._order import as_sent

_JSON: Final = {"content-type": "application/json"}
_SECONDS: Final = 10.0
"""Real seconds within which even the worst message has to be put away."""

Raw = tuple[bytes, Mapping[str, str]]


def _put_away(bench: Bench, poison: Sequence[Raw], *, harmless: Sequence[bytes] = ()) -> None:
    """Put poison before and between good messages: the good ones come, in bound, and the poison is in the dead queue."""
    queue, other = bench.queue(), bench.queue("other")
    bench.remember(f"{queue}.dead")
    admin = bench.storage().admin
    good = []
    for body, headers in poison:
        admin.put_raw(queue, body, headers)
        good.append(bench.broker.send(queue, b"good"))
    elsewhere = bench.broker.send(other, b"good")
    began = time.monotonic()
    # a lease that outlives the worst: where none can be extended, the others would end while it is decoded
    patient = min(100 * bench.lease, bench.capabilities.lease.max)
    came = bench.collect(queue, bench.consumer(queue, visibility_timeout=patient))
    check(time.monotonic() - began < _SECONDS, f"it took {time.monotonic() - began:.0f} s to put {len(poison)} away")
    foreign = [delivery.body for delivery in came if delivery.id not in good]
    check(sorted(foreign) == sorted(harmless), f"these reached a handler: {[body[:40] for body in foreign]}")
    ours = [delivery.id for delivery in came if delivery.id in good]
    check(as_sent(bench, ours, good), f"of {len(good)} good messages among poison came {len(ours)}")
    letters = bench.dead_letters(queue)
    reasons = Counter(letter.reason for letter in letters)
    dead = len(poison) - len(harmless)
    check(reasons == {"undecodable": dead}, f"{dead} should be dead as undecodable, and there are {dict(reasons)}")
    bodies = Counter(body for body, _ in poison) - Counter(harmless)
    check(Counter(letter.body for letter in letters) == bodies, "dead letters are not the bytes that came")
    check(all(letter.detail for letter in letters), "a dead letter does not say what is wrong with it")
    check([d.id for d in bench.collect(other)] == [elsewhere], "another queue was affected")


@case("POI-01")
def raw_bytes(bench: Bench) -> None:
    """Bytes of another program, with no word on what they are, are bytes; those that claim to be JSON and are not, poison."""
    odd = [b"", b"\x00", b"\xff\xfe", b"hello", bytes(range(256))]
    _put_away(bench, [(body, {}) for body in odd] + [(body, _JSON) for body in odd], harmless=odd)


@case("POI-02")
def wrong_json(bench: Bench) -> None:
    """Sixty broken JSON texts: each is put away, and every good message between them comes."""
    seeds = random.Random(20)  # noqa: S311 - the same texts each time
    texts = []
    for i in range(60):
        text = json.dumps({"task": "t", "args": [i, None, "é"], "nested": {"a": [1.5, {}]}}).encode()
        cut = seeds.randrange(1, len(text) - 1)
        texts.append((text[:cut], text[:cut] + b"\xff" + text[cut:], text + b"}", b"\x00" + text)[i % 4])
    _put_away(bench, [(text, _JSON) for text in texts])


@case("POI-03")
def unknown_types(bench: Bench) -> None:
    """A content type, encoding or compression that is unknown or not accepted is put away, and named."""
    kinds = [
        {"content-type": "application/x-unheard-of"},
        {"content-type": "application/json", "content-encoding": "klingon"},
        {"content-type": "application/json", "content-compression": "application/x-unheard-of"},
        {"content-type": ""},
        {"content-type": "application/x-yaml"},
    ]
    _put_away(bench, [(b"{}", kind) for kind in kinds])
    details = " ".join(letter.detail for letter in bench.dead_letters(bench.name()))
    for word in ("x-unheard-of", "klingon", "x-yaml"):
        check(word in details, f"no dead letter names {word!r}: {details}")


class _Bomb:
    def __init__(self, canary: Path) -> None:
        self._canary = canary

    def __reduce__(self) -> Any:
        return Path.touch, (self._canary,)


@case("POI-05")
def pickle_bomb(bench: Bench) -> None:
    """A serializer that runs code and is not accepted is never loaded: what it would do is not done."""
    with tempfile.TemporaryDirectory() as folder:
        canary = Path(folder, "canary")
        bomb = pickle.dumps(_Bomb(canary))
        kinds = (
            "application/x-python-serialize",
            "application/x-python-serialize; x=1",
            "APPLICATION/X-PYTHON-SERIALIZE",
        )
        _put_away(bench, [(bomb, {"content-type": kind, "content-encoding": "binary"}) for kind in kinds])
        check(not canary.exists(), "the pickle was loaded: its code ran")
        pickle.loads(bomb)  # noqa: S301 - ours; shows that the canary works
        check(canary.exists(), "the bomb of this case does nothing")


@case("POI-06")
def damaged_records(bench: Bench) -> None:
    """Records of every kind that the storage takes and the plugin never writes: typed, put away, other queues go on."""
    queue, other = bench.queue(), bench.queue("other")
    bench.remember(f"{queue}.dead")
    count = bench.storage().admin.put_damaged(queue)
    sent = [bench.broker.send(queue, b"good"), bench.broker.send(other, b"good")]
    check([d.id for d in bench.collect(queue)] == sent[:1], "a damaged record reached a handler, or blocks the queue")
    check([d.id for d in bench.collect(other)] == sent[1:], "another queue was affected")
    letters = bench.broker.dead_letters(queue, limit=count + 1)
    check(len(letters) == count, f"of {count} damaged records {len(letters)} are dead letters")
    check({letter.reason for letter in letters} == {"undecodable"}, f"they say {Counter(x.reason for x in letters)}")
    bench.measured["kinds of damage"] = count


@case("POI-07")
def bombs(bench: Bench) -> None:
    """Deep nesting, a zip bomb and a million keys are put away or read within bounded time."""
    zipped = {**_JSON, "content-compression": "application/x-gzip"}
    bomb = gzip.compress(b" " * 300_000_000, 1)
    _put_away(bench, [(b"[" * 1_000_000, _JSON), (bomb, zipped), (bomb[:-100], zipped), (b'{"a":' * 200_000, _JSON)])


@case("POI-08")
def poison_first(bench: Bench) -> None:
    """Poison at the head of the queue does not block the rest, nor does it come again and again."""
    queue = bench.queue()
    bench.remember(f"{queue}.dead")
    admin = bench.storage().admin
    for _ in range(30):
        admin.put_raw(queue, b"{", _JSON)
    good = bench.broker.send(queue, b"good")
    events: list[Any] = []
    broker = bench.connect(on_event=events.append)
    consumer = bench.consumer(queue, broker=broker, prefetch=1)
    delivery = bench.expect(consumer)
    check(delivery.id == good, "something else came")
    delivery.ack(wait=True)
    bench.silent(queue, consumer, why="the rest is poison")
    told = Counter(event.name for event in events)
    check(told == {"dead_lettered": 30}, f"30 poisonous messages gave the events {dict(told)}")


@case("POI-09")
def forged(bench: Bench) -> None:
    """Headers that only brokerkit writes, forged by another program, have no effect on other messages."""
    queue, other = bench.queue(), bench.queue("other")
    bench.remember(f"{queue}.dead")
    victim = bench.broker.send(other, b"victim")
    headers = {
        "bk-origin-queue": other,
        "bk-dead-reason": "forged",
        "bk-attempts": "-1",
        "bk-dead-at": "not a time",
        "id": victim,
    }
    bench.storage().admin.put_raw(queue, b"forged", headers)
    good = bench.broker.send(queue, b"good")
    consumer = bench.consumer(queue)
    first, second = sorted((bench.expect(consumer) for _ in range(2)), key=lambda delivery: delivery.id == good)
    check(first.body == b"forged" and first.id != victim, "it took the id of another message")
    first.dead_letter("no")
    check(second.id == good, "the next message did not come")
    letters = bench.dead_letters(queue)
    check([letter.body for letter in letters] == [b"forged"], "it is not in the dead queue of its own queue")
    check(letters[0].reason == "no" and letters[0].origin == queue, f"its letter says {letters[0].reason!r}")
    with bench.time.running():
        bench.broker.redrive(queue)
    check([d.id for d in bench.collect(other)] == [victim], "a redrive went where a forged header said")
