"""Showing that a fault has its effect, on a control connection to an echo server of our own.

The control connection goes through a second proxy in the same thread as the one in use, so that what is shown is true of
the machinery that the case relies on. Nothing is slept for: what must not arrive is shown by what arrives instead.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from brokerkit_conformance.faults.biting import Holding
from brokerkit_conformance.faults.echo import Client, EchoServer
from brokerkit_conformance.faults.injections import Effect, Injection
from brokerkit_conformance.faults.plans import (
    Blackhole,
    Chunks,
    Cut,
    Ending,
    Fault,
    Garble,
    HalfOpen,
    HoldReply,
    KillConnections,
    Refuse,
    Slow,
    Way,
)
from brokerkit_conformance.faults.proxy import Proxy
from brokerkit_conformance.model import Inconclusive

__all__ = ["Proof", "prove"]

_AFTER: Final = b" - and after"


@dataclass(frozen=True, slots=True)
class Proof:
    """Whether a fault had its effect on the control connection.

    Attributes:
        fault: which.
        proved: whether.
        text: what was seen, or what was missing.
        effect: what the proxy took down; None if it did not come so far.
    """

    fault: Fault
    proved: bool
    text: str
    effect: Effect | None

    def demand(self) -> None:
        """Raise `Inconclusive` unless it is proved."""
        if not self.proved:
            raise Inconclusive(f"{self.fault} cannot be made here: {self.text}")


def prove(fault: Fault, proxy: Proxy | None = None) -> Proof:
    """Make a fault on a control connection, and look at what it does.

    Args:
        fault: what to make; it is made as it stands, so large times and sizes take their time.
        proxy: the one in use, whose own traffic is left alone; None for a new one.
    """
    with EchoServer() as echo, Proxy("127.0.0.1", echo.port, beside=proxy) as control:
        trial = _Trial(fault, echo, control)
        try:
            text = _TRIALS[type(fault)](trial)
        except (_Missed, Inconclusive, OSError) as error:
            return Proof(fault, proved=False, text=f"{type(error).__name__}: {error}", effect=trial.effect())
        effect = trial.effect()
        proved = effect is not None and effect.bit
        return Proof(
            fault, proved=proved, text=text if proved else f"{text}; yet the proxy noticed nothing", effect=effect
        )


class _Missed(Exception):
    """The effect was not seen."""


class _Trial:
    """A control connection, and the fault on it."""

    def __init__(self, fault: Any, echo: EchoServer, proxy: Proxy) -> None:
        self.fault = fault
        self.echo = echo
        self.proxy = proxy
        self.injection: Injection | None = None
        # holds all bytes that the fault may wait for, and enough beside
        once, containing = getattr(fault, "once", None) or b"", getattr(fault, "containing", None) or b""
        self.request = once + containing + b"a request that is echoed"

    def client(self) -> Client:
        return Client(self.proxy.host, self.proxy.port)

    def inject(self) -> Injection:
        self.injection = self.proxy.inject(self.fault)
        return self.injection

    def effect(self) -> Effect | None:
        return None if self.injection is None else self.injection.effect()

    def warm(self, client: Client) -> None:
        """Show that the line works before."""
        client.send(b"hello")
        _want(client.receive(5), b"hello", "before the fault, the line")


def _want(seen: object, expected: object, what: str) -> None:
    if seen != expected:
        raise _Missed(f"{what} gave {seen!r:.200}, not {expected!r:.200}")


def _hold(trial: _Trial) -> str:
    with trial.client() as client:
        trial.warm(client)
        holding = trial.inject()
        client.send(trial.request)
        holding.wait()
        _want(trial.echo.wait_for(5 + len(trial.request)), b"hello" + trial.request, "the server")
        trial.proxy.turn()
        passed = trial.proxy.traffic().passed_down
        if passed >= 5 + len(trial.request) or not isinstance(holding, Holding) or not holding.held():
            raise _Missed(f"{passed} bytes passed, so nothing was held")
        holding.lift()
        _want(client.receive(len(trial.request)), trial.request, "the reply that was let go")
    return "the server had answered; the reply came when it was let go, not before"


def _cut(trial: _Trial) -> str:
    fault: Cut = trial.fault
    filler = b"." * (fault.after + 64)
    with trial.client() as client:
        trial.warm(client)
        trial.inject()
        client.send(trial.request + filler)
        reply, reset = client.read_to_end()
    _want(reset, fault.ending is Ending.RST, "whether a reset ended it")
    if not trial.echo.wait_for_ends(1):
        raise _Missed("the server never saw the end")
    whole = trial.request + filler
    if fault.way is Way.UP:
        passed = (whole.index(fault.once) + len(fault.once) if fault.once else 0) + fault.after
        _want(trial.echo.got(), b"hello" + whole[:passed], "the server")
        return f"{passed} bytes reached the server, and the client saw a {fault.ending}"
    if len(reply) > fault.after or not whole.startswith(reply):
        raise _Missed(f"{len(reply)} bytes of the reply passed, not at most {fault.after}")
    if fault.once and fault.once not in trial.echo.got():
        raise _Missed("the request did not reach the server")
    return f"the server had answered, and the client saw {len(reply)} bytes and a {fault.ending}"


def _blackhole(trial: _Trial) -> str:
    fault: Blackhole = trial.fault
    kept = (fault.once or b"") if fault.way is not Way.DOWN else b""
    with trial.client() as client:
        if not fault.new:
            trial.warm(client)
        before = len(trial.echo.got())
        injection = trial.inject()
        client.send(trial.request)
        lost = trial.request[len(kept) :] if fault.way is not Way.DOWN else trial.request
        injection.wait(size=len(lost) if fault.way is not Way.BOTH else 1)
        _want(client.nothing_there() or fault.way is Way.UP, expected=True, what="silence")
        injection.lift()
        client.send(_AFTER)
        arrived = trial.request + _AFTER if fault.way is Way.DOWN else kept + _AFTER
        _want(trial.echo.wait_for(before + len(arrived))[before:], arrived, "the server")
        echoed = _AFTER if fault.way is not Way.UP else arrived
        if fault.way is Way.BOTH and kept:
            return "the server saw nothing of the request behind the mark"
        _want(client.receive(len(echoed)), echoed, "the client")
    return f"{len(lost)} bytes were swallowed, and what was sent after came"


def _half_open(trial: _Trial) -> str:
    fault: HalfOpen = trial.fault
    with trial.client() as client:
        if not fault.new:
            trial.warm(client)
        before = trial.proxy.traffic().passed_up
        injection = trial.inject()
        client.send(trial.request)
        injection.wait()
        trial.proxy.turn()
        _want((client.nothing_there(), trial.proxy.traffic().passed_up), (True, before), "silence without an end")
        injection.lift()
        _want(client.receive(len(trial.request)), trial.request, "the line that works again")
    return "neither bytes nor an end came through until it was lifted"


def _slow(trial: _Trial) -> str:
    fault: Slow = trial.fault
    size = 64 if fault.rate is None else fault.burst + max(1, int(fault.rate * 0.1))
    ways = 2 if fault.way is Way.BOTH else 1
    least = fault.latency * ways + (0.0 if fault.rate is None else (size - fault.burst) / fault.rate)
    with trial.client() as client:
        trial.warm(client)
        trial.inject()
        began = time.monotonic()
        client.send(b"." * size)
        _want(client.receive(size), b"." * size, "the slow line")
        took = time.monotonic() - began
    if took < least * 0.99:
        raise _Missed(f"it took {took:.3f} s, not at least {least:.3f} s")
    return f"{size} bytes and their echo took {took:.3f} s, at least {least:.3f} s"


def _garble(trial: _Trial) -> str:
    with trial.client() as client:
        trial.warm(client)
        trial.inject().effect()
        client.send(trial.request)
        reply = client.receive(len(trial.request))
    changed = sum(a != b for a, b in zip(reply, trial.request, strict=False))
    if len(reply) != len(trial.request) or not changed or trial.echo.got() != b"hello" + trial.request:
        raise _Missed(f"{changed} bytes changed of {len(reply)}")
    return f"{changed} of {len(reply)} bytes of the reply were others; the request was whole"


def _refuse(trial: _Trial) -> str:
    with trial.client() as client:
        trial.warm(client)
        injection = trial.inject()
        try:
            trial.client().__exit__(None, None, None)
        except ConnectionRefusedError:
            trial.warm(client)
        else:
            raise _Missed("a new connection was accepted")
    injection.lift()
    with trial.client() as client:
        client.send(_AFTER)
        _want(client.receive(len(_AFTER)), _AFTER, "after it was lifted, a new connection")
    return "a new connection was refused, the old one worked, and after it was lifted new ones did"


def _chunks(trial: _Trial) -> str:
    fault: Chunks = trial.fault
    payload = trial.request * (1 + 4 * fault.size // len(trial.request))
    with trial.client() as client:
        trial.warm(client)
        injection = trial.inject()
        client.send(payload)
        _want(client.receive(len(payload)), payload, "the line of small pieces")
    effect = injection.effect()
    least = len(payload) // fault.size
    if effect.times < least:
        raise _Missed(f"{effect.times} pieces, not at least {least}")
    return f"{effect.times} pieces, and every byte in its place"


def _kill(trial: _Trial) -> str:
    fault: KillConnections = trial.fault
    with trial.client() as client:
        trial.warm(client)
        trial.inject()
        rest, reset = client.read_to_end()
    _want((rest, reset), (b"", fault.ending is Ending.RST), "the killed connection")
    if not trial.echo.wait_for_ends(1):
        raise _Missed("the server never saw the end")
    return f"both sides saw a {fault.ending}"


_TRIALS: Final[dict[type[Fault], Callable[[_Trial], str]]] = {
    HoldReply: _hold,
    Cut: _cut,
    Blackhole: _blackhole,
    HalfOpen: _half_open,
    Slow: _slow,
    Garble: _garble,
    Refuse: _refuse,
    Chunks: _chunks,
    KillConnections: _kill,
}
