"""The contenders of `brokerkit bench rabbitmq`: py-amqp at its best, and kombu, with publisher confirms and without.

All use one private node, each a virtual host of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, final

import amqp

from brokerkit import servers
from brokerkit.bench.kombu_peer import Kombu
from brokerkit.url import URL

__all__ = ["UNCONFIRMED", "RawAMQP", "kombu", "unconfirmed", "url_of"]

UNCONFIRMED: Final = "kombu, no confirms"
_QUEUE: Final = "bench"
_TOLD: Final = "rabbitmq.url"
_LONGEST: Final = 60.0
_WINDOW: Final = 1000  # of publishes that wait for their confirms
_ACKS: Final = 50  # deliveries that one ack is for

_server: servers.RabbitMQ | None = None


def url_of(folder: Path) -> str:
    """Return the URL of a virtual host for a folder, of the run's node, which the first caller starts.

    Other processes find it by the folder.

    Args:
        folder: one of the run's folders, each of which stands in the one that all share.
    """
    global _server  # noqa: PLW0603 - it lives as long as the process: its reaper ends it
    told = folder / _TOLD
    if not told.exists():
        if _server is None:
            _server = servers.RabbitMQ().start()
        name = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
        told.write_text(_server.create_vhost(name), encoding="ascii")
    return told.read_text("ascii")


def kombu() -> Kombu:
    """Return kombu's `pyamqp` transport with publisher confirms: what was sent is stored."""
    return Kombu(
        url_of,
        note="classic queues; a round trip for each message sent, and no batches",
        transport_options={"confirm_publish": True},
    )


def unconfirmed() -> Kombu:
    """Return kombu's `pyamqp` transport as it is by default: nobody knows what was stored."""
    return Kombu(
        url_of, name=UNCONFIRMED, note="classic queues; what a lost connection had under way is lost in silence"
    )


@final
class RawAMQP:
    """py-amqp alone: a window of publishes that wait for their confirms, and one ack for many deliveries.

    Args:
        mode: type of its queue.
    """

    name: str = "py-amqp"
    threads: Literal["shared", "own", "no"] = "own"
    note: str = "no ids, attempts or checks; what it acks is not known to be its own"

    def __init__(self, mode: str) -> None:
        self._arguments: Mapping[str, Any] = {"x-queue-type": mode}
        self._sent = 0
        self._unconfirmed: set[int] = set()
        self._came: list[Any] = []
        self._consuming = False

    def open(self, folder: Path) -> None:
        """See `Contender.open`."""
        url = URL.parse(url_of(folder))
        (host, port), *_ = url.hosts
        self._connection = amqp.Connection(
            f"{host}:{port}",
            userid=url.username,
            password=url.password,
            virtual_host=url.virtual_host,
        )
        self._connection.connect()
        self._out = self._connection.channel()
        self._out.confirm_select()
        self._out.events["basic_ack"].add(self._confirmed)
        self._in = self._connection.channel()
        self._in.queue_declare(_QUEUE, durable=True, auto_delete=False, arguments=self._arguments)

    def send(self, body: bytes) -> None:
        """See `Contender.send`."""
        self.send_many([body])

    def send_many(self, bodies: Sequence[bytes]) -> None:
        """See `Contender.send_many`."""
        for first in range(0, len(bodies), _WINDOW):
            for body in bodies[first : first + _WINDOW]:
                self._sent += 1
                self._unconfirmed.add(self._sent)
                self._out.basic_publish(amqp.Message(body, delivery_mode=2), exchange="", routing_key=_QUEUE)
            while self._unconfirmed:
                self._connection.drain_events(timeout=_LONGEST)

    def consume(self, count: int, *, prefetch: int) -> tuple[int, int]:
        """See `Contender.consume`."""
        self._came.clear()
        self._in.basic_qos(0, prefetch, False)
        tag = self._in.basic_consume(_QUEUE, callback=self._came.append)
        acked = 0
        step = max(1, min(_ACKS, prefetch // 2))
        while acked < count:
            self._connection.drain_events(timeout=_LONGEST)
            if len(self._came) - acked >= step or len(self._came) >= count:
                self._in.basic_ack(self._came[-1].delivery_tag, multiple=True)
                acked = len(self._came)
        size = sum(len(message.body) for message in self._came)
        self._in.basic_cancel(tag)
        return acked, size

    def receive(self, timeout: float) -> bytes | None:
        """See `Contender.receive`."""
        if not self._consuming:
            self._in.basic_consume(_QUEUE, callback=self._came.append)
            self._consuming = True
        self._came.clear()
        try:
            self._connection.drain_events(timeout=timeout)
        except TimeoutError:
            return None
        message = self._came[0]
        self._in.basic_ack(message.delivery_tag)
        body: bytes | str = message.body
        return body if isinstance(body, bytes) else body.encode()

    def depth(self) -> int:
        """See `Contender.depth`."""
        return int(self._in.queue_declare(_QUEUE, passive=True).message_count)

    def purge(self) -> None:
        """See `Contender.purge`."""
        self._in.queue_purge(_QUEUE)

    def close(self) -> None:
        """See `Contender.close`."""
        self._connection.close()

    def _confirmed(self, tag: int, multiple: bool) -> None:  # noqa: FBT001 - as py-amqp calls it
        if multiple:
            self._unconfirmed = {each for each in self._unconfirmed if each > tag}
        else:
            self._unconfirmed.discard(tag)
