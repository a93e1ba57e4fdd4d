"""Foreign access to memcached for the conformance suite: pymemcache's own client, which knows the keys and none of the code."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from brokerkit_conformance import Admin, key
from pymemcache.client.base import Client

__all__ = ["MemcachedAdmin"]

_RESULT: Final = "result:"
_PATIENCE: Final = 5.0


class MemcachedAdmin(Admin):
    """All items of some servers.

    Args:
        servers: (host, port) pairs, or paths of sockets.
        prefixes: of the applications; their places in this list are what keys name.
    """

    def __init__(self, servers: Sequence[Any], prefixes: Sequence[str]) -> None:
        self._clients = [Client(server, timeout=_PATIENCE, default_noreply=False) for server in servers]
        self._prefixes = prefixes

    def keys(self) -> Collection[str]:
        """See `Admin.keys`."""
        return self._all()

    def remove(self, keys: Collection[str]) -> None:
        """See `Admin.remove`."""
        there = self._all()
        for each in keys:
            client, name = there[each]
            client.delete(name)

    def disasters(self) -> Mapping[str, Callable[[], object]]:
        """See `Admin.disasters`."""

        def flush_all() -> None:
            for client in self._clients:
                client.flush_all()

        def delete_all() -> None:
            for client, name in self._all().values():
                client.delete(name)

        return {"flush_all": flush_all, "every key deleted": delete_all}

    def close(self) -> None:
        """See `Admin.close`."""
        for client in self._clients:
            client.close()

    def _all(self) -> dict[str, tuple[Any, bytes]]:
        return {self._text(name): (client, name) for client in self._clients for name in _names(client)}

    def _text(self, name: bytes) -> str:
        text = name.decode()
        for number, prefix in enumerate(self._prefixes):
            if text.startswith(prefix + _RESULT):
                return key("result", number, text.removeprefix(prefix + _RESULT))
        return key("foreign", text)


def _names(client: Any) -> list[bytes]:
    """Return the keys of all items. The server's crawler does one thing at a time, and says so if it is at it."""
    client.version()  # connects
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        lines = _asked(client.sock)
        if not lines[0].startswith(b"BUSY"):
            return [unquote_to_bytes(line.split(b" ")[0].removeprefix(b"key=")) for line in lines[:-1]]
    raise TimeoutError("memcached's crawler stays busy, so that the keys cannot be listed")


def _asked(connection: socket.socket) -> list[bytes]:
    connection.sendall(b"lru_crawler metadump hash\r\n")
    told = b""
    while not told.endswith((b"END\r\n", b"ERROR\r\n")) and not (told.startswith(b"BUSY") and told.endswith(b"\r\n")):
        more = connection.recv(65536)
        if not more:
            raise ConnectionError("memcached closed the connection")
        told += more
    return told.replace(b"\r\n", b"\n").splitlines()
