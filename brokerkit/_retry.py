"""The one retry layer: every call of a driver goes through a `Caller`."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NoReturn, TypeVar, final

from brokerkit._clock import sleep
from brokerkit._events import Event, Listener, emit
from brokerkit.abc import Clock
from brokerkit.errors import BrokerkitError, ErrorTable
from brokerkit.options import RetryPolicy

__all__ = ["Caller", "Pauses"]

T = TypeVar("T")


@final
class Pauses:
    """The pauses between the repeats of one call: growing, jittered, and never past the deadline.

    Not thread-safe: one per call.
    """

    def __init__(self, policy: RetryPolicy, clock: Clock, timeout: float) -> None:
        self._policy = policy
        self._clock = clock
        self._deadline = clock.monotonic() + timeout
        self._repeats = 0

    def left(self) -> float:
        """Seconds until the deadline; may be negative."""
        return self._deadline - self._clock.monotonic()

    def pause(self) -> bool:
        """Sleep before the next repeat; False, at once, if the policy or the deadline allows none."""
        policy = self._policy
        if policy.max_retries is not None and self._repeats >= policy.max_retries:
            return False
        longest = min(policy.interval_start + policy.interval_step * self._repeats, policy.interval_max)
        seconds = longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads clients, guards nothing
        if seconds >= self.left():
            return False
        self._repeats += 1
        sleep(self._clock, seconds)
        return True


@final
class Caller:
    """Calls a driver, translates its errors, and repeats what is retryable until the deadline. Thread-safe."""

    def __init__(
        self,
        *,
        errors: ErrorTable,
        policy: RetryPolicy,
        timeout: float,
        clock: Clock,
        mask: Callable[[str], str],
        listener: Listener | None,
    ) -> None:
        self.policy = policy
        self.timeout = timeout
        self.clock = clock
        self._errors = errors
        self._mask = mask
        self._listener = listener

    def call(self, doing: str, function: Callable[[float], T], *, timeout: float | None = None) -> T:
        """Call `function` with the seconds that it may take, and again after a retryable error.

        Args:
            doing: what is being done, for error texts.
            function: takes a timeout in seconds.
            timeout: deadline of all repeats together, in seconds; the caller's own by default.

        Raises:
            BrokerkitError: the last error, translated, with the client's as its cause.
        """
        pauses = self.pauses(timeout)
        while True:
            try:
                return function(max(pauses.left(), 0.001))
            except Exception as error:  # noqa: BLE001 - the table decides what it is
                translated = self.translate(error, doing)
            # outside of the handler: what is raised here has the cleansed cause, and no context beside it
            if not translated.retryable or not pauses.pause():
                fail(translated)
            self.tell_retry(doing, translated)

    def pauses(self, timeout: float | None = None) -> Pauses:
        """Return the pauses of one call."""
        return Pauses(self.policy, self.clock, self.timeout if timeout is None else timeout)

    def translate(self, error: Exception, doing: str) -> BrokerkitError:
        """Return our error for a driver's."""
        return self._errors.translate(error, doing=doing, mask=self._mask)

    def tell_retry(self, doing: str, error: Exception) -> None:
        """Emit that a call is about to be repeated."""
        emit(self._listener, Event(name="retrying", reason=f"{doing}: {error}", error=error))


def fail(error: BrokerkitError) -> NoReturn:
    """Raise a translated error with its own cause, and without the noise of how it got here."""
    raise error from error.__cause__
