"""Foreign access to Redis for the conformance suite: a client of its own, which knows the keys and nothing of the code."""

from __future__ import annotations

import json
import random
import re
import struct
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

import redis
from brokerkit_conformance import Admin, key

from brokerkit.models import new_id, pack_headers

__all__ = ["RedisAdmin", "VirtualHost"]

_KEY: Final = re.compile(rb"\{(.*)\}:([mbtszwT]|r\d)", re.DOTALL)
_RESULT: Final = b"result:"
_TAIL: Final = 9
_WHOLE: Final = {"m": "queue", "t": "leases", "s": "schedule", "z": "returned", "w": "wake"}


class VirtualHost(NamedTuple):
    """What one virtual host is."""

    database: int
    prefix: str


class _Place(NamedTuple):
    """Where something lies; without a field it is the whole key."""

    client: Any
    key: bytes
    field: bytes | None = None


class RedisAdmin(Admin):
    """All databases of one server, or all nodes of a cluster, by redis-py.

    Args:
        nodes: URLs of those that take writes, each with some database.
        virtual_hosts: of the server; their places in this list are what keys name.
        number: of the one to put messages into.
    """

    def __init__(self, nodes: Sequence[str], virtual_hosts: Sequence[VirtualHost], number: int) -> None:
        self._hosts = virtual_hosts
        self._own = virtual_hosts[number]
        databases = sorted({host.database for host in virtual_hosts})
        self._clients = [
            (database, redis.Redis.from_url(node.rpartition("/")[0], db=database))
            for node in nodes
            for database in databases
        ]

    def keys(self) -> Collection[str]:
        """See `Admin.keys`: every key, and every message and binding within one."""
        return self._all()

    def remove(self, keys: Collection[str]) -> None:
        """See `Admin.remove`."""
        there = self._all()
        for each in keys:
            client, name, field = there[each]
            if field is None:
                client.delete(name)
            else:
                client.hdel(name, field)

    def put_raw(self, queue: str, body: bytes, headers: Mapping[str, str]) -> None:
        """See `Admin.put_raw`."""
        packed = pack_headers(headers) if headers else None
        value = b"\0" + body if packed is None else b"\x40" + struct.pack(">I", len(packed)) + packed + body
        self._put(queue, bytes.fromhex(new_id(0.0)), value)

    def put_damaged(self, queue: str) -> int:
        """See `Admin.put_damaged`: values that announce what they do not hold, and headers that are none."""
        texts = ["{", "[]", "null", "1", '"text"', '{"a": 1}', '{"a": null}', '{"a": {"b": "c"}}', "[" * 20_000]
        headers = [text.encode() for text in texts] + [b"\xff\xfe", b"\0"]
        values = [b"\x40" + struct.pack(">I", len(each)) + each + b"x" for each in headers]
        values += [b"", b"\x40", b"\x40\0\0\xff\xff{}", b"\x10\0", b"\x0f", b"\x80x", b"\xff"]
        seeds = random.Random(1)  # noqa: S311 - the same damage each time
        values += [b"\x8f" + seeds.randbytes(40) for _ in range(60)]
        for value in values:
            self._put(queue, bytes.fromhex(new_id(0.0)), value)
        return len(values)

    def disasters(self) -> Mapping[str, Callable[[], object]]:
        """See `Admin.disasters`."""

        def flush_all() -> None:
            for _, client in self._clients:
                client.flushall()

        def flush() -> None:
            for client in self._of_own_database():
                client.flushdb()

        def delete_all() -> None:
            for client in self._of_own_database():
                for name in client.keys(f"{self._own.prefix}*"):
                    client.delete(name)

        return {"FLUSHALL": flush_all, "FLUSHDB": flush, "every key deleted": delete_all}

    def forget_statements(self) -> None:
        """Make the server forget all scripts."""
        for _, client in self._clients:
            client.script_flush()

    def close(self) -> None:
        """See `Admin.close`."""
        for _, client in self._clients:
            client.close()

    def _of_own_database(self) -> list[Any]:
        return [client for database, client in self._clients if database == self._own.database]

    def _put(self, queue: str, message_id: bytes, value: bytes) -> None:
        escaped = queue.replace("%", "%25").replace("{", "%7B").replace("}", "%7D")
        root = f"{self._own.prefix}{{{escaped}}}:"
        client = next((one for one in self._of_own_database() if f"{root}m".encode() in one.keys("*")), None)
        if client is None:
            raise LookupError(f"there is no queue {queue!r} to put something into")
        with client.pipeline(transaction=True) as all_at_once:
            all_at_once.hset(f"{root}b", message_id, value)
            all_at_once.rpush(f"{root}r0", message_id)
            all_at_once.rpush(f"{root}w", b"")
            all_at_once.execute()

    def _all(self) -> dict[str, _Place]:
        found: dict[str, _Place] = {}
        for database, client in self._clients:
            names: Any = client.keys("*")
            for name in names:
                for text, field in self._named(client, database, name):
                    found[text] = _Place(client, name, field)
        return found

    def _named(self, client: Any, database: int, name: bytes) -> Iterator[tuple[str, bytes | None]]:
        for number, host in enumerate(self._hosts):
            if host.database == database and name.startswith(host.prefix.encode()):
                return self._parts(client, number, name, name.removeprefix(host.prefix.encode()))
        return iter([(key("unknown", database, repr(name)), None)])

    def _parts(self, client: Any, database: int, name: bytes, rest: bytes) -> Iterator[tuple[str, bytes | None]]:
        if rest.startswith(_RESULT):
            yield key("result", database, rest.removeprefix(_RESULT).decode()), None
            return
        known = _KEY.fullmatch(rest)
        if known is None:
            yield key("unknown", database, repr(name)), None
            return
        owner, kind = unquote(known[1].decode()), known[2].decode()
        if kind in _WHOLE:
            yield key(_WHOLE[kind], database, owner), None
        elif kind.startswith("r"):
            yield key("ready", database, owner, kind[1:], ""), None
        elif kind == "b":
            yield from self._messages(client, database, name, owner)
        else:
            yield from self._bindings(client, database, name, owner)

    def _messages(self, client: Any, database: int, name: bytes, owner: str) -> Iterator[tuple[str, bytes | None]]:
        root = name[:-1]
        states = {token[:-_TAIL]: "leased" for token in client.zrange(root + b"t", 0, -1)}
        states |= {token[:-_TAIL]: "delayed" for token in client.zrange(root + b"s", 0, -1)}
        for field in client.hkeys(name):
            if field == b"":
                yield key("floor", database, owner), field
            else:
                yield key("message", database, owner, states.get(field, "ready"), field.hex()), field

    def _bindings(self, client: Any, database: int, name: bytes, topic: str) -> Iterator[tuple[str, bytes | None]]:
        for field in client.hkeys(name):
            if field == b"":
                yield key("version", database, topic), field
            else:
                its_database, queue, kind, space, pattern = json.loads(field)
                yield key("binding", its_database, queue, topic, kind, space, pattern), field
