"""What a consumer holds: leases kept alive, acks gathered into batches, and the thread that tends both."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final, final

from brokerkit.abc import SETTLE_TIMEOUT, Clock, Receiver
from brokerkit.delivery import Delivery
from brokerkit.models import Received

__all__ = ["Leases"]

LINGER: Final = 0.02
"""Seconds that an ack may wait for company. Longer lets a crash repeat more finished work; shorter costs round trips."""

Lost = Callable[[Received, Delivery | None, str], None]


@final
class Leases:
    """The unsettled deliveries of one consumer, and the acks not yet at the server.

    Each lease is prolonged when a third of it has passed, from the claim until it is settled, also while the message
    waits in the prefetch buffer. Where the engine prolongs none, each ends at its time, and that is told. One thread tends
    them; it sleeps while nothing is held. Thread-safe: the hot path relies on single operations of dict and deque being
    atomic, and on `removed = held.pop(x, missing)` having one winner.
    """

    def __init__(
        self,
        receiver: Receiver,
        clock: Clock,
        visibility_timeout: float,
        *,
        extends: bool,
        lost: Lost,
        failed: Callable[[Exception], None],
        made_room: Callable[[], None],
    ) -> None:
        self.receiver = receiver
        self.held: dict[Received, Delivery | None] = {}
        self.finished: deque[Delivery] = deque()
        self._flushing = 0
        self._made_room = made_room
        self._clock = clock
        self._visibility_timeout = visibility_timeout
        self._patience = min(SETTLE_TIMEOUT, visibility_timeout / 3)  # one slow call must not cost the leases of others
        self._extends = extends
        self._lost = lost
        self._failed = failed
        self._condition = threading.Condition()
        self._napping = True
        self._idle = True
        self._stirred = False
        self._closed = False
        self._next_extension = float("inf")
        self._thread: threading.Thread | None = None

    def hold(self, claimed: Iterable[Received]) -> None:
        """Keep new claims alive."""
        soon = self._clock.monotonic() + self._visibility_timeout / 3
        with self._condition:  # else the tending thread sees a claim and no time to prolong it, or overwrites that
            self.held.update(dict.fromkeys(claimed))
            self._next_extension = min(self._next_extension, soon)
        if self._idle:
            self.wake()

    def finish(self, delivery: Delivery) -> bool:
        """Stop keeping a delivery, and ack it with the next batch; False if it is no longer held."""
        if self.held.pop(delivery.received, _MISSING) is _MISSING:
            return False
        self.finished.append(delivery)
        if self._napping:
            self.wake()
        return True

    def drop(self, received: Received) -> bool:
        """Stop keeping a claim; False if it is no longer held."""
        return self.held.pop(received, _MISSING) is not _MISSING

    def outstanding(self) -> int:
        """Return how many deliveries the server still counts as ours, but for acks that ride along with the next receive."""
        return len(self.held) + self._flushing

    def take_finished(self) -> list[Delivery]:
        """Take the deliveries whose acks wait, to ride along with a receive."""
        taken = []
        try:
            while True:
                taken.append(self.finished.popleft())
        except IndexError:
            return taken

    def put_back(self, taken: Sequence[Delivery]) -> None:
        """Keep acks for another try, as long as their leases last."""
        now = self._clock.monotonic()
        self.finished.extendleft(delivery for delivery in reversed(taken) if delivery.deadline > now)
        self.acked(taken, [delivery.received for delivery in taken if delivery.deadline <= now])

    def acked(self, taken: Sequence[Delivery], lost: Sequence[Received]) -> None:
        """Note that acks came too late."""
        if lost:
            delivered = {delivery.received: delivery for delivery in taken}
            for received in lost:
                delivered[received].lease_lost = True
                self._lost(received, delivered[received], "the ack came too late")

    def flush(self) -> None:
        """Send the acks that wait."""
        self._flushing = len(self.finished)  # before they are taken: a fetch must not claim in their place too early
        taken = self.take_finished()
        if not taken:
            self._flushing = 0
            return
        try:
            lost = self.receiver.ack([delivery.received for delivery in taken], timeout=self._patience)
        except Exception as error:  # noqa: BLE001 - told, and tried again while the leases last
            self.put_back(taken)
            self._failed(error)
        else:
            self.acked(taken, lost)
        finally:
            self._flushing = 0
            self._made_room()

    def wake(self) -> None:
        """Let the tending thread look again, and start it if there is none."""
        with self._condition:
            self._napping = self._idle = False  # it will look; until it does, once is enough
            self._stirred = True
            self._condition.notify_all()
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._tend, name="brokerkit-leases", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Stop tending and wait for the thread."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def abandon(self) -> None:
        """Forget all: in a forked child nothing of this is ours."""
        self._condition = threading.Condition()
        self._closed = True
        self._thread = None
        self.held.clear()
        self.finished.clear()

    def _tend(self) -> None:
        while self._rest():
            self.flush()
            self._extend()

    def _rest(self) -> bool:
        """Sleep until there is something to do; False when closed."""
        with self._condition:
            # the flags go up before the look: who adds work after the look sees them, and wakes us
            self._napping = self._idle = True
            pause = self._pause()
            if self._stirred:
                # what woke us may be settled by now, and more comes: stay up for a while, not to be woken for each
                self._stirred = False
                pause = LINGER if pause is None else min(pause, LINGER)
            self._idle = pause is None
            self._napping = pause is None or pause > LINGER
            if not self._closed and (pause is None or pause > 0):
                self._clock.wait(self._condition, pause)
            self._napping = self._idle = False
            return not self._closed

    def _pause(self) -> float | None:
        """Seconds until there is something to do; None for nothing in sight."""
        if self.finished:
            return LINGER
        if not self.held:
            self._next_extension = float("inf")
            return None
        return max(self._next_extension - self._clock.monotonic(), 0.0)

    def _extend(self) -> None:
        now = self._clock.monotonic()
        if now < self._next_extension:
            return
        soon = now + self._visibility_timeout * 2 / 3
        due = [received for received in list(self.held) if received.deadline <= soon]
        if due and self._extends:
            try:
                lost = self.receiver.extend(due, visibility_timeout=self._visibility_timeout, timeout=self._patience)
                self._forget(lost, "extending it failed")
            except Exception as error:  # noqa: BLE001 - told, and tried again while the leases last
                self._failed(error)
        now = self._clock.monotonic()
        self._forget([received for received in list(self.held) if received.deadline <= now], "its time passed")
        with self._condition:
            ends = min((received.deadline for received in list(self.held)), default=float("inf"))
            # after a failed try the earliest end may be close: look again soon, but do not spin
            self._next_extension = max(ends - self._visibility_timeout * 2 / 3, now + self._visibility_timeout / 12)

    def _forget(self, lost: Iterable[Received], why: str) -> None:
        for received in lost:
            delivery = self.held.pop(received, _MISSING)
            if delivery is not _MISSING:
                if isinstance(delivery, Delivery):
                    delivery.lease_lost = True
                self._lost(received, delivery if isinstance(delivery, Delivery) else None, why)


_MISSING: Final = object()
