"""`rpc`: a result backend over any transport. Results travel as messages to the reply queue of who asked for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

from brokerkit.abc import Clock, ResultBackend, SupportsEvictionCheck, SupportsRequester, SupportsWait
from brokerkit.capabilities import Absence, Capabilities, Durability, ResultCapabilities, is_missing
from brokerkit.errors import Closed, ErrorTable, NotRequester, QueueNotFound, ResultLost
from brokerkit.models import Message, Outcome, Record, new_id
from brokerkit.options import Options
from brokerkit.rpc.addressing import MAX_ID, OVERHEAD, address_of, encode, full_id, has_address
from brokerkit.rpc.options import RpcOptions, broker_of
from brokerkit.rpc.replies import Replies, replies_of
from brokerkit.url import URL

__all__ = ["RpcResultBackend"]


class RpcResultBackend(ResultBackend, SupportsWait, SupportsRequester, SupportsEvictionCheck):
    """`rpc+redis://…`, `rpc+sqlite:///…` and so on, or `rpc://` with the broker's URL as the option `broker`.

    Whoever has the id can store the result; only the process that made the id can read it. The transport's own errors
    arrive translated, so there is no table here.
    """

    options_type: ClassVar[type[Options]] = RpcOptions
    errors: ClassVar[ErrorTable] = ErrorTable()

    def __init__(self, replies: Replies, leave: Callable[[], bool], clock: Clock) -> None:
        self.replies = replies
        self.capabilities = _promises(replies.transport.capabilities)
        self._leave = leave
        self._clock = clock
        self._closed = False

    @classmethod
    def from_url(cls, url: URL, options: RpcOptions, *, clock: Clock) -> Self:
        """See `ResultBackend.from_url`.

        Raises:
            InvalidURL: it names no broker.
            InvalidOption: it names two, or the transport has no such option.
            UnknownScheme: nobody serves the broker's scheme.
        """
        return cls(*replies_of(broker_of(url, options), options, clock), clock)

    # -- whose a result is -------------------------------------------------------------------------------------------

    def own_id(self, id: str) -> str:  # noqa: A002 - the word of the API
        """See `SupportsRequester.own_id`."""
        if not has_address(id):
            return full_id(self.replies.address, id)
        self.check_reader(id)
        return id

    def check_id(self, id: str) -> None:  # noqa: A002
        """See `SupportsRequester.check_id`."""
        address_of(id)

    def check_reader(self, id: str) -> None:  # noqa: A002
        """See `SupportsRequester.check_reader`."""
        if address_of(id) != self.replies.address:
            raise NotRequester(
                f"{id!r} goes to the reply queue of another process, or of a store that was closed: only who reserved it can "
                "read it; where others are to read it, use a result store that they share"
            )

    # -- the contract ------------------------------------------------------------------------------------------------

    def put(self, records: Sequence[Record], *, ttl: float | None, timeout: float) -> Sequence[Outcome]:
        """See `ResultBackend.put`. A result of another process has the outcome None when its message is stored."""
        self._check_open()
        end = self._clock.monotonic() + timeout
        outcomes: list[Outcome] = [None] * len(records)
        for address, numbers in _by_address(records).items():
            left = max(end - self._clock.monotonic(), 0.001)
            some = [records[number] for number in numbers]
            answers = (
                self._put_here(some, ttl, left) if address == self.replies.address else self._send(some, ttl, left)
            )
            for number, answer in zip(numbers, answers, strict=True):
                outcomes[number] = answer
        return outcomes

    def get(self, keys: Sequence[str], *, timeout: float) -> Sequence[Record | None]:
        """See `ResultBackend.get`.

        Raises:
            NotRequester: a result is another process's.
            StorageFull: a result came that nobody had reserved, and there was no room for it.
            InconsistencyError: results that nobody had reserved may have been lost with the reply queue.
        """
        self._check_open()
        for key in keys:
            self.check_reader(key)
        losses = self.replies.inbox.losses
        if not self.replies.inbox.has_ended(keys):  # what is final stays as it is, whatever the server has or says
            self.replies.look(timeout)
        self.replies.inbox.raise_lost(keys, losses)
        return self.replies.inbox.get(keys, timeout=timeout)

    def delete(self, keys: Sequence[str], *, timeout: float) -> None:
        """See `ResultBackend.delete`."""
        self._check_open()
        for key in keys:
            self.check_reader(key)
        self.replies.look(timeout)
        self.replies.inbox.delete(keys, timeout=timeout)

    def wait(self, seen: Mapping[str, Record | None], *, timeout: float) -> Sequence[str]:
        """See `SupportsWait.wait`."""
        self._check_open()
        for key in seen:
            self.check_reader(key)
        changed = self.replies.wait(seen, timeout, ended=lambda: self._closed)
        self._check_open()
        return changed

    def close(self, *, timeout: float) -> None:
        """See `ResultBackend.close`. With the last store of the process the reply queue is deleted."""
        if self._closed:
            return
        self._closed = True
        if self._leave():
            self.replies.close(timeout)
        else:
            with self.replies.inbox.server.condition:
                self.replies.inbox.server.condition.notify_all()

    def evictable(self, *, timeout: float) -> Sequence[str]:
        """See `SupportsEvictionCheck.evictable`: what the transport's server says."""
        transport = self.replies.transport
        if not isinstance(transport, SupportsEvictionCheck):
            return ()
        ask = transport.evictable
        return self.replies.caller.call("ask what it may drop", lambda left: ask(timeout=left), timeout=timeout)

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("it holds connections and is not pickled")

    def _put_here(self, records: Sequence[Record], ttl: float | None, timeout: float) -> Sequence[Outcome]:
        """Reserve in the inbox; what is a result travels like everybody's."""
        if all(record.if_absent and not record.final for record in records):
            self.replies.open(timeout)
            self.replies.inbox.check_room()
            return self.replies.inbox.put(records, ttl=ttl, timeout=timeout)
        return self.replies.send_here(self._messages(records, ttl), timeout)

    def _send(self, records: Sequence[Record], ttl: float | None, timeout: float) -> Sequence[Outcome]:
        address = address_of(records[0].key)
        gone = [ResultLost(record.key, "requester gone") for record in records]
        try:
            outcomes = self.replies.send(address, self._messages(records, ttl), timeout)
        except QueueNotFound:
            return gone
        return [
            error if isinstance(outcome, QueueNotFound) else outcome
            for error, outcome in zip(gone, outcomes, strict=True)
        ]

    def _messages(self, records: Sequence[Record], ttl: float | None) -> list[Message]:
        powers = self.replies.transport.capabilities
        lives = None if is_missing(powers.message_ttl) else ttl
        now = self._clock.time()
        return [Message(id=new_id(now), body=encode(record, ttl), ttl=lives) for record in records]

    def _check_open(self) -> None:
        if self._closed:
            raise Closed("the result store is closed")


def _by_address(records: Sequence[Record]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for number, record in enumerate(records):
        found.setdefault(address_of(record.key), []).append(number)
    return found


def _promises(transport: Capabilities) -> ResultCapabilities:
    """Return what a store over a transport can promise. It is transient: nothing outlives the process that reads it."""
    room = transport.max_message
    return ResultCapabilities(
        product=f"rpc over {transport.product}",
        shared=transport.shared,
        embedded=transport.embedded,
        readers="requester",
        wait="push",
        expires=True,
        ttl_late=0.0,
        absence=Absence(expired="exact", forgotten="unknown", evicted="unknown"),
        durability=Durability(restart=False, kill=False, power_loss="no"),
        max_value=None if room is None else max(room - OVERHEAD, 0),
        max_key=MAX_ID,
        max_batch=transport.max_batch,
        evictable=bool(transport.evictable),
    )
