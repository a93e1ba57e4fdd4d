"""The thread that looks after connections."""

import gc
import threading

import pytest
from brokerkit_rabbitmq.tender import Tender

from brokerkit._clock import SYSTEM_CLOCK

HANG = 30.0


class Tended:
    def __init__(self):
        self.times = []
        self.came = threading.Condition()

    def tend(self, now):
        with self.came:
            self.times.append(now)
            self.came.notify_all()

    def was(self, count):
        with self.came:
            return self.came.wait_for(lambda: len(self.times) >= count, HANG)


def threads():
    return [thread for thread in threading.enumerate() if "tender" in thread.name]


@pytest.fixture
def quiet(eventually):
    """No tender runs, neither before nor after."""
    eventually(lambda: not threads())
    yield
    eventually(lambda: not threads())


def test_it_calls_all_in_one_thread_as_long_as_there_are_any(quiet, eventually):
    tender, first, second = Tender(SYSTEM_CLOCK), Tended(), Tended()
    assert not threads()
    tender.register(first.tend)
    tender.register(second.tend)
    assert first.was(3)
    assert second.was(3)
    assert len(threads()) == 1
    assert first.times == sorted(first.times)
    tender.unregister(first.tend)
    seen = len(second.times)
    assert second.was(seen + 2)
    tender.unregister(second.tend)
    eventually(lambda: not threads())
    tender.register(first.tend)
    assert first.was(len(first.times) + 1)
    tender.close()
    tender.close()


def test_what_nobody_uses_any_more_is_forgotten(quiet, eventually):
    tender, tended = Tender(SYSTEM_CLOCK), Tended()
    tender.register(tended.tend)
    assert tended.was(1)
    del tended
    eventually(lambda: gc.collect() is not None and not threads())


def test_one_that_fails_does_not_end_the_others(quiet, caplog):
    tender, tended = Tender(SYSTEM_CLOCK), Tended()

    class Broken:
        def tend(self, now):
            raise LookupError("a bug")

    broken = Broken()
    tender.register(broken.tend)
    tender.register(tended.tend)
    assert tended.was(3)
    tender.close()
    assert "a bug" in caplog.text
