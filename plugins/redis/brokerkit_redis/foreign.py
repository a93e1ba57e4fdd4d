"""Foreign access to Redis for the conformance suite: a client of its own, which knows the keys and nothing of the code."""

from __future__ import annotations

import json
import random
import re
import struct
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import unquote, urlsplit

import redis
from brokerkit_conformance import Admin, key

from brokerkit.models import new_id, pack_headers

__all__ = ["RedisAdmin"]

_KEY: Final = re.compile(rb"bk:\{(.*)\}:([mbtszwT]|r\d)", re.DOTALL)
_RESULT: Final = b"bk:result:"
_TAIL: Final = 9
_WHOLE: Final = {"m": "queue", "t": "leases", "s": "schedule", "z": "returned", "w": "wake"}


class _Place(NamedTuple):
    """Where something lies; without a field it is the whole key."""

    database: int
    key: bytes
    field: bytes | None = None


class RedisAdmin(Admin):
    """All databases of one server, by redis-py."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._database = int(parts.path.strip("/") or 0)
        self._clients = {
            number: redis.Redis(
                host=parts.hostname or "127.0.0.1",
                port=parts.port or 6379,
                username=unquote(parts.username) if parts.username else None,
                password=unquote(parts.password) if parts.password else None,
                db=number,
            )
            for number in (0, 1)
        }

    def keys(self) -> Collection[str]:
        """See `Admin.keys`: every key, and every message and binding within one."""
        return self._all()

    def remove(self, keys: Collection[str]) -> None:
        """See `Admin.remove`."""
        there = self._all()
        for each in keys:
            database, name, field = there[each]
            if field is None:
                self._clients[database].delete(name)
            else:
                self._clients[database].hdel(name, field)

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
        client = self._clients[self._database]

        def delete_all() -> None:
            for name in client.keys("bk:*"):
                client.delete(name)

        return {"FLUSHALL": client.flushall, "FLUSHDB": client.flushdb, "every key deleted": delete_all}

    def forget_statements(self) -> None:
        """Make the server forget all scripts."""
        self._clients[0].script_flush()

    def close(self) -> None:
        """See `Admin.close`."""
        for client in self._clients.values():
            client.close()

    def _put(self, queue: str, message_id: bytes, value: bytes) -> None:
        escaped = queue.replace("%", "%25").replace("{", "%7B").replace("}", "%7D")
        root, client = f"bk:{{{escaped}}}:", self._clients[self._database]
        if not client.exists(f"{root}m"):
            raise LookupError(f"there is no queue {queue!r} to put something into")
        with client.pipeline(transaction=True) as all_at_once:
            all_at_once.hset(f"{root}b", message_id, value)
            all_at_once.rpush(f"{root}r0", message_id)
            all_at_once.rpush(f"{root}w", b"")
            all_at_once.execute()

    def _all(self) -> dict[str, _Place]:
        found: dict[str, _Place] = {}
        for number, client in self._clients.items():
            names: Any = client.keys("*")
            for name in names:
                for text, field in self._parts(client, number, name):
                    found[text] = _Place(number, name, field)
        return found

    def _parts(self, client: Any, database: int, name: bytes) -> Iterator[tuple[str, bytes | None]]:
        if name.startswith(_RESULT):
            yield key("result", database, name.removeprefix(_RESULT).decode()), None
            return
        known = _KEY.fullmatch(name)
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
