"""Is a server ready? One handshake of its own protocol, by hand on a socket, which answers with the server's version.

Each raises an OSError (no connection, or closed) or a NotReady (it answered, but not yet as a server at work does). An open
port alone says little: several servers listen long before they serve.
"""

from __future__ import annotations

import re
import socket
import ssl
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, Self

__all__ = [
    "Address",
    "NotReady",
    "Resp",
    "amqp_version",
    "http_version",
    "memcached_version",
    "mysql_version",
    "postgresql_version",
    "redis_version",
]

_TIMEOUT: Final = 1.0  # s a step; the caller asks again


class NotReady(OSError):
    """The server answers, but does not serve yet."""


@dataclass(frozen=True)
class Address:
    """Where a server listens.

    Attributes:
        host, port: of a TCP server; port 0 if it listens on `unix` only.
        unix: the path of its socket, used for the handshake if given.
        tls: whether it speaks TLS.
        ca: the file of the certificate authority to trust; None: those of the system.
    """

    host: str = "127.0.0.1"
    port: int = 0
    unix: str | None = None
    tls: bool = False
    ca: str | None = None

    def open(self, timeout: float = _TIMEOUT) -> socket.socket:
        """A connected socket, inside TLS where that is spoken."""
        if self.unix is not None:
            plain = socket.socket(socket.AF_UNIX)
            plain.settimeout(timeout)
            try:
                plain.connect(self.unix)
            except OSError:
                plain.close()
                raise
            return plain
        plain = socket.create_connection((self.host, self.port), timeout)
        if not self.tls:
            return plain
        try:
            return ssl.create_default_context(cafile=self.ca).wrap_socket(plain, server_hostname=self.host)
        except OSError as error:
            plain.close()
            _close_half_made(error)
            raise


def _close_half_made(error: OSError) -> None:
    """Close what `wrap_socket` leaves open where the server hangs up before the handshake: only its own frame has it."""
    traceback = error.__traceback__
    while traceback is not None:
        inner = traceback.tb_frame.f_locals.get("self")
        if isinstance(inner, ssl.SSLSocket):
            inner.close()
        traceback = traceback.tb_next


class Resp:
    """A connection that speaks Redis's protocol: one command, one answer. A context manager. Not thread-safe."""

    def __init__(self, address: Address, login: Sequence[str] = (), *, timeout: float = _TIMEOUT) -> None:
        self._socket = address.open(timeout)
        self._file: BinaryIO = self._socket.makefile("rb")
        try:
            if login:
                self.call("AUTH", *login)
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._socket.close()

    def call(self, *words: str | bytes | float) -> Any:
        """Send a command and return its answer: bytes, an int, None or a list of these.

        Raises:
            NotReady: the server answered with an error; its text is the error's.
        """
        encoded = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        parts = [b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded]
        self._socket.sendall(b"*%d\r\n%s" % (len(parts), b"".join(parts)))
        return self._answer()

    def _answer(self) -> Any:
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionResetError("the server closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise NotReady(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"*":
            return None if rest == b"-1" else [self._answer() for _ in range(int(rest))]
        if kind == b"$":
            return None if rest == b"-1" else _exactly(self._file, int(rest) + 2)[:-2]
        return rest


def redis_version(address: Address, login: Sequence[str] = ()) -> str:
    """PING, then the version from INFO, where this user may ask for it."""
    with Resp(address, login) as connection:
        if connection.call("PING") != b"PONG":
            raise NotReady("no PONG to a PING")
        try:
            found = re.search(rb"redis_version:(\S+)", connection.call("INFO", "server"))
        except NotReady as refused:
            if "NOPERM" not in str(refused):
                raise
            return ""
        return found[1].decode() if found else ""


def memcached_version(address: Address) -> str:
    """The answer to the text command `version`."""
    with address.open() as connection, connection.makefile("rb") as file:
        connection.sendall(b"version\r\n")
        line = file.readline()
        if not line.startswith(b"VERSION "):
            raise NotReady(f"unexpected answer {line!r}")
        return line[8:].decode().strip()


def amqp_version(address: Address) -> str:
    """The protocol header of AMQP 0-9-1, answered by Connection.Start, which names the server's version."""
    with address.open() as connection, connection.makefile("rb") as file:
        connection.sendall(b"AMQP\x00\x00\x09\x01")
        kind, channel, size = struct.unpack(">BHI", _exactly(file, 7))
        start = _exactly(file, size)
        if (kind, channel, start[:4]) != (1, 0, b"\x00\x0a\x00\x0a"):
            raise NotReady(f"no Connection.Start but {start[:8]!r}")
        found = re.search(rb"\x07versionS(.{4})", start, re.DOTALL)  # an entry of the server's table of properties
        length = int.from_bytes(found[1], "big") if found else 0
        return start[found.end() : found.end() + length].decode() if found else ""


def postgresql_version(address: Address, user: str, database: str) -> str:
    """A startup message, and the answers up to ReadyForQuery; a request for a password shows a server at work as well."""
    words = f"user\0{user}\0database\0{database}\0\0".encode()
    version = ""
    with address.open() as connection, connection.makefile("rb") as file:
        connection.sendall(struct.pack(">II", len(words) + 8, 196608) + words)
        while True:
            kind, size = struct.unpack(">cI", _exactly(file, 5))
            rest = _exactly(file, size - 4)
            if kind == b"E":  # such as 57P03, the database system is starting up
                raise NotReady(rest.replace(b"\0", b" ").decode(errors="replace"))
            if kind == b"S" and rest.startswith(b"server_version\0"):
                version = rest.split(b"\0")[1].decode().split()[0]
            if kind == b"Z" or (kind == b"R" and rest[:4] != b"\0\0\0\0"):
                connection.sendall(b"X\0\0\0\x04")
                return version


def mysql_version(address: Address) -> str:
    """The server's greeting, which it sends unasked."""
    with address.open() as connection, connection.makefile("rb") as file:
        size = int.from_bytes(_exactly(file, 4)[:3], "little")
        greeting = _exactly(file, size)
        if greeting[:1] != b"\x0a":
            raise NotReady(f"no greeting but {greeting[:80]!r}")
        return greeting[1:].partition(b"\0")[0].decode().removeprefix("5.5.5-")


def http_version(address: Address, path: str) -> str:
    """GET a path; any 2xx answer will do, and its body is returned."""
    with address.open() as connection, connection.makefile("rb") as file:
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: {address.host}:{address.port}\r\n\r\n".encode())
        status = file.readline()
        if not re.match(rb"HTTP/1\.\d 2\d\d ", status):
            raise NotReady(f"unexpected answer {status!r}")
        return file.read().partition(b"\r\n\r\n")[2].decode()


def _exactly(file: BinaryIO, size: int) -> bytes:
    read = file.read(size)
    if len(read) < size:
        raise ConnectionResetError("the server closed the connection")
    return read
