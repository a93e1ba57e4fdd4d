"""Foreign access to RabbitMQ for the suite: its management API, and a client of its own that knows no code of ours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final
from urllib.parse import quote, unquote
from uuid import uuid4

import amqp
from brokerkit_conformance import Admin, key

from brokerkit.servers import RabbitMQ

__all__ = ["RabbitMQAdmin", "api_path"]

_DELAYS: Final = "bk.delay"
_BACKLOG: Final = 30.0  # seconds that one question may take


class RabbitMQAdmin(Admin):
    """Two virtual hosts of a node, which nobody else uses, as if they were the whole server: they share nothing.

    A message that somebody holds has no key: it lies in its queue, and nothing but the queue's end takes it away.

    Args:
        node: the server.
        virtual_hosts: their names; the places in this list are what keys name.
        number: of the one to put messages into.
    """

    def __init__(self, node: RabbitMQ, virtual_hosts: Sequence[str], number: int) -> None:
        self._node = node
        self._hosts = tuple(virtual_hosts)
        self._own = self._hosts[number]
        self._connections: dict[str, Any] = {}

    def keys(self) -> Collection[str]:
        """See `Admin.keys`: every queue, every message that waits in it, and every exchange that is not the server's own."""
        return {each for number in range(len(self._hosts)) for each in self._keys(number)}

    def remove(self, keys: Collection[str]) -> None:
        """See `Admin.remove`. Of messages those go that come first."""
        messages: Counter[tuple[str, str]] = Counter()
        for kind, host, name in map(self._meant, keys):
            if kind in ("message", "delayed"):
                messages[host, name] += 1
        for (host, name), count in messages.items():
            channel = self._channel(host)
            for _ in range(count):
                channel.basic_get(name, no_ack=True)
        for kind, host, name in map(self._meant, keys):
            if kind in ("queue", "delay"):
                self._delete(host, name)
            elif kind in ("exchange", "ladder"):
                self._channel(host).exchange_delete(name)

    def put_raw(self, queue: str, body: bytes, headers: Mapping[str, str]) -> None:
        """See `Admin.put_raw`."""
        self._put(queue, body, dict(headers))

    def put_damaged(self, queue: str) -> int:
        """See `Admin.put_damaged`: headers that are no texts, or none that can be read."""
        odd: list[Any] = [
            {"a": "b"},
            [1, "two"],
            None,
            datetime(2026, 1, 1, tzinfo=UTC),
            Decimal("1.5"),
            b"\xff\xfe",
            {"a": {"b": []}},
        ]
        damaged: list[dict[str, Any]] = [{"header": value} for value in odd]
        damaged += [{"bk-version": value} for value in odd]
        damaged += [{"content-type": value} for value in odd]
        damaged += [{"fine": "text", "header": value} for value in odd]
        for headers in damaged:
            self._put(queue, b"x", headers)
        return len(damaged)

    def disasters(self) -> Mapping[str, Callable[[], object]]:
        """See `Admin.disasters`."""

        def delete_queues() -> None:
            for name in self._queues(self._own):
                self._delete(self._own, name)

        def delete_virtual_host() -> None:
            self._node.delete_vhost(self._own)
            self._node.create_vhost(self._own)

        return {"every queue deleted": delete_queues, "the virtual host deleted": delete_virtual_host}

    def forget_statements(self) -> None:
        """See `Admin.forget_statements`: there is nothing that an AMQP client prepares on its server."""

    def close(self) -> None:
        """See `Admin.close`."""
        for connection in self._connections.values():
            connection.close()

    def _keys(self, number: int) -> Iterator[str]:
        host = self._hosts[number]
        for name in self._queues(host):
            delays = name.startswith(_DELAYS)
            yield key("delay" if delays else "queue", number, name)
            for place in range(self._waiting(host, name)):
                yield key("delayed" if delays else "message", number, name, place)
        for each in self._node.management("GET", f"{api_path('exchanges', host)}?columns=name"):
            if each["name"] and not each["name"].startswith("amq."):
                yield key("ladder" if each["name"].startswith(_DELAYS) else "exchange", number, each["name"])

    def _meant(self, each: str) -> tuple[str, str, str]:
        kind, number, name, *_ = map(unquote, each.split("/"))
        return kind, self._hosts[int(number)], name

    def _queues(self, host: str) -> list[str]:
        found = self._node.management("GET", f"{api_path('queues', host)}?columns=name")
        return [each["name"] for each in found]

    def _delete(self, host: str, name: str) -> None:
        self._channel(host).queue_delete(name)

    def _waiting(self, host: str, name: str) -> int:
        try:
            return int(self._channel(host).queue_declare(name, passive=True).message_count)
        except amqp.NotFound:
            return 0  # gone since it was listed

    def _put(self, queue: str, body: bytes, headers: dict[str, Any]) -> None:
        message = amqp.Message(body, application_headers=headers, delivery_mode=2, message_id=str(uuid4()))
        self._channel(self._own).basic_publish_confirm(
            message, exchange="", routing_key=queue, mandatory=True, timeout=_BACKLOG
        )

    def _channel(self, host: str) -> Any:
        """Return an open channel: the server closes one for each question that it cannot answer."""
        connection = self._connections.get(host)
        if connection is None or not connection.connected:
            parts = self._node.facts
            connection = amqp.Connection(
                f"{parts.host}:{parts.port}",
                userid="guest",
                password="guest",  # noqa: S106 - everybody's
                virtual_host=host,
                confirm_publish=True,
                read_timeout=_BACKLOG,
            )
            connection.connect()
            self._connections[host] = connection
        channel = next((one for one in connection.channels.values() if one.channel_id and one.is_open), None)
        return channel or connection.channel()


def api_path(*names: str) -> str:
    """Return a path of the management API: names, quoted, with slashes between them."""
    return "".join(f"/{quote(name, safe='')}" for name in names)
