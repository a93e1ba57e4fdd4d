"""Opening connections: dial, TLS, log in, and ask the server how it is set."""

from __future__ import annotations

import socket
import ssl
import threading
from typing import Final, NoReturn, final

from pymemcache.exceptions import MemcacheClientError, MemcacheError

from brokerkit.abc import Clock
from brokerkit.errors import Unsupported
from brokerkit.tls import context_of
from brokerkit_memcached.addresses import Address, Server
from brokerkit_memcached.errors import Denied, Late, Unreachable, answer_of
from brokerkit_memcached.options import MemcachedResultOptions
from brokerkit_memcached.wire import Wire

__all__ = ["Connector"]

_SETTINGS: Final = b"stats settings"
_LOGIN_KEY: Final = b"auth"  # any: the server reads the value only


@final
class Connector:
    """Opens connections to the servers of one address. Thread-safe; does no I/O until asked."""

    def __init__(self, address: Address, options: MemcachedResultOptions, clock: Clock) -> None:
        self._address = address
        self._options = options
        self._clock = clock
        self._context: ssl.SSLContext | None = None
        self._lock = threading.Lock()

    def open(self, server: Server, deadline: float) -> Wire:
        """Open a connection that can be used.

        Raises:
            Unreachable: no connection could be made.
            Denied: the server does not let us in, or cannot be trusted.
        """
        opened = self._dial(server, deadline)
        wire = Wire(opened, str(server), clock=self._clock, longest=self._options.socket_timeout)
        try:
            self._greet(wire, deadline)
        except (Denied, Unsupported, Unreachable):
            wire.close()
            raise
        except MemcacheError as error:
            wire.close()
            raise _reason(error, wire.server) from error
        except BaseException:
            wire.close()
            raise
        return wire

    def _dial(self, server: Server, deadline: float) -> socket.socket:
        left = deadline - self._clock.monotonic()
        if left <= 0:
            raise Late(f"{server}: the time of the call was over before it could be dialled")
        patience = min(left, self._options.socket_connect_timeout)
        try:
            return self._unix(server, patience) if server.is_socket else self._tcp(server, patience)
        except OSError as error:
            _fail(error, server)

    def _unix(self, server: Server, patience: float) -> socket.socket:
        opened = socket.socket(socket.AF_UNIX)
        try:
            opened.settimeout(patience)
            opened.connect(server.host)
        except BaseException:
            opened.close()
            raise
        return opened

    def _tcp(self, server: Server, patience: float) -> socket.socket:
        opened = socket.create_connection(server, patience)
        try:
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(self._options.socket_keepalive))
            if self._options.ssl:
                return self._shared_context().wrap_socket(opened, server_hostname=server.host)
        except BaseException:
            opened.close()
            raise
        return opened

    def _greet(self, wire: Wire, deadline: float) -> None:
        """Log in if the server asks for it, and only then; learn its settings and its time."""
        username = self._address.username
        try:
            settings = wire.stats(_SETTINGS, deadline)
        except MemcacheClientError as error:
            if username is None:
                raise
            self._log_in(wire, username, self._address.password or "", deadline, error)
            settings = wire.stats(_SETTINGS, deadline)
        else:
            if username is not None:  # sent as it is, it would be stored like any other item, for everybody to read
                raise Denied(f"{wire.server} asks for no login; leave the user and password out of the URL")
        if settings.get(b"cas_enabled", b"yes") != b"yes":
            raise Unsupported(f"{wire.server} was started with -C; without cas a final result could be overwritten")
        wire.item_size_max = int(settings.get(b"item_size_max", b"0")) or self._options.item_size_max
        wire.evicts = settings.get(b"evictions", b"on") != b"off"
        wire.ask_time(deadline)

    def _log_in(self, wire: Wire, username: str, password: str, deadline: float, refused: Exception) -> None:
        if "unauthenticated" not in str(refused):
            raise refused
        login = f"{username} {password}".encode()
        wire.send(b"set %b 0 0 %d\r\n%b\r\n" % (_LOGIN_KEY, len(login), login), deadline)
        line = wire.line()
        if line != b"STORED":
            raise Denied(f"{wire.server}: {answer_of(line) or 'it did not take the login'}")

    def _shared_context(self) -> ssl.SSLContext:
        with self._lock:
            if self._context is None:
                self._context = context_of(self._options)
            return self._context


def _fail(error: OSError, server: Server) -> NoReturn:
    """Raise what says that no socket could be had."""
    if isinstance(error, ssl.SSLCertVerificationError):
        raise Denied(
            f"{server}: {error.verify_message} (is ssl_ca_certs the file of those who signed it, and the host the one it "
            "names?)"
        ) from error
    raise Unreachable(f"{server}: {error}") from error


def _reason(error: MemcacheError, server: str) -> MemcacheError:
    """Return what to raise when a server that was dialled is not ours to use."""
    text = str(error).lower()
    if any(told in text for told in ("unauthenticated", "authentication failure", "too many open connections")):
        return error
    return Unreachable(str(error) if server in str(error) else f"{server}: {error}")
