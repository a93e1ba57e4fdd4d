"""Opening a broker for one command."""

from __future__ import annotations

from brokerkit._targets import target
from brokerkit.broker import Broker
from brokerkit.cli.terminal import Terminal

__all__ = ["open_broker"]


def open_broker(out: Terminal, text: str) -> Broker:
    """Connect for one command, and say so if nobody else can see what it does."""
    broker = target(text).broker()
    if broker.capabilities.shared == "process":
        out.remark(
            f"note: {broker.capabilities.product} lives in this process only: it was empty when this command began, "
            "and ends with it"
        )
    return broker
