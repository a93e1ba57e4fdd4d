"""Any order of sending, claiming, settling and losing whole keys, beside a model of what must be there."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from brokerkit.errors import InconsistencyError
from brokerkit.models import Message, Queue, Received, new_id

HANG = 30.0
FAR = 600.0
QUEUE = Queue(name="q", max_attempts=None)
OF_PLACE = {"leased": "t", "returned": "z", "delayed": "s"}


@dataclass
class Known:
    """What the model knows of one message."""

    priority: int
    place: str
    attempt: int = 0
    due_in_body: bool = False
    delivery: Received | None = None


@dataclass
class Model:
    """What must be in the queue, and what must be told."""

    messages: dict[str, Known] = field(default_factory=dict)
    void: list[Received] = field(default_factory=list)
    damaged: bool = False

    def ready(self):
        known = self.messages
        return sorted(
            (i for i in known if known[i].place in ("ready", "returned")), key=lambda i: (-known[i].priority, i)
        )

    def in_place(self, place):
        return [known for known in self.messages.values() if known.place == place]


class Machine(RuleBasedStateMachine):
    transport = None
    view = None

    @initialize()
    def begin(self):
        self.view.client.flushall()
        self.model = Model()
        self.transport.declare(QUEUE, timeout=HANG)
        self.receiver = self.transport.open_receiver(["q"], prefetch=9, visibility_timeout=FAR)

    @rule(priority=st.integers(0, 9), count=st.integers(1, 4), far=st.booleans(), ttl=st.booleans())
    def send(self, priority, count, far, ttl):
        delay = FAR if far else 0.0
        some = [
            Message(id=new_id(time.time()), body=b"x", priority=priority, delay=delay, ttl=FAR if ttl else None)
            for _ in range(count)
        ]
        assert self.transport.send("q", some, timeout=HANG) == [None] * count
        for each in some:
            self.model.messages[each.id] = Known(priority, "delayed" if far else "ready", due_in_body=far)

    @rule(limit=st.integers(1, 6))
    def claim(self, limit):
        told, got = 0, None
        while got is None:
            try:
                got, lost = self.receiver.receive(limit=limit, timeout=0)
            except InconsistencyError:
                told += 1
        if self.model.damaged and not told:
            with pytest.raises(InconsistencyError):
                self.receiver.receive(limit=limit, timeout=0)
            told += 1
        assert told == int(self.model.damaged)
        self.model.damaged = False
        assert lost == []
        assert [each.message.id for each in got] == self.model.ready()[:limit]
        for each in got:
            known = self.model.messages[each.message.id]
            known.attempt += 1
            assert (each.attempt, each.message.priority) == (known.attempt, known.priority)
            known.place, known.delivery = "leased", each

    @precondition(lambda self: self.model.in_place("leased"))
    @rule(data=st.data(), verb=st.sampled_from(["ack", "release", "later", "uncounted", "extend"]))
    def settle(self, data, verb):
        known = data.draw(st.sampled_from(self.model.in_place("leased")))
        assert self.do(verb, known.delivery) == []
        if verb == "ack":
            del self.model.messages[known.delivery.message.id]
        elif verb != "extend":
            known.place = "delayed" if verb == "later" else "returned"
            known.attempt -= verb == "uncounted"
        if verb != "extend":
            self.model.void.append(known.delivery)
            known.delivery = None

    @precondition(lambda self: self.model.void)
    @rule(data=st.data(), verb=st.sampled_from(["ack", "release", "later", "uncounted", "extend"]))
    def settle_late(self, data, verb):
        old = data.draw(st.sampled_from(self.model.void))
        assert self.do(verb, old) == [old]

    def do(self, verb, delivery):
        if verb == "ack":
            return self.receiver.ack([delivery])
        if verb == "extend":
            return self.receiver.extend([delivery], visibility_timeout=FAR)
        return self.receiver.release([delivery], delay=FAR * (verb == "later"), counted=verb != "uncounted")

    @rule(keys=st.sets(st.sampled_from(["b", "t", "z", "s", "w", "r", "m"]), min_size=1, max_size=3))
    def evict(self, keys):
        there = self.view.keys("q")
        names = {key for key in there if key[0] in keys}
        self.view.evict("q", *(names or {"w"}))
        # the settings come back by declaring, so long as there is something to be seen of the queue
        if "m" in keys:
            self.transport.declare(QUEUE, timeout=HANG)
        remaining = there - names
        self.model.damaged |= bool(names - {"w", "m"}) or ("m" in names and bool(remaining - {"w"}))
        if "m" in names and not remaining - {"w"}:
            self.model.damaged = False  # a new queue: nothing tells that there ever was another
        if "b" in names:
            self.model.void += [known.delivery for known in self.model.in_place("leased")]
            self.model.messages.clear()
            return
        for known in self.model.messages.values():
            if OF_PLACE.get(known.place, "r") in keys:
                self.put_back(known)

    def put_back(self, known):
        if known.delivery is not None:
            self.model.void.append(known.delivery)
            known.delivery = None
        if not (known.place == "ready" or (known.place == "delayed" and known.due_in_body)):
            known.place, known.attempt = "returned", 0
            known.due_in_body = known.due_in_body
        known.attempt = 0

    @invariant()
    def each_stands_where_it_should(self):
        if not hasattr(self, "model") or self.model.damaged:
            return
        places = self.view.places("q")
        assert set(places) == set(self.model.messages)
        for each, place in places.items():
            mine = self.model.messages[each].place
            assert mine == place or {mine, place} == {"ready", "returned"}


@pytest.fixture
def machine(plain, open_transport, inside):
    class OnServer(Machine):
        transport = open_transport(plain.url())
        view = inside(plain)

    return OnServer


def test_nothing_is_lost_doubled_or_kept_silent(machine):
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=60,
            stateful_step_count=30,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
