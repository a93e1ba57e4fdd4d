"""Opening connections: to the first master of several hosts, over a unix socket, or to whom the sentinels name.

redis-py makes the socket. Then one HELLO does the rest in one round trip: who we are, and what the server is.
"""

from __future__ import annotations

import importlib
import ssl
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar, final

from redis import exceptions
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.credentials import CredentialProvider
from redis.retry import Retry

from brokerkit.abc import Clock
from brokerkit.errors import InvalidOption, InvalidURL, Unsupported
from brokerkit.tls import context_of
from brokerkit_redis.addresses import Address, Host
from brokerkit_redis.calls import Call
from brokerkit_redis.errors import Unreachable, Untrusted
from brokerkit_redis.options import RedisOptions, SentinelOptions
from brokerkit_redis.wire import Wire

__all__ = ["Connector", "first_of"]

T = TypeVar("T")

_HELLO_2: Final = ("HELLO", 2)
_SENTINEL_DATABASE: Final = 0


@final
class Connector:
    """Opens connections to one address. Thread-safe; does no I/O until asked."""

    def __init__(self, address: Address, options: RedisOptions, clock: Clock) -> None:
        provider = _provider(options.credential_provider)
        login = provider.get_credentials if provider else _fixed_login(address.username, address.password)
        self._address = address
        self._options = options
        self._clock = clock
        self._redis = _Dialler(login, address.database, tls=address.tls, options=options, clock=clock)
        theirs = options.sentinel_kwargs
        login = _fixed_login(theirs.username, theirs.password)
        self._sentinels = _Dialler(login, _SENTINEL_DATABASE, tls=theirs.ssl, options=theirs, clock=clock)
        self._redis.keepalive = self._sentinels.keepalive = options.socket_keepalive
        self._redis.client_name = self._sentinels.client_name = options.client_name

    def open(self, deadline: float) -> Wire:
        """Open a connection to the master.

        Raises:
            Unreachable: no connection could be made.
        """
        address = self._address
        if address.kind == "unix":
            return self._greet(None, deadline)
        if address.kind == "sentinel":
            return self._open_master(deadline)
        return first_of(address.hosts, deadline, self._greet, self._clock)

    def open_node(self, host: Host, deadline: float) -> Wire:
        """Open a connection to one node of a cluster."""
        return self._greet(host, deadline)

    def _greet(self, host: Host | None, deadline: float) -> Wire:
        wire, facts = self._redis.dial(self._address.path if host is None else host, deadline)
        try:
            self._check(wire, facts)
        except Exception:
            wire.close()
            raise
        return wire

    def _check(self, wire: Wire, facts: dict[bytes, Any]) -> None:
        mode, role = facts.get(b"mode"), facts.get(b"role")
        if mode == b"sentinel":
            raise InvalidURL(f"{wire.server} is a sentinel; write sentinel://…?master_name=…")
        if (mode == b"cluster") != (self._address.kind == "cluster"):
            fact, write = ("a node of", "write cluster://") if mode == b"cluster" else ("in no", "write redis://")
            raise InvalidURL(f"{wire.server} is {fact} a cluster; {write}, or set the option 'cluster' accordingly")
        if role == b"replica":
            raise Unreachable(f"{wire.server} is a replica and takes no writes")

    def _open_master(self, deadline: float) -> Wire:
        """Ask one sentinel after the other until one names a master that says itself that it is one."""

        def through(sentinel: Host, deadline: float) -> Wire:
            return self._greet(self._master_by(sentinel, deadline), deadline)

        return first_of(self._address.hosts, deadline, through, self._clock)

    def _master_by(self, sentinel: Host, deadline: float) -> Host:
        name = self._options.master_name or ""
        wire, _ = self._sentinels.dial(sentinel, deadline)
        try:
            call = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name)
            (answer,) = wire.run([call], deadline, self._options.sentinel_kwargs.socket_timeout)
        except exceptions.RedisError as error:
            raise Unreachable(f"sentinel {wire.server}: {error}") from error
        finally:
            wire.close()
        if isinstance(answer, Exception):
            raise answer
        if answer is None:
            raise Unreachable(f"sentinel {wire.server} watches no master {name!r}; is master_name right?")
        host, port = answer
        return host.decode(), int(port)


