"""BIG, PRE and DEL by size: bodies up to the limit, batches of thousands, and backlogs that no consumer may swallow whole."""

from __future__ import annotations

import random
import subprocess
from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

from brokerkit.capabilities import is_missing
from brokerkit.errors import SendFailed
from brokerkit.models import Message, Received, new_id
from brokerkit_conformance.bench import Bench, check
from brokerkit_conformance.casebook import case
from brokerkit_conformance.cases._refused import refused
from brokerkit_conformance.model import Inconclusive, NotRun

_KIB: Final = 1024
_SIZES: Final = (0, 1, 64 * _KIB - 1, 64 * _KIB, _KIB * _KIB)
_REACHABLE: Final = 16 * _KIB * _KIB
"""A limit up to here is tried at its very edge."""
_BATCH: Final = 1000
_DRAIN: Final = 12.0
"""Seconds for as many messages as a case of this file has."""
_OVERHEAD: Final = 32_000_000
"""Bytes that a consumer may take for itself; far below the backlog."""


@case("BIG-01")
def exact_at_every_size(bench: Bench) -> None:
    """Bodies of every size up to the limit come back byte for byte, sent alone and in one batch."""
    limit = bench.capabilities.max_message
    sizes = [size for size in _SIZES if limit is None or size <= limit]
    if limit is not None and limit <= _REACHABLE:
        sizes += [limit - 1, limit]
    seeds = random.Random(1)  # noqa: S311 - the same bodies each time; nothing compresses them
    bodies = [seeds.randbytes(size) for size in sizes]
    for suffix, batch in (("alone", [[body] for body in bodies]), ("batch", [bodies])):
        queue = bench.queue(suffix)
        sent = [message_id for part in batch for message_id in bench.broker.send_many(queue, part)]
        came = {delivery.id: delivery.body for delivery in bench.collect(queue)}
        for message_id, body in zip(sent, bodies, strict=True):
            check(message_id in came, f"{suffix}: a body of {len(body)} bytes did not come")
            got = came[message_id]
            same = len(got) == len(body) and sha256(got).digest() == sha256(body).digest()
            check(same, f"{suffix}: a body of {len(body)} bytes came back as {len(got)} bytes, not the same")
        check(len(came) == len(sent), f"{suffix}: {len(came)} of {len(sent)} came")
    bench.measured["largest"] = max(sizes)


@case("BIG-06")
def ten_thousand_in_one_batch(bench: Bench) -> None:
    """Ten thousand messages in one call, some of which no queue takes: an outcome for each, and exactly the others come."""
    count = 10_000
    picky = not is_missing(bench.capabilities.priority)
    queue = bench.queue(max_priority=3) if picky else bench.queue()
    now = bench.broker.clock.time()
    refusable = set(range(7, count, 1111)) if picky else set()
    batch = [Message(id=new_id(now), body=b"%d" % i, priority=9 if i in refusable else 0) for i in range(count)]
    if not picky:
        bench.broker.send_messages(queue, batch)
    else:
        failed = refused(
            lambda: bench.broker.send_messages(queue, batch), SendFailed, "a batch with nine too urgent ones"
        )
        check(
            [i for i, _ in failed.outcomes] == [m.id for m in batch],
            "the outcomes are not those of the batch, in order",
        )
        wrong = {number for number, (_, error) in enumerate(failed.outcomes) if error is not None}
        check(wrong == refusable, f"the outcomes blame {sorted(wrong)[:20]} instead of {sorted(refusable)}")
    came = _drain(bench, queue, count - len(refusable))
    check(
        came == Counter(m.id for i, m in enumerate(batch) if i not in refusable), "not exactly the accepted ones came"
    )
    bench.silent(queue, why="all that were accepted had come")
    bench.measured["native batch"] = bench.capabilities.max_batch


@case("DEL-11", alone=True)
def due_at_once(bench: Bench) -> None:
    """Thirty thousand delayed messages that fall due in one moment: none early, all in bound, each once."""
    count = 30_000
    queue, trial = bench.queue(), bench.queue("trial")
    began = bench.time.now()
    _send_delayed(bench, trial, _BATCH, due=began + 100 * bench.lease)
    due = bench.time.now() + bench.lease + 3 * (bench.time.now() - began) * count / _BATCH
    sent = _send_delayed(bench, queue, count, due=due)
    early, _ = bench.receiver(queue).receive(limit=1, timeout=0.0)
    if bench.time.now() >= due:
        raise Inconclusive(f"it took longer to send {count} messages than a trial of {_BATCH} let expect")
    check(not early, "one came before its time")
    bench.let_pass(due - bench.time.now())
    ready = bench.time.now()
    check(_drain(bench, queue, count) == sent, "messages were lost or came twice")
    bench.measured["all came within"] = bench.time.now() - ready
    bench.silent(queue, why="all had come")


@case("PRE-06", alone=True)
def backlog_stays_at_the_server(bench: Bench) -> None:
    """A slow consumer before a backlog of 100 MB takes no more memory than its prefetch is worth."""
    queue, prefetch, size = bench.queue(), 10, 100_000
    for _ in range(10):
        bench.broker.send_many(queue, [random.randbytes(size) for _ in range(100)])  # noqa: S311 - what bytes, is all one
    actor = bench.actor("run", queue, seconds=0.02, prefetch=prefetch)
    actor.wait_for("ready")
    before = _resident(actor.pid)
    actor.wait_for("handled", count=3 * prefetch)
    growth = _resident(actor.pid) - before
    bench.measured["memory grew by"] = f"{growth / 1e6:.1f} MB before a backlog of {1000 * size / 1e6:.0f} MB"
    bound = 4 * prefetch * size + _OVERHEAD
    check(growth <= bound, f"with prefetch {prefetch} of {size} bytes each the consumer grew by {growth} bytes")


def _resident(pid: int) -> int:
    """Return how many bytes of memory a process has."""
    told = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=False)  # noqa: S603, S607 - a number of ours; wherever the system has it
    if not told.stdout.strip().isdigit():
        raise NotRun(f"`ps` does not tell the memory of a process here: {told.stderr}")
    return int(told.stdout) * 1024


def _send_delayed(bench: Bench, queue: str, count: int, *, due: float) -> Counter[str]:
    """Send messages in batches, each with the delay that is left until a moment; return their ids."""
    sent: Counter[str] = Counter()
    while sent.total() < count:
        sent.update(bench.broker.send_many(queue, [b"x"] * _BATCH, delay=max(due - bench.time.now(), 0.001)))
    return sent


def _drain(bench: Bench, queue: str, count: int) -> Counter[str]:
    """Claim and ack so many messages by batches; fail if they do not come in time."""
    receiver = bench.receiver(queue, lease=20 * bench.lease)
    end = bench.time.now() + _DRAIN + bench.slack
    came: Counter[str] = Counter()
    held: Sequence[Received] = ()
    with bench.time.running():
        while came.total() < count:
            check(bench.time.now() < end, f"{came.total()} of {count} came within {_DRAIN:g} s")
            most = min(_BATCH, bench.capabilities.max_batch, count - came.total())
            held, lost = receiver.receive(limit=most, timeout=1.0, acks=held)
            check(not lost, "an ack in time was told to be too late")
            came.update(received.message.id for received in held)
    check(not receiver.ack(held), "an ack in time was told to be too late")
    return came
