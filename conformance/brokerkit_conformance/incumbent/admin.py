"""Foreign access to what kombu and Celery keep in Redis: a connection of our own, and nothing of theirs."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from brokerkit.capabilities import Impossible
from brokerkit_conformance.harness import Admin
from brokerkit_conformance.storage import Role, StorageMap, key

__all__ = ["STORAGE", "RedisAdmin"]

STORAGE: Final[StorageMap] = {
    Role.TOPOLOGY: "binding/[^/]*/{name}/.*",  # a queue has no existence of its own: what is known of it are its bindings
    Role.BODY: "queue/{name}/.*",
    Role.HELD: "unacked/{name}/.*",
    Role.IN_FLIGHT: "unacked_index/.*",
    Role.SCHEDULE: Impossible("kombu delays nothing"),
    Role.PRIORITY: "queue/{name}/.*",  # a list for each step: that is all there is
    Role.MUTEX: "unacked_mutex",
    Role.DEDUPE: Impossible("kombu recognises no repeated send"),
    Role.BINDING: "binding/topic[.]{name}/.*",
    Role.RESULT: "result/{name}",
    Role.BOOKKEEPING: "_kombu.binding_.*",
}
_IN_DATABASE: Final = (
    "redis.call('SELECT', ARGV[1]); return redis.call(unpack(ARGV, 2))"  # a script's SELECT is its own
)
_SEPARATOR: Final = "\x06\x16"
_LEVELS: Final = {"": "987", "3": "654", "6": "321", "9": "0"}  # kombu's steps, and our priorities that fall into them
_BINDING: Final = "_kombu.binding."
_RESULT: Final = "celery-task-meta-"


class RedisAdmin(Admin):
    """Sees one database of a Redis.

    Args:
        command: sends one command to the server's first database, and returns its answer.
        database: the number of the database.
    """

    def __init__(self, command: Callable[..., Any], database: int) -> None:
        self._send = command
        self._database = database

    def keys(self) -> Collection[str]:
        """See `Admin.keys`: every key, and every element of those that hold things of several queues."""
        return self._all()

    def remove(self, keys: Collection[str]) -> None:
        """See `Admin.remove`."""
        there = self._all()
        for each in keys:
            if each in there:  # kombu itself removes some, such as its mutex
                self._command(*there[each])

    def put_raw(self, queue: str, body: bytes, headers: Mapping[str, str]) -> None:
        """See `Admin.put_raw`: bytes at the end of the list that consumers pop; with headers, as another program of kombu's."""
        self._command("LPUSH", queue, _envelope(queue, body, headers) if headers else body)

    def put_damaged(self, queue: str) -> int:
        """See `Admin.put_damaged`: no JSON, and JSON of the wrong shape."""
        bodies = [
            b"",
            b"\xff\xfe",
            b"{",
            b"[]",
            b"null",
            b"1",
            b'"text"',
            b'{"body": 1}',
            b'{"body": "", "properties": 1}',
        ]
        for body in bodies:
            self._command("LPUSH", queue, body)
        return len(bodies)

    def disasters(self) -> Mapping[str, Callable[[], object]]:
        """See `Admin.disasters`."""
        return {"FLUSHDB": lambda: self._command("FLUSHDB"), "FLUSHALL": lambda: self._command("FLUSHALL")}

    def forget_statements(self) -> None:
        """See `Admin.forget_statements`."""
        self._send("SCRIPT", "FLUSH")

    def _all(self) -> dict[str, tuple[Any, ...]]:
        """Return every key, and the command that removes it."""
        found: dict[str, tuple[Any, ...]] = {}
        for raw in self._command("KEYS", "*"):
            found |= self._parts(raw, raw.decode(errors="surrogateescape"))
        return found

    def _parts(self, raw: bytes, name: str) -> dict[str, tuple[Any, ...]]:
        if name == "unacked":
            entries = self._pairs("HGETALL", name)
            return {key("unacked", json.loads(e)[2], tag.decode()): ("HDEL", name, tag) for tag, e in entries}
        if name == "unacked_index":
            tags = self._command("ZRANGE", name, 0, -1)
            return {key("unacked_index", tag.decode()): ("ZREM", name, tag) for tag in tags}
        if name.startswith(_BINDING):
            rows = [(row, *row.decode().split(_SEPARATOR)) for row in self._command("SMEMBERS", name)]
            exchange = name.removeprefix(_BINDING)
            return {key("binding", exchange, queue, rk): ("SREM", name, row) for row, rk, _, queue in rows}
        if name.startswith(_RESULT):
            return {key("result", name.removeprefix(_RESULT)): ("DEL", raw)}
        if self._command("TYPE", raw) == b"list":
            queue, _, step = name.partition(_SEPARATOR)
            items = self._command("LRANGE", raw, 0, -1)
            return {key("queue", queue, *_LEVELS[step], i): ("LREM", raw, 1, item) for i, item in enumerate(items)}
        return {name: ("DEL", raw)}

    def _pairs(self, *words: Any) -> list[tuple[bytes, bytes]]:
        flat = self._command(*words)
        return list(zip(flat[::2], flat[1::2], strict=True))

    def _command(self, *words: Any) -> Any:
        return self._send("EVAL", _IN_DATABASE, 0, self._database, *words)


def _envelope(queue: str, body: bytes, headers: Mapping[str, str]) -> str:
    """A message of kombu's, with what `virtual.Channel.prepare_message` puts into it."""
    properties = {
        "body_encoding": "base64",
        "delivery_info": {"exchange": "", "routing_key": queue},
        "delivery_mode": 2,
        "delivery_tag": str(uuid.uuid4()),
        "priority": 9,  # the least urgent, as the bridge sends too
    }
    return json.dumps(
        {
            "body": base64.b64encode(body).decode(),
            "content-encoding": "binary",
            "content-type": "application/octet-stream",
            "headers": dict(headers),
            "properties": properties,
        }
    )
