"""How a consumer settles: ack, release, extend, dead-letter, and what follows a failure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, final

from brokerkit import _dead_letters
from brokerkit._events import Event, EventName
from brokerkit._leases import Leases
from brokerkit._text import shorten
from brokerkit.capabilities import Absent, Impossible
from brokerkit.delivery import Delivery
from brokerkit.errors import AlreadySettled, BrokerkitError, LeaseLost, Unsupported
from brokerkit.models import Received

if TYPE_CHECKING:
    from brokerkit.broker import Broker

__all__ = ["Settling"]

_MAX_DOUBLINGS: Final = 30
_VERSION: Final = "1"  # of the envelope, which is what a message without the header has


@final
class Settling:
    """Settles the deliveries of one consumer. Thread-safe: of two threads that settle one delivery, one wins."""

    def __init__(
        self, broker: Broker, leases: Leases, visibility_timeout: float, made_room: Callable[[], None]
    ) -> None:
        self._broker = broker
        self._leases = leases
        self._visibility_timeout = visibility_timeout
        self._made_room = made_room

    # -- what a delivery asks ----------------------------------------------------------------------------------------

    def ack(self, delivery: Delivery, *, wait: bool) -> None:
        """See `Delivery.ack`."""
        if wait:
            self._take(delivery)
            self._check([delivery.received], self._ack(delivery.received))
            delivery.settled = True
        elif self._leases.finish(delivery):
            delivery.settled = True
        else:
            self._refuse(delivery)
        self._made_room()

    def release(self, delivery: Delivery, *, delay: float) -> None:
        """See `Delivery.release`."""
        longest = self._broker.capabilities.release_delay
        if delay < 0:
            raise Unsupported(f"release(delay={delay:g}): a delay is at least 0")
        if delay > 0 and isinstance(longest, Absent | Impossible):
            raise Unsupported(
                f"release(delay={delay:g}): {self._broker.capabilities.product} has none: {longest.reason}"
            )
        if delay > 0 and not isinstance(longest, Absent | Impossible) and delay > longest:
            raise Unsupported(f"release(delay={delay:g}): at most {longest:g} s on {self._broker.capabilities.product}")
        self._take(delivery)
        self._give_back(delivery.received, delay=delay)
        delivery.settled = True
        self._made_room()

    def extend(self, delivery: Delivery, *, visibility_timeout: float | None) -> None:
        """See `Delivery.extend`."""
        if not self._broker.capabilities.lease.extend:
            raise Unsupported(f"extend(): {self._broker.capabilities.product} cannot prolong a lease")
        seconds = self._visibility_timeout if visibility_timeout is None else visibility_timeout
        self._broker.check_visibility_timeout(seconds)
        received = delivery.received
        receiver = self._leases.receiver
        lost = self._call("extend", lambda t: receiver.extend([received], visibility_timeout=seconds, timeout=t))
        if lost:
            self._leases.drop(received)
            delivery.lease_lost = True
        self._check([received], lost)

    def dead_letter(self, delivery: Delivery, *, reason: str, detail: str) -> None:
        """See `Delivery.dead_letter`."""
        if delivery.received not in self._leases.held:
            self._refuse(delivery)
        self._bury(delivery.received, reason, detail)
        delivery.settled = True
        self._made_room()

    def failed(self, delivery: Delivery, error: Exception) -> None:
        """Tell that a handler raised; then release its message for another attempt, or dead-letter it."""
        received = delivery.received
        self._tell("handler_failed", received, f"{type(error).__name__}: {error}", error)
        if delivery.settled or not self._leases.drop(received):
            return
        delivery.settled = True
        most = self._broker.max_attempts(received.queue)
        if most is not None and received.attempt is not None and received.attempt >= most:
            self._try_to_bury(received, "failed", f"{type(error).__name__}: {error}")
        else:
            self._try_to_give_back(received, delay=self._backoff(received.attempt))
        self._made_room()

    # -- what the consumer asks --------------------------------------------------------------------------------------

    def unfit(self, received: Received) -> tuple[str, str] | None:
        """Return why a claim must not reach a handler, as (reason, detail), or None."""
        why = self._why_unfit(received)
        return None if why is None or _dead_letters.is_dead_queue(received.queue) else why

    def bury(self, received: Received, reason: str, detail: str) -> None:
        """Dead-letter a claim that no handler had."""
        if _dead_letters.is_dead_queue(received.queue):
            self._leases.drop(received)
            self._try_to_give_back(received, delay=self._backoff(received.attempt))
        elif self._leases.drop(received):
            self._try_to_bury(received, reason, detail)
        self._made_room()

    def settled_at_once(self, delivery: Delivery) -> bool:
        """Ack before the handler has it (at most once); False if the lease was lost."""
        try:
            self.ack(delivery, wait=True)
        except LeaseLost:
            return False
        return True

    def give_all_back(self, unstarted: Sequence[Received], timeout: float) -> None:
        """On close: send the acks, give back what is held, and end the claim. What fails here ends with its lease."""
        leases = self._leases
        leases.flush()
        waiting = [received for received in unstarted if leases.drop(received)]
        started = list(leases.held)
        for received, delivery in list(leases.held.items()):
            if delivery is not None:
                delivery.lease_lost = True
            leases.drop(received)
        steps: list[tuple[str, Callable[[], object]]] = [("close", lambda: leases.receiver.close(timeout=timeout))]
        if started:
            steps.insert(0, ("release", lambda: leases.receiver.release(started, timeout=timeout)))
        if waiting:
            steps.insert(0, ("release", lambda: leases.receiver.release(waiting, counted=False, timeout=timeout)))
        for doing, step in steps:
            try:
                step()
            except Exception as error:  # noqa: BLE001 - a server that is away must not keep us from closing
                told = self._broker.caller.translate(error, f"{doing} on closing the consumer")
                self._broker.emit(Event(name="receiver_failed", reason=str(told), error=told))

    def _why_unfit(self, received: Received) -> tuple[str, str] | None:
        attempt, headers = received.attempt, received.message.headers
        if received.expired:
            return "expired", f"it was older than its time to live at attempt {attempt}"
        if headers:
            malformed = headers.get("bk-malformed")
            if malformed is not None:
                return "undecodable", malformed
            version = headers.get("bk-version", _VERSION)
            if version != _VERSION:
                return (
                    "undecodable",
                    f"its envelope is of version {shorten(version)!r}, this brokerkit reads {_VERSION!r}",
                )
        if attempt is not None and attempt > 1:
            most = self._broker.max_attempts(received.queue)
            # claims count deliveries that never reached a handler, hence the margin for clean closes and prefetch
            if most is not None and attempt > 2 * most + 1:
                return "crashed", f"attempt {attempt}: no consumer lived to settle it"
        return None

    # -- steps -------------------------------------------------------------------------------------------------------

    def _take(self, delivery: Delivery) -> None:
        if not self._leases.drop(delivery.received):
            self._refuse(delivery)

    def _refuse(self, delivery: Delivery) -> None:
        if delivery.settled:
            raise AlreadySettled(f"message {delivery.id} of queue {delivery.queue!r} was settled before")
        delivery.lease_lost = True
        raise LeaseLost(f"message {delivery.id} of queue {delivery.queue!r}: its lease is lost or was given back")

    def _bury(self, received: Received, reason: str, detail: str) -> None:
        """Store in the dead queue first, ack after: a crash in between repeats it, and never loses it."""
        letter = _dead_letters.letter_for(received, reason=reason, detail=detail, now=self._broker.clock.time())
        _dead_letters.bury(self._broker.send_messages, self._broker.declare_queue, received.queue, letter)
        self._leases.drop(received)
        self._tell("dead_lettered", received, f"{reason}: {detail}")
        self._check([received], self._ack(received))

    def _try_to_bury(self, received: Received, reason: str, detail: str) -> None:
        try:
            self._bury(received, reason, detail)
        except LeaseLost:
            pass  # told by an event; its next owner will bury it too, under the same id
        except BrokerkitError as error:
            self._tell("receiver_failed", received, f"could not be dead-lettered, and stays: {error}", error)
            self._try_to_give_back(received, delay=self._backoff(received.attempt))

    def _give_back(self, received: Received, *, delay: float) -> None:
        receiver = self._leases.receiver
        self._check([received], self._call("release", lambda t: receiver.release([received], delay=delay, timeout=t)))

    def _try_to_give_back(self, received: Received, *, delay: float) -> None:
        try:
            self._give_back(received, delay=delay)
        except LeaseLost:
            pass  # told by an event
        except BrokerkitError as error:
            self._tell(
                "receiver_failed", received, f"could not be released; it comes back when its lease ends: {error}", error
            )

    def _backoff(self, attempt: int | None) -> float:
        options, longest = self._broker.options, self._broker.capabilities.release_delay
        if isinstance(longest, Absent | Impossible):
            return 0.0
        doublings = min((attempt or 1) - 1, _MAX_DOUBLINGS)
        return float(min(options.retry_delay * 2**doublings, options.max_retry_delay, longest))

    def _ack(self, received: Received) -> Sequence[Received]:
        return self._call("ack", lambda t: self._leases.receiver.ack([received], timeout=t))

    def _call(self, doing: str, call: Callable[[float], Sequence[Received]]) -> Sequence[Received]:
        return self._broker.caller.call(doing, call)

    def _check(self, asked: Sequence[Received], lost: Sequence[Received]) -> None:
        if lost:
            received = asked[0]
            self._tell("lease_lost", received, "found on settling or extending")
            raise LeaseLost(f"message {received.message.id} of queue {received.queue!r}: the lease is lost")

    def _tell(self, name: EventName, received: Received, reason: str, error: BaseException | None = None) -> None:
        self._broker.emit(
            Event(
                name=name,
                queue=received.queue,
                message_id=received.message.id,
                attempt=received.attempt,
                reason=reason,
                error=error,
            )
        )
