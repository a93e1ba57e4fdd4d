"""Contradiction probes: does a power that is not declared work after all, below the core's refusal?

Each asks the plugin's own object by the contract for what the core would have refused. A plugin that refuses or ignores it
is right; one that does it keeps a power from its users, which is told. How it fails is nobody's business here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from brokerkit.abc import Receiver, SupportsDepth, SupportsFanout
from brokerkit.models import Message, Queue, Received, new_id
from brokerkit_conformance.bench import Bench
from brokerkit_conformance.model import Unclaimed

__all__ = [
    "works_bounds",
    "works_counting",
    "works_dedup",
    "works_delay",
    "works_depth",
    "works_durably",
    "works_expiry",
    "works_extension",
    "works_fanout",
    "works_lease",
    "works_order",
    "works_patterns",
    "works_priority",
    "works_release_delay",
    "works_ttl",
]

_ROUNDS: Final = 5
_MANY: Final = 20
_TIMEOUT: Final = 10.0


def works_priority(bench: Bench) -> None:
    """Tell if the most urgent of ten comes first, in five rounds: by chance that is one in 100,000."""
    queue = bench.queue("priority")
    for _ in range(_ROUNDS):
        sent = _sent(bench, queue, [{}] * 9 + [{"priority": 9}])
        came = _taken(bench, queue) if sent else []
        if not sent or len(came) != len(sent) or came[0] != sent[-1]:
            return
    _tell("priority", "what was sent last with priority 9 came first")


def works_delay(bench: Bench) -> None:
    """Tell if a message with a delay comes then, and not before."""
    queue, delay = bench.queue("delay"), bench.lease / 2
    _tell_if_later(bench, queue, delay, _sent(bench, queue, [{"delay": delay}]), "delay")


def works_release_delay(bench: Bench) -> None:
    """Tell if a message that is released with a delay comes then, and not before."""
    queue, delay = bench.queue("release"), bench.lease / 2
    sent = _sent(bench, queue, [{}])
    receiver = bench.receiver(queue)
    claimed = bench.claim(receiver, len(sent))
    if _asked(lambda: receiver.release(claimed, delay=delay)) == []:
        _tell_if_later(bench, queue, delay, sent, "release_delay")


def works_ttl(bench: Bench) -> None:
    """Tell if a message past its time to live is known to be, or gone."""
    queue, ttl = bench.queue("ttl"), bench.lease / 4
    sent = _sent(bench, queue, [{"ttl": ttl}])
    bench.let_pass(2 * ttl)
    marker = _sent(bench, queue, [{}])
    came = {received.message.id: received for received in _claimed(bench, queue)}
    if sent and marker and marker[0] in came and (sent[0] not in came or came[sent[0]].expired):
        _tell("message_ttl", "a message did not outlive its time to live")


def works_dedup(bench: Bench) -> None:
    """Tell if of two messages with one dedup_key one comes."""
    queue = bench.queue("dedup")
    sent = _sent(bench, queue, [{"dedup_key": "one"}, {"dedup_key": "one"}, {"dedup_key": "two"}])
    if sent and len(_taken(bench, queue)) == len(sent) - 1:
        _tell("dedup", "of two messages with one dedup_key one came")


def works_order(bench: Bench) -> None:
    """Tell if five queues of twenty messages each keep the order of sending."""
    for number in range(_ROUNDS):
        queue = bench.queue(f"order-{number}")
        if _sent(bench, queue, [{}] * _MANY) != _taken(bench, queue):
            return
    _tell('order="queue"', f"{_ROUNDS} times {_MANY} messages came in the order of sending")


def works_fanout(bench: Bench) -> None:
    """Tell if what is published to a topic reaches a queue that is bound to it."""
    if _hears(bench, "#"):
        _tell("fanout", "a bound queue got what was published")


def works_durably(bench: Bench) -> None:
    """Tell if a bound queue without any consumer keeps its copies."""
    if _hears(bench, "#"):
        _tell("fanout.durable", "a bound queue got what was published while nobody consumed it")


def works_patterns(bench: Bench) -> None:
    """Tell if a pattern lets through what it matches, and nothing else."""
    if _hears(bench, "a.*") and not _hears(bench, "b.*"):
        _tell("fanout.patterns", "a pattern matched what it should, and nothing else")


def works_depth(bench: Bench) -> None:
    """Tell if three ready messages are counted as three."""
    transport, queue = bench.transport, bench.queue("depth")
    sent = _sent(bench, queue, [{}] * 3)
    if not isinstance(transport, SupportsDepth):
        return
    depth = _asked(lambda: transport.depth(queue, timeout=_TIMEOUT))
    if sent and depth is not None and depth.ready == len(sent):
        _tell("depth", f"of {len(sent)} ready messages it told {depth.ready}")


def works_bounds(bench: Bench) -> None:
    """Tell if a queue for one message refuses the second."""
    name = _declared(bench, "bounded", max_length=1)
    if name is not None and len(_sent(bench, name, [{}])) == 1 and not _sent(bench, name, [{}]):
        _tell("max_length", "a queue that was declared for one message refused the second")


def works_expiry(bench: Bench) -> None:
    """Tell if a queue that nobody uses is gone after its time."""
    expires = bench.lease / 4
    name = _declared(bench, "mortal", expires=expires)
    if name is None or not _sent(bench, name, [{}]):
        return
    bench.let_pass(2 * expires + 1)
    if not _sent(bench, name, [{}]):
        _tell("queue_expires", "a queue that nobody used was gone after its time")


def works_extension(bench: Bench) -> None:
    """Tell if an extended lease hides its message beyond the end that it had."""
    queue = bench.queue("extend")
    sent, receiver = _sent(bench, queue, [{}]), bench.receiver(queue)
    claimed = bench.claim(receiver, len(sent))
    longer = _asked(lambda: receiver.extend(claimed, visibility_timeout=4 * bench.lease))
    if not sent or longer is None or list(longer):
        return
    bench.let_pass(bench.past_lease() + bench.slack / 4)
    if not _claimed(bench, queue):
        _tell("lease.extend", "an extended lease went on beyond the end that it had")


def works_lease(bench: Bench) -> None:
    """Tell if a claim ends by itself at its visibility timeout, and not before."""
    queue = bench.queue("lease")
    sent = _sent(bench, queue, [{}])
    bench.claim(bench.receiver(queue), len(sent))
    if sent and not _claimed(bench, queue):
        bench.let_pass(bench.past_lease())
        if _claimed(bench, queue):
            _tell('lease.scope="message"', "a claim ended at its visibility timeout, though its connection lives")


def works_counting(bench: Bench) -> None:
    """Tell if the deliveries of one message are numbered 1, 2, 3."""
    queue, attempts = bench.queue("count"), []
    sent = _sent(bench, queue, [{}])
    for _ in range(3):
        with _receiver(bench, queue) as receiver:
            claimed = bench.claim(receiver, len(sent))
            attempts += [received.attempt for received in claimed]
            receiver.release(claimed)
    if attempts == [1, 2, 3]:
        _tell("attempts", f"three deliveries of one message were attempts {attempts}")


# -- steps ---------------------------------------------------------------------------------------------------------


def _tell(power: str, seen: str) -> None:
    raise Unclaimed(f"{power} is not declared, and works: {seen}. Declare it, so that the plugin's users can have it.")


def _asked(call: Callable[[], Any]) -> Any:
    """Make a call that the plugin may refuse in any way; returns None if it does."""
    try:
        return call()
    except Exception:  # noqa: BLE001 - it was asked for what it does not declare
        return None


def _sent(bench: Bench, queue: str, fields: Sequence[dict[str, Any]]) -> list[str]:
    """Send messages by the contract; returns their ids, none if any was refused."""
    now = bench.broker.clock.time()
    messages = [Message(id=new_id(now), body=b"probe", **each) for each in fields]
    outcomes = _asked(lambda: bench.transport.send(queue, messages, timeout=_TIMEOUT))
    accepted = outcomes is not None and not any(outcomes)
    return [message.id for message in messages] if accepted else []


def _declared(bench: Bench, suffix: str, **settings: Any) -> str | None:
    name = bench.name(suffix)
    bench.remember(name)
    queue = Queue(name=name, **settings)
    done = _asked(lambda: (bench.transport.declare(queue, timeout=_TIMEOUT),))
    return None if done is None else name


@contextlib.contextmanager
def _receiver(bench: Bench, queue: str) -> Iterator[Receiver]:
    receiver = bench.receiver(queue)
    try:
        yield receiver
    finally:
        receiver.close(timeout=_TIMEOUT)


def _claimed(bench: Bench, queue: str) -> list[Received]:
    """Claim and settle all that is ready."""
    came: list[Received] = []
    with _receiver(bench, queue) as receiver, bench.time.running():
        while got := receiver.receive(limit=_MANY, timeout=bench.slack / 8)[0]:
            came += got
            receiver.ack(got)
    return came


def _taken(bench: Bench, queue: str) -> list[str]:
    return [received.message.id for received in _claimed(bench, queue)]


def _tell_if_later(bench: Bench, queue: str, delay: float, sent: Iterable[str], power: str) -> None:
    """Tell if what was delayed is not there now, and there after its delay."""
    asked = list(sent)
    if asked and not _taken(bench, queue):
        bench.let_pass(delay + bench.slack / 2)
        if _taken(bench, queue) == asked:
            _tell(power, f"a message that was delayed by {delay:g} s came after that, and not before")


def _hears(bench: Bench, pattern: str) -> bool:
    transport, topic = bench.transport, bench.name("topic")
    if not isinstance(transport, SupportsFanout):
        return False
    queue = bench.queue("hears-all" if pattern == "#" else f"hears-{pattern[0]}")
    message = Message(
        id=new_id(bench.broker.clock.time()), body=b"probe", headers={"bk-topic": topic, "bk-routing-key": "a.b"}
    )
    bound = _asked(lambda: (transport.bind(queue, topic, pattern, timeout=_TIMEOUT),))
    if bound is None or _asked(lambda: transport.publish(topic, [message], timeout=_TIMEOUT)) is None:
        return False
    return _taken(bench, queue) == [message.id]
