"""Laws of group commit: many threads, few calls, each its own outcome."""

import threading

import pytest

from brokerkit._batching import Combiner
from brokerkit.errors import OutcomeUnknown
from brokerkit.models import Message


def message(number):
    return Message(id=f"{number:032x}", body=b"")


class Store:
    """A slow store that notes its batches; `gate` holds up the first call until others wait."""

    def __init__(self, outcome=None):
        self.batches = []
        self.entered = threading.Event()
        self.gate = threading.Event()
        self.outcome = outcome or (lambda message: None)

    def __call__(self, messages, timeout):
        self.batches.append([message.id for message in messages])
        self.entered.set()
        assert self.gate.wait(30)
        return [self.outcome(message) for message in messages]


def send_from_threads(store, count, max_batch=100):
    combiner = Combiner(store, max_batch)
    outcomes = {}

    def send(number):
        try:
            outcomes[number] = combiner.send(message(number), 5.0)
        except BaseException as error:  # noqa: BLE001 - an interrupt is what one test is about
            outcomes[number] = error

    threads = [threading.Thread(target=send, args=(n,)) for n in range(count)]
    threads[0].start()
    assert store.entered.wait(30)
    for thread in threads[1:]:
        thread.start()
    while len(combiner._waiting) < count - 1:
        threading.Event().wait(0.001)
    store.gate.set()
    for thread in threads:
        thread.join(30)
    return outcomes


def test_those_who_wait_share_one_call():
    store = Store()
    outcomes = send_from_threads(store, 20)
    assert [len(batch) for batch in store.batches] == [1, 19]
    assert outcomes == dict.fromkeys(range(20))


def test_batches_are_no_longer_than_the_engine_takes():
    store = Store()
    send_from_threads(store, 20, max_batch=5)
    assert sorted(one for batch in store.batches for one in batch) == [message(n).id for n in range(20)]
    assert max(len(batch) for batch in store.batches) == 5


def test_each_gets_its_own_outcome():
    refused = ValueError("odd")
    store = Store(lambda message: refused if int(message.id, 16) % 2 else None)
    outcomes = send_from_threads(store, 10)
    assert outcomes == {n: refused if n % 2 else None for n in range(10)}


def test_an_error_of_the_call_reaches_all_of_its_batch_and_no_other():
    def fail(message):
        if len(store.batches) == 2:
            raise ConnectionError("cut")

    store = Store(fail)
    outcomes = send_from_threads(store, 5)
    assert outcomes[0] is None
    assert all(isinstance(outcomes[n], ConnectionError) for n in range(1, 5))


def test_an_interrupted_sender_leaves_nobody_hanging_or_deceived():
    def interrupt(message):
        if len(store.batches) == 2:
            raise KeyboardInterrupt

    store = Store(interrupt)
    outcomes = send_from_threads(store, 5)
    kinds = sorted(type(outcomes[n]).__name__ for n in range(1, 5))
    assert kinds == ["KeyboardInterrupt", "OutcomeUnknown", "OutcomeUnknown", "OutcomeUnknown"]


def test_a_lone_sender_calls_at_once():
    store = Store()
    store.gate.set()
    assert Combiner(store, 10).send(message(1), 1.0) is None
    with pytest.raises(OutcomeUnknown):
        Combiner(lambda *_: (_ for _ in ()).throw(OutcomeUnknown("x")), 10).send(message(1), 1.0)
