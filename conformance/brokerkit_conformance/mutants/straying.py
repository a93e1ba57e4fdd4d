"""Defects in whom a client talks to: which of several hosts, and whether it is who it says."""

from __future__ import annotations

import socket
import ssl
import time
from contextlib import suppress
from typing import Any, Final

from brokerkit.errors import AccessDenied, NotConnected
from brokerkit.memory import transport
from brokerkit.url import URL
from brokerkit_conformance.mutants import secure, wire
from brokerkit_conformance.mutants.planting import Patch, mutant
from brokerkit_conformance.mutants.served import NetworkedHarness

_NO_TIME: Final = 0x200000  # X509_V_FLAG_NO_CHECK_TIME, which the module ssl does not name
_ROUNDS: Final = 20


@mutant("FLT-14", source="LAWS 2", harness=NetworkedHarness)
def the_first_host_alone(patch: Patch) -> None:
    """Of several hosts only the first is ever tried."""

    def make(connected: Any) -> Any:
        def mutated(self: Any, timeout: float) -> Any:
            self._addresses = self._addresses[:1]
            return connected(self, timeout)

        return mutated

    patch.wrap(wire.Lines, "_connected", make)


@mutant("FLT-14", source="kombu: failover_strategy", harness=NetworkedHarness)
def never_back_to_the_first(patch: Patch) -> None:
    """A host that was away once is not tried again, though the one in its place goes away."""

    def mutated(self: Any, timeout: float) -> Any:
        while True:
            try:
                return wire.Line(self._addresses[0], self._hello, timeout / len(self._addresses), self._tls)
            except NotConnected:
                if len(self._addresses) == 1:
                    raise
                self._addresses = self._addresses[1:]

    patch.value(wire.Lines, "_connected", mutated)


@mutant("FLT-14", source="LAWS 2: split consumption", harness=NetworkedHarness)
def hosts_in_turn(patch: Patch) -> None:
    """Each connection goes to another host, so that sends and consumption of one program may be at different ones."""

    def make(connected: Any) -> Any:
        def mutated(self: Any, timeout: float) -> Any:
            self._addresses = [*self._addresses[1:], self._addresses[0]]
            return connected(self, timeout)

        return mutated

    patch.wrap(wire.Lines, "_connected", make)


@mutant("FLT-14", source="LAWS 2", harness=NetworkedHarness)
def round_and_round(patch: Patch) -> None:
    """Where no host answers, the list is gone through again at once, many times."""

    def make(connected: Any) -> Any:
        def mutated(self: Any, timeout: float) -> Any:
            end = time.monotonic() + timeout
            for _ in range(_ROUNDS):
                with suppress(NotConnected):
                    return connected(self, end - time.monotonic())
            return connected(self, end - time.monotonic())

        return mutated

    patch.wrap(wire.Lines, "_connected", make)


@mutant("FLT-14", source="LAWS 2: what is not there is refused")
def a_second_host_is_left_out(patch: Patch) -> None:
    """An engine without failover takes a URL with two hosts, and forgets the second."""

    def make(server_name: Any) -> Any:
        def mutated(url: URL) -> str:
            return str(server_name(URL(url.scheme, hosts=url.hosts[:1], path=url.path)))

        return mutated

    patch.wrap(transport, "server_name", make)


@mutant("FLT-19", source="LAWS 2: no plaintext fallback", harness=NetworkedHarness)
def in_clear_if_need_be(patch: Patch) -> None:
    """Where TLS does not come about, the client goes on without it."""

    def make(init: Any) -> Any:
        def mutated(self: Any, address: Any, hello: Any, timeout: float, tls: Any = None) -> None:
            try:
                init(self, address, hello, timeout, tls)
            except (AccessDenied, NotConnected) as error:
                if tls is None or not isinstance(error.__cause__, ssl.SSLError | EOFError | OSError):
                    raise
                with suppress(NotConnected):
                    init(self, address, hello, timeout, None)
                    return
                raise

        return mutated

    patch.wrap(wire.Line, "__init__", make)


@mutant("FLT-19", source="LAWS 2", harness=NetworkedHarness)
def any_certificate(patch: Patch) -> None:
    """It is encrypted, and nobody looks with whom."""

    def unverified(context: ssl.SSLContext) -> None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE

    _trusting(patch, unverified)


@mutant("FLT-19", source="LAWS 2", harness=NetworkedHarness)
def any_host(patch: Patch) -> None:
    """A certificate of the right authority is taken for any host."""

    def unnamed(context: ssl.SSLContext) -> None:
        context.check_hostname = False

    _trusting(patch, unnamed)


@mutant("FLT-19", source="LAWS 2", harness=NetworkedHarness)
def any_date(patch: Patch) -> None:
    """A certificate is good for ever."""

    def timeless(context: ssl.SSLContext) -> None:
        context.verify_flags = ssl.VerifyFlags(context.verify_flags | _NO_TIME)

    _trusting(patch, timeless)


@mutant("FLT-19", source="celery 9997: retried for ever", harness=NetworkedHarness)
def mistrust_is_an_outage(patch: Patch) -> None:
    """That a certificate is wrong is told as a server that is away, and tried again."""

    def make(secured: Any) -> Any:
        def mutated(sock: socket.socket, *args: Any) -> socket.socket:
            try:
                return secured(sock, *args)  # type: ignore[no-any-return]
            except ssl.SSLCertVerificationError as error:
                raise NotConnected(str(error)) from error

        return mutated

    patch.wrap(wire, "secured", make)


@mutant("FLT-19", source="PEERS: a password before the handshake", harness=NetworkedHarness)
def a_word_before_the_handshake(patch: Patch) -> None:
    """The client says who it is before anything is encrypted."""

    def make(secured: Any) -> Any:
        def mutated(sock: socket.socket, *args: Any) -> socket.socket:
            sock.sendall(b"let-me-in")
            return secured(sock, *args)  # type: ignore[no-any-return]

        return mutated

    patch.wrap(wire, "secured", make)


def _trusting(patch: Patch, change: Any) -> None:
    def make(trusting: Any) -> Any:
        def mutated(options: Any) -> ssl.SSLContext | None:
            context: ssl.SSLContext | None = trusting(options)
            if context is not None:
                change(context)
            return context

        return mutated

    patch.wrap(secure, "trusting", make)
