"""What tends the leases: it never sleeps past the end of a claim, whenever that comes."""

from __future__ import annotations

import threading
import time

from brokerkit._clock import SystemClock
from brokerkit._leases import Leases
from brokerkit.models import Message, Received

HANG = 30.0


class Slow(SystemClock):
    """A clock at which whoever asks in one thread lets the tending thread look first."""

    def __init__(self) -> None:
        self.asking = threading.current_thread()
        self.leases: Leases | None = None
        self.looked = threading.Semaphore(0)
        self.pauses: list[float | None] = []

    def monotonic(self) -> float:
        if self.leases is not None and threading.current_thread() is self.asking:
            leases, self.leases = self.leases, None
            leases.wake()
            for _ in range(2):  # the first look is followed by a second one soon
                assert self.looked.acquire(timeout=HANG)
        return super().monotonic()

    def wait(self, condition: threading.Condition, timeout: float | None) -> bool:
        self.pauses.append(timeout)
        self.looked.release()
        return condition.wait(None if timeout is None else min(timeout, HANG))


class Nothing:
    """A receiver of which nothing is asked."""


def received(deadline: float) -> Received:
    return Received(Message(id="0" * 32, body=b""), "q", b"", 1, deadline)


def test_a_claim_that_comes_while_the_leases_are_looked_after_is_kept_too() -> None:
    clock = Slow()
    leases = Leases(
        Nothing(),  # type: ignore[arg-type]
        clock,
        30.0,
        extends=False,
        lost=lambda *_: None,
        failed=lambda _: None,
        made_room=lambda: None,
    )
    clock.leases = leases
    leases.hold([received(time.monotonic() + 60.0)])
    leases.wake()
    assert clock.looked.acquire(timeout=HANG)
    leases.close()
    assert all(pause is None or pause <= 30.0 for pause in clock.pauses), clock.pauses
