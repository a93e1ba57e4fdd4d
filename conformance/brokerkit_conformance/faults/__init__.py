"""Faults: a TCP proxy, signals to actors, and shifted clocks; each proves that it had its effect."""

from brokerkit_conformance.faults.clocks import SkewedClock, clock_from_environment, environment_of
from brokerkit_conformance.faults.injections import Effect, Injection
from brokerkit_conformance.faults.lanes import Traffic
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
from brokerkit_conformance.faults.processes import Signalled, sigcont, sigkill, sigstop, sigterm, stopped
from brokerkit_conformance.faults.proving import Proof, prove
from brokerkit_conformance.faults.proxy import Mark, Proxy, ProxyBroken

__all__ = [
    "Blackhole",
    "Chunks",
    "Cut",
    "Effect",
    "Ending",
    "Fault",
    "Garble",
    "HalfOpen",
    "HoldReply",
    "Injection",
    "KillConnections",
    "Mark",
    "Proof",
    "Proxy",
    "ProxyBroken",
    "Refuse",
    "Signalled",
    "SkewedClock",
    "Slow",
    "Traffic",
    "Way",
    "clock_from_environment",
    "environment_of",
    "prove",
    "sigcont",
    "sigkill",
    "sigstop",
    "sigterm",
    "stopped",
]
