"""Opening connections: to the first of several hosts that lets us in, within a deadline."""

from __future__ import annotations

import random
import ssl
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Final, final

from amqp import exceptions

from brokerkit.abc import Clock
from brokerkit.tls import context_of
from brokerkit_rabbitmq.addresses import Address, Host
from brokerkit_rabbitmq.dialling import Dialled, login
from brokerkit_rabbitmq.errors import Unreachable, Untrusted
from brokerkit_rabbitmq.link import Link
from brokerkit_rabbitmq.options import RabbitMQOptions
from brokerkit_rabbitmq.tender import Tender

__all__ = ["Connector"]

_ELSEWHERE: Final = (OSError, exceptions.ConnectionForced, exceptions.InternalError)
"""What another host may do better. A wrong password is wrong everywhere."""
_POWERS: Final = (
    "authentication_failure_close",
    "basic.nack",
    "connection.blocked",
    "consumer_cancel_notify",
    "publisher_confirms",
)


@final
class Connector:
    """Opens connections to one address. Thread-safe; does no I/O until asked.

    Args:
        address: where to.
        options: how.
        clock: for deadlines.
        tender: looks after the connections.
    """

    def __init__(self, address: Address, options: RabbitMQOptions, clock: Clock, tender: Tender) -> None:
        if address.tls and not options.tls_verify:
            warnings.warn(
                "tls_verify=false: anyone on the way to RabbitMQ can read and change everything",
                UserWarning,
                stacklevel=3,
            )
        self._address = address
        self._options = options
        self._clock = clock
        self._tender = tender
        self._lock = threading.Lock()
        self._context: ssl.SSLContext | None = None
        self._last: Host | None = None

    def open(
        self, *, deadline: float, heartbeat: int, purpose: str, unwanted: Callable[[], bool] = lambda: False
    ) -> Link:
        """Open a connection.

        Args:
            deadline: by the clock. Each host gets its share, so that a frozen one leaves some for the others.
            heartbeat: seconds; the server may choose less.
            purpose: a word for the connection's name on the server.
            unwanted: tells that nobody waits for it any more; asked several times a second.

        Raises:
            Closed: it became unwanted.
            Unreachable: no connection could be made.
            Untrusted: a certificate was not accepted.
            AMQPError: a server does not let us in.
            InvalidOption: the certificates cannot be read.
        """
        context = self._shared_context() if self._address.tls else None
        failures: list[Exception] = []
        hosts = self._in_order()
        for index, host in enumerate(hosts):
            now = self._clock.monotonic()
            share = min((deadline - now) / (len(hosts) - index), self._options.connect_timeout)
            try:
                link = self._dial(host, context, now + share, heartbeat=heartbeat, purpose=purpose, unwanted=unwanted)
            except _ELSEWHERE as error:
                failures.append(error)
                continue
            self._last = host
            self._tender.register(link.tend)
            return link
        telling = next((error for error in failures if type(error) is not Unreachable), failures[0])
        if len(failures) == 1 or type(telling) is not Unreachable:
            raise telling
        raise Unreachable("no host could be reached: " + "; ".join(map(str, failures))) from failures[0]

    def _in_order(self) -> Sequence[Host]:
        hosts = self._address.hosts
        if self._options.failover_strategy == "shuffle":
            return random.sample(hosts, len(hosts))
        first = hosts.index(self._last) if self._last in hosts else 0
        return hosts[first:] + hosts[:first]

    def _dial(
        self,
        host: Host,
        context: ssl.SSLContext | None,
        deadline: float,
        *,
        heartbeat: int,
        purpose: str,
        unwanted: Callable[[], bool],
    ) -> Link:
        server = f"[{host[0]}]:{host[1]}" if ":" in host[0] else f"{host[0]}:{host[1]}"
        address, options = self._address, self._options
        dialled = Dialled(
            host,
            context,
            deadline,
            self._clock,
            unwanted=unwanted,
            authentication=login(options.login_method, address.username, address.password),
            virtual_host=address.virtual_host,
            client_properties=self._properties(purpose),
            frame_max=options.frame_max,
            channel_max=options.channel_max,
            heartbeat=heartbeat,
        )
        try:
            dialled.connect()
            return Link(
                dialled.handed_over(server),
                facts=dialled.server_properties,
                frame_max=dialled.frame_max,
                channel_max=dialled.channel_max,
                heartbeat=int(dialled.heartbeat),
                clock=self._clock,
            )
        except OSError as error:
            dialled.hang_up()
            raise _reason(error, server) from error
        except BaseException:
            dialled.hang_up()
            raise

    def _properties(self, purpose: str) -> dict[str, Any]:
        """What the server is told about us."""
        name = self._options.client_name or "brokerkit"
        return {
            "product": "brokerkit",
            **(self._options.client_properties or {}),
            "connection_name": f"{name} {purpose}",
            "capabilities": dict.fromkeys(_POWERS, True),
        }

    def _shared_context(self) -> ssl.SSLContext:
        with self._lock:
            if self._context is None:
                self._context = context_of(self._options)
            return self._context


def _reason(error: Exception, server: str) -> Exception:
    """What to raise when no connection could be had."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return Untrusted(f"{server}: {error.verify_message}")
    return Unreachable(str(error) if server in str(error) else f"{server}: {error}")