@final
class _Dialler:
    """Makes sockets and says HELLO. One for Redis, one for the sentinels."""

    def __init__(
        self,
        login: Callable[[], tuple[str, ...]],
        database: int,
        *,
        tls: bool,
        options: RedisOptions | SentinelOptions,
        clock: Clock,
    ) -> None:
        self._login = login
        self._database = database
        self._tls = tls
        self._options = options
        self._clock = clock
        self._context: ssl.SSLContext | None = None
        self.keepalive = True
        self.client_name: str | None = None

    def dial(self, place: Host | str, deadline: float) -> tuple[Wire, dict[bytes, Any]]:
        """Return an open connection, and what the server says about itself."""
        server = place if isinstance(place, str) else f"{place[0]}:{place[1]}"
        connection = self._connection(place, deadline)
        try:
            connection.connect()
            wire = Wire(connection, server, clock=self._clock)
        except (exceptions.RedisError, OSError) as error:
            connection.disconnect()
            raise _reason(error, server) from error
        try:
            facts = self._hello(wire, deadline)
        except BaseException:
            wire.close()
            raise
        wire.id = int(facts.get(b"id", 0))
        return wire, facts

    def _connection(self, place: Host | str, deadline: float) -> AbstractConnection:
        left = max(deadline - self._clock.monotonic(), 0.001)
        settings: dict[str, Any] = {
            "socket_timeout": min(self._options.socket_timeout, left),
            "socket_connect_timeout": min(self._options.socket_connect_timeout, left),
            "retry": Retry(NoBackoff(), 0),  # its default repeats ten times
            "redis_connect_func": _nothing,
            "socket_read_size": 1,  # it reads nothing
        }
        if isinstance(place, str):
            return UnixDomainSocketConnection(path=place, **settings)  # type: ignore[abstract] # its stub forgets `host`
        settings |= {"host": place[0], "port": place[1], "socket_keepalive": self.keepalive}
        return _SecureConnection(self._shared_context(), **settings) if self._tls else Connection(**settings)

    def _hello(self, wire: Wire, deadline: float) -> dict[bytes, Any]:
        """Log in, name ourselves, choose the database, and learn the server's role and our id."""
        hello: Call = _HELLO_2
        login = self._login()
        if login:
            hello += ("AUTH", *(login if len(login) > 1 else ("default", *login)))
        if self.client_name:
            hello += ("SETNAME", self.client_name)
        calls = [hello, ("SELECT", self._database)] if self._database else [hello]
        longest = self._options.socket_timeout
        try:
            wire.send(calls, deadline, longest)
            answers = []
            for _ in calls:  # one by one, as a server that refuses us may hang up behind its first answer
                answers.append(wire.read(deadline, longest))
                if wire.refused:
                    break
        except Unreachable:
            raise
        except (exceptions.ConnectionError, exceptions.TimeoutError, exceptions.InvalidResponse) as error:
            raise Unreachable(str(error)) from error
        if wire.refused:
            if "unknown command" in str(answers[-1]).lower():
                raise Unsupported(f"{wire.server} knows no HELLO; Redis 6.0 or newer is needed") from answers[-1]
            raise answers[-1]
        facts = answers[0]
        return dict(zip(facts[::2], facts[1::2], strict=True))

    def _shared_context(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = context_of(self._options)
        return self._context


class _SecureConnection(SSLConnection):
    """redis-py's, which would load the certificates anew for each connection, and trust the system's beside ours."""

    def __init__(self, context: ssl.SSLContext, **settings: Any) -> None:
        super().__init__(**settings)
        self._shared = context

    def _wrap_socket_with_ssl(self, sock: Any) -> ssl.SSLSocket:
        return self._shared.wrap_socket(sock, server_hostname=self.host)


def first_of(hosts: Sequence[Host], deadline: float, attempt: Callable[[Host, float], T], clock: Clock) -> T:
    """Try hosts in order. Each gets its share of the time, so that a frozen one leaves some for the others.

    Raises:
        RedisError: the most telling error, if there is none that could be used.
    """
    failures: list[Exception] = []
    for index, host in enumerate(hosts):
        now = clock.monotonic()
        try:
            return attempt(host, now + (deadline - now) / (len(hosts) - index))
        except exceptions.RedisError as error:
            failures.append(error)
    telling = next((error for error in failures if not isinstance(error, Unreachable)), failures[0])
    if len(failures) == 1 or not isinstance(telling, Unreachable):
        raise telling
    raise Unreachable("no master could be reached: " + "; ".join(map(str, failures))) from failures[0]


def _nothing(connection: object) -> None:
    """In place of redis-py's handshake of up to six round trips."""


def _reason(error: Exception, server: str) -> Exception:
    """What to raise when no socket could be had."""
    behind: BaseException | None = error
    while behind is not None:
        if isinstance(behind, ssl.SSLCertVerificationError):
            return Untrusted(f"{server}: {behind.verify_message}")
        behind = behind.__cause__ or behind.__context__
    return Unreachable(str(error) if server in str(error) else f"{server}: {error}")


def _fixed_login(username: str | None, password: str | None) -> Callable[[], tuple[str, ...]]:
    login = (username or "default", password or "") if username or password else ()
    return lambda: login


def _provider(named: object) -> CredentialProvider | None:
    """Return the object of the option `credential_provider`."""
    found = named
    if isinstance(named, str):
        module, _, name = named.rpartition(":" if ":" in named else ".")
        try:
            found = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise InvalidOption(f"option 'credential_provider': {error}; write 'module:name'") from error
    found = found() if isinstance(found, type) else found
    if found is not None and not callable(getattr(found, "get_credentials", None)):
        raise InvalidOption("option 'credential_provider' has no method get_credentials; see redis.CredentialProvider")
    return found  # type: ignore[return-value] # whatever its class, it can do what is needed
